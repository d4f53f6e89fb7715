"""The load, under a clock that jumps: every message arrives, and each is sent and measured at its time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.cli.bench_broker import Stream, in_memory, load_of, number_in, work_of
from trio_broker.cli.bench_measure import PERCENTILES
from trio_broker.cli.bench_report import shortfall

# -- everything arrives -----------------------------------------------------------------------------------------------


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


# -- a rate -----------------------------------------------------------------------------------------------------------


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
