"""The reserve: who has something to settle may go beyond a backlog's mark, up to a second one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.core.helpers import Bench, framed, mark, numbers
from trio_broker.errors import BrokerDraining, LimitReached

LEFT, RIGHT, TOPIC = "/queue/left", "/queue/right", "/topic/t"


async def test_two_workers_that_publish_before_they_acknowledge_flow(bench: Callable[..., Bench]) -> None:
    """Each works from one full backlog into the other with a credit of one: without a reserve neither would move."""
    house = bench(backlog_bytes_max=mark(2), backlog_reserve_bytes_max=mark(4))
    for channel in (LEFT, RIGHT):
        house.publish_nowait(channel, *numbers(0, 2))
    workers = [(house.worker(LEFT, credit=1), RIGHT), (house.worker(RIGHT, credit=1), LEFT)]
    for channel in (LEFT, RIGHT):
        house.publish_nowait(channel, b"2")
        assert not house.offer(channel, b"more")
    for _ in range(200):
        for worker, other in workers:
            ((body, number),) = worker.given().items()
            assert house.broker.offer_all([framed(other, b"<" + body + b">")], in_reserve=True)
            worker.ledger.ack(number)
        house.check()
        house.check_queue_conserved()
    assert house.broker.statistics().delivered == 400
    assert house.broker.statistics().published == 400 + 6


async def test_at_the_second_mark_it_is_refused_and_nothing_happened(bench: Callable[..., Bench]) -> None:
    house = bench(backlog_bytes_max=mark(2), backlog_reserve_bytes_max=mark(3))
    house.publish_nowait(LEFT, b"0", b"1")
    assert not house.offer(LEFT, b"no room")
    assert not house.broker.offer_all([framed(LEFT, b"no room")])
    for body in numbers(2, 5):
        assert house.broker.offer_all([framed(LEFT, body)], in_reserve=True)
    before = house.broker.statistics()
    with pytest.raises(LimitReached, match="backlog_reserve_bytes_max") as caught:
        house.broker.offer_all([framed(RIGHT, b"x"), framed(LEFT, b"x")], in_reserve=True)
    assert (caught.value.limit, caught.value.allowed) == ("backlog_reserve_bytes_max", mark(3))
    assert house.broker.statistics() == before
    assert house.peer(LEFT).receive() == numbers(0, 5)


async def test_it_goes_past_those_who_wait_and_past_the_account_of_everything(
    bench: Callable[..., Bench],
) -> None:
    house = bench(backlog_bytes_max=mark(2), memory_bytes_max=mark(2))
    house.publish_nowait(LEFT, b"0", b"1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, LEFT, b"in line")
        await wait_all_tasks_blocked()
        assert house.broker.memory.is_full
        assert house.broker.offer_all([framed(LEFT, b"2")], in_reserve=True)
        assert house.broker.offer_all([framed(RIGHT, b"0")], in_reserve=True)
        assert house.waiting(LEFT) == 1
        peer, other = house.peer(LEFT), house.peer(RIGHT)
        assert peer.receive() == numbers(0, 3)
        other.receive()
    assert peer.receive() == [b"in line"]


async def test_topics_have_no_reserve(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=mark(1), backlog_bytes_max=mark(1))
    peer = house.peer(TOPIC, owner=trio.CancelScope())
    house.publish_nowait(TOPIC, b"0")
    before = house.broker.statistics()
    assert not house.broker.offer_all([framed(LEFT, b"x"), framed(TOPIC, b"x")], in_reserve=True)
    assert house.broker.statistics() == before  # neither has it, and no queue was made
    assert peer.receive() == [b"0"]
    assert house.broker.offer_all([framed(TOPIC, b"x")], in_reserve=True)


@pytest.mark.parametrize("turned", [False, True])
async def test_what_is_refused_does_not_depend_on_the_order_of_the_batches(
    bench: Callable[..., Bench], turned: bool
) -> None:
    house = bench(mailbox_bytes_max=mark(1), backlog_bytes_max=mark(1), backlog_reserve_bytes_max=mark(1))
    house.peer(TOPIC, owner=trio.CancelScope())
    house.publish_nowait(TOPIC, b"0")
    house.publish_nowait(LEFT, b"0")
    house.broker.offer_all([framed(LEFT, b"1")], in_reserve=True)
    batches = [framed(LEFT, b"x"), framed(TOPIC, b"x")]
    with pytest.raises(LimitReached):
        house.broker.offer_all(batches[::-1] if turned else batches, in_reserve=True)


async def test_a_broker_that_ends_takes_nothing_into_the_reserve(bench: Callable[..., Bench]) -> None:
    house = bench(backlog_bytes_max=mark(1))
    worker = house.worker(LEFT, credit=1)
    house.publish_nowait(LEFT, b"0", b"1")
    worker.given()
    house.broker.close()
    for channel in (LEFT, RIGHT, TOPIC):
        with pytest.raises(BrokerDraining):
            house.broker.offer_all([framed(channel, b"x")], in_reserve=True)
    house.check_queue_conserved()


async def test_in_process_the_same_two_workers_wait_until_their_deadlines_and_lose_nothing(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    """A program's own publish has no reserve."""
    house = bench(backlog_bytes_max=mark(1))

    async def work(source: str, target: str, seconds: float) -> None:
        async with house.broker.subscribe(source, ack="client-individual", prefetch_messages=1) as jobs:
            message = await jobs.receive()
            with trio.move_on_after(seconds) as scope:
                async with message.process():
                    await wait_all_tasks_blocked()
                    house.publish_nowait(source, b"1")  # now this backlog is full
                    await wait_all_tasks_blocked()
                    await house.broker.publish(target, b"result")
            assert scope.cancelled_caught

    for channel in (LEFT, RIGHT):
        house.publish_nowait(channel, b"0")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, LEFT, RIGHT, 10)
        nursery.start_soon(work, RIGHT, LEFT, 20)
    assert trio.current_time() == 20
    house.check_queue_conserved()
    for channel in (LEFT, RIGHT):
        assert house.peer(channel).receive() == [b"0", b"1"]
