from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.core.helpers import Bench, framed, mark, numbers
from trio_broker.core.statistics import BrokerStatistics, ChannelStatistics, SubscriptionStatistics
from trio_broker.limits import BATCH_COST, MESSAGE_COST

TOPIC, QUEUE = "/topic/t", "/queue/q"


async def test_a_whole_broker_at_one_moment(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=mark(1), backlog_bytes_max=mark(2))
    full, drops = house.peer(TOPIC, "block", owner=trio.CancelScope()), house.peer(TOPIC, "latest")
    worker = house.peer(QUEUE, owner=trio.CancelScope())
    house.publish_nowait(TOPIC, b"1")
    drops.receive()
    house.publish_nowait(QUEUE, b"1", b"2", b"3")
    house.publish_nowait("/topic/nobody", b"1")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.broker.publish, TOPIC, b"2")
            nursery.start_soon(house.broker.publish, QUEUE, b"4")
            nursery.start_soon(house.broker.publish, QUEUE, b"5")
            await wait_all_tasks_blocked()
            one = BATCH_COST + MESSAGE_COST + 1
            assert house.broker.statistics() == BrokerStatistics(
                channels={
                    TOPIC: ChannelStatistics(TOPIC, "topic", 2, 1, 1, 0, 0),
                    QUEUE: ChannelStatistics(QUEUE, "queue", 1, 1, 2, 2, 2 * one),
                },
                subscriptions=3,
                memory_cost=4 * one + 1,  # the topic's message is shared by two
                published=5,
                delivered=1,
                dropped=0,
                unrouted=1,
                discarded=0,
                poisoned=0,
                rejected=0,
                expired=0,
                evicted=0,
            )
            assert full.local.statistics() == SubscriptionStatistics(TOPIC, 1, one + 1, 0, 0, 0, full=True)
            assert drops.local.statistics() == SubscriptionStatistics(TOPIC, 0, 0, 0, 1, 0, full=False)
            assert worker.local.statistics() == SubscriptionStatistics(QUEUE, 1, one, 0, 0, 0, full=True)
            scope.cancel()
    assert house.broker.statistics().channels[QUEUE].publishers_waiting == 0


async def test_a_value_does_not_change_afterwards(bench: Callable[..., Bench]) -> None:
    house = bench()
    before = house.broker.statistics()
    house.peer(TOPIC)
    house.publish_nowait(TOPIC, b"x")
    assert (before.published, dict(before.channels)) == (0, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.published = 1  # type: ignore[misc]


async def test_each_fate_of_a_message_has_its_counter(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=mark(2), deliveries_max=1)
    house.offer(TOPIC, b"unrouted")
    drops = house.peer(TOPIC, "drop_newest")
    house.publish_nowait(TOPIC, b"delivered", b"discarded", b"dropped")
    drops.receive(bytes_max=1)
    drops.leave()
    worker = house.peer(QUEUE)
    house.broker.offer(framed(QUEUE, *numbers(0, 4)))
    worker.take()
    worker.settle(1)
    worker.leave()
    house.publish_nowait(QUEUE, b"left behind")
    house.broker.close()
    statistics = house.broker.statistics()
    assert statistics.published == 4 + 5
    assert statistics.unrouted == 1
    assert statistics.delivered == 1 + 1
    assert statistics.dropped == 1
    assert statistics.poisoned == 3
    assert statistics.discarded == 1 + 1


async def test_full_counts_those_whose_mailbox_is_full_and_no_others(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=mark(2))
    peers = [house.peer(QUEUE, owner=trio.CancelScope()) for _ in range(3)]
    counts = []
    for number in range(6):
        house.publish_nowait(QUEUE, b"%d" % number)
        counts.append(house.broker.statistics().channels[QUEUE].full)
    assert counts == [0, 0, 0, 1, 2, 3]
    peers[1].leave()  # its two go to the backlog
    channel = house.broker.statistics().channels[QUEUE]
    assert (channel.subscriptions, channel.full, channel.backlog_messages) == (2, 2, 2)
