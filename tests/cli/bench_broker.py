"""A broker in memory that does as it is told, for tests of the load."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair

from trio_broker import Limits
from trio_broker.cli.bench_load import Load
from trio_broker.cli.bench_measure import Measured, Work
from trio_broker.message import is_queue
from trio_broker.wire import FramedServerSession, Publish, Subscribe

PROBE_BYTES = 4 + 9
RUN = b"this-run"
Stream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


class Broker:
    """A broker in memory, whose deliveries a test can change.

    Attributes:
        change: is given a subscriber's number and a delivery, probes excepted, and returns what is delivered instead;
            None to disconnect the subscriber.
        deaf: subscriptions and messages before this time are ignored.
        taking: is awaited, with the client's end, whenever the broker has been sent something.
        probes: whether probes are delivered.
        published: what was published, probes excepted, and when.
        clients: the clients' ends, the first connected first.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.change: Callable[[int, bytes], bytes | None] = lambda subscriber, delivery: delivery
        self.taking: Callable[[Stream], Awaitable[None]] = at_once
        self.deaf = 0.0
        self.probes = True
        self.published: list[tuple[float, bytes]] = []
        self.clients: list[Stream] = []
        self._nursery = nursery
        self._subscribers: list[Stream] = []
        self._turn = 0
        self._sending = trio.Lock()

    async def connect(self) -> Stream:
        client, end = memory_stream_pair()
        self.clients.append(client)
        pump = client.send_stream.send_all_hook
        assert pump is not None

        async def take() -> None:
            await pump()
            await self.taking(client)

        client.send_stream.send_all_hook = take
        self._nursery.start_soon(self._serve, end)
        return client

    async def deliver(self, number: int, delivery: bytes | None) -> None:
        """Deliver to one subscriber, or disconnect it."""
        end = self._subscribers[number]
        async with self._sending:
            if delivery is None:
                await end.send_stream.aclose()
            elif delivery:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await end.send_all(delivery)

    async def _serve(self, end: Stream) -> None:
        session = FramedServerSession(Limits())
        while data := bytes(await end.receive_some()):
            for command in session.receive_data(data):
                if isinstance(command, Subscribe) and command.channel is not None:
                    self._subscribers.append(end)
                elif isinstance(command, Publish) and trio.current_time() >= self.deaf:
                    for part in command.batch.parts:
                        await self.route(command.batch.channel, part)

    async def route(self, channel: str, part: bytes) -> None:
        """Deliver one message."""
        probe = len(part) == PROBE_BYTES
        if not probe:
            self.published.append((trio.current_time(), part[4:]))
        elif not self.probes:
            return
        receivers = list(range(len(self._subscribers)))
        if is_queue(channel):
            receivers = [receivers[self._turn % len(receivers)]]
            self._turn += 1
        for number in receivers:
            await self.deliver(number, part if probe else self.change(number, part))


async def at_once(client: Stream) -> None:
    """What a publisher waits for who does not wait."""


@asynccontextmanager
async def in_memory() -> AsyncIterator[Broker]:
    """A broker for the length of a block."""
    async with trio.open_nursery() as nursery:
        yield Broker(nursery)
        nursery.cancel_scope.cancel()


def load_of(broker: Broker, work: Work) -> Load:
    """A load on this broker, which gives up after 10 seconds in which nothing moves."""
    return Load(work, broker.connect, limits=Limits(), idle_seconds_max=10, spin_seconds=0)


def work_of(
    channel: str, count: int, publishers: int = 1, subscribers: int = 1, *, rate: float | None = None, size: int = 20
) -> Work:
    """The work of one run; all of it with one publisher and one subscriber, unless told otherwise."""
    return Work(channel, publishers, subscribers, size, count, rate, RUN)


def number_in(body: bytes) -> int:
    """The number that a message of a load with a rate has."""
    return int.from_bytes(body[8:16], "big")


async def measure(work: Work, change: Callable[[int, bytes], bytes | None]) -> Measured:
    """What comes of it with a broker that changes deliveries."""
    async with in_memory() as broker:
        broker.change = change
        load = load_of(broker, work)
        await load.run()
        return load.measured()
