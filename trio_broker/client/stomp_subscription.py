"""A STOMP subscription as a `trio.abc.ReceiveChannel` of messages."""

from __future__ import annotations

from collections import deque
from typing import final

import trio

from trio_broker.client.stomp_ending import Ending
from trio_broker.client.stomp_link import Link, cost_of
from trio_broker.client.stomp_settlements import Settlements, open_settlements
from trio_broker.message import AckMode, Message
from trio_broker.wire.stomp_client import Received

__all__ = ["StompSubscription"]


@final
class _MessageInbox:
    """What came for one subscription and was not taken yet.

    Attributes:
        settlements: where what comes is settled; None where it is not.
        waiting: messages and their cost, the oldest first.
        arrivals: where those wait who receive.
        ending: why nothing more will come.
    """

    def __init__(self, link: Link, settlements: Settlements | None) -> None:
        self.settlements = settlements
        self.waiting: deque[tuple[Message, int]] = deque()
        self.arrivals = trio.lowlevel.ParkingLot()
        self.ending: Ending | None = None
        self._link = link

    def put(self, received: Received) -> None:
        """This has come."""
        message, settlements = received.message, self.settlements
        given = None if settlements is None or received.ack_id is None else settlements.add(received)
        mine = Message(
            message.channel,
            message.body,
            message.headers,
            message.dropped_before,
            received.redelivered,
            given,
        )
        cost = cost_of(mine)
        self._link.hold(cost, settles=settlements is not None)
        self.waiting.append((mine, cost))
        self.arrivals.unpark()

    def end(self) -> None:
        """Nothing more will come. What is to be settled has gone back to the broker; the rest can be taken."""
        self.ending = self._link.ending
        if self.settlements is not None:
            self.forget()
        self.arrivals.unpark_all()

    def take(self) -> Message:
        """The first that waits."""
        message, cost = self.waiting.popleft()
        self._link.let_go(cost, settles=self.settlements is not None)
        return message

    def forget(self) -> None:
        """Throw away what waits."""
        while self.waiting:
            self.take()


@final
class StompSubscription(trio.abc.ReceiveChannel[Message]):
    """What ``async with client.subscribe(...)`` gives: receive messages, one at a time, in any number of tasks.

    Attributes:
        channel: the name that was subscribed to.
        ack: how its messages are settled.
    """

    def __init__(self, link: Link, channel: str, subscription_id: str, ack: AckMode) -> None:
        self.channel = channel
        self.ack = ack
        self._link = link
        self._id = subscription_id
        self._inbox = _MessageInbox(link, open_settlements(link, channel, subscription_id, ack))
        self._closed = False
        link.inboxes[subscription_id] = self._inbox

    @trio.lowlevel.enable_ki_protection
    async def receive(self) -> Message:
        """Wait for the next message and take it.

        Raises:
            trio.EndOfChannel: the server closed the connection, in order.
            ServerRefused: it ended the connection with an error.
            trio.BrokenResourceError: the connection broke, or the server was silent for too long.
            trio.ClosedResourceError: this subscription or its client was closed.
            ProtocolViolation: the server sent what it must not.

        Cancellation: atomic. If `trio.Cancelled` is raised no message was taken. Once this returns the message is the
        caller's, to settle where the subscription acknowledges. No deadline but the caller's. Always a checkpoint.
        """
        await trio.lowlevel.checkpoint()
        while not self._inbox.waiting:
            if self._closed:
                raise trio.ClosedResourceError("this subscription was closed")
            if self._inbox.ending is not None:
                if self._inbox.ending.kind == "ended" and not self._link.end_is_loss:
                    raise trio.EndOfChannel
                raise self._link.error()
            await self._inbox.arrivals.park()
        return self._inbox.take()

    async def aclose(self) -> None:
        """`close`, then a checkpoint.

        Cancellation: cleanup. The subscription is closed whatever is raised. Always a checkpoint.
        """
        self.close()
        await trio.lowlevel.checkpoint()

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Leave the channel. What came and was not settled goes back, as `StompClient.subscribe` says. Idempotent.

        Cancellation: never; this is synchronous.
        """
        if self._closed:
            return
        self._closed = True
        self._link.inboxes.pop(self._id, None)
        self._inbox.forget()
        # UNSUBSCRIBE first: else the broker could give us back what we have just given back to it.
        self._link.say(self._link.session.unsubscribe(self._id))
        if self._inbox.settlements is not None:
            self._inbox.settlements.leave()
        self._inbox.arrivals.unpark_all()
