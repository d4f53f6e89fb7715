"""Messages and settlements that happen together or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import trio

from trio_broker.client.stomp_link import Link
from trio_broker.client.stomp_publishing import Receipt
from trio_broker.client.stomp_settlements import Given, Settlements
from trio_broker.errors import LimitReached
from trio_broker.limits import MESSAGE_COST
from trio_broker.message import Message

__all__ = ["Transaction", "Transactions"]


@final
class Transactions:
    """The open transactions of one connection. The broker counts what they hold together, and so does this.

    Args:
        link: the connection.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self._open = 0
        self._cost = 0

    def begin(self) -> Transaction:
        """Open one; there is room for a frame. Raises `LimitReached`."""
        if self._open >= self.link.limits.transactions_max:
            raise LimitReached("transactions_max", self.link.limits.transactions_max)
        transaction_id = f"{next(self.link.numbers)}"
        cost = MESSAGE_COST + len(transaction_id)
        self.charge(cost)
        self._open += 1
        return Transaction(self, transaction_id, cost)

    def charge(self, cost: int) -> None:
        """Account for something more, before it is added. Raises `LimitReached`."""
        if self._cost + cost > self.link.limits.transaction_bytes_max:
            raise LimitReached("transaction_bytes_max", self.link.limits.transaction_bytes_max)
        self._cost += cost

    def end(self, cost: int) -> None:
        """One that held so much has ended."""
        self._open -= 1
        self._cost -= cost


@final
class Transaction:
    """What ``async with client.transaction()`` gives. Good until the block is left.

    Of a subscription with ``ack="client"``, where a message settles those before it too, one transaction at a time can
    settle messages. Until it has ended nothing else can acknowledge any of its later ones, and what is given back, by
    `Message.nack` or on leaving the subscription, goes back after that.
    """

    def __init__(self, transactions: Transactions, transaction_id: str, cost: int) -> None:
        self._transactions = transactions
        self._link = transactions.link
        self._id = transaction_id
        self._open = True
        self._cost = cost
        self._bound: dict[Settlements, list[Given]] = {}
        self._link.outgoing.put(self._link.session.begin(transaction_id))

    @trio.lowlevel.enable_ki_protection
    async def publish(self, channel: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> None:
        """Hand over a message that is to be published with the rest of the transaction.

        Args:
            channel, body, headers: as for `StompClient.publish`.

        Raises:
            LimitReached: the client's open transactions would together hold more than ``transaction_bytes_max``.
            Otherwise as `StompClient.publish`; also trio.ClosedResourceError: the transaction's block was left.

        Cancellation: atomic. If this raises anything the message is not part of the transaction. No deadline but the
        caller's. Always a checkpoint.
        """
        message = self._link.message(channel, body, headers)
        await self._link.room()
        self._check()
        frame = self._link.session.send(message, transaction=self._id)
        self._charge(len(frame) + MESSAGE_COST)
        self._link.outgoing.put(frame)

    @trio.lowlevel.enable_ki_protection
    def ack(self, message: Message) -> None:
        """`Message.ack`, with the rest of the transaction; if that is given up, the message is not settled.

        Raises:
            ValueError: the message was not received from this client; or, with ``ack="client"``, another open
                transaction settles messages of its subscription, or one before it was given back meanwhile.
            LimitReached: the client's open transactions would together hold more than ``transaction_bytes_max``.
            trio.ClosedResourceError: the transaction's block was left.

        Cancellation: never; this is synchronous.
        """
        given = self._settle(message)
        if given is not None:
            self._link.say(self._link.session.ack(given.received, transaction=self._id))

    @trio.lowlevel.enable_ki_protection
    def nack(self, message: Message, *, requeue: bool = True) -> None:
        """`Message.nack`, with the rest of the transaction. Raises as `ack`.

        Args:
            message: what has not been dealt with.
            requeue: whether it goes back to its queue, where it stood; otherwise it is given up.

        Cancellation: never; this is synchronous.
        """
        given = self._settle(message)
        if given is not None:
            self._link.say(self._link.session.nack(given.received, requeue=requeue, transaction=self._id))

    def _commit(self) -> Receipt:
        """Let it happen."""
        try:
            self._link.check()
            receipt_id, receipt = self._link.expect()
            self._link.outgoing.put(self._link.session.commit(self._id, receipt=receipt_id))
        finally:
            self._end(committed=True)
        return receipt

    def _abort(self) -> None:
        """Let nothing of it happen."""
        self._link.say(self._link.session.abort(self._id))
        self._end(committed=False)

    def _end(self, *, committed: bool) -> None:
        self._open = False
        self._transactions.end(self._cost)
        for settlements, bound in self._bound.items():
            settlements.unbind(bound, committed=committed)

    def _settle(self, message: Message) -> Given | None:
        """Settle a message in this transaction; None if there is nothing to settle."""
        self._check()
        given = message._settler
        if given is None:
            return None
        if not isinstance(given, Given) or given.settlements.link is not self._link:
            raise ValueError("the message was not received from this client; a transaction settles no others")
        if not given.settlements.can_bind(given, self):
            return None
        self._charge(MESSAGE_COST)
        given.settlements.bind(given, self)
        self._bound.setdefault(given.settlements, []).append(given)
        return given

    def _check(self) -> None:
        if not self._open:
            raise trio.ClosedResourceError("this transaction was left")
        self._link.check()

    def _charge(self, cost: int) -> None:
        """Account for something more, before it is added."""
        self._transactions.charge(cost)
        self._cost += cost
