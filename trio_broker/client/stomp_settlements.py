"""What one STOMP subscription of a client has been given, and how it is settled.

Theory of operation:
    *At once.* ACK and NACK are handed over when the program says so, without waiting for anything. They are idempotent:
    what was settled is not settled again. Once the connection is over the broker has everything back, and nothing is
    said any more.

    *One by one* (`OneByOne`), each message knows whether it was settled. What a queue gave is remembered until then,
    since leaving gives it back; that is bounded, because the broker stops at what it has prefetched. A topic does not,
    and takes nothing back, so of its messages nothing is remembered.

    *Together* (`Together`), in the mode ``client``, one number is enough: up to where it was settled.

    *Transactions.* What a transaction settles is settled for the client at once, and again unsettled if it is given up.
    The broker settles it with COMMIT. What settles together must leave it alone until then, for the broker refuses a
    COMMIT part of which was settled before, and ends the connection. So one transaction at a time settles messages of
    such a subscription; meanwhile nothing else can acknowledge any, and what gives them back, as leaving does, is said
    when the transaction has ended.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, final

import trio

from trio_broker.client.stomp_link import Link
from trio_broker.message import AckMode, BoundSettler, Message
from trio_broker.wire.stomp_client import Received

__all__ = ["Given", "Settlements", "open_settlements"]

_NO_MESSAGE: Final = Message("", b"")


@final
class Given(BoundSettler):
    """One message that is to be settled; its `Settler`.

    Attributes:
        settlements: of its subscription.
        number: how many its subscription was given up to this one.
        received: how the broker names it.
        settled: one by one: it is settled.
    """

    __slots__ = ("number", "received", "settled", "settlements")

    def __init__(self, settlements: Settlements, number: int, received: Received) -> None:
        self.settlements = settlements
        self.number = number
        self.received = Received(received.subscription_id, _NO_MESSAGE, received.message_id, received.ack_id)
        self.settled = False

    @trio.lowlevel.enable_ki_protection
    def ack(self, number: int) -> None:
        self.settlements.ack(self)

    @trio.lowlevel.enable_ki_protection
    def nack(self, number: int, requeue: bool) -> None:
        self.settlements.nack(self, requeue)


class Settlements(ABC):
    """What one subscription was given.

    Args:
        link: the connection.
        subscription_id: the subscription's.
    """

    def __init__(self, link: Link, subscription_id: str) -> None:
        self.link = link
        self._id = subscription_id
        self._given = 0
        self._bound = 0  # how many messages open transactions settle
        self._left = False

    def add(self, received: Received) -> Given:
        """This was given; what to settle it by."""
        self._given += 1
        return Given(self, self._given, received)

    @abstractmethod
    def ack(self, given: Given) -> None:
        """It has been dealt with."""

    @abstractmethod
    def nack(self, given: Given, requeue: bool) -> None:
        """It has not."""

    @abstractmethod
    def can_bind(self, given: Given, transaction: object) -> bool:
        """Whether a transaction has anything to settle here; raises ``ValueError`` if it must not."""

    def bind(self, given: Given, transaction: object) -> None:
        """A transaction settles it, which can."""
        self._bound += 1
        self._bind(given, transaction)

    def unbind(self, bound: Sequence[Given], *, committed: bool) -> None:
        """The transaction that settles these has ended, and has said so."""
        self._bound -= len(bound)
        self._unbind(bound, committed)
        if self._left:
            if not self._bound:
                self.link.inboxes.pop(self._id, None)
            self._give_back()

    def leave(self) -> None:
        """The subscription ends: all that is not settled goes back, in order."""
        self._left = True
        if self._bound and self.link.ending is None:  # until COMMIT or ABORT the broker has and counts it, and so do we
            self.link.inboxes[self._id] = self
        self._give_back()

    def put(self, received: Received) -> None:
        """This has crossed our UNSUBSCRIBE."""
        self.nack(self.add(received), requeue=True)

    def end(self) -> None:  # noqa: B027  there is nothing to do for it, in both kinds
        """Nothing more will come."""

    @abstractmethod
    def _bind(self, given: Given, transaction: object) -> None: ...

    @abstractmethod
    def _unbind(self, bound: Sequence[Given], committed: bool) -> None: ...

    @abstractmethod
    def _give_back(self) -> None:
        """All that is not settled goes back."""

    def _say_ack(self, given: Given) -> None:
        self.link.say(self.link.session.ack(given.received))

    def _say_nack(self, given: Given, *, requeue: bool = True) -> None:
        self.link.say(self.link.session.nack(given.received, requeue=requeue))


@final
class OneByOne(Settlements):
    """Each message is settled alone.

    Args:
        link: the connection.
        subscription_id: the subscription's.
        remembers: what is not settled goes back on leaving.
    """

    def __init__(self, link: Link, subscription_id: str, *, remembers: bool) -> None:
        super().__init__(link, subscription_id)
        self._remembers = remembers
        self._unsettled: dict[int, Given] = {}

    def add(self, received: Received) -> Given:
        given = super().add(received)
        self._remember(given)
        return given

    def ack(self, given: Given) -> None:
        if not given.settled:
            self._settle(given)
            self._say_ack(given)

    def nack(self, given: Given, requeue: bool) -> None:
        if not given.settled:
            self._settle(given)
            self._say_nack(given, requeue=requeue)

    def can_bind(self, given: Given, transaction: object) -> bool:
        return not given.settled

    def _bind(self, given: Given, transaction: object) -> None:
        self._settle(given)

    def _unbind(self, bound: Sequence[Given], committed: bool) -> None:
        if not committed:
            for given in bound:
                given.settled = False
                self._remember(given)

    def _give_back(self) -> None:
        for _, given in sorted(self._unsettled.items()):
            self.nack(given, requeue=True)

    def _settle(self, given: Given) -> None:
        given.settled = True
        self._unsettled.pop(given.number, None)

    def _remember(self, given: Given) -> None:
        if self._remembers:
            self._unsettled[given.number] = given


@final
class Together(Settlements):
    """A message settles all before it."""

    def __init__(self, link: Link, subscription_id: str) -> None:
        super().__init__(link, subscription_id)
        self._last: Given | None = None  # of all that were given
        self._settled = 0  # all up to this one are
        self._settled_before = 0  # ... and were before the transaction that settles some of them
        self._transaction: object | None = None
        self._to_give_back: Given | None = None  # with all before it, when that has ended

    def add(self, received: Received) -> Given:
        self._last = super().add(received)
        return self._last

    def ack(self, given: Given) -> None:
        if given.number > self._settled:
            self._check_free()
            self._settled = given.number
            self._say_ack(given)

    def nack(self, given: Given, requeue: bool) -> None:
        if given.number > self._settled:
            if not requeue:
                self._check_free()
            self._settled = given.number
            if self._transaction is None:
                self._say_nack(given, requeue=requeue)
            else:
                self._to_give_back = given

    def can_bind(self, given: Given, transaction: object) -> bool:
        if given.number <= self._settled:
            return False
        if self._transaction is not transaction:
            self._check_free()
        elif self._to_give_back is not None:
            raise ValueError(
                "a message before it was given back, which is done when this transaction has ended; "
                "until then no later message of the subscription can be settled"
            )
        return True

    def _bind(self, given: Given, transaction: object) -> None:
        if self._transaction is None:
            self._transaction = transaction
            self._settled_before = self._settled
        self._settled = given.number

    def _unbind(self, bound: Sequence[Given], committed: bool) -> None:
        self._transaction = None
        given, self._to_give_back = self._to_give_back, None
        if given is not None:  # with what was bound, if that was given up
            self._say_nack(given)
        elif not committed:
            self._settled = self._settled_before

    def _give_back(self) -> None:
        if self._last is not None:
            self.nack(self._last, requeue=True)

    def _check_free(self) -> None:
        """Raise while a transaction settles messages of this subscription."""
        if self._transaction is not None and self.link.ending is None:
            raise ValueError(
                "in the mode 'client' it would settle messages before it that an open transaction settles; allowed "
                "are to settle it in that transaction, to give it back, or to wait until the transaction has ended"
            )


def open_settlements(link: Link, channel: str, subscription_id: str, mode: AckMode) -> Settlements | None:
    """Where the messages of a new subscription are settled; None where they are not."""
    if mode is AckMode.AUTO:
        return None
    if mode is AckMode.CLIENT:
        return Together(link, subscription_id)
    return OneByOne(link, subscription_id, remembers=not channel.startswith("/topic"))
