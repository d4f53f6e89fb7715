from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.core.helpers import Bench, framed, mark, numbers
from trio_broker.core.memory import Memory
from trio_broker.errors import BrokerDraining, PublishStalled


async def test_it_is_full_at_the_mark_and_room_ends_just_below(autojump_clock: MockClock) -> None:
    memory = Memory(100)
    memory.add(99)
    await memory.room()
    assert not memory.is_full
    memory.add(51)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            await memory.room()
            assert trio.current_time() == 2

        await trio.sleep(1)
        memory.add(-50)  # at the mark is still full
        await trio.sleep(1)
        memory.add(-1)


async def test_who_was_woken_in_vain_waits_again(autojump_clock: MockClock) -> None:
    memory = Memory(100)
    memory.add(100)
    times = []
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            await memory.room()
            times.append(trio.current_time())
            memory.add(60)

        for _ in range(3):
            nursery.start_soon(wait)
        for _ in range(3):
            await trio.sleep(1)
            memory.add(-60)
        await trio.sleep(1)
        memory.add(-60)
    assert times == [1, 2, 3]


async def test_full_mailboxes_hold_up_publishers_to_other_channels_until_something_leaves(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(memory_bytes_max=mark(4))
    holder = house.peer("/topic/holder", owner=trio.CancelScope())
    other = house.peer("/topic/other")
    house.publish_nowait("/topic/holder", *numbers(0, 4))
    with pytest.raises(trio.WouldBlock):
        house.broker.publish_nowait("/topic/other", b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, "/topic/other", b"x")
        nursery.start_soon(house.broker.publish, "/queue/jobs", b"y")
        await trio.sleep(5)
        assert (other.waiting, house.backlog("/queue/jobs")) == (0, 0)
        holder.take()
        await trio.sleep(5)  # what is being written is still held
        assert other.waiting == 0
        holder.settle()
    assert trio.current_time() == 10
    house.check()
    assert other.receive() == [b"x"]
    assert house.peer("/queue/jobs").receive() == [b"y"]


async def test_a_backlog_counts_and_a_consumer_that_takes_it_makes_room(bench: Callable[..., Bench]) -> None:
    house = bench(memory_bytes_max=mark(3))
    house.publish_nowait("/queue/a", *numbers(0, 3))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, "/queue/b", b"x")
        await wait_all_tasks_blocked()
        consumer = house.peer("/queue/a")
        await wait_all_tasks_blocked()
        assert house.backlog("/queue/b") == 0  # it only moved from the backlog to a mailbox
        consumer.receive()
    assert house.backlog("/queue/b") == 1


async def test_an_unfinished_frame_counts(bench: Callable[..., Bench]) -> None:
    house = bench(memory_bytes_max=1000)
    house.broker.memory.add(1000)  # as a connection enters it
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, "/topic/nobody", b"x")
        nursery.start_soon(house.broker.publish, "/queue/q", b"x")
        await wait_all_tasks_blocked()
        assert house.broker.statistics().memory_cost == 1000
        assert house.waiting("/queue/q") == 1
        house.broker.memory.add(-1000)
    assert house.backlog("/queue/q") == 1


async def test_within_one_channel_the_line_is_kept_while_memory_comes_and_goes(bench: Callable[..., Bench]) -> None:
    house = bench(memory_bytes_max=mark(1))
    peer = house.peer("/topic/t", owner=trio.CancelScope())
    house.publish_nowait("/topic/t", b"0")
    received = []
    async with trio.open_nursery() as nursery:
        for body in numbers(1, 10):
            nursery.start_soon(house.broker.publish, "/topic/t", body)
            await wait_all_tasks_blocked()
        while nursery.child_tasks:
            received += peer.receive()
            await wait_all_tasks_blocked()
    received += peer.receive()
    assert received == numbers(0, 10)


async def test_patience_lasts_while_the_line_moves_though_only_memory_was_short(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(memory_bytes_max=1000)
    accepted = []

    async def publish(number: int) -> None:
        await house.broker.publish_batch(framed("/topic/nobody", b"%d" % number), patience_seconds=60)
        accepted.append((number, trio.current_time()))
        house.broker.memory.add(1000)  # somebody else took what was free

    house.broker.memory.add(1000)
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(publish, number)
            await wait_all_tasks_blocked()
        for _ in range(3):
            await trio.sleep(50)
            house.broker.memory.add(-1000)
    assert accepted == [(0, 50.0), (1, 100.0), (2, 150.0)]
    house.broker.memory.add(-1000)


async def test_who_waited_for_memory_looks_again_whether_the_queue_has_room(bench: Callable[..., Bench]) -> None:
    house = bench(memory_bytes_max=100_000, backlog_bytes_max=mark(1))
    consumer = house.peer("/queue/q")
    house.publish_nowait("/queue/q", b"1", b"2")
    house.broker.memory.add(100_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, "/queue/q", b"3")
        await wait_all_tasks_blocked()
        consumer.leave()  # the backlog is over its mark now
        house.broker.memory.add(-100_000)
        await wait_all_tasks_blocked()
        assert (house.waiting("/queue/q"), house.backlog("/queue/q")) == (1, 2)
        last = house.peer("/queue/q")
    assert last.receive() == [b"1", b"2", b"3"]


async def test_patience_that_ends_for_want_of_memory_says_so(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(memory_bytes_max=1000, backlog_bytes_max=mark(1))
    house.broker.memory.add(1000)
    for _ in range(2):
        with pytest.raises(PublishStalled) as caught:
            await house.broker.publish_batch(framed("/queue/q", b"1"), 3)
        assert str(caught.value) == "'/queue/q' took no message for 3 s: the limit memory_bytes_max is reached"
        assert caught.value.limit == "memory_bytes_max"
    house.broker.memory.add(-1000)
    house.publish_nowait("/queue/q", b"1")
    house.broker.memory.add(1000)
    with pytest.raises(PublishStalled, match=r"for 3 s$") as caught:  # the queue itself has no room either
        await house.broker.publish_batch(framed("/queue/q", b"1"), 3)
    assert caught.value.limit is None
    house.broker.memory.add(-1000)


@pytest.mark.parametrize("ending", ["cancelled", "closed"])
async def test_who_waits_for_memory_can_be_cancelled_and_is_told_of_the_end(
    bench: Callable[..., Bench], ending: str
) -> None:
    house = bench(memory_bytes_max=mark(1))
    peer = house.peer("/topic/t")
    house.publish_nowait("/topic/t", b"0")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def publish() -> None:
                with pytest.raises(trio.Cancelled if ending == "cancelled" else BrokerDraining) as caught:
                    await house.broker.publish("/queue/q", b"1")
                if ending == "cancelled":
                    raise caught.value

            await wait_all_tasks_blocked()
            if ending == "cancelled":
                scope.cancel()
            else:
                house.broker.close()
    assert "/queue/q" not in house.broker.statistics().channels
    assert peer.receive() == [b"0"]
