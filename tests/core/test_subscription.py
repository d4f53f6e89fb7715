from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from tests.core.helpers import Bench, bodies, mark, numbers, tries

TOPIC, QUEUE = "/topic/t", "/queue/q"
CHANNELS = [TOPIC, QUEUE]


@pytest.mark.parametrize("channel", CHANNELS)
async def test_take_stops_at_its_size_but_brings_one_at_least(bench: Callable[..., Bench], channel: str) -> None:
    house = bench()
    peer = house.peer(channel)
    for size in (100, 100, 5000, 1):
        house.offer(channel, bytes(size))
    assert [len(body) for body in peer.receive(bytes_max=150)] == [100, 100]
    assert [len(body) for body in peer.receive(bytes_max=1)] == [5000]
    assert [len(body) for body in peer.receive(bytes_max=1)] == [1]
    assert peer.receive() == []


async def test_settling_moves_what_was_taken_to_the_delivered(bench: Callable[..., Bench]) -> None:
    house = bench()
    peer = house.peer(TOPIC)
    house.offer(TOPIC, *numbers(0, 5))
    peer.take()
    assert (peer.subscription.delivered, house.broker.counters.delivered) == (0, 0)
    house.check()
    assert house.broker.memory.cost > 0
    peer.settle()
    assert (peer.subscription.delivered, house.broker.counters.delivered) == (5, 5)
    assert house.broker.memory.cost == 0


@pytest.mark.parametrize("sent", range(8))
async def test_what_left_whole_of_a_torn_write_is_settled_and_the_rest_comes_back(
    bench: Callable[..., Bench], sent: int
) -> None:
    house = bench()
    peer = house.peer(QUEUE)
    for start, end in ((0, 1), (1, 4), (4, 7), (7, 9)):
        house.offer(QUEUE, *numbers(start, end))
    deliveries = peer.subscription.take(13)
    assert bodies(deliveries) == numbers(0, 4)
    peer.settle(min(sent, 4))
    assert peer.subscription.delivered == min(sent, 4)
    peer.leave()
    house.check_queue_conserved()
    after = house.peer(QUEUE).subscription.take(1000)
    assert tries(after) == [(b"%d" % number, int(number < 4)) for number in range(min(sent, 4), 9)]


@pytest.mark.parametrize("channel", CHANNELS)
async def test_leave_and_retire_are_idempotent_in_any_order(bench: Callable[..., Bench], channel: str) -> None:
    house = bench()
    peer = house.peer(channel)
    house.offer(channel, b"a")
    subscription = peer.subscription
    subscription.retire()
    subscription.retire()
    assert (subscription.member, subscription.ended) == (False, False)
    assert channel in house.broker.statistics().channels  # it may still give something back
    subscription.leave()
    subscription.leave()
    subscription.retire()
    subscription.evict("too late")
    assert (subscription.member, subscription.ended, subscription.evicted) == (False, True, None)
    assert house.broker.statistics().evicted == 0
    house.check()


@pytest.mark.parametrize("channel", CHANNELS)
async def test_who_is_retired_gets_nothing_new_and_keeps_what_it_has(bench: Callable[..., Bench], channel: str) -> None:
    house = bench()
    peer = house.peer(channel)
    house.offer(channel, b"a")
    peer.subscription.retire()
    house.offer(channel, b"b")
    assert peer.receive() == [b"a"]
    peer.leave()
    assert house.backlog(channel) == (channel == QUEUE)


@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize("channel", CHANNELS)
async def test_who_is_retired_while_full_does_not_come_back_when_it_has_room(
    bench: Callable[..., Bench], channel: str, one_by_one: bool
) -> None:
    house = bench(mailbox_bytes_max=mark(1))
    peer = house.peer(channel)
    house.offer(channel, b"a")
    assert peer.subscription.statistics().full
    peer.subscription.retire()
    received = [peer.local.receive_nowait().body] if one_by_one else peer.receive()
    assert received == [b"a"]
    house.offer(channel, b"b")
    assert peer.waiting == 0


async def test_eviction_cancels_the_owner_with_the_reason_and_leaves_the_leaving_to_it(
    bench: Callable[..., Bench],
) -> None:
    house = bench()
    with trio.CancelScope() as connection:
        peer = house.peer(QUEUE, owner=connection)
        house.offer(QUEUE, b"a", b"b")
        house.offer(QUEUE, b"c")
        peer.take(bytes_max=1)
        peer.subscription.evict("too slow")
        peer.subscription.evict("again")
        house.offer(QUEUE, b"d")
        assert peer.waiting == 1  # nothing new comes
        with pytest.raises(trio.Cancelled, match="evicted: too slow"):
            await trio.lowlevel.checkpoint()
        assert not peer.subscription.outbox.closed  # which would be an orderly end
        peer.settle(1)  # only the connection knows what had left
        peer.leave()
        house.check()
        house.check_queue_conserved()
        assert (house.backlog(QUEUE), house.broker.statistics().evicted) == (3, 1)
        assert peer.subscription.evicted == "too slow"
        await trio.lowlevel.checkpoint()
    assert connection.cancelled_caught
    assert house.peer(QUEUE).receive() == [b"b", b"c", b"d"]


async def test_a_topic_counts_what_its_peer_was_not_sent(bench: Callable[..., Bench]) -> None:
    house = bench()
    peer = house.peer(TOPIC)
    house.offer(TOPIC, b"a", b"b", b"c")
    house.offer(TOPIC, b"d", b"e")
    peer.take(bytes_max=1)
    peer.settle(1)
    peer.leave()
    statistics = house.broker.statistics()
    assert (statistics.delivered, statistics.discarded, statistics.memory_cost) == (1, 4, 0)


async def test_finish_lets_the_owner_end_after_the_last_message(bench: Callable[..., Bench]) -> None:
    house = bench()
    peer = house.peer(TOPIC)
    house.publish_nowait(TOPIC, b"a", b"b")
    peer.subscription.finish()
    assert [message.body async for message in peer.local] == [b"a", b"b"]
