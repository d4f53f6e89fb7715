"""Scenarios for the transport of plain TCP, over ``socket.socketpair()``: real descriptors, real system calls.

A pair of sockets of one process is as deterministic as memory: what one end sends the other can read at once. Buffers
are made as small as the system lets them be, so that writes are short and wait.
"""

from __future__ import annotations

import dataclasses
import socket
import struct
from contextlib import suppress
from typing import Final, final
from unittest import mock

import trio
import trio.testing

from tests.scenarios.core_house import assert_in_order, what_is_left
from tests.scenarios.house import GONE, LOG, PATIENCE, QUEUE, TOPIC, cut, frame
from trio_broker import Broker, Limits, PublishStalled, RemoteSubscription, Server
from trio_broker.explorer import afterwards, disturbed
from trio_broker.server.connection import Connection
from trio_broker.server.flusher import Flusher
from trio_broker.server.poller import Poller, open_poller
from trio_broker.server.server import make_logger
from trio_broker.server.transport import TcpTransport
from trio_broker.wire import FramedClientSession

LIMITS: Final = Limits(
    mailbox_bytes_max=6000,
    backlog_bytes_max=12_000,
    handshake_seconds_max=3,
    frame_seconds_max=6,
    stall_seconds_max=5,
    stall_bytes_min=1000,
    publish_seconds_max=20,
    linger_seconds_max=1,
    farewell_seconds_max=2,
    read_bytes_min=64,
    read_bytes_max=1024,
    write_bytes_max=8192,
)

SIZE: Final = 2500
"""Three such messages do not fit into the smallest buffer of a socket."""


@final
class House:
    """A broker, its connections over pairs of sockets, and what the peers received.

    Args:
        limits: the broker's.
        polled: one task waits for all sockets, as on Linux; otherwise each connection waits for its own.
    """

    def __init__(self, limits: Limits = LIMITS, *, polled: bool = True) -> None:
        self.broker = Broker(limits)
        self.flusher = Flusher()
        self.poller = open_poller(self.flusher) if polled else None
        self.serves = False  # flusher and poller run
        self.sockets: list[socket.socket] = []  # the ends that transports took over
        self.received: list[bytes] = []
        self.ended_at: list[float] = []  # when connections ended
        LOG.begin()
        afterwards(self.check)

    def connect(self, nursery: trio.Nursery) -> trio.SocketStream:
        """A connection, served in a nursery; returns the peer's end, which its user closes."""
        pair = socket.socketpair()
        for end in pair:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in pair)
        transport = TcpTransport(ours, LIMITS, self.poller)
        self.sockets.append(transport._socket)
        if not self.serves:
            self.serves = True
            nursery.start_soon(self.flusher.run)
            if self.poller is not None:
                nursery.start_soon(self.poller.run)
        connection = Connection(transport, self.broker, self.flusher, make_logger())
        nursery.start_soon(self._serve, connection, name="a connection")
        return theirs

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self.ended_at.append(trio.current_time())

    async def listen(self, stream: trio.SocketStream, channel: str, seconds: float = 0, late: float = 0) -> None:
        """Subscribe, and receive until the end, beginning late, each message taking a while."""
        held = bytearray()
        with trio.move_on_after(PATIENCE), suppress(*GONE):
            await stream.send_all(frame(channel.encode()))
            await trio.sleep(late)
            while data := await stream.receive_some(1024):
                held += data
                while (payload := cut(held)) is not None:
                    self.received.append(payload)
                    await trio.sleep(seconds)

    async def check(self) -> None:
        """What holds however the scenario ended."""
        await trio.lowlevel.checkpoint()
        if self.poller is not None:
            assert not self.poller._watched, "somebody still waits for a socket"
            self.poller.close()
        assert not LOG.defects, [record.exc_info for record in LOG.defects]
        assert all(end.fileno() == -1 for end in self.sockets), "a socket was not closed"
        assert_in_order(self.received)
        statistics = self.broker.statistics()
        assert statistics.subscriptions == 0, statistics
        if QUEUE in statistics.channels:  # what was accepted was sent whole, or waits
            left = statistics.channels[QUEUE].backlog_messages
            assert statistics.published == statistics.delivered + left, statistics
            kept = await what_is_left(self.broker)
            assert not set(kept) & set(self.received), "what the peer has had whole is to be given again"
        self.broker.close()
        assert self.broker.memory.cost == 0, self.broker.memory.cost
        assert not self.broker.statistics().channels, self.broker.statistics()


def body(number: int, size: int = SIZE) -> bytes:
    return (b"p %d " % number).ljust(size, b".")


async def to_a_slow_subscriber() -> None:
    """Writes are short, and wait until the peer reads."""
    house = House()
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream:
            nursery.start_soon(house.listen, stream, TOPIC, 1)
            await trio.testing.wait_all_tasks_blocked()
            with suppress(PublishStalled):  # if its place in line is cancelled
                for number in range(4):
                    await house.broker.publish(TOPIC, body(number))
            await trio.sleep(6)
        nursery.cancel_scope.cancel()


async def to_one_that_does_not_read() -> None:
    """It is evicted by the stall rule; what it had not been sent is back in its queue."""
    house = House()
    async with trio.open_nursery() as nursery:
        stream = house.connect(nursery)
        async with stream:
            with suppress(*GONE):
                await stream.send_all(frame(QUEUE.encode()))
            await trio.testing.wait_all_tasks_blocked()
            before = trio.current_time()
            for number in range(4):
                house.broker.publish_nowait(QUEUE, body(number))
            await trio.sleep(12)
            assert all(at <= before + 2 * LIMITS.stall_seconds_max for at in house.ended_at)
            assert len(house.ended_at) == 1
        nursery.cancel_scope.cancel()


async def a_write_that_is_cut() -> None:
    """A write of several messages, of which the system takes some at once and the others bit by bit."""
    house = House()
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream, trio.open_nursery() as reading:
            reading.start_soon(house.listen, stream, QUEUE, 0.5, 2)
            await trio.sleep(1)
            for number in range(7):
                house.broker.publish_nowait(QUEUE, body(number, 900))
            await trio.sleep(6)
            assert disturbed() or len(house.received) == 7
            reading.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def from_a_busy_publisher() -> None:
    """Reads come back full, one of them with nothing after it, and grow; a frame comes in pieces."""
    house = House(polled=False)
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream, house.broker.subscribe(TOPIC) as subscription:
            with suppress(*GONE):
                words = frame(b"/null") + frame(TOPIC.encode())
                await stream.send_all(words + frame(body(0, LIMITS.read_bytes_min - len(words) - 4)))
                await trio.sleep(1)
                await stream.send_all(frame(TOPIC.encode()) + frame(body(1)))
                await stream.send_all(frame(TOPIC.encode()) + frame(body(2))[:100])
                await trio.sleep(1)
                await stream.send_all(frame(body(2))[100:])
                with trio.move_on_after(1):
                    async for message in subscription:
                        house.received.append(message.body)
        nursery.cancel_scope.cancel()


async def that_talk_at_once() -> None:
    """What two send in the same step is read in one step, and written in it; one of them leaves without a word, the
    other after a frame that is cut off."""
    house = House()
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as one, house.connect(nursery) as other:
            for stream in (one, other):
                nursery.start_soon(house.listen, stream, QUEUE)
            await trio.sleep(1)
            with suppress(*GONE):
                for number, stream in enumerate((one, other)):
                    await stream.send_all(frame(QUEUE.encode()) + frame(b"p%d 0 " % number))
            await trio.sleep(1)
            assert disturbed() or sorted(house.received) == [b"p0 0 ", b"p1 0 "]
            with suppress(*GONE):
                await other.send_all(b"\0")
                await other.send_eof()
            await one.aclose()
            await trio.sleep(1)
            assert len(house.ended_at) == 2
        nursery.cancel_scope.cancel()


async def that_lingers() -> None:
    """Input that nobody wants is read before the close, for ``linger_seconds_max``, so that the peer gets no reset."""
    house = House()

    async def chatter(stream: trio.SocketStream) -> None:
        with suppress(*GONE):
            while True:
                await stream.send_all(b"GET / HTTP/1.1\r\n\r\n" * 8)
                await trio.sleep(0.25)

    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream, trio.open_nursery() as talking:
            talking.start_soon(chatter, stream)
            before = trio.current_time()
            with trio.move_on_after(PATIENCE), suppress(*GONE):
                while await stream.receive_some(64):
                    pass
            await trio.sleep(2)
            limit = LIMITS.handshake_seconds_max + LIMITS.farewell_seconds_max + LIMITS.linger_seconds_max
            assert all(at - before <= limit for at in house.ended_at)
            talking.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def that_is_reset() -> None:
    """The peer closes with input unread while more is sent to it; another one resets in its first frame."""
    house = House()
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream:
            with suppress(*GONE):
                await stream.send_all(frame(TOPIC.encode()))
            await trio.testing.wait_all_tasks_blocked()
            with suppress(PublishStalled):
                for number in range(3):
                    await house.broker.publish(TOPIC, body(number))
        async with house.connect(nursery) as stream:
            with suppress(*GONE):
                await stream.send_all(struct.pack(">I", 100))
        await trio.sleep(1)
        assert len(house.ended_at) == 2
        nursery.cancel_scope.cancel()


class _Pairs(trio.abc.Listener[trio.SocketStream]):
    """A listener that accepts one end of each of some pairs of sockets."""

    def __init__(self, count: int) -> None:
        pairs = [socket.socketpair() for _ in range(count)]
        self.theirs = [trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) for theirs, _ in pairs]
        self.ours = [trio.SocketStream(trio.socket.from_stdlib_socket(ours)) for _, ours in pairs]

    async def accept(self) -> trio.SocketStream:
        await trio.sleep(1)
        if not self.ours:
            await trio.sleep_forever()
        return self.ours.pop(0)

    async def aclose(self) -> None:
        for stream in self.ours:
            stream.socket.close()
        await trio.lowlevel.checkpoint()


async def that_a_client_listens_on() -> None:
    """A client hears of a reset at each receive, although the system tells it once."""
    pair = socket.socketpair()
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in pair)
    subscription = RemoteSubscription(ours, TOPIC, FramedClientSession(TOPIC, LIMITS))
    try:
        await ours.send_all(frame(TOPIC.encode()))
        theirs.socket.close()  # with something unread, which resets
        for _ in range(2):
            try:
                await subscription.receive()
            except trio.BrokenResourceError:
                continue
            raise AssertionError("the connection broke, and it was not said")
    finally:
        subscription.close()
        theirs.socket.close()


async def that_is_refused() -> None:
    """Whom a server turns away it closes, also if the stream was taken apart: one too many, one that is too late."""
    house = House(dataclasses.replace(LIMITS, connections_max=1))
    taken: list[TcpTransport] = []

    def take(stream: trio.SocketStream, limits: Limits, poller: Poller | None) -> TcpTransport:
        taken.append(TcpTransport(stream, limits, poller))
        house.sockets.append(taken[-1]._socket)
        if len(taken) == 3:
            server.begin_drain()
        return taken[-1]

    listener = _Pairs(3)
    server = Server(house.broker, [listener])
    try:
        # The server takes streams of this family for general ones.
        with mock.patch("trio_broker.server.server.open_transport", take):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server._run, trio.TASK_STATUS_IGNORED)
                await trio.sleep(2.5)
                assert disturbed() or house.sockets[1].fileno() == -1, "it was refused and is open"
                await trio.sleep(1)
                assert disturbed() or house.sockets[2].fileno() == -1, "it came too late and is open"
                nursery.cancel_scope.cancel()
    finally:
        for stream in (*listener.theirs, *listener.ours):
            stream.socket.close()


SCENARIOS = (
    to_a_slow_subscriber,
    to_one_that_does_not_read,
    a_write_that_is_cut,
    from_a_busy_publisher,
    that_talk_at_once,
    that_lingers,
    that_is_reset,
    that_a_client_listens_on,
    that_is_refused,
)
