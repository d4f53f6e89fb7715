"""What consumers that end were not sent, or had not settled, goes back to its place."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest

from tests.core.helpers import Bench, Peer, mark, numbers, tries

QUEUE = "/queue/q"


def served(house: Bench, size: int, how: str) -> list[Peer]:
    """Four consumers among whom ``size`` messages were dealt, in batches; what some have done with theirs."""
    peers = [house.peer(QUEUE) for _ in range(4)]
    number = 0
    while number < size:
        batch = numbers(number, min(size, number + 1 + number % 7))
        assert house.offer(QUEUE, *batch)
        number += len(batch)
    match how:
        case "waiting":
            pass
        case "all taken":
            for peer in peers:
                peer.take()
        case "some taken":
            peers[1].take()
            peers[2].take(bytes_max=10)
        case "some sent":
            for peer, sent in zip(peers, (3, 0, 1, 4), strict=True):
                peer.take()
                peer.settle(sent)
        case _:
            for peer, received in zip(peers, (1, 2, 0, 5), strict=True):
                for _ in range(received):
                    peer.local.receive_nowait()
    return peers


@pytest.mark.parametrize("retire_first", [True, False])
@pytest.mark.parametrize("how", ["waiting", "all taken", "some taken", "some sent", "received one by one"])
@pytest.mark.parametrize("order", list(permutations(range(4))))
async def test_consumers_that_end_together_leave_the_order_whole(
    bench: Callable[..., Bench], order: tuple[int, ...], how: str, retire_first: bool
) -> None:
    house = bench()
    size = 40
    peers = served(house, size, how)
    gone = {"some sent": {0, 4, 8, 2, 3, 7, 11, 15}, "received one by one": {0, 1, 5, 3, 7, 11, 15, 19}}.get(how, set())
    if retire_first:
        for peer in peers:
            peer.subscription.retire()
    for index in order:
        peers[index].leave()
        house.check()
    house.check_queue_conserved()
    left = [body for body in numbers(0, size) if int(body) not in gone]
    assert house.backlog(QUEUE) == len(left)
    assert house.peer(QUEUE).receive() == left
    house.check_queue_conserved()


async def test_new_messages_stay_behind_those_that_came_back(bench: Callable[..., Bench]) -> None:
    house = bench()
    first, second = house.peer(QUEUE), house.peer(QUEUE)
    house.offer(QUEUE, *numbers(0, 6))
    first.subscription.retire()
    second.subscription.retire()
    house.offer(QUEUE, *numbers(6, 8))  # fresh, in the backlog, before anything has come back
    second.leave()
    first.leave()
    house.offer(QUEUE, *numbers(8, 10))
    assert house.peer(QUEUE).receive() == numbers(0, 10)


async def test_what_one_leaves_goes_to_those_that_stay_in_order(bench: Callable[..., Bench]) -> None:
    house = bench()
    leaves, stays = house.peer(QUEUE), house.peer(QUEUE)
    house.offer(QUEUE, *numbers(0, 10))
    stays.receive()
    leaves.leave()
    assert stays.receive() == numbers(0, 10)[::2]
    assert house.backlog(QUEUE) == 0


@pytest.mark.parametrize("deliveries_max", [1, 2, 5])
async def test_a_message_that_is_taken_too_often_is_poison(bench: Callable[..., Bench], deliveries_max: int) -> None:
    house = bench(deliveries_max=deliveries_max)
    house.offer(QUEUE, b"good", b"bad", b"later")
    sent = [b"good"]
    for attempt in range(deliveries_max):
        peer = house.peer(QUEUE)
        deliveries = peer.subscription.take(1)
        assert {tried for _, tried in tries(deliveries)} == {attempt}
        if attempt == 0:
            peer.settle(1)
        house.check()
        peer.leave()
        house.check_queue_conserved()
    statistics = house.broker.statistics()
    assert (statistics.poisoned, statistics.delivered) == (2, len(sent))
    assert house.backlog(QUEUE) == 0


async def test_what_was_never_taken_is_not_on_its_way_to_poison(bench: Callable[..., Bench]) -> None:
    house = bench(deliveries_max=2)
    house.publish_nowait(QUEUE, b"taken", b"waits")
    for _ in range(2):
        peer = house.peer(QUEUE)
        peer.take(bytes_max=1)
        peer.leave()
    assert house.broker.statistics().poisoned == 1
    for _ in range(20):
        house.peer(QUEUE).leave()
    assert tries(house.peer(QUEUE).subscription.take(1)) == [(b"waits", 0)]


async def test_attempts_are_not_mixed_when_two_give_back(bench: Callable[..., Bench]) -> None:
    house = bench()
    first, second = house.peer(QUEUE), house.peer(QUEUE)
    house.offer(QUEUE, *numbers(0, 6))
    first.take()
    first.subscription.retire()
    second.leave()
    first.leave()
    house.check()
    deliveries = house.peer(QUEUE).subscription.take(1000)
    assert tries(deliveries) == [(body, 1 - int(body) % 2) for body in numbers(0, 6)]
    house.check()


async def test_what_comes_back_may_pass_the_mark_and_then_holds_publishers_up(bench: Callable[..., Bench]) -> None:
    house = bench(backlog_bytes_max=mark(2))
    peer = house.peer(QUEUE)
    house.publish_nowait(QUEUE, *numbers(0, 10))
    peer.leave()
    assert house.backlog(QUEUE) == 10
    assert not house.offer(QUEUE, b"more")
    house.check()
