"""What comes back unsettled: by leaving a block, in which order, and how often before it is given up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.core.helpers import ACKING, Bench, drain, numbers, tries
from trio_broker.message import AckMode

QUEUE = "/queue/q"


@pytest.mark.parametrize("mode", ACKING)
async def test_leaving_the_block_returns_what_is_unsettled_in_order(bench: Callable[..., Bench], mode: AckMode) -> None:
    house = bench()
    async with house.broker.subscribe(QUEUE, ack=mode, prefetch_messages=4) as first:
        house.publish_nowait(QUEUE, *numbers(0, 6))
        messages = [first.receive_nowait() for _ in range(3)]
        messages[0].ack()
        assert house.backlog(QUEUE) == 1
    assert house.backlog(QUEUE) == 5
    for message in messages:  # after close
        message.ack()
        message.nack(requeue=False)
    async with house.broker.subscribe(QUEUE) as second:
        received = drain(second)
    assert [(message.body, message.redelivered) for message in received] == [
        (b"1", True),
        (b"2", True),
        (b"3", False),
        (b"4", False),
        (b"5", False),
    ]
    statistics = house.broker.statistics()
    assert (statistics.delivered, statistics.rejected) == (6, 0)


async def test_receive_in_several_tasks_of_one_acknowledging_subscription(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    """Three tasks share a credit of two, in messages of one batch: each is woken when there is something for it."""
    house = bench()
    done: list[bytes] = []
    most = 0

    async with house.broker.subscribe(QUEUE, ack="client-individual", prefetch_messages=2) as subscription:

        async def work() -> None:
            nonlocal most
            async for message in subscription:
                async with message.process():
                    most = max(most, subscription.statistics().unsettled)
                    await trio.sleep(1)
                    done.append(message.body)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(work)
            await wait_all_tasks_blocked()
            house.offer(QUEUE, *numbers(0, 9))
            house.publish_nowait(QUEUE, b"9")
            await trio.sleep(5.5)
            assert sorted(done) == numbers(0, 10)
            assert most == 2
            nursery.cancel_scope.cancel()
    assert trio.current_time() == 5.5


async def test_a_cancelled_receive_has_taken_nothing(bench: Callable[..., Bench]) -> None:
    house = bench()
    async with house.broker.subscribe(QUEUE, ack="client-individual", prefetch_messages=1) as subscription:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(subscription.receive)
                await wait_all_tasks_blocked()
                scope.cancel()
                house.publish_nowait(QUEUE, b"a")
        here = subscription.statistics()
        assert (here.mailbox_messages, here.unsettled) in {(1, 0), (0, 1)}
        if here.mailbox_messages:
            (await subscription.receive()).ack()


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_always_fails_is_gone_after_its_deliveries_and_holds_nobody_up(
    bench: Callable[..., Bench], workers: int
) -> None:
    house = bench()
    tried = 0
    done: list[bytes] = []
    when_gone: list[int] = []
    async with trio.open_nursery() as nursery:

        async def work(credit: int) -> None:
            nonlocal tried
            async with house.broker.subscribe(QUEUE, ack="client-individual", prefetch_messages=credit) as jobs:
                async for message in jobs:
                    if message.body == b"bad":
                        assert message.redelivered == (tried > 0)
                        tried += 1
                        message.nack()
                        when_gone.append(len(done))
                    else:
                        assert not message.redelivered
                        done.append(message.body)
                        message.ack()

        for _ in range(workers):
            nursery.start_soon(work, 3 - workers)
        await wait_all_tasks_blocked()
        house.publish_nowait(QUEUE, b"bad", *numbers(0, 30))
        await wait_all_tasks_blocked()
        house.check_queue_conserved()
        nursery.cancel_scope.cancel()
    assert tried == house.broker.limits.deliveries_max == 16
    assert house.broker.statistics().poisoned == 1
    assert sorted(done) == sorted(numbers(0, 30))
    assert when_gone[-1] > 5  # meanwhile what is behind it was delivered
    assert workers > 1 or done == numbers(0, 30)


async def test_one_that_was_given_too_often_takes_none_of_those_with_it(bench: Callable[..., Bench]) -> None:
    house = bench(deliveries_max=2)
    worker = house.worker(QUEUE)
    house.publish_nowait(QUEUE, b"a")
    worker.ledger.nack(worker.given()[b"a"], requeue=True)
    house.publish_nowait(QUEUE, b"b")
    worker.given()
    worker.leave()
    assert house.broker.statistics().poisoned == 1
    assert tries(house.worker(QUEUE).subscription.take(1000)) == [(b"b", 1)]


async def test_what_was_given_out_of_order_goes_back_in_order(bench: Callable[..., Bench]) -> None:
    house = bench()
    worker = house.worker(QUEUE, credit=2)
    house.publish_nowait(QUEUE, b"a", b"b")
    worker.ledger.nack(worker.given()[b"a"], requeue=True)
    assert worker.given() == {b"a": 3}  # after b
    worker.leave()
    house.check()
    assert tries(house.worker(QUEUE).subscription.take(1000)) == [(b"a", 2), (b"b", 1)]


async def test_what_left_in_a_write_that_was_cut_is_still_to_be_settled(bench: Callable[..., Bench]) -> None:
    house = bench()
    worker = house.worker(QUEUE)
    house.offer(QUEUE, b"a", b"b")
    worker.take()
    worker.settle(1)
    assert (worker.held, worker.subscription.delivered) == (2, 0)
    worker.leave()
    assert tries(house.worker(QUEUE).subscription.take(1000)) == [(b"a", 1), (b"b", 1)]


async def test_only_what_was_given_counts_as_a_delivery(bench: Callable[..., Bench]) -> None:
    house = bench()
    house.publish_nowait(QUEUE, b"a", b"b", b"c")
    worker = house.worker(QUEUE, credit=2)
    worker.given()
    worker.ledger.nack(1, requeue=True)  # it waits for the same worker again, but is not taken a second time
    worker.leave()
    assert tries(house.worker(QUEUE).subscription.take(1000)) == [(b"a", 1), (b"b", 1), (b"c", 0)]
    house.check()
