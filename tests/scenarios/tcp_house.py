"""What scenarios over plain TCP have in common: connections over pairs of sockets, and what must hold."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final, final

import trio

from tests.scenarios.core_house import assert_in_order, what_is_left
from tests.scenarios.house import GONE, LOG, QUEUE, TOPIC, cut, frame, patience
from trio_broker import Broker, Limits
from trio_broker.explorer import afterwards
from trio_broker.server.connection import Connection
from trio_broker.server.flusher import Flusher
from trio_broker.server.log import make_logger
from trio_broker.server.poller import open_poller
from trio_broker.server.transport import TcpTransport

__all__ = ["LIMITS", "WORKER", "WORKER_IN_TRANSACTION", "House", "Pairs", "body"]

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

_SUBSCRIBES: Final = (
    "CONNECT\naccept-version:1.2\nhost:x\n\n\0"
    f"SUBSCRIBE\nid:s\ndestination:{QUEUE}\nack:client-individual\nprefetch-count:9\n\n\0"
)
WORKER: Final = (
    f"{_SUBSCRIBES}SEND\ndestination:{TOPIC}\n\na 0 \0SUBSCRIBE\nid:late\ndestination:{QUEUE}\n\n\0"
).encode()
"""What a peer says in STOMP that takes work from a queue, sends to a topic, and then wants more."""

WORKER_IN_TRANSACTION: Final = (
    f"{_SUBSCRIBES}BEGIN\ntransaction:t\n\n\0SEND\ndestination:{TOPIC}\ntransaction:t\n\na 0 \0"
    "COMMIT\ntransaction:t\n\n\0"
).encode()

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
        self.connections: list[Connection] = []
        self.scopes: list[trio.CancelScope] = []  # around each connection
        self.ended_at: list[float] = []  # when connections ended
        LOG.begin()
        afterwards(self.check)

    def connect(self, nursery: trio.Nursery) -> trio.SocketStream:
        """A connection, served in a nursery; returns the peer's end, which its user closes."""
        pair = socket.socketpair()
        for end in pair:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in pair)
        transport = TcpTransport(ours, self.broker.limits, self.poller)
        self.sockets.append(transport._socket)
        if not self.serves:
            self.serves = True
            nursery.start_soon(self.flusher.run)
            if self.poller is not None:
                nursery.start_soon(self.poller.run)
        connection = Connection(transport, self.broker, self.flusher, make_logger())
        self.connections.append(connection)
        nursery.start_soon(self._serve, connection, name="a connection")
        return theirs

    async def _serve(self, connection: Connection) -> None:
        try:
            with trio.CancelScope() as scope:
                self.scopes.append(scope)
                await connection.run()
        finally:
            self.ended_at.append(trio.current_time())

    async def listen(self, stream: trio.SocketStream, channel: str, seconds: float = 0, late: float = 0) -> None:
        """Subscribe, and receive until the end, beginning late, each message taking a while."""
        held = bytearray()
        with patience(), suppress(*GONE):
            await stream.send_all(frame(channel.encode()))
            await trio.sleep(late)
            while data := await stream.receive_some(1024):
                held += data
                while (payload := cut(held)) is not None:
                    self.received.append(payload)
                    await trio.sleep(seconds)

    def backlog(self, channel: str) -> int:
        """How many messages wait in a queue, in nobody's mailbox."""
        channels = self.broker.statistics().channels
        return channels[channel].backlog_messages if channel in channels else 0

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
            left = sum(channel.backlog_messages for channel in statistics.channels.values())
            given_up = statistics.discarded + statistics.unrouted
            assert statistics.published == statistics.delivered + given_up + left, statistics
            kept = await what_is_left(self.broker)
            assert not set(kept) & set(self.received), "what the peer has had whole is to be given again"
        self.broker.close()
        assert self.broker.memory.cost == 0, self.broker.memory.cost
        assert not self.broker.statistics().channels, self.broker.statistics()


def body(number: int, size: int = SIZE) -> bytes:
    return (b"p %d " % number).ljust(size, b".")


@final
class Pairs(trio.abc.Listener[trio.SocketStream]):
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
