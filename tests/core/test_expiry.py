"""Messages that are of no use any more: never delivered late, always counted, and in nobody's way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.core.helpers import Bench, framed, mark, numbers
from trio_broker.limits import Overflow
from trio_broker.message import AckMode, Batch

QUEUE, TOPIC = "/queue/q", "/topic/t"
MODES = list(AckMode)


def mortal(channel: str, seconds: float, *bodies: bytes) -> Batch:
    """A batch that is of use for so long from now."""
    batch = framed(channel, *bodies)
    batch.expires_at = trio.current_time() + seconds
    return batch


@pytest.mark.parametrize("channel", [QUEUE, TOPIC])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["write", "receive"])
async def test_what_expired_in_a_mailbox_is_not_delivered(
    bench: Callable[..., Bench], autojump_clock: MockClock, channel: str, mode: AckMode, way: str
) -> None:
    house = bench()
    peer = house.peer(channel, ack=mode)
    house.broker.offer(mortal(channel, 5, b"0", b"1"))
    house.broker.offer(mortal(channel, 20, b"2"))
    house.offer(channel, b"3")
    await trio.sleep(4.99)
    assert peer.local.receive_nowait().body == b"0"
    await trio.sleep(0.01)  # at its end it is of no use any more
    if way == "write":
        assert peer.receive() == [b"2", b"3"]
    else:
        assert [peer.local.receive_nowait().body for _ in range(2)] == [b"2", b"3"]
        with pytest.raises(trio.WouldBlock):
            peer.local.receive_nowait()
    assert house.broker.statistics().expired == 1
    house.check()


@pytest.mark.parametrize("channel", [QUEUE, TOPIC])
@pytest.mark.parametrize("way", ["write", "receive"])
async def test_a_mailbox_of_nothing_but_expired_messages(
    bench: Callable[..., Bench], autojump_clock: MockClock, channel: str, way: str
) -> None:
    house = bench()
    peer = house.peer(channel)
    house.broker.offer(mortal(channel, 1, *numbers(0, 3)))
    await trio.sleep(1)
    if way == "write":
        assert peer.receive() == []
    else:
        with pytest.raises(trio.WouldBlock):
            peer.local.receive_nowait()
    assert (house.broker.statistics().expired, house.broker.memory.cost) == (3, 0)
    house.offer(channel, b"next")
    assert (await peer.local.receive()).body == b"next"


async def test_receive_waits_on_when_what_woke_it_has_expired(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench()
    async with house.broker.subscribe(QUEUE, ack="client-individual", prefetch_messages=1) as subscription:
        house.broker.offer(mortal(QUEUE, 1, b"late"))
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def publish() -> None:
                await trio.sleep(5)
                house.offer(QUEUE, b"fresh")

            message = await subscription.receive()
        assert (message.body, trio.current_time()) == (b"fresh", 6)
        message.ack()


@pytest.mark.parametrize("way", ["write", "receive"])
@pytest.mark.parametrize("mode", [AckMode.CLIENT, AckMode.CLIENT_INDIVIDUAL])
async def test_credit_comes_back_from_what_expired(
    bench: Callable[..., Bench], autojump_clock: MockClock, mode: AckMode, way: str
) -> None:
    """Nothing is to be settled, so nobody else would ever give it back."""
    house = bench()
    peer = house.peer(QUEUE, ack=mode, credit=1)
    house.broker.offer(mortal(QUEUE, 1, b"late"))
    house.offer(QUEUE, b"next")
    house.broker.offer(mortal(QUEUE, 1, b"late too"))
    await trio.sleep(2)
    if way == "write":
        assert list(peer.given()) == [b"next"]
    else:
        assert peer.local.receive_nowait().body == b"next"
    assert peer.held == 1
    peer.ledger.ack(1)
    assert house.broker.statistics().expired == 2
    assert house.backlog(QUEUE) == 0
    house.check()
    house.check_queue_conserved()


async def test_a_topics_mailbox_has_room_again_when_what_filled_it_expired(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(mailbox_bytes_max=mark(2))
    peer = house.peer(TOPIC, owner=trio.CancelScope())
    for body in (b"0", b"1"):
        house.broker.offer(mortal(TOPIC, 1, body))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, TOPIC, b"2")
        await trio.sleep(2)
        assert peer.take() == []
        peer.settle()
    assert peer.receive() == [b"2"]


async def test_what_expired_tells_the_losses_that_came_before_it(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(mailbox_bytes_max=mark(2) + 100)
    peer = house.peer(TOPIC, Overflow.DROP_OLDEST)
    for body in numbers(0, 4):
        house.broker.offer(mortal(TOPIC, 1, body))
    await trio.sleep(1)
    house.offer(TOPIC, b"next")
    message = peer.local.receive_nowait()
    assert (message.body, message.dropped_before) == (b"next", 3)
    assert peer.subscription.dropped == 3
    assert house.broker.statistics().expired == 1


async def test_what_expired_in_the_backlog_is_not_dealt_out_and_keeps_nobody_out(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    late = mortal(QUEUE, 1, *numbers(0, 50))
    house = bench(backlog_bytes_max=late.cost + 1)
    assert house.broker.offer(late)
    assert house.broker.offer(mortal(QUEUE, 10, b"50"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, QUEUE, b"51")
        await trio.sleep(0.9)
        assert house.waiting(QUEUE) == 1
        await trio.sleep(0.2)
        assert house.waiting(QUEUE) == 0
        assert house.broker.statistics().expired == 50
        worker = house.worker(QUEUE, credit=1)
        assert worker.held == 1
    assert list(worker.given()) == [b"50"]
    worker.ledger.ack(1)
    assert list(worker.given()) == [b"51"]
    assert house.broker.statistics().expired == 50
    house.check_queue_conserved()


async def test_what_expired_behind_what_has_not_waits_for_its_turn(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    first = mortal(QUEUE, 10, *numbers(0, 50))
    house = bench(backlog_bytes_max=first.cost + 1)
    assert house.broker.offer(first)
    assert house.broker.offer(mortal(QUEUE, 1, b"50"))
    await trio.sleep(5)
    with pytest.raises(trio.WouldBlock):
        house.broker.publish_nowait(QUEUE, b"51")
    assert house.broker.statistics().expired == 0


async def test_what_comes_back_late_has_expired(bench: Callable[..., Bench], autojump_clock: MockClock) -> None:
    house = bench()
    async with house.broker.subscribe(QUEUE, ack="client-individual") as subscription:
        house.broker.offer(mortal(QUEUE, 5, b"a", b"b"))
        first, second = subscription.receive_nowait(), subscription.receive_nowait()
        first.nack()
        again = subscription.receive_nowait()
        assert again.redelivered
        await trio.sleep(5)
        again.nack()
        second.ack()  # it was delivered in time, and is settled whenever
        with pytest.raises(trio.WouldBlock):
            subscription.receive_nowait()
    statistics = house.broker.statistics()
    assert (statistics.expired, statistics.delivered) == (1, 1)


async def test_a_publisher_that_waited_too_long_has_published_something_expired(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(mailbox_bytes_max=mark(1), backlog_bytes_max=mark(1))
    house.offer(QUEUE, b"0")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish_batch, mortal(QUEUE, 5, b"late"))
        await trio.sleep(10)
        peer = house.peer(QUEUE, owner=trio.CancelScope())
    assert peer.receive() == [b"0"]
    assert peer.receive() == []
    assert house.broker.statistics().expired == 1


lives = st.sampled_from([None, 1.0, 2.0, 3.0])


@given(st.lists(lives, min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 4), st.integers(1, 5))
def test_each_keeps_its_own_life_when_it_is_merged_with_others(
    lives: list[float | None], consumers: int, seconds: int, credit: int
) -> None:
    trio.run(give_back_and_wait, lives, consumers, seconds, credit, clock=MockClock(autojump_threshold=0))


async def give_back_and_wait(lives: list[float | None], consumers: int, seconds: int, credit: int) -> None:
    with Bench() as house:
        peers = [house.peer(QUEUE) for _ in range(consumers)]
        for number, life in enumerate(lives):
            body = b"%d" % number
            house.broker.offer(framed(QUEUE, body) if life is None else mortal(QUEUE, life, body))
        for peer in peers:
            peer.subscription.retire()
        for peer in reversed(peers):
            peer.leave()
            house.check()
        await trio.sleep(seconds)
        worker = house.worker(QUEUE, credit)
        came = []
        while worker.held:
            for body, number in worker.given().items():
                came.append(body)
                worker.ledger.ack(number)
            house.check()
        alive = [b"%d" % number for number, life in enumerate(lives) if life is None or life > seconds]
        assert came == alive
        assert house.broker.statistics().expired == len(lives) - len(alive)
        house.check_queue_conserved()
