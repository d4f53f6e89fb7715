"""Messages and settlements that happen together or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import trio

from trio_broker.client.stomp_link import Link
from trio_broker.client.stomp_publishing import Receipt
from trio_broker.client.stomp_settlements import Settlements
from trio_broker.errors import LimitReached
from trio_broker.limits import MESSAGE_COST
from trio_broker.message import Message
from trio_broker.wire.stomp_client import Received

__all__ = ["Transaction"]


@final
class Transaction:
    """What ``async with client.transaction()`` gives. Good until the block is left."""

    def __init__(self, link: Link, transaction_id: str) -> None:
        self._link = link
        self._id = transaction_id
        self._open = True
        self._cost = MESSAGE_COST + len(transaction_id)
        self._settled: list[tuple[Settlements, dict[int, Received]]] = []
        link.outgoing.put(link.session.begin(transaction_id))

    @trio.lowlevel.enable_ki_protection
    async def publish(self, channel: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> None:
        """Hand over a message that is to be published with the rest of the transaction.

        Args:
            channel, body, headers: as for `StompClient.publish`.

        Raises:
            LimitReached: the transaction would hold more than ``transaction_bytes_max``.
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
            ValueError: the message was not received from this client.
            LimitReached: the transaction would hold more than ``transaction_bytes_max``.
            trio.ClosedResourceError: the transaction's block was left.

        Cancellation: never; this is synchronous.
        """
        received = self._settle(message)
        if received is not None:
            self._link.say(self._link.session.ack(received, transaction=self._id))

    @trio.lowlevel.enable_ki_protection
    def nack(self, message: Message, *, requeue: bool = True) -> None:
        """`Message.nack`, with the rest of the transaction. Raises as `ack`.

        Args:
            message: what has not been dealt with.
            requeue: whether it goes back to its queue, where it stood; otherwise it is given up.

        Cancellation: never; this is synchronous.
        """
        received = self._settle(message)
        if received is not None:
            self._link.say(self._link.session.nack(received, requeue=requeue, transaction=self._id))

    def _commit(self) -> Receipt:
        """Let it happen."""
        self._open = False
        self._link.check()
        receipt_id, receipt = self._link.expect()
        self._link.outgoing.put(self._link.session.commit(self._id, receipt=receipt_id))
        return receipt

    def _abort(self) -> None:
        """Let nothing of it happen."""
        self._open = False
        self._link.say(self._link.session.abort(self._id))
        for settlements, taken in reversed(self._settled):
            settlements.restore(taken)

    def _settle(self, message: Message) -> Received | None:
        self._check()
        settlements = message._settler
        if settlements is None:
            return None
        if not isinstance(settlements, Settlements) or settlements.link is not self._link:
            raise ValueError("the message was not received from this client; a transaction settles no others")
        self._charge(MESSAGE_COST)
        taken = settlements.take(message._number)
        if not taken:
            return None
        self._settled.append((settlements, taken))
        return taken[message._number]

    def _check(self) -> None:
        if not self._open:
            raise trio.ClosedResourceError("this transaction was left")
        self._link.check()

    def _charge(self, cost: int) -> None:
        """Account for something more, before it is added."""
        if self._cost + cost > self._link.limits.transaction_bytes_max:
            raise LimitReached("transaction_bytes_max", self._link.limits.transaction_bytes_max)
        self._cost += cost
