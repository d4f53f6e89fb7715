"""What waits in a queue for a taker, in order of position.

Two kinds of messages wait. *Fresh* ones were never given to anybody; they stand in the order of their acceptance.
*Returned* ones were given to a subscription that was not sent them, or did not settle them. Whatever was given came
from the front, so every returned message has its place before every fresh one. Among each other the returned come back
in any order, and interleaved, since a queue deals its batches out in turn: they stand in a heap by their first
position, and those that overlap are merged when they reach the front. What is left of a delivery of which the first
messages were given stands among them too.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from itertools import groupby, repeat
from operator import itemgetter
from typing import Any, Final, final

from trio_broker.core.memory import Memory
from trio_broker.limits import BATCH_COST
from trio_broker.message import PLAIN, Batch, Codec, Delivery

__all__ = ["Backlog"]

_PIECE_COST: Final = 256 * 1024
"""What is merged is given out in pieces of about this cost, as it would have come from a read: a subscription that can
take a little more must not get all that several had."""


@final
class Backlog:
    """Deliveries in order of position, entered in the broker's account."""

    __slots__ = ("_fresh", "_memory", "_returned", "cost", "messages")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._fresh: deque[Delivery] = deque()
        # A heap of (position, delivery, index) of the first message that is still here; positions are unique.
        self._returned: list[tuple[int, Delivery, int]] = []
        self.cost = 0
        self.messages = 0

    def append(self, delivery: Delivery) -> None:
        """A fresh delivery, whose positions are higher than all before."""
        self._fresh.append(delivery)
        self._count(delivery, 1)

    def give_back(self, delivery: Delivery) -> None:
        """A delivery that was given before; it goes where its positions say."""
        heapq.heappush(self._returned, (delivery.positions[0], delivery, 0))
        self._count(delivery, 1)

    def pop(self, messages_max: int | None = None) -> Delivery | None:
        """Take a delivery off the front: its messages come before all that stay. None if nothing waits.

        Args:
            messages_max: take only so many of its messages; None for all.
        """
        if self._returned:
            delivery, start = self._pop_returned()
        elif self._fresh:
            delivery, start = self._fresh.popleft(), 0
        else:
            return None
        if messages_max is not None and len(delivery) - start > messages_max:
            # What is left stays as it is: cutting it off each time would take time in the square of its length.
            end = start + messages_max
            heapq.heappush(self._returned, (delivery.positions[end], delivery, end))
            delivery = delivery[start:end]
            self.messages -= len(delivery)
            self._correct(BATCH_COST - delivery.batch.cost)
            return delivery
        if start:
            delivery = delivery[start:]
        self._count(delivery, -1)
        return delivery

    @property
    def oldest_expires_at(self) -> float:
        """When what stands at the front is of no use any more; infinite for never, and if nothing waits."""
        if self._returned:
            return self._returned[0][1].batch.expires_at
        return self._fresh[0].batch.expires_at if self._fresh else math.inf

    def clear(self) -> int:
        """Give everything up; return how many messages that were."""
        messages = self.messages
        while self.pop() is not None:
            pass
        return messages

    def _pop_returned(self) -> tuple[Delivery, int]:
        """The front of the returned, and its first message that is still here. What overlaps it is merged with it
        first, and goes back in pieces."""
        _, first, start = heapq.heappop(self._returned)
        last_position = first.positions[-1]
        if not self._returned or self._returned[0][0] > last_position:
            return first, start
        overlapping = [first[start:]]
        while self._returned and self._returned[0][0] < last_position:
            _, other, start = heapq.heappop(self._returned)
            overlapping.append(other[start:])
            last_position = max(last_position, other.positions[-1])
        first, *others = _merge(overlapping)
        before = sum(delivery.batch.cost for delivery in overlapping)
        self._correct(first.batch.cost + sum(delivery.batch.cost for delivery in others) - before)
        for other in others:
            heapq.heappush(self._returned, (other.positions[0], other, 0))
        return first, 0

    def _count(self, delivery: Delivery, sign: int) -> None:
        self.messages += sign * len(delivery)
        self._correct(sign * delivery.batch.cost)

    def _correct(self, cost: int) -> None:
        """Cutting and merging change the cost by a batch's overhead."""
        self.cost += cost
        self._memory.add(cost)


def _merge(deliveries: list[Delivery]) -> list[Delivery]:
    """All these messages in order of position, in pieces of about `_PIECE_COST`.

    Merged once and for all, whatever was sent or tried before: cutting runs at each other's positions instead would
    take time in the square of their number.
    """
    batch = deliveries[0].batch
    codec: Codec = batch.codec
    if any(delivery.batch.codec is not codec for delivery in deliveries):
        codec = PLAIN
    rows: list[tuple[int, int, Any, float]] = []
    for delivery in deliveries:
        parts = delivery.batch.parts if delivery.batch.codec is codec else list(delivery.batch)
        expires_at = repeat(delivery.batch.expires_at)
        rows.extend(zip(delivery.positions, delivery.attempts or repeat(0), parts, expires_at, strict=False))
    rows.sort(key=itemgetter(0))
    pieces = [_joined(batch.channel, codec, list(group)) for _, group in groupby(rows, itemgetter(3))]
    return [piece for whole in pieces for piece in _cut(whole)]


def _joined(channel: str, codec: Codec, rows: list[tuple[int, int, Any, float]]) -> Delivery:
    """Messages that expire together."""
    return Delivery(
        Batch(channel, [part for _, _, part, _ in rows], codec, None, rows[0][3]),
        [position for position, _, _, _ in rows],
        [attempts for _, attempts, _, _ in rows] if any(attempts for _, attempts, _, _ in rows) else (),
    )


def _cut(merged: Delivery) -> list[Delivery]:
    """The same in pieces."""
    count = len(merged)
    size = max(1, count * _PIECE_COST // merged.batch.cost)
    return [merged] if size >= count else [merged[start : start + size] for start in range(0, count, size)]
