"""Scenarios for a server and its peers, over the explorer's network: each disturbed at every moment and operation.

What must hold whatever happens: the server's streams are closed, the account is even, a queue's messages are delivered
once, or waiting, or counted as given up, and the same broker serves a fresh peer over a fresh server.
"""

from __future__ import annotations

import functools
import logging
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import final

import trio
import trio.testing

from trio_broker import Broker, Limits, Server, serve
from trio_broker.explorer import afterwards
from trio_broker.explorer.network import Network, NetworkStream

# What Trio says when the network's fault is a lack of file descriptors would fill the screen.
logging.getLogger("trio.serve_listeners").setLevel(logging.CRITICAL)

SMALL = Limits(
    mailbox_bytes_max=700,
    backlog_bytes_max=1500,
    handshake_seconds_max=3,
    frame_seconds_max=6,
    stall_seconds_max=5,
    stall_bytes_min=100,
    publish_seconds_max=20,
    drain_seconds_max=8,
    linger_seconds_max=1,
    farewell_seconds_max=2,
    read_bytes_min=64,
    read_bytes_max=256,
    write_bytes_max=256,
)

TOPIC, QUEUE, NOBODY = "/topic/x", "/queue/x", "/null"

GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
"""What happens to a peer in a disturbed run; it goes home."""

PATIENCE = 200
"""Virtual seconds after which a peer goes home."""


@final
class Defects(logging.Handler):
    """What the server logged as a defect of its own: in no run may there be any."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


DEFECTS = Defects()
logging.getLogger("trio_broker").addHandler(DEFECTS)


@final
class House:
    """A broker, a server, a network between it and its peers, and what the peers received."""

    def __init__(self, limits: Limits = SMALL) -> None:
        self.broker = Broker(limits)
        self.network = Network()
        self.listener = self.network.listen()
        self.server: Server | None = None
        self.received: dict[str, list[bytes]] = {}
        DEFECTS.records.clear()
        afterwards(self.check)

    async def start(self, nursery: trio.Nursery) -> Server | None:
        """Start the server; None if it was disturbed before it had started, which Trio calls an error."""
        try:
            self.server = await nursery.start(functools.partial(serve, self.broker, listeners=[self.listener]))
        except RuntimeError as error:
            if "without calling task_status.started()" not in str(error):
                raise
        return self.server

    @asynccontextmanager
    async def peer(self, channel: str) -> AsyncIterator[NetworkStream | None]:
        """A peer that has subscribed; None if it did not come that far."""
        stream, subscribed = None, False
        try:
            with trio.move_on_after(PATIENCE), suppress(*GONE):
                stream = await self.network.connect(self.listener.port)
                await stream.send_all(frame(channel.encode()))
                subscribed = True
            yield stream if subscribed else None
        finally:
            if stream is not None:
                await trio.aclose_forcefully(stream)

    async def listen(self, channel: str, name: str, count: int | None = None, seconds: float = 0) -> None:
        """A peer that receives so many messages, or all until the end, each taking a while."""
        received = self.received.setdefault(name, [])
        async with self.peer(channel) as stream:
            if stream is None:
                return
            held = bytearray()
            with trio.move_on_after(PATIENCE), suppress(*GONE):
                while (count is None or len(received) < count) and (data := await stream.receive_some(64)):
                    held += data
                    while (payload := cut(held)) is not None:
                        received.append(payload)
                        await trio.sleep(seconds)

    async def send(self, channel: str, count: int, name: str = "p", size: int = 0) -> None:
        """A peer that publishes numbered messages and gives the server time for them."""
        async with self.peer(NOBODY) as stream:
            if stream is None:
                return
            with trio.move_on_after(PATIENCE), suppress(*GONE):
                for number in range(count):
                    body = b"%s %d " % (name.encode(), number)
                    await stream.send_all(frame(channel.encode()) + frame(body.ljust(size, b".")))
                await trio.sleep(1)

    async def check(self) -> None:
        """What holds however the scenario ended."""
        broker = self.broker
        assert not DEFECTS.records, [record.exc_info for record in DEFECTS.records]
        assert not self.network.open_streams, self.network.open_streams
        assert self.server is None or self.server.connections == 0
        for bodies in self.received.values():
            assert all(body.split()[0] in {b"p", b"a", b"b"} for body in bodies), f"invented: {bodies}"
        statistics = broker.statistics()
        assert statistics.subscriptions == 0, statistics
        if QUEUE in statistics.channels or statistics.delivered:
            waiting = sum(channel.backlog_messages for channel in statistics.channels.values())
            settled = statistics.delivered + statistics.discarded + statistics.poisoned + statistics.unrouted
            assert statistics.published <= settled + waiting + statistics.dropped, statistics
        await self.check_rescue()
        broker.close()
        assert broker.memory.cost == 0, broker.memory.cost
        assert not broker.statistics().channels, broker.statistics()

    async def check_rescue(self) -> None:
        """The same broker serves a peer that comes now."""
        network = Network()
        listener = network.listen()
        async with trio.open_nursery() as nursery:
            await nursery.start(functools.partial(serve, self.broker, listeners=[listener]))
            async with await network.connect(listener.port) as stream:
                await stream.send_all(frame(b"/topic/rescue"))
                await trio.testing.wait_all_tasks_blocked()
                await self.broker.publish("/topic/rescue", b"are you there?")
                held = bytearray()
                while len(held) < 18:
                    held += await stream.receive_some(64)
                assert cut(held) == b"are you there?"
            nursery.cancel_scope.cancel()


def frame(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def cut(held: bytearray) -> bytes | None:
    """Cut the first whole frame off, if there is one."""
    if len(held) < 4:
        return None
    (size,) = struct.unpack_from(">I", held)
    if len(held) < 4 + size:
        return None
    payload = bytes(held[4 : 4 + size])
    del held[: 4 + size]
    return payload


async def connect_and_close() -> None:
    """Peers come and go: one at once, one without a word, one in order."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with suppress(OSError), trio.move_on_after(PATIENCE):
            async with await house.network.connect(house.listener.port):
                pass
        async with house.peer(TOPIC):
            await trio.sleep(1)
        nursery.cancel_scope.cancel()


async def handshakes() -> None:
    """One that stays silent, one that breaks the protocol, one that speaks HTTP, one that stops in its first frame."""
    house = House()

    async def say(words: bytes) -> None:
        with trio.move_on_after(PATIENCE), suppress(*GONE):
            async with await house.network.connect(house.listener.port) as stream:
                await stream.send_all(words)
                while await stream.receive_some(64):
                    pass

    async with trio.open_nursery() as nursery:
        server = await house.start(nursery)
        async with trio.open_nursery() as peers:
            for words in (b"", b"\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x08/to"):
                peers.start_soon(say, words)
            await trio.sleep(30)
            # Whatever happened to them, none is served for longer than handshake, farewell and lingering may take.
            assert server is None or server.connections == 0
        nursery.cancel_scope.cancel()


async def topic_over_the_network() -> None:
    """Two subscribers, one of them slow, and a publisher."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with trio.open_nursery() as peers:
            peers.start_soon(house.listen, TOPIC, "quick", 3)
            peers.start_soon(house.listen, TOPIC, "slow", 3, 1)
            await trio.sleep(1)
            peers.start_soon(house.send, TOPIC, 3)
            await trio.sleep(20)
            peers.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def queue_over_the_network() -> None:
    """Rotation between two consumers, of whom one leaves early."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with trio.open_nursery() as peers:
            peers.start_soon(house.listen, QUEUE, "leaves", 1)
            peers.start_soon(house.listen, QUEUE, "stays", 4)
            await trio.sleep(1)
            peers.start_soon(house.send, QUEUE, 5)
            await trio.sleep(20)
            peers.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def drain_idle_and_busy() -> None:
    """A drain with a silent peer, one that is being sent to, and one that publishes."""
    house = House()
    async with trio.open_nursery() as nursery:
        server = await house.start(nursery)
        nursery.start_soon(house.listen, TOPIC, "idle")
        nursery.start_soon(house.listen, QUEUE, "busy", None, 1)
        await trio.sleep(1)
        nursery.start_soon(house.send, QUEUE, 4, "p", 30)
        await trio.sleep(0.5)
        if server is not None:
            report = await server.drain()
            assert report.seconds <= 8.0, report
        nursery.cancel_scope.cancel()


async def drain_stuck() -> None:
    """A peer that does not read is cut at the deadline at the latest."""
    house = House(Limits(drain_seconds_max=3, stall_seconds_max=100, mailbox_bytes_max=3000))

    async def stick() -> None:
        async with house.peer(QUEUE) as stream:
            if stream is not None:
                await trio.sleep(30)

    async with trio.open_nursery() as nursery:
        server = await house.start(nursery)
        nursery.start_soon(stick)
        await trio.sleep(1)
        await house.broker.publish(QUEUE, b"p 1 ".ljust(2000, b"."))
        await house.broker.publish(QUEUE, b"p 2 ".ljust(2000, b"."))
        before = trio.current_time()
        if server is not None:
            await server.drain()
            assert trio.current_time() <= before + 3
        nursery.cancel_scope.cancel()


SCENARIOS = (
    connect_and_close,
    handshakes,
    topic_over_the_network,
    queue_over_the_network,
    drain_idle_and_busy,
    drain_stuck,
)
