from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.core.helpers import Bench, framed, mark, numbers
from trio_broker.errors import SubscriptionEvicted
from trio_broker.limits import BATCH_COST, MESSAGE_COST

TOPIC = "/topic/t"


async def test_all_get_all_in_order(bench: Callable[..., Bench]) -> None:
    house = bench()
    peers = [house.peer(TOPIC) for _ in range(5)]
    for number in range(0, 60, 3):
        assert house.offer(TOPIC, *numbers(number, number + 2))
        house.publish_nowait(TOPIC, b"%d" % (number + 2))
    house.check()
    assert [peer.receive() for peer in peers] == [numbers(0, 60)] * 5
    house.check()
    assert house.broker.statistics().delivered == 300


async def test_an_encoding_that_is_shared_is_on_the_account_and_one_for_a_single_peer_is_not(
    bench: Callable[..., Bench],
) -> None:
    house = bench()
    first = house.peer(TOPIC)
    house.offer(TOPIC, b"a", b"bc")
    alone = BATCH_COST + 2 * MESSAGE_COST + 5 + 6
    assert first.subscription.mailbox.cost == house.broker.memory.cost == alone
    second = house.peer(TOPIC)
    house.offer(TOPIC, b"a", b"bc")
    assert second.subscription.mailbox.cost == alone + 11
    house.check()
    first.receive()
    second.receive()


async def test_what_nobody_is_there_for_is_counted_and_leaves_nothing(bench: Callable[..., Bench]) -> None:
    house = bench()
    assert house.offer(TOPIC, b"a", b"b")
    await house.broker.publish(TOPIC, b"c")
    statistics = house.broker.statistics()
    assert (statistics.published, statistics.unrouted, statistics.memory_cost) == (3, 3, 0)
    assert not statistics.channels


async def test_a_peer_gets_what_is_published_after_it_came_and_nothing_after_it_left(
    bench: Callable[..., Bench],
) -> None:
    house = bench()
    first = house.peer(TOPIC)
    house.publish_nowait(TOPIC, b"1")
    second = house.peer(TOPIC)
    house.publish_nowait(TOPIC, b"2")
    assert first.receive() == [b"1", b"2"]
    first.leave()
    house.publish_nowait(TOPIC, b"3")
    assert second.receive() == [b"2", b"3"]
    assert first.waiting == 0


async def test_a_publish_waits_for_the_slowest_then_reaches_all_in_one_step(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(mailbox_bytes_max=mark(1))
    peers = [house.peer(TOPIC, owner=trio.CancelScope()) for _ in range(3)]
    house.publish_nowait(TOPIC, b"1")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def publish() -> None:
            await house.broker.publish(TOPIC, b"2")
            assert trio.current_time() == 3

        for peer in peers:
            await trio.sleep(1)
            assert peer.receive() == [b"1"]
            assert [other.waiting for other in peers].count(0) == peers.index(peer) + 1
    assert [peer.receive() for peer in peers] == [[b"2"]] * 3


async def test_who_leaves_wakes_those_who_wait_for_it(bench: Callable[..., Bench], autojump_clock: MockClock) -> None:
    house = bench(mailbox_bytes_max=mark(1))
    stays, leaves = (house.peer(TOPIC, owner=trio.CancelScope()) for _ in range(2))
    house.publish_nowait(TOPIC, b"1")
    stays.receive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, TOPIC, b"2")
        await trio.sleep(7)
        assert stays.waiting == 0
        leaves.leave()
    assert trio.current_time() == 7
    assert stays.receive() == [b"2"]
    assert house.broker.statistics().discarded == 1


async def test_a_peer_that_only_retires_wakes_them_too_and_keeps_what_it_has(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=mark(1))
    peer = house.peer(TOPIC, owner=trio.CancelScope())
    house.publish_nowait(TOPIC, b"1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, TOPIC, b"2")
        await wait_all_tasks_blocked()
        peer.subscription.retire()
    house.offer(TOPIC, b"3", b"4")
    assert house.broker.statistics().unrouted == 3
    assert peer.receive() == [b"1"]


async def test_who_subscribes_while_the_head_waits_gets_what_the_head_brings(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=mark(1))
    full = house.peer(TOPIC, owner=trio.CancelScope())
    house.publish_nowait(TOPIC, b"1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, TOPIC, b"2")
        await wait_all_tasks_blocked()
        late = house.peer(TOPIC)
        await wait_all_tasks_blocked()
        assert late.waiting == 0  # the one that is full still holds it up
        assert full.receive() == [b"1"]
    assert (full.receive(), late.receive()) == ([b"2"], [b"2"])


async def test_several_stuck_programs_delay_others_by_one_stall_time_in_total(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(mailbox_bytes_max=mark(1), stall_seconds_max=10)
    healthy = house.peer(TOPIC)
    stuck = [house.peer(TOPIC) for _ in range(4)]
    house.publish_nowait(TOPIC, b"1")
    healthy.receive()
    times = []
    for number in (2, 3, 4):
        await house.broker.publish(TOPIC, b"%d" % number)
        times.append(trio.current_time())
        assert healthy.receive() == [b"%d" % number]
    assert times == [10.0, 10.0, 10.0]
    statistics = house.broker.statistics()
    assert (statistics.evicted, statistics.discarded, statistics.subscriptions) == (4, 4, 1)
    for peer in stuck:
        with pytest.raises(SubscriptionEvicted, match="moved less than 65,536 bytes in 10 s"):
            await peer.local.receive()
        with pytest.raises(trio.BrokenResourceError):
            peer.local.receive_nowait()


async def test_patience_lasts_while_one_after_the_other_makes_room(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(mailbox_bytes_max=mark(1))
    peers = [house.peer(TOPIC, owner=trio.CancelScope()) for _ in range(3)]
    house.publish_nowait(TOPIC, b"1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish_batch, framed(TOPIC, b"2"), 60)
        for peer in peers:
            await trio.sleep(50)
            peer.receive()
    assert trio.current_time() == 150
    assert [peer.receive() for peer in peers] == [[b"2"]] * 3


async def test_sockets_are_left_to_their_writers(bench: Callable[..., Bench], autojump_clock: MockClock) -> None:
    house = bench(mailbox_bytes_max=mark(1), stall_seconds_max=10)
    peer = house.peer(TOPIC, owner=trio.CancelScope())
    house.publish_nowait(TOPIC, b"1")
    with trio.move_on_after(1000) as scope:
        await house.broker.publish(TOPIC, b"2")
    assert scope.cancelled_caught
    assert peer.subscription.evicted is None


@pytest.mark.parametrize(("moves", "evicted_at"), [(1, None), (0, 10.0)])
async def test_who_moves_enough_in_each_window_stays_however_long_it_takes(
    bench: Callable[..., Bench], autojump_clock: MockClock, moves: int, evicted_at: float | None
) -> None:
    """Twenty messages of 1,000 bytes wait; below the mark is only who has received them all, at one every 8 s."""
    house = bench(mailbox_bytes_max=1, stall_seconds_max=10, stall_bytes_min=1000)
    slow = house.peer(TOPIC)
    assert house.offer(TOPIC, *[bytes(1000)] * 20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, TOPIC, b"next")
        while slow.waiting > 1 and slow.subscription.evicted is None:
            await trio.sleep(8)
            for _ in range(moves):
                slow.local.receive_nowait()
        if evicted_at is None:
            await trio.sleep(8)
            slow.local.receive_nowait()
    assert trio.current_time() == (160 if evicted_at is None else 16)
    assert (slow.subscription.evicted is None) is (evicted_at is None)
    assert slow.receive() == ([b"next"] if evicted_at is None else [])


async def test_one_byte_too_few_in_a_window_and_it_is_evicted(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    for short in (0, 1):
        began = trio.current_time()
        moved = 2 * (MESSAGE_COST + 4 + 100)
        house = bench(mailbox_bytes_max=1, stall_seconds_max=10, stall_bytes_min=moved + short)
        peer = house.peer(TOPIC)
        house.offer(TOPIC, *[bytes(100)] * 5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.broker.publish, TOPIC, b"next")
            await trio.sleep(1)
            peer.local.receive_nowait()
            peer.local.receive_nowait()
        assert trio.current_time() - began == (10 if short else 20)


async def test_one_that_empties_its_mailbox_in_time_is_not_evicted(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(mailbox_bytes_max=mark(1), stall_seconds_max=10)
    peer = house.peer(TOPIC)
    house.publish_nowait(TOPIC, b"0")
    for number in range(1, 5):  # each is tiny, far below stall_bytes_min
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.broker.publish, TOPIC, b"%d" % number)
            await trio.sleep(9)
            assert peer.local.receive_nowait().body == b"%d" % (number - 1)
    assert peer.subscription.evicted is None
    peer.receive()


async def test_a_parked_receiver_hears_of_the_eviction(bench: Callable[..., Bench], autojump_clock: MockClock) -> None:
    house = bench()
    peer = house.peer(TOPIC)
    heard = []

    async def receive() -> None:
        with pytest.raises(SubscriptionEvicted) as caught:
            await peer.local.receive()
        heard.append((caught.value.channel, caught.value.reason))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        peer.subscription.evict("a reason")
    assert heard == [(TOPIC, "a reason")] * 2


async def test_a_batch_is_one_step_even_if_it_passes_the_mark(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=1)
    peer = house.peer(TOPIC, owner=trio.CancelScope())
    assert house.broker.offer(framed(TOPIC, *numbers(0, 1000)))
    assert not house.offer(TOPIC, b"more")
    assert peer.receive() == numbers(0, 1000)
    assert house.offer(TOPIC, b"more")
