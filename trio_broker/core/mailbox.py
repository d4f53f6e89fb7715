"""A subscription's mailbox: one memory channel, bounded by cost, both of whose ends core holds.

Because core holds both ends, dropping the oldest message, taking back what was not sent and counting what is there
are synchronous: nothing is ever in a local variable between a ``receive`` and a ``send``, where a cancellation could
lose it.

The delivery at the head may be partly gone (received message by message in process, or its oldest messages dropped).
It is kept beside the channel together with the index of its first message that is still there.
"""

from __future__ import annotations

import math
from typing import final

import trio

from trio_broker.core.memory import Memory
from trio_broker.message import Delivery, Message

__all__ = ["Mailbox"]


@final
class Mailbox:
    """Deliveries that wait for one subscription's owner, and the cost of those it has taken but not yet moved.

    Args:
        cost_max: the mark. While the cost is below it, a delivery is admitted whole; so one large message always
            gets through.
        memory: the account of the whole broker.
    """

    __slots__ = (
        "_cost_max",
        "_head",
        "_head_cost",
        "_head_index",
        "_lost_newest",
        "_lost_oldest",
        "_memory",
        "_receive",
        "_send",
        "may_expire",
        "messages",
        "moved",
        "taken_cost",
        "waiting_cost",
    )

    def __init__(self, cost_max: int, memory: Memory) -> None:
        self._cost_max = cost_max
        self._memory = memory
        self._send, self._receive = trio.open_memory_channel[Delivery](math.inf)
        self._head: Delivery | None = None  # the oldest delivery, where it was begun
        self._head_index = 0  # its first message that is still here
        self._head_cost = 0  # what the rest of it costs
        self.messages = 0  # how many wait
        self.may_expire = False  # something that expires was ever put here
        self.waiting_cost = 0  # what they cost
        self.taken_cost = 0  # what the owner has taken and not yet moved
        self.moved = 0  # cost of what a program ever received: the stall rule's odometer
        self._lost_oldest = 0  # messages lost right before the oldest that waits
        self._lost_newest = 0  # messages lost right after the newest that waits

    @property
    def cost(self) -> int:
        return self.waiting_cost + self.taken_cost

    @property
    def is_full(self) -> bool:
        return self.waiting_cost + self.taken_cost >= self._cost_max

    def put(self, delivery: Delivery) -> None:
        """Add a delivery at the end, whatever the cost; who puts has looked at `is_full` first."""
        if self._lost_newest:
            lost, self._lost_newest = self._lost_newest, 0
            delivery = Delivery(delivery.batch, delivery.positions, delivery.attempts, lost)
        self._send.send_nowait(delivery)
        batch = delivery.batch
        self.messages += len(batch.parts)
        if batch.expires_at < math.inf:
            self.may_expire = True
        cost = batch.cost
        self.waiting_cost += cost
        self._memory.add(cost)

    def take(self) -> Delivery:
        """Take the oldest delivery; its cost stays on the account until `release`. The mailbox must not be empty."""
        if self._head is None:
            self._open_head()
        head, cost = self._head, self._head_cost
        assert head is not None
        if self._head_index:
            head = head[self._head_index :]
        if self._lost_oldest:
            lost, self._lost_oldest = self._lost_oldest + head.dropped_before, 0
            head = Delivery(head.batch, head.positions, head.attempts, lost)
        self._close_head()
        self.messages -= len(head)
        self.waiting_cost -= cost
        self.taken_cost += cost
        return head

    def take_first(self) -> Delivery:
        """Take the oldest single message, still encoded, and release it at once. The mailbox must not be empty."""
        if self._head is None:
            self._open_head()
        head, index = self._head, self._head_index
        assert head is not None
        first = head[index : index + 1]
        lost = self._lost_oldest + (0 if index else head.dropped_before)
        if lost:
            first = Delivery(first.batch, first.positions, first.attempts, lost)
            self._lost_oldest = 0
        self.moved += self._shed_oldest()
        return first

    def take_message(self) -> Message | None:
        """Take the oldest single message, decoded, and release it at once. None if the mailbox is empty."""
        if self._head is None and not self._open_head():
            return None
        head, index = self._head, self._head_index
        assert head is not None
        batch = head.batch
        message = batch.codec.decode(batch.channel, batch.parts[index])
        lost = self._lost_oldest + (0 if index else head.dropped_before)
        redelivered = bool(head.attempts and head.attempts[index])
        if lost or redelivered:
            message = Message(message.channel, message.body, message.headers, lost, redelivered)
            self._lost_oldest = 0
        self.moved += self._shed_oldest()
        return message

    @property
    def oldest_expires_at(self) -> float:
        """When the oldest message is of no use any more. The mailbox must not be empty."""
        if self._head is None:
            self._open_head()
        assert self._head is not None
        return self._head.batch.expires_at

    def expire_oldest(self) -> int:
        """Let go of the oldest delivery, which has expired; return how many messages that were."""
        before = self.taken_cost
        expired = self.take()
        self._lost_oldest += expired.dropped_before  # the next message tells of it
        self._memory.add(before - self.taken_cost)
        self.taken_cost = before
        return len(expired)

    def drop_oldest(self) -> None:
        """Drop the oldest message that waits. The mailbox must not be empty."""
        if self._head is None:
            self._open_head()
        assert self._head is not None
        self._lost_oldest += 1 + (0 if self._head_index else self._head.dropped_before)
        self._shed_oldest()

    def drop_newest(self, count: int) -> None:
        """Note that so many messages were lost instead of being put at the end."""
        self._lost_newest += count

    def release(self) -> None:
        """What the owner took has left, or is given up."""
        self._memory.add(-self.taken_cost)
        self.taken_cost = 0

    def recover(self) -> list[Delivery]:
        """Empty the mailbox: all deliveries that were not taken, oldest first. They leave the account."""
        recovered: list[Delivery] = []
        while self._head is not None or self._open_head():
            assert self._head is not None
            recovered.append(self._head[self._head_index :] if self._head_index else self._head)
            self._close_head()
        self._memory.add(-self.waiting_cost)
        self.waiting_cost = 0
        self.messages = 0
        return recovered

    def close(self) -> None:
        """Close both ends; the mailbox must have been emptied (`recover`) or be given up."""
        self._send.close()
        self._receive.close()

    def _open_head(self) -> bool:
        """Take the next delivery out of the channel and make it the head; False if there is none."""
        try:
            self._head = self._receive.receive_nowait()
        except trio.WouldBlock:
            return False
        self._head_cost = self._head.batch.cost
        return True

    def _close_head(self) -> None:
        self._head = None
        self._head_index = 0
        self._head_cost = 0

    def _shed_oldest(self) -> int:
        """Let the head's oldest message go; return the cost that left with it."""
        head = self._head
        assert head is not None
        self._head_index += 1
        if self._head_index == len(head):
            cost = self._head_cost
            self._close_head()
        else:
            cost = head.batch.part_cost(self._head_index - 1)
            self._head_cost -= cost
        self.messages -= 1
        self.waiting_cost -= cost
        self._memory.add(-cost)
        return cost
