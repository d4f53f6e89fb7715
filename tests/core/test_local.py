from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.core.helpers import Bench, mark, numbers

TOPIC, QUEUE = "/topic/t", "/queue/q"
CHANNELS = [TOPIC, QUEUE]


@pytest.mark.parametrize("channel", CHANNELS)
async def test_messages_come_as_they_were_published(bench: Callable[..., Bench], channel: str) -> None:
    house = bench()
    async with house.broker.subscribe(channel) as subscription:
        assert subscription.channel == channel
        await house.broker.publish(channel, b"plain", headers={"kind": "greeting"})
        house.offer(channel, b"framed", b"")
        messages = [await subscription.receive() for _ in range(3)]
    assert [(message.channel, message.body, dict(message.headers)) for message in messages] == [
        (channel, b"plain", {"kind": "greeting"}),
        (channel, b"framed", {}),
        (channel, b"", {}),  # an empty body is a message
    ]


async def test_receive_and_publish_are_checkpoints_even_if_they_need_not_wait(bench: Callable[..., Bench]) -> None:
    house = bench()
    async with house.broker.subscribe(TOPIC) as subscription:
        with assert_checkpoints():
            await house.broker.publish(TOPIC, b"a")
        with assert_checkpoints():
            await subscription.receive()
        with assert_checkpoints():
            await subscription.aclose()


async def test_nowait_takes_or_says_why_not(bench: Callable[..., Bench]) -> None:
    house = bench()
    peer = house.peer(TOPIC)
    with pytest.raises(trio.WouldBlock):
        peer.local.receive_nowait()
    house.publish_nowait(TOPIC, b"a")
    assert peer.local.receive_nowait().body == b"a"
    house.publish_nowait(TOPIC, b"b")
    house.broker.close()
    assert peer.local.receive_nowait().body == b"b"
    with pytest.raises(trio.EndOfChannel):
        peer.local.receive_nowait()
    peer.local.close()
    with pytest.raises(trio.ClosedResourceError):
        peer.local.receive_nowait()


@pytest.mark.parametrize("channel", CHANNELS)
async def test_no_receiver_starves_while_messages_wait(bench: Callable[..., Bench], channel: str) -> None:
    house = bench()
    peer = house.peer(channel)
    received: Counter[int] = Counter()

    async def receive(number: int) -> None:
        async for _ in peer.local:
            received[number] += 1

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(receive, number)
        await wait_all_tasks_blocked()
        house.offer(channel, *numbers(0, 200))
        await wait_all_tasks_blocked()
        assert received.total() == 200
        assert min(received.values()) > 20
        house.broker.close()


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_burst_wakes_as_many_receivers_as_there_are_messages(
    bench: Callable[..., Bench], autojump_clock: MockClock, channel: str
) -> None:
    house = bench()
    peer = house.peer(channel)
    ended = []

    async def receive_one_and_work() -> None:
        message = await peer.local.receive()
        await trio.sleep(100)
        ended.append((message.body, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(receive_one_and_work)
        await wait_all_tasks_blocked()
        house.publish_nowait(channel, b"0", b"1")
        house.offer(channel, b"2", b"3", b"4")
    assert sorted(ended) == [(body, 100.0) for body in numbers(0, 5)]


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_receive_that_is_cancelled_in_the_tick_of_its_message_returns_it(
    bench: Callable[..., Bench], channel: str
) -> None:
    house = bench()
    peer = house.peer(channel)
    received = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def receive() -> None:
            received.append(await peer.local.receive())

        await wait_all_tasks_blocked()
        house.publish_nowait(channel, b"a")
        nursery.cancel_scope.cancel()
    assert [message.body for message in received] == [b"a"]


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_receive_that_is_cancelled_before_its_message_leaves_it_to_the_next(
    bench: Callable[..., Bench], channel: str
) -> None:
    house = bench()
    peer = house.peer(channel)
    received = []
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def receive(within: trio.CancelScope) -> None:
            with within:
                received.append(await peer.local.receive())

        nursery.start_soon(receive, scope)
        await wait_all_tasks_blocked()
        nursery.start_soon(receive, trio.CancelScope())
        await wait_all_tasks_blocked()
        scope.cancel()
        house.publish_nowait(channel, b"a")
    assert scope.cancelled_caught
    assert [message.body for message in received] == [b"a"]


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("cancel_at", range(8))
@pytest.mark.parametrize("publish_at", range(6))
async def test_at_every_step_a_cancelled_receive_loses_nothing(
    bench: Callable[..., Bench], channel: str, publish_at: int, cancel_at: int
) -> None:
    house = bench()
    peer = house.peer(channel)
    house.offer(channel, b"0", b"1")
    received = []
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            while True:
                message = await peer.local.receive()
                received.append(message.body)

        nursery.start_soon(receive)
        nursery.start_soon(receive)
        for step in range(9):
            if step == publish_at:
                house.publish_nowait(channel, b"2")
                house.offer(channel, b"3", b"4")
            if step == cancel_at:
                nursery.cancel_scope.cancel()
            await trio.lowlevel.cancel_shielded_checkpoint()
    house.check()
    rest = []
    while peer.waiting:
        rest.append((await peer.local.receive()).body)
    assert sorted(received + rest) == numbers(0, 5)
    assert rest == sorted(rest)
    assert house.broker.counters.delivered == 5


@pytest.mark.parametrize("channel", CHANNELS)
async def test_closing_while_others_wait_tells_them(bench: Callable[..., Bench], channel: str) -> None:
    house = bench()
    told = []
    async with trio.open_nursery() as nursery:
        async with house.broker.subscribe(channel) as subscription:

            async def receive() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await subscription.receive()
                told.append(True)

            nursery.start_soon(receive)
            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
    assert told == [True, True]
    with pytest.raises(trio.ClosedResourceError):
        await subscription.receive()


@pytest.mark.parametrize("channel", CHANNELS)
async def test_closing_in_the_tick_of_a_message_loses_nothing(bench: Callable[..., Bench], channel: str) -> None:
    house = bench()
    peer = house.peer(channel)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await peer.local.receive()

        await wait_all_tasks_blocked()
        house.publish_nowait(channel, b"a")
        peer.local.close()
    assert house.backlog(channel) + house.broker.statistics().discarded == 1


@pytest.mark.parametrize("channel", CHANNELS)
async def test_after_the_end_of_the_broker_all_receivers_share_what_is_left_and_then_end(
    bench: Callable[..., Bench], autojump_clock: MockClock, channel: str
) -> None:
    house = bench()
    peer = house.peer(channel)
    received = []
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            async for message in peer.local:
                received.append(message.body)
                await trio.sleep(1)

        for _ in range(3):
            nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        house.offer(channel, *numbers(0, 9))
        house.broker.close()
    assert sorted(received) == numbers(0, 9)
    assert trio.current_time() == 3
    with pytest.raises(trio.EndOfChannel):
        await peer.local.receive()


async def test_receiving_makes_room_at_once(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=mark(1))
    async with house.broker.subscribe(TOPIC) as subscription:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def publish() -> None:
                for body in numbers(0, 50):
                    await house.broker.publish(TOPIC, body)

            assert [(await subscription.receive()).body for _ in range(50)] == numbers(0, 50)


async def test_what_was_not_received_goes_back_when_the_block_is_left(bench: Callable[..., Bench]) -> None:
    house = bench()
    house.offer(QUEUE, *numbers(0, 5))
    with pytest.raises(RuntimeError, match="the body's own"):
        async with house.broker.subscribe(QUEUE) as subscription:
            assert (await subscription.receive()).body == b"0"
            raise RuntimeError("the body's own")
    house.check_queue_conserved()
    async with house.broker.subscribe(QUEUE) as subscription:
        assert [(await subscription.receive()).body for _ in range(4)] == numbers(1, 5)


async def test_entering_cancelled_leaves_no_subscription(bench: Callable[..., Bench]) -> None:
    house = bench()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with house.broker.subscribe(QUEUE):
            raise AssertionError("not reached")
    assert scope.cancelled_caught
    assert not house.broker.statistics().channels


async def test_aclose_closes_even_if_cancelled(bench: Callable[..., Bench]) -> None:
    house = bench()
    async with house.broker.subscribe(QUEUE) as subscription:
        house.offer(QUEUE, b"a")
        with trio.CancelScope() as scope:
            scope.cancel()
            await subscription.aclose()
        assert scope.cancelled_caught
        assert house.backlog(QUEUE) == 1
        await subscription.aclose()
