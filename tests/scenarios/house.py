"""What scenarios over the network have in common: a broker, a server, peers, and what must hold whatever happens.

- At every rest: publishers wait only for a channel that is full, a queue keeps nothing while somebody can take more, a
  connection has messages waiting only while its peer does not read, and the account is what is there.
- At the end: the server's streams are closed, the account is even, a queue's message was received by one peer at most
  and is not kept as well, a topic's came in order, whatever was accepted is delivered, or waiting, or counted as given
  up, and the same broker still serves a fresh peer over a fresh server.
"""

from __future__ import annotations

import functools
import logging
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, final

import trio
import trio.testing

from tests.scenarios.core_house import assert_in_order, what_is_left
from trio_broker import Broker, BrokerStatistics, DrainReport, Limits, LocalSubscription, Server, serve
from trio_broker.core import Subscription
from trio_broker.explorer import afterwards, at_rest, disturbed
from trio_broker.explorer.network import Network, NetworkStream
from trio_broker.server.connection import Connection
from trio_broker.server.dialect import FramedDialect
from trio_broker.server.stomp import StompDialect

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

TOPIC, QUEUE, OTHER_QUEUE, NOBODY = "/topic/x", "/queue/x", "/queue/other", "/null"

GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
"""What happens to a peer in a disturbed run; it goes home."""

PATIENCE = 200
"""Virtual seconds after which a peer goes home."""


@contextmanager
def patience(seconds: float = PATIENCE) -> Iterator[trio.CancelScope]:
    """So long a peer waits; one who is not disturbed has what it wants by then."""
    with trio.move_on_after(seconds) as scope:
        yield scope
    assert disturbed() or not scope.cancelled_caught, f"it did not come to an end in {seconds:g} s"


@contextmanager
def perhaps_gone() -> Iterator[None]:
    """In a disturbed run a peer's connection may break, and it goes home."""
    try:
        yield
    except GONE:
        if not disturbed():
            raise


@final
class Log(logging.Handler):
    """What the server logged in this run.

    Attributes:
        events: all that it said.
        reasons: the reason given with each.
        abandoned: the channels of messages that it told as abandoned.
        defects: what it called a defect of its own: in no run may there be any.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.events: list[str] = []
        self.defects: list[logging.LogRecord] = []
        self.reasons: list[str] = []
        self.abandoned: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append(record.getMessage())
        self.reasons.append(record.__dict__.get("reason", ""))
        if record.getMessage() == "abandoned":
            self.abandoned.append(record.__dict__["channel"])
        if record.levelno >= logging.ERROR:
            self.defects.append(record)

    def begin(self) -> None:
        """A run begins."""
        self.events.clear()
        self.reasons.clear()
        self.abandoned.clear()
        self.defects.clear()


LOG = Log()
logging.getLogger("trio_broker").addHandler(LOG)
logging.getLogger("trio_broker").setLevel(logging.INFO)


class House:
    """A broker, a server, a network between it and its peers, and what the peers received."""

    def __init__(self, limits: Limits = SMALL, network: Network | None = None) -> None:
        self.broker = Broker(limits)
        self.network = network or Network()
        self.listener = self.network.listen()
        self.server: Server | None = None
        self.received: dict[str, list[bytes]] = {}
        self.consumers: set[str] = set()  # whose subscription was to a queue
        self.ended = False  # the scenario itself has ended the broker
        self.defects_max = 0  # how many defects the scenario has built in
        self.copies = False  # a topic has had subscribers: a message may have been delivered more than once
        self.programs: list[LocalSubscription] = []  # subscriptions of programs in the broker's process
        self.commits = False  # somebody publishes to several channels at once, and waits for all of them
        LOG.begin()
        afterwards(self.check)
        at_rest(self.check_rest)

    async def start(self, nursery: trio.Nursery, *listeners: trio.abc.Listener[Any]) -> Server | None:
        """Start the server; None if it was disturbed before it had started, which Trio calls an error."""
        try:
            self.server = await nursery.start(
                functools.partial(serve, self.broker, listeners=[self.listener, *listeners])
            )
        except RuntimeError as error:
            if "without calling task_status.started()" not in str(error):
                raise
        return self.server

    def fill_queue(self) -> None:
        """Publish to the queue until it has no room."""
        with suppress(trio.WouldBlock):
            for number in range(10):
                self.broker.publish_nowait(QUEUE, b"p %d " % number)

    @property
    def connections(self) -> int:
        """How many connections the server serves; none where there is no server."""
        return 0 if self.server is None else self.server.connections

    @asynccontextmanager
    async def peer(self, channel: str) -> AsyncIterator[NetworkStream | None]:
        """A peer that has subscribed; None if it did not come that far."""
        self.copies = self.copies or channel == TOPIC
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
        if channel == QUEUE:
            self.consumers.add(name)
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

    async def say(self, words: bytes, silent_seconds: float = 0) -> bytes:
        """A peer that says something and then, perhaps later, listens until the end; returns what it heard."""
        heard = bytearray()
        with trio.move_on_after(PATIENCE), suppress(*GONE):
            async with await self.network.connect(self.listener.port) as stream:
                await stream.send_all(words)
                await trio.sleep(silent_seconds)
                while data := await stream.receive_some(64):
                    heard += data
        return bytes(heard)

    async def drain(self) -> DrainReport | None:
        """Drain the server, if there is one; nothing is accepted or dealt out any more from the first step on."""
        if self.server is None:
            return None
        before = self.broker.statistics().published
        self.server.begin_drain()
        assert self.broker.statistics().subscriptions == 0, "somebody can still be given something"
        report = await self.server.drain()
        assert report.seconds <= self.broker.limits.drain_seconds_max, report
        assert self.broker.statistics().published == before, "something was accepted during the drain"
        assert not self.server.connections
        return report

    def check_rest(self) -> None:
        """What holds whenever all tasks wait."""
        statistics, limits = self.broker.statistics(), self.broker.limits
        open_now = [] if self.server is None else list(self.server._open)
        held = sum(connection._reader.holding.held_bytes + self.check_connection(connection) for connection in open_now)
        held += sum(channel.backlog_cost for channel in statistics.channels.values())
        held += sum(subscription.statistics().mailbox_cost for subscription in self.programs)
        assert statistics.memory_cost == held, (statistics, held)
        for channel in statistics.channels.values():
            if channel.kind == "queue":
                full = channel.backlog_cost >= limits.backlog_bytes_max
                assert not channel.backlog_messages or channel.full == channel.subscriptions, f"for nobody: {channel}"
            else:
                full = channel.full > 0
            full = full or self.broker.memory.is_full or (self.commits and self.some_queue_is_full(statistics))
            assert full or not channel.publishers_waiting, f"they wait although there is room: {channel}"

    def some_queue_is_full(self, statistics: BrokerStatistics) -> bool:
        """Whether somebody waits for a queue that has no room: who publishes to several stands in the lines of all."""
        return any(
            channel.publishers_waiting and channel.backlog_cost >= self.broker.limits.backlog_bytes_max
            for channel in statistics.channels.values()
        )

    def check_connection(self, connection: Connection) -> int:
        """One connection at rest; returns what it holds for its peer in mailboxes, and what that has not settled."""
        dialect, speaker = connection._dialect, connection._speaker
        is_stuck = speaker._stall.runs
        assert not is_stuck or speaker.is_writing or speaker._is_mute, "the stall rule's clock runs without a write"
        assert is_stuck or not speaker.outbox.control_bytes or speaker._is_mute, "a writer sleeps while replies wait"
        subscriptions: tuple[Subscription, ...] = ()
        held = 0
        if isinstance(dialect, FramedDialect) and dialect._subscription is not None:
            subscriptions = (dialect._subscription,)
            assert not is_stuck or subscriptions[0].mailbox.cost or subscriptions[0].ended, (
                "the stall rule's clock runs though nothing waits"
            )
        elif isinstance(dialect, StompDialect):
            subscriptions = dialect._ledger.subscriptions
            held = dialect._ledger.cost
            unsettled = sum(len(subscription.unsettled) for subscription in subscriptions)
            assert unsettled == len(dialect._ledger), "something is to be settled by a subscription that has ended"
        for subscription in subscriptions:
            held += subscription.mailbox.cost
            assert is_stuck or not subscription.mailbox.messages, "a writer sleeps while messages wait"
            assert subscription.room >= 0, "it was given more than it has credit for"
            left = subscription._taken or subscription.unsettled
            assert left or not subscription._withdrawn, "it was withdrawn, has nothing left, and is still there"
            assert subscription.credit is None or not subscription.mailbox.taken_cost, "the ledger has what was taken"
        return held

    async def check(self) -> None:
        """What holds however the scenario ended."""
        broker = self.broker
        assert len(LOG.defects) <= self.defects_max, [record.exc_info for record in LOG.defects]
        assert not self.network.open_streams, self.network.open_streams
        if self.server is not None:
            assert self.server.connections == 0
            assert self.server._poller is None or self.server._poller._epoll.closed, "an epoll is open"
        for bodies in self.received.values():
            assert all(body.split()[0] in {b"p", b"a", b"b"} for body in bodies), f"invented: {bodies}"
        for name in self.received.keys() - self.consumers:
            assert_in_order(self.received[name])
        statistics = broker.statistics()
        assert statistics.subscriptions == 0, statistics
        waiting = sum(channel.backlog_messages for channel in statistics.channels.values())
        given_up = statistics.discarded + statistics.poisoned + statistics.dropped + statistics.unrouted
        given_up += statistics.rejected + statistics.expired
        settled = statistics.delivered + given_up + waiting
        assert statistics.published == settled or (self.copies and statistics.published < settled), statistics
        # What one consumer received whole had left whole: no other was given it, and it is not in the queue.
        left = [] if self.ended else await what_is_left(self.broker)
        consumed = [body for name in self.consumers for body in self.received[name]] + left
        assert len(set(consumed)) == len(consumed), f"doubled: {consumed}"
        if not self.ended:
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


ONE_BEHIND_ANOTHER = b"".join(map(frame, (QUEUE.encode(), b"a 1 ", OTHER_QUEUE.encode(), b"a 2 ")))
"""Two messages of a peer that only sends; the first has to wait where the queue is full."""


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
