"""One peer's place in one channel.

A subscription joins a channel (which puts deliveries into its mailbox) to an outbox (from which its owner, a
connection's writer or a program's ``receive``, takes them). Everything here is synchronous.

Its life: *member* of its channel, then *retired* (nothing new comes; what is in the mailbox may still be taken: this
is the drain), then *ended* (what was not sent went back to the queue, or was given up). `leave` does both steps.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, final

from trio_broker.core.mailbox import Mailbox
from trio_broker.core.statistics import SubscriptionStatistics
from trio_broker.limits import Limits, Overflow

if TYPE_CHECKING:
    import trio

    from trio_broker.core.channel import Channel
    from trio_broker.core.outbox import Outbox
    from trio_broker.message import Delivery, Message

__all__ = ["Subscription"]


@final
class Subscription:
    """A place in a channel. Made by `Broker.attach`.

    Args:
        channel: where it stands.
        outbox: where its owner waits.
        overflow: what its topic does when its mailbox is full.
        limits: ``mailbox_bytes_max`` is used.
        owner: the scope of the connection it belongs to, cancelled when it is evicted; None for a program's own
            subscription, which learns of it from `evicted`.
    """

    __slots__ = (
        "_announced",
        "_taken",
        "channel",
        "delivered",
        "dropped",
        "ended",
        "evicted",
        "mailbox",
        "member",
        "outbox",
        "overflow",
        "owner",
    )

    def __init__(
        self, channel: Channel, outbox: Outbox, overflow: Overflow, limits: Limits, owner: trio.CancelScope | None
    ) -> None:
        self.channel = channel
        self.outbox = outbox
        self.overflow = overflow
        self.owner = owner
        self.mailbox = Mailbox(limits.mailbox_bytes_max, channel.memory)
        self.member = True  # the channel may put into the mailbox
        self.ended = False
        self.evicted: str | None = None  # the reason, if the broker ended it
        self.delivered = 0  # messages that left for good
        self.dropped = 0  # messages lost to the overflow policy
        self._announced = False  # the outbox names this subscription, or its owner is serving it
        self._taken: deque[Delivery] = deque()  # taken for a write whose end is not known yet

    # -- the channel's side ------------------------------------------------------------------------------------------

    def put(self, delivery: Delivery) -> None:
        """Put a delivery into the mailbox and tell the outbox, once."""
        self.mailbox.put(delivery)
        if not self._announced:
            self._announced = True
            self.outbox.announce(self)

    # -- the owner's side --------------------------------------------------------------------------------------------

    def take(self, bytes_max: int) -> list[Delivery]:
        """Take the oldest deliveries for one write, up to about so many bytes (at least one delivery, if any waits).

        To be called in this subscription's turn. What is taken counts as being written until `settle`. If something
        is left, the subscription is announced again, at the end of its outbox's line; a closed outbox announces
        nothing, so call this until nothing comes.
        """
        mailbox, taken = self.mailbox, self._taken
        self._announced = False
        size_bytes = 0
        while mailbox.messages and size_bytes < bytes_max:
            delivery = mailbox.take()
            taken.append(delivery)
            size_bytes += delivery.batch.bytes
        self._announce_what_is_left()
        return list(taken)

    def settle(self) -> None:
        """All that was taken has left: its last byte was handed to the system."""
        self.delivered += self._count_settled(sum(map(len, self._taken)))
        self._taken.clear()
        self._release()

    def settle_first(self, messages: int) -> None:
        """Of what was taken only the first messages have left whole; the rest goes where `leave` brings it."""
        self.delivered += self._count_settled(messages)
        while messages:
            delivery = self._taken.popleft()
            if len(delivery) > messages:
                self._taken.appendleft(delivery[messages:])
                break
            messages -= len(delivery)

    def moves(self) -> None:
        """Its owner moves, even if nothing has left whole yet: who waits for the channel has its patience again."""
        self.channel.line.progress()

    async def turn(self) -> None:
        """Wait for this subscription's turn, where it is the only one of its outbox; see `Outbox.turn`."""
        await self.outbox.turn()
        self._announced = False

    def receive_nowait(self) -> Message | None:
        """Take one message for a program's ``receive``; it is settled at once. None if nothing waits.

        If more wait the subscription is announced again: several tasks may be waiting for its turn.
        """
        full = self.mailbox.is_full
        message = self.mailbox.take_message()
        if message is None:
            return None
        self._announce_what_is_left()
        self.delivered += self._count_settled(1)
        if full and self.member and not self.mailbox.is_full:
            self.channel.has_room(self)
        return message

    # -- the end -----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Retire, and end the owner's outbox once what is in it has been taken. For an outbox of one subscription."""
        self.retire()
        self.outbox.close()

    def retire(self) -> None:
        """Leave the channel; what is in the mailbox may still be taken. Idempotent.

        To end many subscriptions at once retire all of them first, so that what one gives back is not put into
        another that is about to end.
        """
        if self.member:
            self.member = False
            self.channel.remove(self)

    def leave(self) -> None:
        """End: leave the channel; what was not sent goes back to a queue by position, or is given up. Idempotent."""
        if self.ended:
            return
        self.retire()
        self.ended = True
        waiting = self.mailbox.recover()
        self.mailbox.release()
        self.mailbox.close()
        self.channel.end(self._taken, waiting)
        self._taken.clear()  # a connection lives on while it lingers, and what it gave up is off the account

    def evict(self, reason: str) -> None:
        """End this subscription because its owner broke a rule.

        A connection's scope is cancelled with the reason, and the connection then leaves: only its writer knows what
        of a write that is under way has left. A program's own subscription leaves here.
        """
        if self.ended or self.evicted is not None:
            return
        self.evicted = reason
        self.channel.counters.evicted += 1
        self.retire()
        if self.owner is None:
            self.outbox.close()
            self.leave()
        else:
            self.owner.cancel(reason=f"evicted: {reason}")

    def statistics(self) -> SubscriptionStatistics:
        """This subscription at this moment."""
        mailbox = self.mailbox
        return SubscriptionStatistics(
            channel=self.channel.name,
            mailbox_messages=mailbox.messages,
            mailbox_cost=mailbox.cost,
            delivered=self.delivered,
            dropped=self.dropped,
            full=mailbox.is_full,
        )

    def _announce_what_is_left(self) -> None:
        if self.mailbox.messages and not self._announced:
            self._announced = True
            self.outbox.announce(self)

    def _count_settled(self, messages: int) -> int:
        self.channel.counters.delivered += messages
        return messages

    def _release(self) -> None:
        """What was taken leaves the account; the channel hears of it if that makes room."""
        full = self.mailbox.is_full
        self.mailbox.release()
        if full and self.member and not self.mailbox.is_full:
            self.channel.has_room(self)
