"""A client of the framed protocol.

The protocol has one subscription a connection and no acknowledgement of anything. So a client has one connection to
publish on, and one more for each subscription. Nothing tells when the broker has registered a subscription: a message
that is published at the same moment by somebody else may come before it.

Publishing goes through a writer task, so that a cancelled `Client.publish` can never leave a fragment of a frame on
the stream: what a caller hands over is written whole, or, if it was not handed over, not at all. A subscription, which
only listens, is in `framed_subscription`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NoReturn, final

import trio

from trio_broker.client.framed_subscription import RemoteSubscription, open_subscription
from trio_broker.client.opening import open_stream
from trio_broker.limits import MESSAGE_COST, Limits
from trio_broker.message import Message, as_body, validate_channel
from trio_broker.wire import FramedClientSession

__all__ = ["Client", "connect"]

_RECEIVE_BYTES = 65_536


@final
class Client:
    """A connection to a broker. Made by `connect`."""

    def __init__(self, host: str, port: int, stream: trio.SocketStream, limits: Limits) -> None:
        self.local_address = stream.socket.getsockname()
        self._host = host
        self._port = port
        self._stream = stream
        self._limits = limits
        self._session = FramedClientSession(None, limits)
        self._line = trio.StrictFIFOLock()  # publishers, first come, first served
        self._room = trio.lowlevel.ParkingLot()  # where the head of the line waits
        self._work = trio.lowlevel.ParkingLot()  # where the writer waits
        self._outgoing: list[bytes] = []  # encoded messages that the writer has not taken yet
        self._unsent = 0  # messages handed over and not yet handed to the system
        self._cost = 0  # what they cost
        self._closing = False  # nothing more is accepted; the writer ends when all is written
        self._broken: str | None = None  # why nothing more can be written
        self._over = trio.Event()  # nothing more is accepted, for one reason or the other

    @property
    def unsent(self) -> int:
        """Messages that were handed over and have not been handed to the system."""
        return self._unsent

    @trio.lowlevel.enable_ki_protection
    async def publish(self, channel: str, body: bytes) -> None:
        """Hand a message over for sending. Messages go out in the order in which they were handed over.

        Returns once the message stands in the client's outgoing mailbox, which is bounded by ``mailbox_bytes_max``:
        if it is full this waits, in line, until the broker has taken some. The protocol has no acknowledgement, so a
        message that was handed over may still be lost if the connection breaks; leaving the `connect` block then
        raises.

        Args:
            channel: the name, as for `Broker.publish`.
            body: the payload, at most ``frame_bytes_max`` bytes.

        Raises:
            InvalidChannel: the name is not one.
            MessageTooLarge: the payload is over the limit.
            trio.BrokenResourceError: the broker closed the connection, or it broke.
            trio.ClosedResourceError: the client's block was left.

        Cancellation: atomic. If this raises anything the message will not be sent, and may be published again;
        otherwise it will be sent whole, unless the connection ends first. No deadline but the caller's. Always a
        checkpoint.
        """
        validate_channel(channel, self._limits.channel_bytes_max)
        body = as_body(body, self._limits.frame_bytes_max)
        async with self._line:
            while self._cost >= self._limits.mailbox_bytes_max and not self._over.is_set():
                await self._room.park()
            if self._over.is_set():
                raise self._error()
            self._outgoing.append(self._session.encode(Message(channel, body)))
            self._unsent += 1
            self._cost += len(body) + MESSAGE_COST
            self._work.unpark()

    async def raise_when_over(self) -> NoReturn:
        """Wait until the connection is over, and raise what publishing raises from then on.

        For programs that would not notice for a while, since they have nothing to publish. Subscriptions have
        connections of their own. ::

            async with connect(protocol="framed") as client, trio.open_nursery() as nursery:
                nursery.start_soon(client.raise_when_over)
                ...

        Raises:
            trio.BrokenResourceError: the broker closed the connection, or it broke.
            trio.ClosedResourceError: the client's block was left.

        Cancellation: atomic. Only the waiting ends. No deadline but the caller's. Always a checkpoint.
        """
        await self._over.wait()
        raise self._error()

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[RemoteSubscription]:
        """Subscribe to a channel for the length of a block, on a connection of its own.

        Args:
            channel: the name, as for `Broker.subscribe`.

        Raises:
            InvalidChannel: the name is not one.
            OSError: the broker cannot be reached, also not within ``handshake_seconds_max``.
            trio.BrokenResourceError: it could, and closed or broke the connection at once.

        Cancellation: entering is atomic (if it raises there is no connection), and always a checkpoint. Leaving is
        cleanup, without a checkpoint: the connection is closed whatever is raised, and the broker puts back what it
        had not sent to a queue's subscriber.
        """
        return open_subscription(self._host, self._port, channel, limits=self._limits)

    async def _write(self) -> None:  # noqa: ASYNC910  as above
        """Write what was handed over, until the client closes or the connection breaks."""
        try:
            await self._stream.send_all(self._session.hello())
            while True:
                while not self._outgoing:
                    if self._closing:
                        return
                    await self._work.park()
                outgoing, cost, self._outgoing = self._outgoing, self._cost, []
                await self._stream.send_all(b"".join(outgoing))
                self._unsent -= len(outgoing)
                self._cost -= cost
                self._room.unpark_all()
        except trio.BrokenResourceError as error:
            self._break(f"the connection broke: {error}")

    @trio.lowlevel.enable_ki_protection
    async def _watch(self, writing: trio.CancelScope) -> None:  # noqa: ASYNC910  as above
        """Notice that the broker went, which nothing else would tell before the next write."""
        try:
            while True:
                if not await self._stream.receive_some(_RECEIVE_BYTES):
                    break
            self._break("the broker closed the connection")
        except trio.BrokenResourceError as error:
            self._break(f"the connection broke: {error}")
        writing.cancel(reason=self._broken)

    def _break(self, reason: str) -> None:
        if self._broken is None:
            self._broken = reason
        self._over.set()
        self._room.unpark_all()

    def _error(self) -> Exception:
        """What to tell a caller, now that it is over."""
        if self._closing:
            return trio.ClosedResourceError("this client was closed")
        return trio.BrokenResourceError(self._broken)

    def _close(self) -> None:
        """Accept nothing more; the writer ends when all is written."""
        self._closing = True
        self._over.set()
        self._work.unpark()
        self._room.unpark_all()


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def connect(
    host: str = "127.0.0.1", port: int = 25_000, *, limits: Limits | None = None
) -> AsyncIterator[Client]:
    """Connect to a broker for the length of a block.

    ::

        async with trio_broker.connect("127.0.0.1", 25000) as client:
            await client.publish("/queue/jobs", b"...")
            async with client.subscribe("/queue/jobs") as jobs:
                message = await jobs.receive()

    Args:
        host: the broker's name or address.
        port: its port.
        limits: ``frame_bytes_max``, ``channel_bytes_max``, ``mailbox_bytes_max``, ``handshake_seconds_max`` and
            ``farewell_seconds_max`` are used.

    Raises:
        OSError: the broker cannot be reached, also not within ``handshake_seconds_max``.
        trio.BrokenResourceError: on leaving in order, when messages that were handed over may not have been sent.

    Cancellation: entering is atomic (if it raises there is no connection). Leaving is cleanup: the connection is closed
    whatever is raised. Leaving in order first sends what was handed over, for at most ``farewell_seconds_max``; leaving
    by an exception or a cancellation closes at once, and what was not sent is lost. An exception of the body leaves as
    itself, not in a group; `trio.Cancelled` may leave in one. Both are always checkpoints.
    """
    limits = limits or Limits()
    stream = await open_stream(host, port, limits)
    client = Client(host, port, stream, limits)
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as tasks:
            writing = trio.CancelScope()
            written = trio.Event()

            @trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program's own tasks
            async def write() -> None:
                with writing:
                    await client._write()
                written.set()

            tasks.start_soon(write)
            tasks.start_soon(client._watch, writing)
            try:
                yield client
                client._close()
                with trio.move_on_after(limits.farewell_seconds_max):
                    await written.wait()
            except BaseException as error:
                failure = error
                raise
            finally:
                client._close()
                tasks.cancel_scope.cancel(reason="the client's block was left")
    except BaseException as error:  # noqa: BLE001, ASYNC103  raised below, and the body's own as itself, not in a group
        failure = failure or error
    stream.socket.close()  # all that the stream's aclose does, but for its checkpoint: nothing can come between
    if failure is not None:
        raise failure
    if client.unsent:
        reason = client._broken or f"the broker did not take all within {limits.farewell_seconds_max:g} s"
        raise trio.BrokenResourceError(f"{client.unsent} messages may not have been sent: {reason}")
