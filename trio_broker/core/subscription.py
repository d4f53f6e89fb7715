"""One peer's place in one channel.

A subscription joins a channel (which puts deliveries into its mailbox) to an outbox (from which its owner, a
connection's writer or a program's ``receive``, takes them). Everything here is synchronous.

Its life: *member* of its channel, then *retired* (nothing new comes; what is in the mailbox may still be taken: this
is the drain), then *ended* (what was not sent went back to the queue, or was given up). `leave` does both steps;
`withdraw` ends it when what its owner has was settled.

A queue's subscription whose owner acknowledges has *credit*: so many messages wait for it or are unsettled at most.
What it is given is entered in the owner's `Ledger`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, final

import trio

from trio_broker.core.mailbox import Mailbox
from trio_broker.core.statistics import SubscriptionStatistics
from trio_broker.limits import Limits, Overflow
from trio_broker.message import AckMode, Delivery

if TYPE_CHECKING:
    from trio_broker.core.channel import Channel
    from trio_broker.core.ledger import Entry, Ledger
    from trio_broker.core.outbox import Outbox

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
        ledger: where its owner's deliveries are numbered; None for an owner that has no use for numbers.
        ack: how its owner settles.
        credit: of a queue's subscription whose owner acknowledges: how many messages it is given before it settles one.

    Attributes:
        announced: its outbox names it, or its owner is serving it.
        note: whatever its owner keeps with it.
        first_number: of what was taken last.
        unsettled: what the owner has and is to settle, by number, in order.
    """

    __slots__ = (
        "_taken",
        "_withdrawn",
        "ack",
        "announced",
        "channel",
        "credit",
        "delivered",
        "dropped",
        "ended",
        "evicted",
        "first_number",
        "ledger",
        "mailbox",
        "member",
        "note",
        "outbox",
        "overflow",
        "owner",
        "unsettled",
    )

    def __init__(
        self,
        channel: Channel,
        outbox: Outbox,
        overflow: Overflow,
        limits: Limits,
        owner: trio.CancelScope | None,
        *,
        ledger: Ledger | None = None,
        ack: AckMode = AckMode.AUTO,
        credit: int | None = None,
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
        self.announced = False
        self._taken: list[Delivery] = []  # taken for a write whose end is not known yet
        self._withdrawn = False  # it ends as soon as nothing is left to be settled
        self.ledger = ledger
        self.ack = ack
        self.credit = credit
        self.note: Any = None
        self.first_number = 0
        self.unsettled: dict[int, Entry] = {}
        if ledger is not None:
            ledger.join(self)

    @property
    def is_full(self) -> bool:
        """It can take no more now."""
        if self.credit is None:
            return self.mailbox.is_full
        assert self.ledger is not None
        return self.mailbox.is_full or self.room <= 0 or self.ledger.is_full

    @property
    def room(self) -> float:
        """How many messages its credit leaves room for; infinite for one without."""
        return math.inf if self.credit is None else self.credit - self.mailbox.messages - len(self.unsettled)

    # -- the channel's side ------------------------------------------------------------------------------------------

    def put(self, delivery: Delivery) -> None:
        """Put a delivery into the mailbox and tell the outbox, once."""
        self.mailbox.put(delivery)
        if not self.announced:
            self.announced = True
            self.outbox.announce(self)

    # -- the owner's side --------------------------------------------------------------------------------------------

    def take(self, bytes_max: int) -> list[Delivery]:
        """Take the oldest deliveries for one write, up to about so many bytes (at least one delivery, if any waits).

        To be called in this subscription's turn. What is taken counts as being written until `settle`. If something
        is left, the subscription is announced again, at the end of its outbox's line; a closed outbox announces
        nothing, so call this until nothing comes.
        """
        mailbox, taken = self.mailbox, self._taken
        self.announced = False
        size_bytes = 0
        while mailbox.messages and size_bytes < bytes_max:
            if mailbox.may_expire and self.expire_oldest():
                continue
            delivery = mailbox.take()
            taken.append(delivery)
            size_bytes += delivery.batch.bytes
        self.announce_what_is_left()
        deliveries = list(taken)
        if self.ledger is not None and deliveries:
            self.first_number = self.ledger.give(self, deliveries)
        if self.credit is not None:  # it is in the ledger; otherwise what was taken counts until it is settled
            taken.clear()
            mailbox.release()
            self.may_have_room()
        return deliveries

    def settle(self) -> None:
        """All that was taken has left: its last byte was handed to the system."""
        self.count_settled(sum(map(len, self._taken)))
        self._taken.clear()
        full = self.mailbox.is_full
        self.mailbox.release()
        if full and not self.mailbox.is_full:
            self.may_have_room()
        if self._withdrawn:
            self.end_if_settled()

    def settle_first(self, messages: int) -> None:
        """Of what was taken only the first messages have left whole; the rest goes where `leave` brings it."""
        if self.credit is not None:  # what was taken is in the ledger, whether it left or not
            return
        self.count_settled(messages)
        taken, whole = self._taken, 0
        while messages and len(taken[whole]) <= messages:
            messages -= len(taken[whole])
            whole += 1
        del taken[:whole]
        if messages:
            taken[0] = taken[0][messages:]

    def moves(self) -> None:
        """Its owner moves, even if nothing has left whole yet: who waits for the channel has its patience again."""
        self.channel.line.progress()

    def announce_what_is_left(self) -> None:
        """If something waits, its outbox names this subscription again."""
        if self.mailbox.messages and not self.announced:
            self.announced = True
            self.outbox.announce(self)

    def count_settled(self, messages: int) -> None:
        """So many messages have left for good."""
        self.delivered += messages
        self.channel.counters.delivered += messages

    def expire_oldest(self) -> bool:
        """Let go of what waits first, if it is of no use any more."""
        if trio.current_time() < self.mailbox.oldest_expires_at:
            return False
        full = self.is_full
        self.channel.counters.expired += self.mailbox.expire_oldest()
        if full:  # be it by its credit, which nothing else may ever give back
            self.may_have_room()
        return True

    def may_have_room(self) -> None:
        """Something was taken or settled: if it is not full any more, its channel hears of it."""
        if self.member and not self.is_full:
            self.channel.has_room(self)

    def has_no_room(self) -> None:
        """Its owner has too much to settle: what has credit is given nothing more."""
        if self.member and self.credit is not None:
            self.channel.has_no_room(self)

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
        """End: leave the channel; what was not sent, or not settled, goes back to a queue by position, or is given up.
        Idempotent."""
        if self.ended:
            return
        self.retire()
        self.ended = True
        if self.announced:
            self.outbox.forget()
        waiting = self.mailbox.recover()
        self.mailbox.release()
        self.mailbox.close()
        taken = [*self._taken]
        self._taken.clear()  # a connection lives on while it lingers, and what it gave up is off the account
        if self.ledger is not None:
            taken += self.ledger.give_up(self)
            self.ledger.part(self)
        self.channel.end(taken, waiting)
        if self.ledger is not None:  # after what came back, which comes first
            self.ledger.tell_of_room()

    def withdraw(self) -> None:
        """Leave the channel; what waits goes back to a queue, or is given up. What is being sent, or is unsettled, is
        still to be settled; then this ends. Idempotent."""
        if not self._withdrawn and not self.ended:
            self.retire()
            self._withdrawn = True
            self.channel.take_back((), self.mailbox.recover())
            self.end_if_settled()

    def end_if_settled(self) -> None:
        """End, if this was withdrawn and nothing is left to be settled."""
        if self._withdrawn and not self._taken and not self.unsettled:
            self.leave()

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
            unsettled=len(self.unsettled),
            delivered=self.delivered,
            dropped=self.dropped,
            full=self.is_full,
        )
