"""A client of STOMP 1.2: everything over one connection.

Publishing, subscriptions, acknowledgements, requests and transactions share the connection. What a program hands over
goes out whole and in that order; what comes is given to whom it is for (`Link`). So a cancelled call never leaves a
fragment of a frame, and what has to be said while a block is left, an UNSUBSCRIBE or a NACK, needs no checkpoint.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NoReturn, final

import trio

from trio_broker.client.stomp_link import Link
from trio_broker.client.stomp_publishing import Permit
from trio_broker.client.stomp_requests import REPLY_TO, Replies
from trio_broker.client.stomp_subscription import StompSubscription
from trio_broker.client.stomp_transaction import Transaction, Transactions
from trio_broker.errors import LimitReached, MessageTooLarge, shorten
from trio_broker.limits import MESSAGE_COST
from trio_broker.message import AckMode, Message

__all__ = ["StompClient"]

_PERMIT_BYTES = 65_536
_REQUEST_HEADERS = frozenset({"reply-to", "correlation-id"})


@final
class StompClient:
    """A connection to a STOMP server. Made by `connect`."""

    def __init__(self, stream: trio.SocketStream, link: Link) -> None:
        self.local_address = stream.socket.getsockname()
        self._link = link
        self._replies: Replies | None = None
        self._transactions = Transactions(link)

    @property
    def unsent(self) -> int:
        """Messages that were handed over and have not been handed to the system."""
        return self._link.outgoing.unsent

    @property
    def unconfirmed(self) -> int:
        """Confirmations that were asked for and have not come: of messages, subscriptions and transactions."""
        return self._link.outgoing.receipts_due

    async def raise_when_over(self) -> NoReturn:
        """Wait until the connection is over, and raise what every call raises from then on.

        For programs that would not notice for a while, since they neither publish nor receive. ::

            async with connect() as client, trio.open_nursery() as nursery:
                nursery.start_soon(client.raise_when_over)
                ...

        What came before can still be received, by tasks that are not cancelled with that nursery.

        Raises:
            ServerRefused: the server ended the connection with an error.
            ProtocolViolation: it sent what it must not.
            trio.BrokenResourceError: it closed the connection, or the connection broke, or it was silent for too long.
            trio.ClosedResourceError: the client's block was left.

        Cancellation: atomic. Only the waiting ends. No deadline but the caller's. Always a checkpoint.
        """
        await self._link.ended.wait()
        raise self._link.error()

    @trio.lowlevel.enable_ki_protection
    async def publish(
        self, channel: str, body: bytes, *, headers: Mapping[str, str] | None = None, confirm: bool = False
    ) -> None:
        """Publish a message. Messages go out in the order in which they were handed over.

        The message is handed over to the client's outgoing mailbox, which is bounded by ``mailbox_bytes_max``: if it is
        full this waits, in line, until the server has taken some. With ``confirm`` it then waits until the broker has
        accepted the message. Without, a message may be lost if the connection ends, and what the broker has against
        it is told to whoever uses the client next. Leaving the `connect` block in order raises unless the broker has
        confirmed it by then: what it confirms later stands for this message too.

        Args:
            channel: the name, as for `Broker.publish`, but it begins with ``/``. One that begins with neither
                ``/queue`` nor ``/topic``, ``/null`` too, is for our broker a queue under ``/queue/`` (S-36).
            body: the payload, at most ``frame_bytes_max`` bytes.
            headers: what goes with it and is received with it, at most ``headers_max`` with those of the protocol.
                Names that STOMP uses itself, `trio_broker.headers.OWN_HEADERS`, cannot be among them. The headers of
                a message that was received have none of those, so it can be published anew with them.
            confirm: whether to wait until the broker has accepted it.

        Raises:
            InvalidChannel: the name is not one.
            MessageTooLarge: the payload is over the limit.
            ValueError: these headers cannot be sent.
            TypeError: a header's name or value is not a string.
            ServerRefused: the server ended the connection with an error.
            trio.BrokenResourceError: the server closed the connection, or it broke.
            trio.ClosedResourceError: the client's block was left.

        Cancellation: unknown with ``confirm``, from when the message was handed over: it is published once or not at
        all. Otherwise, if this raises anything it will not be sent, not even a fragment of it. No deadline but the
        caller's. Always a checkpoint.
        """
        message = self._link.message(channel, body, headers)
        await self._link.room()
        receipt = self._link.send(message, confirm=confirm)
        if confirm:
            await receipt.confirmed()

    @trio.lowlevel.enable_ki_protection
    async def reserve(self, body_bytes_max: int = _PERMIT_BYTES) -> Permit:
        """Wait, in line, for room for one message, so that sending it needs no waiting.

        ::

            with await client.reserve() as permit:  # released at the end of the block, unless it was used
                receipt = permit.send("/queue/jobs", next_job())
            await receipt.confirmed()

        The room is kept until the permit is used or released, at the cost of others who publish.

        Args:
            body_bytes_max: how large the payload will be at most, in bytes.

        Raises:
            MessageTooLarge: that is over ``frame_bytes_max``.
            ValueError: that is below 0.
            ServerRefused, trio.BrokenResourceError, trio.ClosedResourceError: the connection is over.

        Cancellation: atomic. If this raises anything no room is kept. No deadline but the caller's. Always a
        checkpoint.
        """
        if body_bytes_max < 0:
            raise ValueError(f"body_bytes_max is {body_bytes_max}; 0 is the least")
        if body_bytes_max > self._link.limits.frame_bytes_max:
            raise MessageTooLarge(body_bytes_max, self._link.limits.frame_bytes_max)
        await self._link.room()
        return Permit(self._link, body_bytes_max, body_bytes_max + MESSAGE_COST)

    @asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def subscribe(
        self, channel: str, *, ack: AckMode | str = AckMode.AUTO, prefetch_messages: int | None = None
    ) -> AsyncIterator[StompSubscription]:
        """Subscribe to a channel for the length of a block. A client can have any number of subscriptions.

        In the block the subscription is known to be in place: the broker has confirmed it. Messages wait in the client
        until the program takes them. While more than ``mailbox_bytes_max`` (in cost) waits in subscriptions with
        ``ack="auto"``, nothing is read from the connection, so one that is not received from holds up all others of
        this client, and every confirmation: a task that publishes with ``confirm`` between two receives had better
        subscribe to a queue with another mode, where the broker stops at what was prefetched, or on another connection.
        A topic does not stop in any mode: it is read on until ``unsettled_bytes_max`` and ``frame_bytes_max`` together
        wait, and then nothing is.

        Leaving gives back to a queue what came and was not settled, whether the program has taken it or not, so that
        another consumer gets it; with ``ack="client"``, if a transaction settles some of it, when that has ended. With
        ``auto``, and to a topic, nothing can go back: what came and was not taken is lost.

        Args:
            channel: the name, as for `publish`.
            ack: ``auto``, ``client`` (a message settles those before it too) or ``client-individual``.
            prefetch_messages: how many messages the broker sends before one is settled; it decides, if None.

        Raises:
            InvalidChannel: the name is not one.
            ValueError: no such mode, or a number of messages below 1.
            LimitReached: the client has ``subscriptions_max`` subscriptions, with those that were left and of which an
                open transaction settles messages.
            ServerRefused: the server did not want it, and ended the connection.
            trio.BrokenResourceError, trio.ClosedResourceError: the connection is over.

        Cancellation: entering is atomic (if it raises, there is no subscription: one that the server has made by then
        is left at once), and always a checkpoint. Leaving is cleanup, without a checkpoint: the channel is left
        whatever is raised, and what was not settled goes back.
        """
        self._link.check_channel(channel)
        if prefetch_messages is not None and prefetch_messages < 1:
            raise ValueError(f"prefetch_messages is {prefetch_messages}; at least 1 is required, or None")
        if ack not in set(AckMode):
            raise ValueError(f"ack is {shorten(ack)}; allowed are {', '.join(AckMode)}")
        link, mode = self._link, AckMode(ack)
        await link.room()
        if len(link.inboxes) - (self._replies is not None) >= link.limits.subscriptions_max:
            raise LimitReached("subscriptions_max", link.limits.subscriptions_max)
        subscription_id = f"{next(link.numbers)}"
        receipt_id, receipt = link.expect()
        link.outgoing.put(
            link.session.subscribe(
                channel, subscription_id, ack=mode, prefetch_messages=prefetch_messages, receipt=receipt_id
            )
        )
        subscription = StompSubscription(link, channel, subscription_id, mode)
        try:
            await receipt.confirmed()
            yield subscription
        finally:
            subscription.close()

    @trio.lowlevel.enable_ki_protection
    async def request(self, channel: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> Message:
        """Publish a message and wait for the answer to it.

        Whoever receives the message publishes its answer to the channel in its header ``reply-to``, with the same
        ``correlation-id``. Nothing tells when nobody does: put a scope with a deadline around the call.

        Args:
            channel: as for `publish`.
            body: as for `publish`.
            headers: as for `publish`; ``reply-to`` and ``correlation-id`` cannot be among them.

        Returns:
            the answer. There is nothing to settle about it.

        Raises:
            As `publish`.

        Cancellation: unknown from when the message was handed over: it is published once or not at all. A late answer
        is thrown away. No deadline but the caller's. Always a checkpoint.
        """
        taken = sorted(_REQUEST_HEADERS & (headers or {}).keys())
        if taken:
            raise ValueError(f"headers cannot contain {', '.join(taken)}, which a request sets itself")
        expecting = {**(headers or {}), "reply-to": REPLY_TO, "correlation-id": ""}
        message = self._link.message(channel, body, expecting)
        await self._link.room()
        if self._replies is None:
            self._replies = Replies(self._link)
        return await self._replies.of(message)

    @asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def transaction(self) -> AsyncIterator[Transaction]:
        """What is published and settled through the block's `Transaction` happens together, or not at all.

        ::

            async with client.transaction() as transaction:
                await transaction.publish("/queue/results", result)
                transaction.ack(message)

        Leaving in order commits, and waits until the broker has carried it out. Leaving by an exception or a
        cancellation gives it up; so does the end of the connection before that. `Transaction` says what it keeps from
        others.

        Raises:
            LimitReached: the client has ``transactions_max`` transactions open, or they hold ``transaction_bytes_max``.
            ServerRefused, trio.BrokenResourceError, trio.ClosedResourceError: the connection is over. On leaving in
                order: all of it happened or nothing.

        Cancellation: entering is atomic (if it raises there is no transaction), and always a checkpoint. Leaving is
        unknown if it is cancelled while it waits for the broker: all of it happened or nothing. A cancellation that
        came before gives it up. Leaving in order is always a checkpoint; leaving by an exception has none.
        """
        await self._link.room()
        transaction = self._transactions.begin()
        try:
            yield transaction
            await trio.lowlevel.checkpoint()  # a cancellation that came before gives it up
        except BaseException:
            transaction._abort()
            raise
        receipt = transaction._commit()
        await receipt.confirmed()
