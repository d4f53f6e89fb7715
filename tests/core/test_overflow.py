"""Each overflow policy at its exact boundary. Messages have one byte: 5 as a frame, 69 with their overhead."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from tests.core.helpers import Bench, Peer, numbers
from trio_broker.errors import SubscriptionEvicted
from trio_broker.limits import BATCH_COST, MESSAGE_COST, Overflow

TOPIC = "/topic/t"
ONE = MESSAGE_COST + 5
ABC = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"]


def told(peer: Peer) -> list[tuple[bytes, int]]:
    """Receive all, one by one: the bodies, and what was lost before each."""
    received = []
    while peer.waiting:
        message = peer.local.receive_nowait()
        received.append((message.body, message.dropped_before))
    return received


def lost(house: Bench, peer: Peer) -> int:
    """What was counted as dropped; everywhere the same."""
    count = peer.subscription.dropped
    assert count == peer.local.statistics().dropped == house.broker.statistics().dropped
    return count


@pytest.mark.parametrize(("spare", "kept"), [(0, 3), (-1, 2), (ONE - 1, 3), (ONE, 4)])
async def test_drop_oldest_keeps_the_newest_that_fit_in_a_batch(
    bench: Callable[..., Bench], spare: int, kept: int
) -> None:
    house = bench(mailbox_bytes_max=BATCH_COST + 3 * ONE + spare)
    peer = house.peer(TOPIC, "drop_oldest")
    assert house.offer(TOPIC, *ABC)
    house.check()
    assert told(peer) == [(ABC[-kept], 8 - kept), *[(body, 0) for body in ABC[8 - kept + 1 :]]]
    assert lost(house, peer) == 8 - kept


async def test_drop_oldest_over_several_batches(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=2 * BATCH_COST + 4 * ONE)
    peer = house.peer(TOPIC, "drop_oldest")
    house.offer(TOPIC, b"a", b"b", b"c")
    house.offer(TOPIC, b"d")
    assert lost(house, peer) == 0
    house.offer(TOPIC, b"e")  # a third batch: its overhead costs the whole first one
    house.check()
    assert lost(house, peer) == 3
    assert told(peer) == [(b"d", 3), (b"e", 0)]


async def test_drop_oldest_never_drops_the_newest_nor_what_is_being_written(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=1)
    peer = house.peer(TOPIC, "drop_oldest")
    house.offer(TOPIC, b"a")
    assert peer.take() == [b"a"]
    house.offer(TOPIC, b"b", b"c")
    house.offer(TOPIC, b"d")
    house.check()
    peer.settle()
    (delivery,) = peer.subscription.take(1)
    assert (delivery.dropped_before, len(delivery)) == (2, 1)
    peer.settle()
    assert lost(house, peer) == 2


@pytest.mark.parametrize(
    ("spare", "kept"),
    [(0, 3), (-1, 3), (1, 4), (ONE, 4), (ONE + 1, 5), (-BATCH_COST, 1), (4 * ONE, 7), (4 * ONE + 1, 8)],
)
async def test_drop_newest_admits_each_message_that_finds_the_cost_below_the_mark(
    bench: Callable[..., Bench], spare: int, kept: int
) -> None:
    house = bench(mailbox_bytes_max=BATCH_COST + 3 * ONE + spare)
    peer = house.peer(TOPIC, "drop_newest")
    assert house.offer(TOPIC, *ABC)
    house.check()
    assert told(peer) == [(body, 0) for body in ABC[:kept]]
    assert lost(house, peer) == 8 - kept
    house.offer(TOPIC, b"z")
    assert told(peer) == [(b"z", 8 - kept)]


async def test_drop_newest_drops_all_while_full_and_tells_of_all_at_once(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=BATCH_COST + ONE)
    peer = house.peer(TOPIC, "drop_newest")
    for body in ABC:
        assert house.offer(TOPIC, body)
    house.check()
    assert peer.take() == [b"a"]
    assert house.offer(TOPIC, b"x")  # what is being written counts
    peer.settle()
    house.offer(TOPIC, b"y")
    assert told(peer) == [(b"y", 8)]
    assert lost(house, peer) == 8


async def test_latest_keeps_one_and_counts_the_others(bench: Callable[..., Bench]) -> None:
    house = bench()
    peer = house.peer(TOPIC, "latest")
    house.offer(TOPIC, b"a")
    assert told(peer) == [(b"a", 0)]
    house.offer(TOPIC, b"b", b"c", b"d")
    assert peer.waiting == 1
    house.offer(TOPIC, b"e")
    house.check()
    assert told(peer) == [(b"e", 3)]
    house.offer(TOPIC, b"f")
    assert told(peer) == [(b"f", 0)]
    assert lost(house, peer) == 3


async def test_latest_leaves_alone_what_is_being_written(bench: Callable[..., Bench]) -> None:
    house = bench()
    peer = house.peer(TOPIC, "latest")
    house.offer(TOPIC, b"a")
    assert peer.take() == [b"a"]
    house.offer(TOPIC, b"b")
    house.offer(TOPIC, b"c")
    peer.settle()
    assert told(peer) == [(b"c", 1)]


async def test_disconnect_evicts_only_that_one_in_the_middle_of_a_fan_out(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=BATCH_COST + ONE)
    with trio.CancelScope() as connection:
        peers = [
            house.peer(TOPIC, "drop_oldest"),
            house.peer(TOPIC, "disconnect", owner=connection),
            house.peer(TOPIC, "disconnect"),
            house.peer(TOPIC, "latest"),
        ]
        assert house.offer(TOPIC, b"a")  # full from here on, which is still allowed
        peers[2].receive()
        assert not connection.cancel_called
        assert house.offer(TOPIC, b"b")
        house.check()
        await trio.sleep_forever()
    assert connection.cancelled_caught
    peers[1].leave()  # as a connection does when it ends
    assert [peer.receive() for peer in peers] == [[b"b"], [], [b"b"], [b"b"]]
    with pytest.raises(SubscriptionEvicted, match="its overflow policy is to disconnect"):
        peers[1].local.receive_nowait()
    statistics = house.broker.statistics()
    assert (statistics.evicted, statistics.discarded, statistics.subscriptions) == (1, 1, 3)


@pytest.mark.parametrize(("spare", "admitted"), [(0, 2), (1, 3)])
async def test_disconnect_is_for_who_is_full_and_not_for_who_has_something(
    bench: Callable[..., Bench], spare: int, admitted: int
) -> None:
    house = bench(mailbox_bytes_max=2 * (BATCH_COST + ONE) + spare)
    peer = house.peer(TOPIC, "disconnect")
    for number, body in enumerate(ABC[:4]):
        house.offer(TOPIC, body)
        assert (peer.subscription.evicted is None) is (number < admitted)
    assert house.broker.statistics().discarded == admitted


async def test_the_message_that_disconnects_is_counted_as_dropped(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=1)
    peer = house.peer(TOPIC, "disconnect")
    house.offer(TOPIC, b"a")
    house.offer(TOPIC, b"b", b"c")
    statistics = house.broker.statistics()
    assert (statistics.published, statistics.discarded, statistics.evicted) == (3, 1, 1)
    assert lost(house, peer) == 2
    assert not statistics.channels


async def test_one_who_drops_holds_nobody_up_beside_one_who_blocks(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=BATCH_COST + ONE)
    blocks, drops = house.peer(TOPIC, "block"), house.peer(TOPIC, "drop_newest")
    assert house.offer(TOPIC, b"a")
    assert not house.offer(TOPIC, b"b")  # nobody gets it
    assert lost(house, drops) == 0
    blocks.receive()
    assert house.offer(TOPIC, b"c")
    assert blocks.receive() == [b"c"]
    assert lost(house, drops) == 1
    assert told(drops) == [(b"a", 0)]


async def test_the_broker_has_a_default_and_queues_have_no_policy(bench: Callable[..., Bench]) -> None:
    house = bench(overflow="latest", mailbox_bytes_max=1)
    assert house.peer(TOPIC).subscription.overflow is Overflow.LATEST
    assert house.peer(TOPIC, "block").subscription.overflow is Overflow.BLOCK
    assert house.peer("/queue/q").subscription.overflow is Overflow.BLOCK
    with pytest.raises(ValueError, match="a queue has no overflow policy"):
        house.peer("/queue/q", Overflow.LATEST)
    with pytest.raises(ValueError, match="overflow is 'whatever'; allowed are block, drop_oldest, "):
        house.peer("/topic/other", "whatever")
    assert set(house.broker.statistics().channels) == {TOPIC, "/queue/q"}


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "latest"])
async def test_nothing_is_lost_that_is_not_told(bench: Callable[..., Bench], policy: str) -> None:
    """Batches of all sizes, received now and then: what comes and what is told as lost adds up, in order."""
    house = bench(mailbox_bytes_max=BATCH_COST + 7 * ONE)
    peers = [house.peer(TOPIC, policy) for _ in range(2)]
    seen = [0, 0]  # the next number that each expects
    number = 0
    for size in [1, 2, 3, 5, 8, 13, 21, 34, 1, 1, 1, 55, 2] * 5:
        assert house.offer(TOPIC, *numbers(number, number + size))
        number += size
        house.check()
        for index, peer in enumerate(peers):
            if size % 3 != index:
                for body, dropped in told(peer):
                    assert int(body) == seen[index] + dropped
                    seen[index] = int(body) + 1
    assert house.offer(TOPIC, b"%d" % number)
    for index, peer in enumerate(peers):
        for body, dropped in told(peer):
            assert int(body) == seen[index] + dropped
            seen[index] = int(body) + 1
        if policy != "drop_newest":
            assert seen[index] == number + 1
    assert house.broker.statistics().dropped == sum(peer.subscription.dropped for peer in peers)
