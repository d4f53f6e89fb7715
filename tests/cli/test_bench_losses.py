"""A load that cannot begin, or of which not everything arrives: it ends, and says what is missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from tests.cli.bench_broker import RUN, Stream, in_memory, load_of, measure, number_in, work_of
from trio_broker import Limits
from trio_broker.cli.bench_load import Load
from trio_broker.cli.bench_probe import LoadFailed
from trio_broker.cli.bench_report import as_json, shortfall
from trio_broker.wire import frame

# -- not everything arrives -------------------------------------------------------------------------------------------


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


# -- it cannot even begin ---------------------------------------------------------------------------------------------


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
