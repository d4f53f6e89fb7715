"""The load, under a clock that jumps, against a broker in memory that does as it is told; and what is reckoned."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock, memory_stream_pair

from trio_broker import Limits
from trio_broker.cli.bench_load import Load
from trio_broker.cli.bench_measure import PERCENTILES, Latencies, Measured, Work, spread
from trio_broker.cli.bench_probe import LoadFailed
from trio_broker.cli.bench_report import as_json, shortfall
from trio_broker.message import is_queue
from trio_broker.wire import FramedServerSession, Publish, Subscribe, frame

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
    async with trio.open_nursery() as nursery:
        yield Broker(nursery)
        nursery.cancel_scope.cancel()


def load_of(broker: Broker, work: Work) -> Load:
    return Load(work, broker.connect, limits=Limits(), idle_seconds_max=10, spin_seconds=0)


def work_of(
    channel: str, count: int, publishers: int = 1, subscribers: int = 1, *, rate: float | None = None, size: int = 20
) -> Work:
    return Work(channel, publishers, subscribers, size, count, rate, RUN)


def number_in(body: bytes) -> int:
    return int.from_bytes(body[8:16], "big")


async def measure(work: Work, change: Callable[[int, bytes], bytes | None]) -> Measured:
    """What comes of it with a broker that changes deliveries."""
    async with in_memory() as broker:
        broker.change = change
        load = load_of(broker, work)
        await load.run()
        return load.measured()


# -- everything arrives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 20, 300_000])
@pytest.mark.parametrize("rate", [None, 1000.0])
async def test_a_topic_brings_every_message_to_every_subscriber(
    autojump_clock: MockClock, size: int, rate: float | None
) -> None:
    work = work_of("/topic/a", 7, publishers=3, subscribers=2, size=size if rate is None else size + 16, rate=rate)
    async with in_memory() as broker:
        load = load_of(broker, work)
        await load.run()
        measured = load.measured()
        assert len(broker.published) == 7
        assert {len(body) for _, body in broker.published} == {work.size_bytes}
    assert measured.complete
    assert measured.published == 7
    assert measured.received == [7, 7]
    assert measured.delivered == load.delivered == work.deliveries == 14
    assert measured.latencies.count == (0 if rate is None else 14)
    assert shortfall(measured) is None


@pytest.mark.parametrize("rate", [None, 1000.0])
async def test_a_queue_brings_every_message_to_one_subscriber(autojump_clock: MockClock, rate: float | None) -> None:
    async with in_memory() as broker:
        load = load_of(broker, work_of("/queue/a", 2_001, publishers=3, subscribers=2, rate=rate))
        await load.run()
        measured = load.measured()
    assert measured.complete
    assert measured.published == measured.delivered == 2_001
    assert sorted(measured.received) == [1_000, 1_001]


async def test_each_publisher_sends_its_share() -> None:
    work = work_of("/topic/a", 7, publishers=3)
    assert [work.share(publisher) for publisher in range(3)] == [3, 2, 2]
    assert [work_of("/topic/a", 2, publishers=3).share(publisher) for publisher in range(3)] == [1, 1, 0]


async def test_a_subscription_that_begins_late_is_waited_for(autojump_clock: MockClock) -> None:
    async with in_memory() as broker:
        broker.deaf = 0.1
        load = load_of(broker, work_of("/topic/a", 100, subscribers=2))
        await load.run()
        assert load.measured().complete
        assert 0.1 <= broker.published[0][0] < 0.13
        assert len(broker.published) == 100


# -- a rate ------------------------------------------------------------------------------------------------------------


async def test_with_a_rate_each_message_is_sent_at_its_time(autojump_clock: MockClock) -> None:
    async with in_memory() as broker:
        load = load_of(broker, work_of("/topic/a", 10, publishers=2, rate=4))
        await load.run()
        measured = load.measured()
        start = broker.published[0][0]
        assert [number_in(body) for _, body in broker.published] == list(range(10))
        assert [when - start for when, _ in broker.published] == [number / 4 for number in range(10)]
        assert trio.current_time() - start == 9 / 4 + 0.05  # in which more than was sent would be noticed
    assert measured.published_seconds == measured.seconds == 9 / 4
    assert measured.latencies.max == measured.late_seconds == 0


async def test_a_latency_counts_from_the_time_at_which_the_message_was_to_be_sent(autojump_clock: MockClock) -> None:
    """The broker takes number 10, due after 1 s, and then nothing for 4.95 s: what was due meanwhile has waited."""
    async with in_memory() as broker:
        load = load_of(broker, work_of("/topic/a", 100, rate=10))
        stalled: list[float] = []

        async def stall(client: Stream) -> None:
            if load.begun and not stalled and trio.current_time() >= 1:
                stalled.append(trio.current_time())
                await trio.sleep(4.95)

        broker.taking = stall
        await load.run()
        measured = load.measured()
        start = broker.published[0][0]
        together = [number_in(body) for when, body in broker.published if when - start == pytest.approx(5.95)]
    assert stalled == [1]
    assert measured.complete
    assert together == list(range(11, 60))
    exact = sorted([0.0] * 51 + [5.95 - number / 10 for number in together])
    assert measured.late_seconds == pytest.approx(4.85)
    assert measured.latencies.max == pytest.approx(4.85)
    for name, rank in {"p50": 50, "p90": 90, "p99": 99, "p99.9": 100}.items():
        found = measured.latencies.percentile(PERCENTILES[name])
        assert exact[rank - 1] - 1e-9 <= found <= exact[rank - 1] * 1.008 + 1e-9, name


async def test_a_latency_has_the_time_that_the_broker_took(autojump_clock: MockClock) -> None:
    async with in_memory() as broker, trio.open_nursery() as nursery:

        async def later(part: bytes) -> None:
            await trio.sleep(0.25)
            await broker.deliver(0, part)

        def hold(subscriber: int, part: bytes) -> bytes:
            nursery.start_soon(later, part)
            return b""

        broker.change = hold
        load = load_of(broker, work_of("/topic/a", 10, rate=1))
        await load.run()
        measured = load.measured()
    assert measured.complete
    assert measured.seconds == 9.25
    assert measured.latencies.max == measured.latencies.percentile(1) == 0.25
    assert measured.late_seconds == 0


async def test_a_slow_rate_is_no_standstill(autojump_clock: MockClock) -> None:
    async with in_memory() as broker:
        load = load_of(broker, work_of("/topic/a", 4, publishers=2, rate=0.05))
        await load.run()
    assert load.measured().complete
    assert load.measured().seconds == 60


# -- not everything arrives --------------------------------------------------------------------------------------------


async def test_a_subscriber_that_is_evicted_ends_it(autojump_clock: MockClock) -> None:
    given = 0

    def evict(subscriber: int, delivery: bytes) -> bytes | None:
        nonlocal given
        given += subscriber
        return None if given > 5 else delivery

    measured = await measure(work_of("/topic/a", 100, subscribers=2), evict)
    assert not measured.complete
    assert list(measured.faults) == ["the broker disconnected subscriber 2"]
    assert measured.received[1] == 5
    missing = 200 - measured.delivered
    assert shortfall(measured) == (
        f"the broker disconnected subscriber 2; {missing} of 200 deliveries are missing; of 100 messages, subscriber "
        + ("2 has 5" if measured.received[0] == 100 else f"1 has {measured.received[0]}, 2 has 5")
        + "; so there are no rates"
    )
    report = as_json(measured)
    assert report["complete"] is False
    assert isinstance(report["delivered"], dict)
    assert report["delivered"]["messages_per_second"] is None


async def test_a_lost_message_ends_it_when_nothing_moves_any_more(autojump_clock: MockClock) -> None:
    given = 0

    def lose(subscriber: int, delivery: bytes) -> bytes:
        nonlocal given
        given += 1
        return b"" if given == 50 else delivery

    measured = await measure(work_of("/queue/a", 100, subscribers=2), lose)
    assert measured.published == 100
    assert measured.seconds == 10
    assert shortfall(measured) == (
        "nothing was sent or received for 10 s; 1 of 100 deliveries are missing; so there are no rates"
    )


def only(wanted: int, instead: Callable[[bytes], bytes]) -> Callable[[int, bytes], bytes]:
    """Change the delivery of one message, told by its number."""
    return lambda _, delivery: instead(delivery) if number_in(delivery[4:]) == wanted else delivery


@pytest.mark.parametrize(
    ("channel", "change", "fault"),
    [
        ("/topic/a", only(6, lambda delivery: b""), "message 8 where 6 was due"),
        ("/topic/a", only(6, lambda delivery: delivery * 2), "message 6 where 8 was due"),
        ("/queue/a", only(6, lambda delivery: delivery * 2), "message 6, which had been delivered before"),
        ("/topic/a", only(6, lambda delivery: delivery[:-1] + b"!"), "a message that is not of this run"),
        ("/topic/a", only(6, lambda delivery: frame(b"that-run" + delivery[12:])), "a message that is not of this run"),
        (
            "/queue/a",
            only(6, lambda delivery: frame(RUN + (20).to_bytes(8, "big") + RUN[:4])),
            "message 20, which was never sent",
        ),
    ],
)
async def test_with_a_rate_each_message_is_known_by_its_number(
    autojump_clock: MockClock, channel: str, change: Callable[[int, bytes], bytes], fault: str
) -> None:
    measured = await measure(work_of(channel, 20, publishers=2, rate=1), change)
    assert list(measured.faults) == [f"subscriber 1 received {fault}"]
    assert 6 <= measured.seconds <= 8
    assert as_json(measured)["latency_seconds"] is None


async def test_bytes_that_were_never_sent_end_it(autojump_clock: MockClock) -> None:
    measured = await measure(work_of("/topic/a", 100), lambda _, delivery: delivery[:-1] + b"!")
    assert list(measured.faults) == ["subscriber 1 received bytes that are not of this run"]


@pytest.mark.parametrize("channel", ["/topic/a", "/queue/a"])
async def test_more_than_was_sent_is_waited_for_and_noticed(autojump_clock: MockClock, channel: str) -> None:
    async with in_memory() as broker, trio.open_nursery() as nursery:

        async def once_more(part: bytes) -> None:
            await trio.sleep(0.04)
            await broker.deliver(0, part)

        def double(subscriber: int, part: bytes) -> bytes:
            if len(broker.published) == 100:
                nursery.start_soon(once_more, part)
            return part

        broker.change = double
        load = load_of(broker, work_of(channel, 100))
        await load.run()
        measured = load.measured()
    assert list(measured.faults) == ["subscriber 1 received more than was sent"]
    assert not measured.complete
    assert shortfall(measured) == "subscriber 1 received more than was sent; so there are no rates"


async def test_what_one_subscriber_has_too_much_does_not_make_up_for_what_another_lacks(
    autojump_clock: MockClock,
) -> None:
    given = [0, 0]

    def shift(subscriber: int, delivery: bytes) -> bytes:
        given[subscriber] += 1
        return delivery if given[subscriber] < 100 else delivery * 2 * (1 - subscriber)

    measured = await measure(work_of("/topic/a", 100, subscribers=2), shift)
    assert list(measured.faults) == ["subscriber 1 received more than was sent"]


async def test_a_publisher_that_is_disconnected_ends_it(autojump_clock: MockClock) -> None:
    async with in_memory() as broker:

        async def cut(client: Stream) -> None:
            if len(broker.published) == 3:
                raise trio.BrokenResourceError

        broker.taking = cut
        load = load_of(broker, work_of("/topic/a", 10, rate=1))
        await load.run()
        measured = load.measured()
    assert list(measured.faults) == ["the broker disconnected publisher 1"]
    assert measured.published == 3
    assert measured.seconds == 3


async def test_a_stop_leaves_what_was_measured_until_then(autojump_clock: MockClock) -> None:
    async with in_memory() as broker:
        load = load_of(broker, work_of("/topic/a", 100, subscribers=2, rate=10))
        with trio.move_on_after(3.05):
            await load.run()
        assert load.begun
        measured = load.measured("SIGINT")
        for client in broker.clients:
            with pytest.raises(trio.ClosedResourceError):
                await client.send_all(b"")
    assert measured.received == [31, 31]
    assert measured.seconds == pytest.approx(3.05)
    assert shortfall(measured) is not None
    report = as_json(measured)
    assert (report["partial"], report["complete"]) == (True, False)
    assert report["latency_seconds"] == {"p50": 0.0, "p90": 0.0, "p99": 0.0, "p99.9": 0.0, "max": 0.0}
    for side in ("published", "delivered"):
        part = report[side]
        assert isinstance(part, dict)
        assert part["messages"] == {"published": 31, "delivered": 62}[side]
        assert part["messages_per_second"] is part["megabytes_per_second"] is None


# -- it cannot even begin ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["/topic/a", "/queue/a"])
async def test_subscribers_that_receive_nothing_are_waited_for_so_long(autojump_clock: MockClock, channel: str) -> None:
    async with in_memory() as broker:
        broker.probes = False
        load = load_of(broker, work_of(channel, 10, subscribers=3))
        with pytest.raises(LoadFailed, match=r"^after 10 s 3 of 3 subscribers had not received any message$"):
            await load.run()
        assert trio.current_time() == 10
        assert not load.begun


async def test_a_broker_that_does_not_accept_is_waited_for_so_long(autojump_clock: MockClock) -> None:
    load = Load(work_of("/topic/a", 10), trio.sleep_forever, limits=Limits(), idle_seconds_max=10)
    with pytest.raises(LoadFailed, match=r"^after 10 s only 0 of 1 subscribers were connected$"):
        await load.run()
    assert trio.current_time() == 10


async def test_a_channel_that_somebody_else_uses_is_refused(autojump_clock: MockClock) -> None:
    async with in_memory() as broker:
        broker.probes = False
        stranger = await broker.connect()
        await stranger.send_all(frame(b"/null"))
        load = load_of(broker, work_of("/topic/a", 10, subscribers=2))

        async def publish() -> None:
            await trio.sleep(1)
            await stranger.send_all(frame(b"/topic/a") + frame(b"hello"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            with pytest.raises(LoadFailed, match=r"^somebody else's messages are in /topic/a$"):
                await load.run()
        assert trio.current_time() == 1


# -- what is reckoned --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_those_of_the_sorted_values_rounded_up_a_little(seed: int) -> None:
    source = random.Random(seed)
    values = [source.lognormvariate(-9, 2) for _ in range(1 + 1000 * seed)]
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    ordered = sorted(values)
    for thousandths in (1, *PERCENTILES.values(), 1000):
        exact = ordered[max(1, -(-thousandths * len(values) // 1000)) - 1]
        assert exact - 1e-9 <= latencies.percentile(thousandths) <= exact * 1.008 + 1e-9
    assert latencies.max == pytest.approx(ordered[-1], abs=1e-9)
    assert latencies.count == len(values)


def test_small_latencies_are_exact() -> None:
    latencies = Latencies()
    for latency_ns in range(1, 101):
        latencies.add(latency_ns / 1e9)
    assert latencies.as_dict() == {"p50": 50e-9, "p90": 90e-9, "p99": 99e-9, "p99.9": 100e-9, "max": 100e-9}


def test_without_latencies_there_are_no_percentiles() -> None:
    assert Latencies().as_dict() == {}
    with pytest.raises(ValueError, match="nothing"):
        Latencies().percentile(500)


def test_a_spread_is_least_middle_and_greatest() -> None:
    assert spread([3, 1, 2]) == {"min": 1, "median": 2, "max": 3}
    assert spread([4, 1, 2, 3]) == {"min": 1, "median": 2.5, "max": 4}
    assert spread([5]) == {"min": 5, "median": 5, "max": 5}


def test_rates_are_reckoned_from_counts_and_times() -> None:
    measured = Measured(
        work_of("/topic/a", 1000, subscribers=2, size=500),
        seconds=4.0,
        published=1000,
        published_seconds=2.0,
        received=[1000, 1000],
        received_seconds=[2.5, 4.0],
        faults=(),
        stopped=None,
        latencies=Latencies(),
        late_seconds=0.0,
        load_busy=0.5,
    )
    assert as_json(measured) == {
        "channel": "/topic/a",
        "kind": "topic",
        "publishers": 1,
        "subscribers": 2,
        "size_bytes": 500,
        "count": 1000,
        "rate": None,
        "complete": True,
        "partial": False,
        "faults": [],
        "seconds": 4.0,
        "published": {
            "messages": 1000,
            "due": 1000,
            "seconds": 2.0,
            "messages_per_second": 500.0,
            "megabytes_per_second": 0.25,
        },
        "delivered": {
            "messages": 2000,
            "due": 2000,
            "seconds": 4.0,
            "messages_per_second": 500.0,
            "megabytes_per_second": 0.25,
        },
        "per_subscriber": {
            "messages": {"min": 1000, "median": 1000, "max": 1000},
            "messages_per_second": {"min": 250.0, "median": 325.0, "max": 400.0},
        },
        "latency_seconds": None,
        "late_seconds_max": None,
        "load_busy": 0.5,
    }
    assert not dataclasses.replace(measured, stopped="SIGINT").complete
    assert not dataclasses.replace(measured, faults=["one"]).complete
    assert not dataclasses.replace(measured, received=[1000, 999]).complete
    assert not dataclasses.replace(measured, received=[1000, 1001]).complete


def test_what_is_missing_is_named_but_not_all_of_it() -> None:
    measured = Measured(
        work_of("/topic/a", 1000, subscribers=6),
        seconds=1.0,
        published=1000,
        published_seconds=1.0,
        received=[1000, 1, 2, 3, 4, 5],
        received_seconds=[1.0] * 6,
        faults=["one", "two", "three", "four"],
        stopped="SIGINT",
        latencies=Latencies(),
        late_seconds=0.0,
        load_busy=0.5,
    )
    assert shortfall(measured) == (
        "stopped by SIGINT; one; two; three; 4,985 of 6,000 deliveries are missing; of 1,000 messages, "
        "subscriber 2 has 1, 3 has 2, 4 has 3 and 2 more are short; so there are no rates"
    )
