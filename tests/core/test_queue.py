from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.core.helpers import Bench, framed, mark, numbers

QUEUE = "/queue/q"


async def test_each_message_goes_to_one_in_turn(bench: Callable[..., Bench]) -> None:
    house = bench()
    peers = [house.peer(QUEUE) for _ in range(3)]
    house.publish_nowait(QUEUE, *numbers(0, 7))
    assert [peer.receive() for peer in peers] == [[b"0", b"3", b"6"], [b"1", b"4"], [b"2", b"5"]]
    house.publish_nowait(QUEUE, *numbers(7, 9))
    assert [peer.receive() for peer in peers] == [[], [b"7"], [b"8"]]


@given(st.integers(1, 5), st.lists(st.integers(1, 12), max_size=12))
def test_the_rotation_is_strict_whatever_the_batches(members: int, sizes: list[int]) -> None:
    with Bench() as house:
        peers = [house.peer(QUEUE) for _ in range(members)]
        number = 0
        for size in sizes:
            assert house.offer(QUEUE, *numbers(number, number + size))
            number += size
        house.check()
        assert [peer.receive() for peer in peers] == [
            [b"%d" % index for index in range(first, number, members)] for first in range(members)
        ]


class Rotation:
    """The plain truth: message by message to the front of the line, who then stands at its end.

    Who is full after a batch has gone out steps out; who has room again stands at the end.
    """

    def __init__(self, members: int) -> None:
        self.line = list(range(members))
        self.mailboxes: list[list[bytes]] = [[] for _ in range(members)]

    def deal(self, messages: list[bytes], is_full: Callable[[int], bool]) -> None:
        for body in messages:
            member = self.line.pop(0)
            self.mailboxes[member].append(body)
            self.line.append(member)
        self.line = [member for member in self.line if not is_full(member)]


@given(st.integers(1, 4), st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3)), max_size=20))
def test_who_is_full_is_skipped_and_rejoins_at_the_end(members: int, plan: list[tuple[int, int]]) -> None:
    with Bench(mailbox_bytes_max=mark(2)) as house:
        peers = [house.peer(QUEUE, owner=trio.CancelScope()) for _ in range(members)]
        model = Rotation(members)
        number = 0
        for size, receiver in plan:
            if model.line:
                messages = numbers(number, number + size)
                number += size
                assert house.offer(QUEUE, *messages)
                model.deal(messages, lambda member: peers[member].subscription.mailbox.is_full)
            if receiver < members:
                was_full = peers[receiver].subscription.mailbox.is_full
                assert peers[receiver].receive() == model.mailboxes[receiver]
                model.mailboxes[receiver].clear()
                if was_full:
                    model.line.append(receiver)
            assert house.backlog(QUEUE) == 0
            assert house.broker.statistics().channels[QUEUE].full == members - len(model.line)
            house.check()


async def test_the_backlog_holds_publishers_up_at_its_mark_first_come_first_served(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(backlog_bytes_max=mark(2), mailbox_bytes_max=1)
    house.publish_nowait(QUEUE, b"0", b"1")
    accepted: list[tuple[int, float]] = []

    async def publish(number: int) -> None:
        await house.broker.publish(QUEUE, b"%d" % number)
        accepted.append((number, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for number in range(2, 6):
            nursery.start_soon(publish, number)
            await wait_all_tasks_blocked()
        assert house.waiting(QUEUE) == 4
        await trio.sleep(10)
        peer = house.peer(QUEUE, owner=trio.CancelScope())
        received = []
        while nursery.child_tasks:
            await trio.sleep(1)
            received += peer.receive()
            await wait_all_tasks_blocked()
    assert accepted == [(2, 10.0), (3, 11.0), (4, 12.0), (5, 13.0)]
    while peer.waiting:
        received += peer.receive()
    assert received == numbers(0, 6)


@pytest.mark.parametrize(("spare", "admitted"), [(0, 1), (1, 2)])
async def test_the_backlog_is_full_at_its_mark_and_not_one_byte_before(
    bench: Callable[..., Bench], spare: int, admitted: int
) -> None:
    house = bench(backlog_bytes_max=framed(QUEUE, b"x").cost + spare)
    assert [house.offer(QUEUE, b"x") for _ in range(3)] == [True] * admitted + [False] * (3 - admitted)


async def test_patience_lasts_while_a_backlog_far_above_its_mark_shrinks(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(backlog_bytes_max=mark(1), mailbox_bytes_max=mark(1))
    leaves = [house.peer(QUEUE) for _ in range(5)]
    house.publish_nowait(QUEUE, *numbers(0, 5))
    for peer in leaves:
        peer.subscription.retire()
    for peer in leaves:
        peer.leave()
    consumer = house.peer(QUEUE, owner=trio.CancelScope())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish_batch, framed(QUEUE, b"5"), 60)
        while nursery.child_tasks:
            await trio.sleep(50)
            consumer.receive()
            await wait_all_tasks_blocked()
    assert trio.current_time() == 200
    consumer.receive()


async def test_who_comes_gets_the_backlog_in_order(bench: Callable[..., Bench]) -> None:
    house = bench()
    house.offer(QUEUE, *numbers(0, 5))
    house.publish_nowait(QUEUE, *numbers(5, 8))
    house.check()
    assert house.backlog(QUEUE) == 8
    assert house.peer(QUEUE).receive() == numbers(0, 8)
    house.check_queue_conserved()


async def test_one_large_message_always_gets_through(bench: Callable[..., Bench]) -> None:
    house = bench(backlog_bytes_max=1, mailbox_bytes_max=1, memory_bytes_max=1)
    await house.broker.publish(QUEUE, bytes(100_000))
    assert not house.offer(QUEUE, b"")
    peer = house.peer(QUEUE, owner=trio.CancelScope())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish, QUEUE, bytes(200_000))
        await wait_all_tasks_blocked()
        assert peer.receive() == [bytes(100_000)]
    assert peer.receive() == [bytes(200_000)]


async def test_a_stuck_consumer_does_not_hold_up_a_queue_with_another(bench: Callable[..., Bench]) -> None:
    house = bench(mailbox_bytes_max=mark(2))
    stuck, works = house.peer(QUEUE, owner=trio.CancelScope()), house.peer(QUEUE)
    received = []
    for body in numbers(0, 20):
        house.publish_nowait(QUEUE, body)
        received += works.receive()
    assert stuck.waiting == 2
    assert received == [body for body in numbers(0, 20) if body not in {b"0", b"2"}]
    stuck.leave()
    assert works.receive() == [b"0", b"2"]


async def test_a_full_queue_evicts_the_program_that_is_stuck_and_keeps_its_messages(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(mailbox_bytes_max=mark(1), backlog_bytes_max=mark(1), stall_seconds_max=10)
    stuck = house.peer(QUEUE)
    house.publish_nowait(QUEUE, b"0", b"1")
    with trio.move_on_after(100) as scope:
        await house.broker.publish(QUEUE, b"2")
    assert scope.cancelled_caught  # its message came back: there is even less room than before
    assert stuck.subscription.evicted is not None
    house.check_queue_conserved()
    assert house.peer(QUEUE, owner=trio.CancelScope()).receive() == [b"0"]


async def test_a_worker_that_is_slow_but_steady_is_not_evicted(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    """Each job takes 6 s, and is tiny: far less than stall_bytes_min in stall_seconds_max. But it makes room."""
    house = bench(mailbox_bytes_max=mark(1), backlog_bytes_max=mark(2), stall_seconds_max=10)
    worker = house.peer(QUEUE)
    received = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def publish() -> None:
            for body in numbers(0, 20):
                await house.broker.publish(QUEUE, body)

        for _ in range(20):
            await trio.sleep(6)
            received.append((await worker.local.receive()).body)
    assert received == numbers(0, 20)
    assert trio.current_time() == 120


async def test_a_batch_waits_for_room_once_and_is_accepted_whole(bench: Callable[..., Bench]) -> None:
    house = bench(backlog_bytes_max=mark(1))
    assert house.broker.offer(framed(QUEUE, *numbers(0, 100)))
    assert not house.offer(QUEUE, b"x")
    assert house.peer(QUEUE).receive() == numbers(0, 100)
