"""What waits in a queue for a taker, in order of position.

Two kinds of messages wait. *Fresh* ones were never given to anybody; they stand in the order of their acceptance.
*Returned* ones were given to a subscription that ended before they were sent. Whatever was given came from the front,
so every returned message has its place before every fresh one. Among each other the returned come back in any order,
and interleaved, since a queue deals its batches out in turn: they stand in a heap by their first position, and runs
that overlap are merged when they reach the front.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import deque
from typing import final

from trio_broker.core.memory import Memory
from trio_broker.message import Batch, Delivery

__all__ = ["Backlog"]


@final
class Backlog:
    """Deliveries in order of position, entered in the broker's account."""

    __slots__ = ("_fresh", "_memory", "_returned", "cost", "messages")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._fresh: deque[Delivery] = deque()
        self._returned: list[tuple[int, Delivery]] = []  # a heap of (first position, delivery); positions are unique
        self.cost = 0
        self.messages = 0

    def append(self, delivery: Delivery) -> None:
        """A fresh delivery, whose positions are higher than all before."""
        self._fresh.append(delivery)
        self._count(delivery, 1)

    def give_back(self, delivery: Delivery) -> None:
        """A delivery that was given before; it goes where its positions say."""
        heapq.heappush(self._returned, (delivery.positions[0], delivery))
        self._count(delivery, 1)

    def pop(self) -> Delivery | None:
        """Take a delivery off the front: its messages come before all that stay. None if nothing waits."""
        if self._returned:
            delivery = self._pop_returned()
        elif self._fresh:
            delivery = self._fresh.popleft()
        else:
            return None
        self._count(delivery, -1)
        return delivery

    def clear(self) -> int:
        """Give everything up; return how many messages that were."""
        messages = self.messages
        while self.pop() is not None:
            pass
        return messages

    def _pop_returned(self) -> Delivery:
        """The front of the returned: a run up to where the next one that cannot be merged with it begins."""
        _, first = heapq.heappop(self._returned)
        overlapping = [first]
        last_position = first.positions[-1]
        while self._returned and self._returned[0][0] < last_position:
            other = self._returned[0][1]
            if other.attempts != first.attempts or other.batch.codec is not first.batch.codec:
                break
            heapq.heappop(self._returned)
            overlapping.append(other)
            last_position = max(last_position, other.positions[-1])
        if len(overlapping) > 1:
            before = sum(delivery.batch.cost for delivery in overlapping)
            first = _merge(overlapping)
            self._correct(first.batch.cost - before)
        if self._returned and self._returned[0][0] < last_position:
            cut = bisect_left(first.positions, self._returned[0][0])
            rest = first[cut:]
            head = first[:cut]
            self._correct(rest.batch.cost + head.batch.cost - first.batch.cost)
            heapq.heappush(self._returned, (rest.positions[0], rest))
            first = head
        return first

    def _count(self, delivery: Delivery, sign: int) -> None:
        self.messages += sign * len(delivery)
        self._correct(sign * delivery.batch.cost)

    def _correct(self, cost: int) -> None:
        """Cutting and merging change the cost by a batch's overhead."""
        self.cost += cost
        self._memory.add(cost)


def _merge(deliveries: list[Delivery]) -> Delivery:
    """One delivery of all these messages, in order of position."""
    pairs = [pair for delivery in deliveries for pair in zip(delivery.positions, delivery.batch.parts, strict=True)]
    pairs.sort(key=lambda pair: pair[0])
    batch = deliveries[0].batch
    merged = Batch(batch.channel, [part for _, part in pairs], batch.codec)
    return Delivery(merged, tuple(position for position, _ in pairs), deliveries[0].attempts)
