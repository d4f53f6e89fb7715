"""Credit: in messages for each subscription, in bytes for its owner; and strict rotation among those that have some."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.core.helpers import Bench, CountingCodec, framed, mark, numbers
from trio_broker.message import AckMode, Batch

QUEUE, OTHER = "/queue/q", "/queue/other"


@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=5),
    st.lists(st.integers(1, 20), max_size=8),
    st.lists(st.integers(0, 40), max_size=30),
    st.booleans(),
)
def test_never_more_than_the_credit_whatever_the_sizes_of_the_batches(
    allowed: list[int], batches: list[int], acks: list[int], auto: bool
) -> None:
    trio.run(keep_to_the_credit, allowed, batches, acks, auto)


async def keep_to_the_credit(allowed: list[int], batches: list[int], acks: list[int], auto: bool) -> None:
    with Bench() as house:
        workers = [house.worker(QUEUE, credit) for credit in allowed]
        if auto:
            house.peer(QUEUE)
        for size in batches:
            house.broker.offer(framed(QUEUE, *numbers(0, size)))
            for worker in workers:
                if size % 2:
                    worker.given()
                assert worker.held <= worker.subscription.credit  # type: ignore[operator]
        for which in acks:
            worker = workers[which % len(workers)]
            if worker.subscription.unsettled:
                worker.ledger.ack(next(iter(worker.subscription.unsettled)))
            worker.given()
            assert all(worker.held <= worker.subscription.credit for worker in workers)  # type: ignore[operator]
            free = any(worker.held < worker.subscription.credit for worker in workers)  # type: ignore[operator]
            assert not (free and house.backlog(QUEUE)), "somebody could take more"
        house.check()
        house.check_queue_conserved()


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_one_with_credit_and_one_without_stand_in_one_rotation(bench: Callable[..., Bench], size: int) -> None:
    house = bench()
    worker, auto = house.worker(QUEUE, credit=2), house.peer(QUEUE)
    for start in range(0, 100, size):
        house.offer(QUEUE, *numbers(start, min(100, start + size)))
    assert worker.given().keys() == {b"0", b"2"}
    rest = [body for body in numbers(0, 100) if body not in {b"0", b"2"}]
    assert auto.receive() == rest


async def test_the_default_and_the_most_is_the_brokers(bench: Callable[..., Bench]) -> None:
    house = bench(prefetch_messages_max=3)
    house.offer(QUEUE, *numbers(0, 20))
    asked = [house.worker(QUEUE, credit) for credit in (None, 2, 5)]
    assert [worker.held for worker in asked] == [3, 2, 3]
    assert [worker.subscription.credit for worker in asked] == [3, 2, 3]
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=rf"prefetch_messages is {wrong}; at least 1 is allowed"):
            async with house.broker.subscribe(QUEUE, ack="client", prefetch_messages=wrong):
                raise AssertionError
    with pytest.raises(ValueError, match="individual"):
        async with house.broker.subscribe("/queue/new", ack="individual"):
            raise AssertionError
    assert "/queue/new" not in house.broker.statistics().channels


async def test_strict_rotation_among_those_that_have_credit(bench: Callable[..., Bench]) -> None:
    house = bench()
    workers = [house.worker(QUEUE, credit=2) for _ in range(3)]
    house.publish_nowait(QUEUE, *numbers(0, 8))
    assert [list(worker.given()) for worker in workers] == [[b"0", b"3"], [b"1", b"4"], [b"2", b"5"]]
    for which in (2, 0):  # in the order in which they get room
        worker = workers[which]
        worker.ledger.ack(next(iter(worker.subscription.unsettled)))
    assert [list(worker.given()) for worker in workers] == [[b"7"], [], [b"6"]]


@pytest.mark.parametrize("count", [64, 65, 200])
async def test_a_rotation_of_any_length_is_strict_and_keeps_to_the_credit(
    bench: Callable[..., Bench], count: int
) -> None:
    house = bench()
    workers = [house.worker(QUEUE, credit=2 + which % 2) for which in range(count)]
    house.offer(QUEUE, *numbers(0, 10 * count))
    expected = [[b"%d" % which, b"%d" % (count + which)] for which in range(count)]
    third = iter(range(2 * count, 10 * count))
    for which in range(1, count, 2):
        expected[which].append(b"%d" % next(third))
    assert [list(worker.given()) for worker in workers] == expected
    house.check_queue_conserved()


async def test_who_is_full_by_its_mailbox_and_has_credit_gets_more_when_that_empties(
    bench: Callable[..., Bench],
) -> None:
    house = bench(mailbox_bytes_max=mark(2))
    worker = house.worker(QUEUE, credit=5)
    house.publish_nowait(QUEUE, *numbers(0, 9))
    seen = []
    while given := worker.given():
        seen.append(len(given))
    assert seen == [2, 2, 1]
    assert worker.held == 5


async def test_bytes_that_are_unsettled_have_a_mark_that_an_owners_subscriptions_share(
    bench: Callable[..., Bench],
) -> None:
    house = bench(unsettled_bytes_max=10_000)
    one = house.worker(QUEUE)
    two = house.worker(OTHER, ledger=one.ledger)
    stranger = house.worker("/queue/stranger")
    house.offer(QUEUE, bytes(9_000))
    house.offer(OTHER, bytes(9_000))  # below the mark when it came
    (first,) = one.given().values()
    (second,) = two.given().values()
    for channel in (QUEUE, OTHER, "/queue/stranger"):
        house.offer(channel, b"more")
    assert (one.held, two.held, stranger.held) == (1, 1, 1)
    assert house.backlog(QUEUE) == house.backlog(OTHER) == 1
    house.check()
    late = house.worker("/queue/late", ledger=one.ledger)  # it comes when its owner has too much to settle
    house.offer("/queue/late", b"more")
    assert late.held == 0
    one.ledger.ack(first)  # still 9,000 and something: below the mark
    assert (one.held, two.held, late.held) == (1, 2, 1)
    one.ledger.ack(second)
    assert (one.held, two.held, late.held) == (1, 1, 1)
    house.check()
    house.check_queue_conserved()


async def test_who_cannot_take_more_stands_in_nobodys_way(bench: Callable[..., Bench]) -> None:
    """An owner with too much to settle is skipped from that moment on: others get what comes."""
    house = bench(unsettled_bytes_max=10_000)
    one = house.worker(OTHER)
    two = house.worker(QUEUE, ledger=one.ledger)
    auto = house.peer(QUEUE)
    house.offer(OTHER, bytes(20_000))
    assert len(one.given()) == 1
    assert house.broker.statistics().channels[QUEUE].full == 1
    house.publish_nowait(QUEUE, *numbers(0, 4))
    assert (two.held, auto.waiting) == (0, 4)
    one.ledger.ack(1)
    assert house.broker.statistics().channels[QUEUE].full == 0
    house.publish_nowait(QUEUE, b"4", b"5")
    assert (two.held, auto.waiting) == (1, 5)


async def test_a_program_that_has_too_much_to_settle_is_skipped_too(bench: Callable[..., Bench]) -> None:
    house = bench(unsettled_bytes_max=1000)
    async with (
        house.broker.subscribe(QUEUE, ack="client-individual") as slow,
        house.broker.subscribe(QUEUE) as other,
    ):
        house.publish_nowait(QUEUE, bytes(2000))
        large = slow.receive_nowait()
        house.publish_nowait(QUEUE, *numbers(0, 4))
        assert [other.receive_nowait().body for _ in range(4)] == numbers(0, 4)
        large.ack()
        house.publish_nowait(QUEUE, b"4", b"5")
        assert slow.statistics().mailbox_messages == 1


@pytest.mark.parametrize("settle", ["ack", "nack", "reject", "leave", "cumulative"])
async def test_room_is_told_to_all_of_the_owners_subscriptions(bench: Callable[..., Bench], settle: str) -> None:
    house = bench(unsettled_bytes_max=10_000)
    ledger = house.broker.open_ledger()
    mode = AckMode.CLIENT if settle == "cumulative" else AckMode.CLIENT_INDIVIDUAL
    holder = house.peer("/queue/holder", owner=trio.CancelScope(), ack=mode, ledger=ledger, credit=1)
    waiting = [house.worker(f"/queue/{which}", ledger=ledger) for which in range(3)]
    house.offer("/queue/holder", bytes(20_000))
    holder.given()
    for which in range(3):
        house.offer(f"/queue/{which}", b"x")
    assert [worker.held for worker in waiting] == [0, 0, 0]
    match settle:
        case "nack":
            ledger.nack(1, requeue=True)
        case "reject":
            ledger.nack(1, requeue=False)
        case "leave":
            holder.leave()
        case _:
            ledger.ack(1)
    assert [worker.held for worker in waiting] == [1, 1, 1]
    house.check()


async def test_a_withdrawn_subscriptions_last_settlement_tells_the_others(bench: Callable[..., Bench]) -> None:
    house = bench(unsettled_bytes_max=10_000)
    holder = house.worker(QUEUE)
    other = house.worker(OTHER, ledger=holder.ledger)
    house.offer(QUEUE, bytes(20_000))
    holder.given()
    house.offer(OTHER, b"x")
    holder.subscription.withdraw()
    assert other.held == 0
    holder.ledger.ack(1)
    assert holder.subscription.ended
    assert other.held == 1


async def test_one_large_message_always_gets_through(bench: Callable[..., Bench]) -> None:
    house = bench(unsettled_bytes_max=100, mailbox_bytes_max=100, backlog_bytes_max=100)
    worker = house.worker(QUEUE, credit=1)
    for _ in range(3):
        assert house.offer(QUEUE, bytes(1_000_000))
        (number,) = worker.given().values()
        worker.ledger.ack(number)
    assert worker.subscription.delivered == 3


async def test_credit_is_not_lost_over_a_nack_of_a_message_that_nobody_else_takes(bench: Callable[..., Bench]) -> None:
    house = bench(deliveries_max=1000)
    worker = house.worker(QUEUE, credit=3)
    house.offer(QUEUE, *numbers(0, 3))
    for _ in range(50):
        for number in list(worker.given().values()):
            worker.ledger.nack(number, requeue=True)
        assert worker.held == 3
        house.check()


async def test_publishers_wait_for_those_that_must_settle_and_nobody_is_evicted_for_that(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(backlog_bytes_max=mark(1), stall_seconds_max=10)
    async with house.broker.subscribe(QUEUE, ack="client-individual", prefetch_messages=1) as slow:
        house.publish_nowait(QUEUE, b"0", b"1")
        message = await slow.receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.broker.publish, QUEUE, b"2")
            await trio.sleep(100)
            assert house.waiting(QUEUE) == 1
            message.ack()
            await wait_all_tasks_blocked()
            assert house.waiting(QUEUE) == 0
        assert house.broker.statistics().evicted == 0


async def test_who_received_all_and_merely_has_much_to_settle_is_not_stuck(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    """It was watched because its mailbox was full; since it emptied that, it is not."""
    house = bench(mailbox_bytes_max=mark(2), backlog_bytes_max=mark(1), stall_seconds_max=10)
    async with house.broker.subscribe(QUEUE, ack="client-individual", prefetch_messages=2) as slow:
        house.publish_nowait(QUEUE, b"0", b"1", b"2")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.broker.publish, QUEUE, b"3")
            await trio.sleep(5)
            messages = [await slow.receive(), await slow.receive()]
            await trio.sleep(100)
            assert house.broker.statistics().evicted == 0
            for message in messages:
                message.ack()


async def test_an_acknowledging_program_that_does_not_receive_is_evicted(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(mailbox_bytes_max=mark(2), backlog_bytes_max=mark(1), stall_seconds_max=10)
    async with house.broker.subscribe(QUEUE, ack="client-individual", prefetch_messages=4) as stuck:
        house.publish_nowait(QUEUE, b"0")
        unsettled = [await stuck.receive()]
        house.publish_nowait(QUEUE, *numbers(1, 4))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.broker.publish, QUEUE, b"4")
            await trio.sleep(9.9)
            assert house.broker.statistics().evicted == 0
            await trio.sleep(0.2)
            assert house.broker.statistics().evicted == 1
            async with house.broker.subscribe(QUEUE) as other:
                received = [await other.receive() for _ in range(5)]
        assert [(message.body, message.redelivered) for message in received] == [
            (body, body == b"0") for body in numbers(0, 5)
        ]
        unsettled[0].ack()


async def test_withdrawing_returns_what_waits_and_keeps_what_is_to_be_settled(bench: Callable[..., Bench]) -> None:
    house = bench()
    worker = house.worker(QUEUE, credit=4)
    house.publish_nowait(QUEUE, *numbers(0, 2))
    worker.given()
    house.publish_nowait(QUEUE, *numbers(2, 6))
    assert worker.held == 4
    worker.subscription.withdraw()
    worker.subscription.withdraw()
    assert (worker.waiting, worker.held, house.backlog(QUEUE)) == (0, 2, 4)
    other = house.peer(QUEUE)
    assert other.take() == numbers(2, 6)
    other.settle()
    other.leave()
    worker.ledger.ack(1)
    assert not worker.subscription.ended
    house.check()
    assert QUEUE in house.broker.statistics().channels
    worker.ledger.nack(2, requeue=False)
    assert worker.subscription.ended
    assert worker.ledger.subscriptions == ()
    assert QUEUE not in house.broker.statistics().channels
    house.check_queue_conserved()


async def test_what_a_withdrawn_subscription_nacks_goes_to_others(bench: Callable[..., Bench]) -> None:
    house = bench()
    worker = house.worker(QUEUE)
    house.publish_nowait(QUEUE, b"a")
    worker.given()
    worker.subscription.withdraw()
    worker.ledger.nack(1, requeue=True)
    assert worker.subscription.ended
    assert house.backlog(QUEUE) == 1
    assert house.peer(QUEUE).receive() == [b"a"]


@pytest.mark.parametrize("mode", list(AckMode))
async def test_withdrawing_with_nothing_to_settle_ends_at_once(bench: Callable[..., Bench], mode: AckMode) -> None:
    house = bench()
    peer = house.peer(QUEUE, ack=mode, ledger=house.broker.open_ledger())
    house.publish_nowait(QUEUE, b"a")
    peer.subscription.withdraw()
    assert peer.subscription.ended
    assert house.backlog(QUEUE) == 1
    peer.leave()
    peer.subscription.withdraw()
    house.check()


async def test_withdrawing_waits_for_what_is_being_written(bench: Callable[..., Bench]) -> None:
    house = bench()
    peer = house.peer(QUEUE, ledger=house.broker.open_ledger())
    house.publish_nowait(QUEUE, b"a", b"b")
    assert peer.take(1) == [b"a"]
    peer.subscription.withdraw()
    assert not peer.subscription.ended
    assert house.backlog(QUEUE) == 1
    peer.settle()
    assert peer.subscription.ended
    assert peer.subscription.delivered == 1


async def test_leaving_after_an_eviction_or_withdrawal_in_any_order_is_safe(bench: Callable[..., Bench]) -> None:
    house = bench()
    peer = house.worker(QUEUE)
    house.publish_nowait(QUEUE, b"a")
    peer.leave()
    peer.subscription.withdraw()
    peer.subscription.evict("late")
    assert house.broker.statistics().evicted == 0
    assert house.backlog(QUEUE) == 1
    house.check()


async def work(messages: int, credit: int, action: str) -> int:
    """How many parts are measured when so many messages come in one batch and are settled one by one."""
    codec = CountingCodec()
    with Bench(deliveries_max=10, backlog_bytes_max=1 << 40, memory_bytes_max=1 << 40) as house:
        house.broker.offer(Batch(QUEUE, [b"x"] * messages, codec))
        worker = house.worker(QUEUE, credit)
        settled = 0
        nacked = set()
        while worker.held:
            worker.given()
            number, entry = next(iter(worker.subscription.unsettled.items()))
            if action == "nack" and entry.position not in nacked:
                nacked.add(entry.position)
                worker.ledger.nack(number, requeue=True)
            else:
                worker.ledger.ack(number)
                settled += 1
        assert settled == messages
    return codec.measured


@pytest.mark.parametrize("action", ["ack", "nack"])
@pytest.mark.parametrize("credit", [1, 10])
def test_a_large_batch_is_dealt_out_one_by_one_in_linear_time(credit: int, action: str) -> None:
    """The work is counted: twice the messages are twice the work, also where each is returned once."""
    small, large = [trio.run(work, messages, credit, action) for messages in (2_000, 4_000)]
    assert large <= 2.2 * small
    assert large <= 20 * 4_000
