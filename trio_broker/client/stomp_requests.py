"""Answers that are waited for: one temporary queue for all requests of a connection, told apart by a number."""

from __future__ import annotations

from typing import Final, final

import trio

from trio_broker.client.stomp_link import Link
from trio_broker.message import Message
from trio_broker.wire.stomp_client import Received

__all__ = ["REPLY_TO", "Replies"]

REPLY_TO: Final = "/temp-queue/replies"
"""What ``reply-to`` says. The broker puts a name of its own in its place, and sends what comes there to a subscription
that has this name; both go with the connection."""


@final
class _Reply:
    """A place for one answer."""

    __slots__ = ("come", "message")

    def __init__(self) -> None:
        self.come = trio.Event()
        self.message: Message | None = None


@final
class Replies:
    """The answers that are waited for. An answer to a request that was given up is thrown away."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._expected: dict[str, _Reply] = {}
        link.inboxes[REPLY_TO] = self

    async def of(self, message: Message) -> Message:
        """Send a message that there is room for, and wait for the answer to it."""
        correlation_id = f"{next(self._link.numbers)}"
        headers = {**message.headers, "reply-to": REPLY_TO, "correlation-id": correlation_id}
        reply = self._expected[correlation_id] = _Reply()
        try:
            self._link.send(Message(message.channel, message.body, headers), confirm=False, counts=False)
            await reply.come.wait()
        finally:
            self._expected.pop(correlation_id, None)
        if reply.message is None:
            raise self._link.error()
        return reply.message

    def put(self, received: Received) -> None:
        """This has come."""
        if received.ack_id is not None:
            self._link.say(self._link.session.ack(received))
        reply = self._expected.pop(received.message.headers.get("correlation-id", ""), None)
        if reply is not None:
            reply.message = received.message
            reply.come.set()

    def end(self) -> None:
        """Nothing more will come."""
        for reply in self._expected.values():
            reply.come.set()
