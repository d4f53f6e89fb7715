"""A subscription of the framed protocol: a connection of its own, that is only listened on."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import trio

from trio_broker.client.opening import open_stream
from trio_broker.errors import ProtocolViolation
from trio_broker.limits import Limits
from trio_broker.message import Message, validate_channel
from trio_broker.wire import FramedClientSession

__all__ = ["RemoteSubscription", "open_subscription"]

_RECEIVE_BYTES = 65_536


@final
class RemoteSubscription(trio.abc.ReceiveChannel[Message]):
    """What ``async with client.subscribe(...)`` gives: receive messages, one at a time, in any number of tasks."""

    def __init__(self, stream: trio.SocketStream, channel: str, session: FramedClientSession) -> None:
        self.channel = channel
        self.local_address = stream.socket.getsockname()
        self._stream = stream
        self._session = session
        self._waiting: deque[bytes] = deque()  # received, parsed, not yet taken
        self._reading = trio.StrictFIFOLock()  # whoever holds it reads from the socket, for all who wait
        self._over: Exception | None = None  # why nothing more will come; copies of it are raised

    @trio.lowlevel.enable_ki_protection
    async def receive(self) -> Message:
        """Wait for the next message and take it.

        Raises:
            trio.EndOfChannel: the broker closed the connection, in order.
            trio.BrokenResourceError: the connection broke, or ended inside a frame.
            trio.ClosedResourceError: this subscription was closed.
            ProtocolViolation: the broker sent a frame over ``frame_bytes_max``.

        Cancellation: atomic. If `trio.Cancelled` is raised no message was taken. No deadline but the caller's. Always
        a checkpoint.
        """
        async with self._reading:
            while not self._waiting:
                if self._over is not None:
                    # A copy, since each has a traceback of its own, and none is held here.
                    raise copy.copy(self._over) from self._over.__cause__
                await self._receive_more()
            return Message(self.channel, self._waiting.popleft())

    async def aclose(self) -> None:
        """Close the connection; messages that were not received are lost with it.

        Cancellation: cleanup. The connection is closed whatever is raised. Always a checkpoint.
        """
        self.close()
        await trio.lowlevel.checkpoint()

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """`aclose` without a checkpoint. Idempotent.

        Cancellation: never; this is synchronous.
        """
        self._waiting.clear()
        self._over = trio.ClosedResourceError("this subscription was closed")
        self._stream.socket.close()  # all that the stream's aclose does, but for its checkpoint

    async def _receive_more(self) -> None:  # noqa: ASYNC910  ends early only when the stream is broken
        """Read once, for whoever waits."""
        try:
            self._session.receive_data(b"")  # raises if the last read ended in a violation
            data = await self._stream.receive_some(_RECEIVE_BYTES)
            if self._over is not None:  # closed since these bytes came
                return
            self._waiting.extend(self._session.receive_data(data))
        except (trio.BrokenResourceError, trio.ClosedResourceError, ProtocolViolation) as error:
            self._over = self._over or error.with_traceback(None)
        else:
            if not data:
                cut_off = self._session.receive_eof()
                self._over = trio.EndOfChannel() if cut_off is None else trio.BrokenResourceError(cut_off)


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_subscription(
    host: str, port: int, channel: str, *, limits: Limits | None = None
) -> AsyncIterator[RemoteSubscription]:
    """Subscribe to a channel of a broker for the length of a block, without a client: one connection, to listen only.

    Args and errors as for `Client.subscribe`.

    Cancellation: entering is atomic (if it raises there is no connection), and always a checkpoint. Leaving is cleanup,
    without a checkpoint: the connection is closed whatever is raised, and the broker puts back what it had not sent to
    a queue's subscriber.
    """
    limits = limits or Limits()
    validate_channel(channel, limits.channel_bytes_max)
    session = FramedClientSession(channel, limits)
    stream = await open_stream(host, port, limits)
    subscription = RemoteSubscription(stream, channel, session)
    try:
        await stream.send_all(session.hello())
        yield subscription
    finally:
        subscription.close()
