"""A broker with a server on it, and peers that speak the protocol byte by byte, for the tests of this room."""

from __future__ import annotations

import dataclasses
import functools
import logging
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.server.streams import MemoryListener, MemoryStream
from trio_broker import Broker, Limits, Server, open_broker, serve

STALL_SECONDS_MAX = Limits().stall_seconds_max

HANG_SECONDS = 100_000.0
"""Virtual time after which a test is given up that waits for what never comes: an autojump clock gets there at once.
Without it, nothing to wait for is a clock that stands still."""

TCP_HANG_SECONDS = 120.0


def frame(payload: bytes) -> bytes:
    """The frame around a payload; written down here once more, so that no mistake in the framing is shared."""
    return struct.pack(">I", len(payload)) + payload


def pairs(channel: str, *bodies: bytes) -> bytes:
    """What a peer sends to publish these."""
    name = frame(channel.encode())
    return b"".join(name + frame(body) for body in bodies)


def numbered(count: int, size: int = 0) -> list[bytes]:
    """Payloads that say their place, padded to a size."""
    return [b"%d " % number + b"." * (size - len(b"%d " % number)) for number in range(count)]


def cut_frames(data: bytes) -> tuple[list[bytes], bytes]:
    """The payloads of all whole frames, and what is left of a torn one."""
    payloads = []
    while len(data) >= 4:
        (size,) = struct.unpack_from(">I", data)
        if len(data) < 4 + size:
            break
        payloads.append(data[4 : 4 + size])
        data = data[4 + size :]
    return payloads, data


@final
class Peer:
    """Somebody at the other end."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._held = bytearray()

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def publish(self, channel: str, *bodies: bytes) -> None:
        await self.stream.send_all(pairs(channel, *bodies))

    async def receive(self) -> bytes | None:
        """The next payload; None at an end of the stream between frames. One inside a frame is an error."""
        header = await self._read(4)
        if not header:
            return None
        (size,) = struct.unpack(">I", header)
        body = await self._read(size)
        assert len(header) == 4, "the stream ended inside a header"
        assert len(body) == size, "the stream ended inside a frame"
        return body

    async def receive_all(self) -> list[bytes]:
        """All payloads up to the end of the stream."""
        payloads = []
        while (payload := await self.receive()) is not None:
            payloads.append(payload)
        return payloads

    async def read_to_end(self) -> bytes:
        """All bytes up to the end of the stream."""
        chunks = [bytes(self._held)]
        while chunk := await self.stream.receive_some(65_536):
            chunks.append(bytes(chunk))
        return b"".join(chunks)

    async def is_ended(self) -> None:
        """Wait for the end of the stream, before which nothing may come, and until the server has closed it."""
        assert await self.read_to_end() == b""
        await wait_all_tasks_blocked()

    async def _read(self, size: int) -> bytes:
        while len(self._held) < size:
            chunk = await self.stream.receive_some(65_536)
            if not chunk:
                break
            self._held += chunk
        data = bytes(self._held[:size])
        del self._held[:size]
        return data


@final
@dataclasses.dataclass(frozen=True)
class House:
    """A broker, its server, and the listener through which tests come in without a socket."""

    broker: Broker
    server: Server
    listener: MemoryListener

    def connect(self) -> Peer:
        return Peer(self.listener.connect())

    async def subscribe(self, channel: str) -> Peer:
        """A peer whose subscription is registered."""
        peer = self.connect()
        await peer.send(frame(channel.encode()))
        await wait_all_tasks_blocked()
        return peer

    async def sender(self) -> Peer:
        """A peer that only sends."""
        return await self.subscribe("/null")

    def stream_of(self, peer: Peer) -> MemoryStream:
        """The peer's own end."""
        assert isinstance(peer.stream, MemoryStream)
        return peer.stream

    def backlog(self, queue: str) -> int:
        """How many messages wait in a queue for a taker."""
        channel = self.broker.statistics().channels.get(queue)
        return channel.backlog_messages if channel else 0

    def evicted(self) -> int:
        return self.broker.statistics().evicted


@asynccontextmanager
async def open_house(
    limits: Limits | None = None, *, buffer_bytes: int = 65_536, write_bytes_max: int = 65_536
) -> AsyncIterator[House]:
    """A house for the length of a block, in virtual time. Afterwards the account is even and every stream closed."""
    listener = MemoryListener(buffer_bytes, write_bytes_max)
    with trio.fail_after(HANG_SECONDS):
        async with open_broker(limits) as broker, trio.open_nursery() as nursery:
            server: Server = await nursery.start(functools.partial(serve, broker, listeners=[listener]))
            yield House(broker, server, listener)
            nursery.cancel_scope.cancel()
    assert server.connections == 0
    assert listener.closed
    assert all(stream.closed for stream in listener.accepted)
    assert broker.memory.cost == 0


@final
@dataclasses.dataclass(frozen=True)
class TcpHouse:
    """A broker, its server on a real port, and the sockets of its peers, which are closed at the end."""

    broker: Broker
    server: Server
    peers: list[Peer] = dataclasses.field(default_factory=list)

    async def connect(self, *, buffer_bytes: int | None = None) -> Peer:
        """A peer. A small receive buffer, set before the connection, makes the window small as well."""
        sock = trio.socket.socket()
        if buffer_bytes is not None:
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, buffer_bytes)
        await sock.connect(("127.0.0.1", self.server.port))
        peer = Peer(trio.SocketStream(sock))
        self.peers.append(peer)
        return peer

    async def subscribe(self, channel: str, *, buffer_bytes: int | None = None) -> Peer:
        """A peer whose subscription is registered."""
        before = self.broker.statistics().subscriptions
        peer = await self.connect(buffer_bytes=buffer_bytes)
        await peer.send(frame(channel.encode()))
        await until(lambda: self.broker.statistics().subscriptions == before + 1)
        return peer


@asynccontextmanager
async def open_tcp_house(limits: Limits | None = None) -> AsyncIterator[TcpHouse]:
    """A broker and a server on a real port of the loopback interface, for the length of a block.

    Time is the test's: never the autojump clock, which would jump while the kernel works. A frozen one
    will do.
    """
    with trio.fail_after(TCP_HANG_SECONDS):
        async with open_broker(limits) as broker, trio.open_nursery() as nursery:
            server: Server = await nursery.start(functools.partial(serve, broker, port=0))
            house = TcpHouse(broker, server)
            try:
                yield house
            finally:
                for peer in house.peers:
                    await trio.aclose_forcefully(peer.stream)
            nursery.cancel_scope.cancel()
    assert server.connections == 0
    assert broker.memory.cost == 0


async def until(happened: Callable[[], bool]) -> None:
    """Wait for something that the kernel or another task brings about, without letting time pass for it."""
    while not happened():  # noqa: ASYNC110  there is no event to wait for in what is looked at
        await trio.lowlevel.checkpoint()


async def publish_all(broker: Broker, channel: str, bodies: list[bytes]) -> None:
    """Publish these one after the other, in process."""
    for body in bodies:
        await broker.publish(channel, body)


async def collect(peer: Peer, count: int) -> list[bytes]:
    """The next so many payloads."""
    payloads = []
    for _ in range(count):
        payload = await peer.receive()
        assert payload is not None
        payloads.append(payload)
    return payloads


async def settled_cost(broker: Broker) -> int:
    """What the broker holds once its writers can write no more."""
    cost = -1
    while cost != broker.memory.cost:
        cost = broker.memory.cost
        await wait_all_tasks_blocked(0.05)
    return cost


@final
class Logs:
    """What the server logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self.defects_expected = 0

    @property
    def records(self) -> list[logging.LogRecord]:
        return [record for record in self._caplog.get_records("call") if record.name == "trio_broker"]

    @property
    def defects(self) -> list[logging.LogRecord]:
        """What was logged with a traceback."""
        return [record for record in self.records if record.exc_info]

    def reasons(self, event: str) -> list[str]:
        """The reasons of all records of one event, in order."""
        return [str(_field(record, "reason")) for record in self.records if record.getMessage() == event]

    def levels(self, event: str) -> set[int]:
        return {record.levelno for record in self.records if record.getMessage() == event}


def _field(record: logging.LogRecord, name: str) -> Any:
    return record.__dict__[name]
