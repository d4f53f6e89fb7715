from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.core.helpers import Bench, framed, mark, numbers
from trio_broker.core.broker import open_broker
from trio_broker.errors import BrokerDraining, InvalidChannel, LimitReached, MessageTooLarge
from trio_broker.limits import Limits

TOPIC, QUEUE = "/topic/t", "/queue/q"
CHANNELS = [TOPIC, QUEUE]


def names(house: Bench) -> set[str]:
    """The channels that exist."""
    return set(house.broker.statistics().channels)


@pytest.mark.parametrize("name", ["", "x" * 9, "ä" * 5, "\ud800"])
async def test_what_is_no_name_is_refused_by_all_verbs(bench: Callable[..., Bench], name: str) -> None:
    house = bench(channel_bytes_max=8)
    with pytest.raises(InvalidChannel):
        await house.broker.publish(name, b"")
    with pytest.raises(InvalidChannel):
        house.broker.publish_nowait(name, b"")
    with pytest.raises(InvalidChannel):
        async with house.broker.subscribe(name):
            raise AssertionError("not reached")
    assert house.broker.counters.published == 0


async def test_the_longest_name_and_the_largest_payload_pass(bench: Callable[..., Bench]) -> None:
    house = bench(channel_bytes_max=8, frame_bytes_max=100)
    peer = house.peer("ä" * 4)
    await house.broker.publish("ä" * 4, bytes(100))
    assert peer.receive() == [bytes(100)]
    with pytest.raises(MessageTooLarge) as caught:
        await house.broker.publish("x", bytes(101))
    assert (caught.value.size_bytes, caught.value.allowed_bytes) == (101, 100)


async def test_nobody_can_subscribe_to_null_and_what_is_sent_there_is_unrouted(bench: Callable[..., Bench]) -> None:
    house = bench()
    with pytest.raises(InvalidChannel, match="nobody can subscribe"):
        house.peer("/null")
    await house.broker.publish("/null", b"x")
    assert house.broker.statistics().unrouted == 1


@pytest.mark.parametrize("name", ["/queue", "/queue/", "/queues"])
async def test_a_queue_is_what_starts_like_one(bench: Callable[..., Bench], name: str) -> None:
    house = bench()
    await house.broker.publish(name, b"x")
    assert house.broker.statistics().channels[name].kind == "queue"
    assert house.peer(name).receive() == [b"x"]


async def test_channels_are_limited_and_a_place_is_free_again_when_one_is_collected(
    bench: Callable[..., Bench],
) -> None:
    house = bench(channels_max=2)
    peer = house.peer("/topic/1")
    house.publish_nowait("/queue/2", b"x")
    for attempt in (
        lambda: house.peer("/topic/3"),
        lambda: house.peer("/queue/3"),
        lambda: house.broker.publish_nowait("/queue/3", b"x"),
    ):
        with pytest.raises(LimitReached) as caught:
            attempt()
        assert (caught.value.limit, caught.value.allowed) == ("channels_max", 2)
    await house.broker.publish("/topic/3", b"x")  # nobody is there, so it need not be made
    await house.broker.publish("/queue/2", b"y")
    assert names(house) == {"/topic/1", "/queue/2"}
    assert house.broker.statistics().published == 3
    peer.leave()
    assert house.peer("/queue/2").receive() == [b"x", b"y"]
    house.peer("/topic/3")


@pytest.mark.parametrize("channel", CHANNELS)
async def test_an_idle_channel_is_collected(bench: Callable[..., Bench], channel: str) -> None:
    house = bench()
    for _ in range(3):
        first, second = house.peer(channel), house.peer(channel)
        house.publish_nowait(channel, *numbers(0, 4))
        first.receive()
        first.leave()
        assert names(house) == {channel}
        second.receive()
        second.leave()
        assert not names(house)


async def test_a_queue_with_a_backlog_stays(bench: Callable[..., Bench]) -> None:
    house = bench()
    peer = house.peer(QUEUE)
    house.publish_nowait(QUEUE, b"x")
    peer.leave()
    assert names(house) == {QUEUE}
    house.peer(QUEUE).receive()


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_channel_stays_while_a_retired_subscription_may_still_give_back(
    bench: Callable[..., Bench], channel: str
) -> None:
    house = bench()
    peer = house.peer(channel)
    house.publish_nowait(channel, b"1", b"2")
    peer.subscription.retire()
    assert names(house) == {channel}
    late = house.peer(channel)
    house.publish_nowait(channel, b"3")
    assert late.receive() == [b"3"]
    late.leave()
    assert names(house) == {channel}
    peer.leave()
    assert house.backlog(channel) == (2 if channel == QUEUE else 0)
    if channel == QUEUE:
        assert house.peer(channel).receive() == [b"1", b"2"]


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_channel_stays_while_someone_stands_in_its_line(bench: Callable[..., Bench], channel: str) -> None:
    house = bench(memory_bytes_max=1000)
    house.broker.memory.add(1000)
    house.peer(channel)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, channel, b"x")
        await wait_all_tasks_blocked()
        for peer in house.peers:
            peer.leave()
        assert names(house) == {channel}
        late = house.peer(channel)
        house.broker.memory.add(-1000)
    assert late.receive() == [b"x"]


@pytest.mark.parametrize("waits", [True, False])
async def test_a_queue_that_could_not_take_its_first_message_is_not_left_behind(
    bench: Callable[..., Bench], autojump_clock: MockClock, waits: bool
) -> None:
    house = bench(memory_bytes_max=1000)
    house.broker.memory.add(1000)
    if waits:
        with trio.move_on_after(1):
            await house.broker.publish(QUEUE, b"x")
    else:
        with pytest.raises(trio.WouldBlock):
            house.broker.publish_nowait(QUEUE, b"x")
    assert not names(house)
    house.broker.memory.add(-1000)


async def test_the_end_gives_subscribers_what_is_in_their_mailboxes_and_counts_the_rest(
    autojump_clock: MockClock,
) -> None:
    received = []
    async with trio.open_nursery() as nursery:
        async with open_broker(Limits(mailbox_bytes_max=mark(2))) as broker:

            async def listen(channel: str, seconds: float) -> None:
                async with broker.subscribe(channel) as subscription:
                    await trio.sleep(seconds)
                    received.append([message.body async for message in subscription])

            nursery.start_soon(listen, TOPIC, 5)
            nursery.start_soon(listen, QUEUE, 7)
            await wait_all_tasks_blocked()
            for body in numbers(0, 2):
                await broker.publish(TOPIC, body)
            for body in numbers(0, 5):
                await broker.publish(QUEUE, body)
        assert trio.current_time() == 0  # leaving waits for nobody
        assert broker.statistics().discarded == 3
    assert received == [numbers(0, 2), numbers(0, 2)]
    assert trio.current_time() == 7
    statistics = broker.statistics()
    assert (statistics.published, statistics.delivered, statistics.discarded) == (7, 4, 3)
    assert (statistics.memory_cost, dict(statistics.channels)) == (0, {})


@pytest.mark.parametrize("channel", CHANNELS)
async def test_what_is_not_received_after_the_end_is_discarded_too(bench: Callable[..., Bench], channel: str) -> None:
    house = bench()
    peer = house.peer(channel)
    house.offer(channel, b"1", b"2", b"3")
    house.broker.close()
    with pytest.raises(BrokerDraining):
        house.peer(channel)
    assert house.broker.statistics().subscriptions == 0
    assert peer.local.receive_nowait().body == b"1"
    assert peer.take() == [b"2", b"3"]
    peer.settle(1)
    peer.leave()
    statistics = house.broker.statistics()
    assert (statistics.delivered, statistics.discarded, statistics.memory_cost) == (2, 1, 0)


async def test_after_the_end_nothing_begins(bench: Callable[..., Bench]) -> None:
    house = bench()
    house.broker.close()
    for channel in CHANNELS:
        with pytest.raises(BrokerDraining):
            await house.broker.publish(channel, b"x")
        with pytest.raises(BrokerDraining):
            house.broker.publish_nowait(channel, b"x")
        with pytest.raises(BrokerDraining):
            await house.broker.publish_batch(framed(channel, b"x"))
        with pytest.raises(BrokerDraining):
            async with house.broker.subscribe(channel):
                raise AssertionError("not reached")
    assert house.broker.statistics().published == 0


async def test_the_bodys_exception_leaves_as_itself_after_the_end() -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_broker() as broker:
            async with broker.subscribe(TOPIC):
                raise ZeroDivisionError
    with pytest.raises(BrokerDraining):
        await broker.publish(TOPIC, b"x")
