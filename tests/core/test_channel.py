"""How a publish waits, for topics and queues alike: its turn, cancellation, patience, draining."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.core.helpers import Bench, Peer, framed, mark
from trio_broker.errors import BrokerDraining, PublishStalled

CHANNELS = ["/topic/t", "/queue/q"]


def full(bench: Callable[..., Bench], channel: str, **limits: float) -> tuple[Bench, Peer]:
    """A channel that takes no more: its only mailbox is full, and its backlog too if it is a queue."""
    house = bench(mailbox_bytes_max=mark(1), backlog_bytes_max=mark(1), **limits)
    peer = house.peer(channel, owner=trio.CancelScope())
    house.publish_nowait(channel, b"held")
    if channel.startswith("/queue"):
        house.publish_nowait(channel, b"kept")
    assert not house.offer(channel, b"no room")
    return house, peer


def empty(peer: Peer) -> list[bytes]:
    """Receive until nothing comes."""
    received = []
    while some := peer.receive(bytes_max=1):
        received += some
    return [body for body in received if body not in {b"held", b"kept"}]


@pytest.mark.parametrize("channel", CHANNELS)
async def test_two_publishers_are_served_in_turn(bench: Callable[..., Bench], channel: str) -> None:
    house, peer = full(bench, channel)
    received: list[bytes] = []

    async def publish(name: bytes) -> None:
        for _ in range(10):
            await house.broker.publish(channel, name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish, b"a")
        await wait_all_tasks_blocked()
        nursery.start_soon(publish, b"b")
        for _ in range(25):
            await wait_all_tasks_blocked()
            received += peer.receive()
    assert [body for body in received if len(body) == 1] == [b"a", b"b"] * 10


@pytest.mark.parametrize("channel", CHANNELS)
async def test_nowait_fails_while_someone_stands_in_line_even_if_there_is_room(
    bench: Callable[..., Bench], channel: str
) -> None:
    house, peer = full(bench, channel)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, channel, b"first")
        await wait_all_tasks_blocked()
        empty(peer)  # there is room from now on, and the head has not run yet
        with pytest.raises(trio.WouldBlock):
            house.broker.publish_nowait(channel, b"pusher")
    house.check()
    assert empty(peer) == [b"first"]


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_a_cancelled_publish_reaches_nobody_and_the_next_in_line_proceeds(
    bench: Callable[..., Bench], channel: str, cancelled: int
) -> None:
    house, peer = full(bench, channel)
    scopes = [trio.CancelScope() for _ in range(3)]

    async def publish(number: int) -> None:
        with scopes[number]:
            await house.broker.publish(channel, b"%d" % number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(publish, number)
            await wait_all_tasks_blocked()
        scopes[cancelled].cancel()
        await wait_all_tasks_blocked()
        assert house.waiting(channel) == 2
        received = []
        while nursery.child_tasks:
            received += empty(peer)
            await wait_all_tasks_blocked()
    received += empty(peer)
    assert received == [b"%d" % number for number in range(3) if number != cancelled]
    assert [scope.cancelled_caught for scope in scopes] == [number == cancelled for number in range(3)]


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("room_at", range(5))
@pytest.mark.parametrize("cancel_at", range(6))
async def test_at_every_step_a_publish_either_returns_and_is_there_or_was_cancelled_and_is_not(
    bench: Callable[..., Bench], channel: str, room_at: int, cancel_at: int
) -> None:
    house, peer = full(bench, channel)
    returned = False
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def publish() -> None:
            nonlocal returned
            await house.broker.publish(channel, b"new")
            returned = True

        for step in range(7):
            if step == room_at:
                assert empty(peer) in ([], [b"new"])
            if step == cancel_at:
                nursery.cancel_scope.cancel()
            await trio.lowlevel.cancel_shielded_checkpoint()
    left = empty(peer)
    assert left == ([b"new"] if returned else [])
    assert house.broker.counters.published == house.broker.counters.delivered
    assert house.waiting(channel) == 0


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_publish_that_is_cancelled_before_it_begins_reaches_nobody(
    bench: Callable[..., Bench], channel: str
) -> None:
    house = bench()
    peer = house.peer(channel)
    with trio.CancelScope() as scope:
        scope.cancel()
        await house.broker.publish(channel, b"never")
    assert scope.cancelled_caught
    assert empty(peer) == []
    assert house.broker.counters.published == 0


@pytest.mark.parametrize("channel", CHANNELS)
async def test_patience_ends_where_nothing_moves(
    bench: Callable[..., Bench], autojump_clock: MockClock, channel: str
) -> None:
    house, _ = full(bench, channel)
    with pytest.raises(PublishStalled) as caught:
        await house.broker.publish_batch(framed(channel, b"new"), patience_seconds=60)
    assert trio.current_time() == 60
    assert (caught.value.channel, caught.value.waited_seconds) == (channel, 60)
    assert house.waiting(channel) == 0


@pytest.mark.parametrize("channel", CHANNELS)
async def test_patience_lasts_while_the_channel_takes_something(
    bench: Callable[..., Bench], autojump_clock: MockClock, channel: str
) -> None:
    """Ten stand in line; one message every 50 s leaves. The last waits far beyond its 60 s of patience."""
    house, peer = full(bench, channel)
    accepted: list[tuple[int, float]] = []

    async def publish(number: int) -> None:
        await house.broker.publish_batch(framed(channel, b"%d" % number), patience_seconds=60)
        accepted.append((number, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(publish, number)
            await wait_all_tasks_blocked()
        while nursery.child_tasks:
            await trio.sleep(50)
            peer.receive(bytes_max=1)
            await wait_all_tasks_blocked()
    assert accepted == [(number, 50.0 * (number + 1)) for number in range(10)]
    empty(peer)


@pytest.mark.parametrize("channel", CHANNELS)
async def test_when_the_broker_ends_all_who_wait_are_told_at_once_and_so_is_whoever_comes_later(
    bench: Callable[..., Bench], autojump_clock: MockClock, channel: str
) -> None:
    house, peer = full(bench, channel)
    told = []

    async def publish() -> None:
        with pytest.raises(BrokerDraining):
            await house.broker.publish(channel, b"new")
        told.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(publish)
        await trio.sleep(5)
        house.broker.close()
        house.broker.close()
        nursery.start_soon(publish)
    assert told == [5.0] * 4
    with pytest.raises(BrokerDraining):
        house.broker.publish_nowait(channel, b"later")
    peer.leave()
    with pytest.raises(BrokerDraining):
        house.broker.publish_nowait(channel, b"later still")
    await publish()


@pytest.mark.parametrize("channel", CHANNELS)
async def test_who_was_just_given_room_when_the_broker_ends_has_not_been_accepted(
    bench: Callable[..., Bench], channel: str
) -> None:
    house, peer = full(bench, channel)
    told = []

    async def publish() -> None:
        with pytest.raises(BrokerDraining):
            await house.broker.publish(channel, b"new")
        told.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        nursery.start_soon(publish)
        await wait_all_tasks_blocked()
        peer.subscription.retire()
        published = house.broker.counters.published
        peer.leave()
        house.broker.close()
    assert told == [True, True]
    assert house.broker.counters.published == published


@pytest.mark.parametrize("channel", CHANNELS)
async def test_who_was_just_given_the_head_of_the_line_when_the_broker_ends_has_not_been_accepted(
    bench: Callable[..., Bench], channel: str
) -> None:
    house = bench()
    peer = house.peer(channel)
    scope = trio.CancelScope()
    told = []

    async def first() -> None:
        with scope:
            await house.broker.publish_batch(framed(channel, b"first"))
        house.broker.close()  # in the very step in which the next one was given the head

    async def second() -> None:
        with pytest.raises(BrokerDraining):
            await house.broker.publish_batch(framed(channel, b"second"))
        told.append(True)

    house.broker.memory.add(house.broker.limits.memory_bytes_max)  # so that the head has to wait
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await wait_all_tasks_blocked()
        nursery.start_soon(second)
        await wait_all_tasks_blocked()
        house.broker.memory.add(-house.broker.limits.memory_bytes_max)
    assert told == [True]
    assert empty(peer) == [b"first"]


async def test_a_stuck_program_is_evicted_even_if_each_publisher_gives_up_before_the_rule_bites(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(mailbox_bytes_max=mark(1), stall_seconds_max=10)
    stuck = house.peer("/topic/t")
    house.publish_nowait("/topic/t", b"held")
    while stuck.subscription.evicted is None and trio.current_time() < 60:
        with trio.move_on_after(4):
            await house.broker.publish("/topic/t", b"impatient")
    assert trio.current_time() == 10
    assert stuck.subscription.evicted is not None
