"""Temporary queues: one subscription's own, gone with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.core.helpers import Bench, Peer, framed, mark, numbers
from trio_broker.core.outbox import Outbox
from trio_broker.errors import BrokerDraining, InvalidChannel, LimitReached
from trio_broker.message import TEMPORARY


def temporary(house: Bench) -> tuple[Peer, str]:
    """One that was just made, and its name."""
    ledger = house.broker.open_ledger()
    peer = house.watch(house.broker.attach_temporary(Outbox(), owner=trio.CancelScope(), ledger=ledger))
    return peer, peer.subscription.channel.name


async def test_each_has_a_name_of_its_own_that_anybody_may_publish_to(bench: Callable[..., Bench]) -> None:
    house = bench()
    made = [temporary(house) for _ in range(100)]
    assert len({name for _, name in made}) == 100
    assert all(name.startswith(TEMPORARY) and len(name) > len(TEMPORARY) + 20 for _, name in made)
    peer, name = made[7]
    house.publish_nowait(name, b"a")
    await house.broker.publish(name, b"b")
    house.offer(name, b"c")
    assert house.broker.offer_all([framed(name, b"d")])
    assert peer.receive() == [b"a", b"b", b"c", b"d"]
    assert house.broker.statistics().delivered == 4


async def test_nobody_else_subscribes_whether_it_exists_or_not(bench: Callable[..., Bench]) -> None:
    house = bench()
    _, name = temporary(house)
    for wanted in (name, TEMPORARY, TEMPORARY + "guess"):
        with pytest.raises(InvalidChannel, match="only the connection that a temporary queue was made for"):
            house.peer(wanted)
        with pytest.raises(InvalidChannel):
            async with house.broker.subscribe(wanted, ack="client"):
                raise AssertionError
    assert list(house.broker.statistics().channels) == [name]


@pytest.mark.parametrize("end", ["leave", "withdraw", "evict"])
async def test_it_ends_with_its_subscription_and_later_messages_reach_nobody(
    bench: Callable[..., Bench], end: str
) -> None:
    house = bench()
    peer, name = temporary(house)
    house.publish_nowait(name, b"0", b"1")
    peer.take(1)
    if end == "withdraw":
        peer.subscription.withdraw()
        assert not peer.subscription.ended
        peer.settle()
    else:
        if end == "evict":
            peer.subscription.evict("late")
        peer.leave()
    assert not house.broker.statistics().channels
    assert house.broker.statistics().discarded == (1 if end == "withdraw" else 2)
    house.publish_nowait(name, b"2")
    await house.broker.publish(name, b"3")
    await house.broker.publish_batch(framed(name, b"4"))
    assert house.broker.offer_all([framed(name, b"5")])
    await house.broker.publish_all([framed(name, b"6")])
    statistics = house.broker.statistics()
    assert statistics.unrouted == 5
    assert not statistics.channels
    assert statistics.memory_cost == 0
    house.check_queue_conserved()


async def test_who_waits_in_line_when_it_ends_is_let_go_at_once(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(mailbox_bytes_max=mark(1), backlog_bytes_max=mark(1))
    peer, name = temporary(house)
    house.publish_nowait(name, b"0", b"1")
    async with trio.open_nursery() as nursery:
        for body in numbers(2, 5):
            nursery.start_soon(house.broker.publish, name, body)
        nursery.start_soon(house.broker.publish_all, [framed(name, b"5"), framed("/queue/other", b"5")])
        await wait_all_tasks_blocked()
        assert house.waiting(name) == 4
        peer.leave()
    assert trio.current_time() == 0
    statistics = house.broker.statistics()
    assert (statistics.unrouted, statistics.discarded) == (4, 2)
    assert list(statistics.channels) == ["/queue/other"]
    assert house.peer("/queue/other").receive() == [b"5"]


async def test_what_is_published_between_its_end_and_the_line_reaches_nobody(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=mark(1), backlog_bytes_max=mark(1))
    peer, name = temporary(house)
    house.publish_nowait(name, b"0", b"1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, name, b"2")
        await wait_all_tasks_blocked()
        peer.leave()  # the one in line has not run yet, so the queue is still there
        assert not house.offer(name, b"3")
        assert house.broker.offer_all([framed(name, b"4")], in_reserve=True)
    assert house.broker.statistics().unrouted == 2
    assert not house.broker.statistics().channels


async def test_one_that_is_gone_is_not_made_again(bench: Callable[..., Bench]) -> None:
    house = bench(channels_max=1)
    peer, name = temporary(house)
    peer.leave()
    house.peer("/queue/other")  # the last channel that is allowed
    house.publish_nowait(name, b"a")
    assert house.broker.offer_all([framed(name, b"b")])
    await house.broker.publish_all([framed(name, b"c")])
    assert house.broker.statistics().unrouted == 3


async def test_they_count_among_the_channels(bench: Callable[..., Bench]) -> None:
    house = bench(channels_max=2)
    temporary(house)
    temporary(house)
    with pytest.raises(LimitReached, match="channels_max"):
        temporary(house)


async def test_a_broker_that_ends_makes_none_and_ends_those_that_are(bench: Callable[..., Bench]) -> None:
    house = bench()
    peer, name = temporary(house)
    house.publish_nowait(name, b"0")
    house.broker.close()
    with pytest.raises(BrokerDraining):
        temporary(house)
    assert peer.receive() == [b"0"]  # what is in the mailbox is still sent
