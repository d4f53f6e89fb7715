"""Numbers: who has what, what may be settled, and what was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.helpers import Bench, framed, numbers, tries
from trio_broker.core.ledger import _RUNS_KEPT, Ledger
from trio_broker.core.memory import Memory
from trio_broker.errors import NotOutstanding
from trio_broker.message import AckMode

QUEUE, OTHER, TOPIC = "/queue/q", "/queue/other", "/topic/t"


def may_be_settled(ledger: Ledger, number: int) -> bool:
    try:
        ledger.check(number)
    except NotOutstanding:
        return False
    return True


async def test_numbers_run_on_through_all_subscriptions_of_an_owner(bench: Callable[..., Bench]) -> None:
    house = bench()
    one = house.worker(QUEUE)
    two = house.worker(OTHER, ledger=one.ledger)
    auto = house.peer("/queue/auto", ledger=one.ledger)
    news = house.peer(TOPIC, ledger=one.ledger, ack=AckMode.CLIENT)
    stranger = house.worker("/queue/stranger")
    for channel in (QUEUE, OTHER, "/queue/auto", TOPIC, "/queue/stranger"):
        house.offer(channel, b"a", b"b")
    given = [peer.given() for peer in (one, two, auto, news, stranger)]
    assert given == [{b"a": first, b"b": first + 1} for first in (1, 3, 5, 7, 1)]
    house.offer(QUEUE, b"c")
    assert one.given() == {b"c": 9}
    house.check()


async def test_only_what_was_given_and_not_settled_may_be_settled(bench: Callable[..., Bench]) -> None:
    house = bench()
    peer = house.worker(QUEUE)
    house.offer(QUEUE, *numbers(0, 3))
    with pytest.raises(NotOutstanding, match=r"^delivery 1 was never made; allowed are those whose message has come$"):
        peer.ledger.check(1)  # it waits, and was not given yet
    peer.given()
    for number in (-1, 0, 4, 1_000_000):
        with pytest.raises(NotOutstanding, match="never made") as caught:
            peer.ledger.check(number)
        assert caught.value.number == number
    peer.ledger.ack(2)
    peer.ledger.nack(3, requeue=False)
    for number in (2, 3):
        with pytest.raises(NotOutstanding, match=r"was settled before; each is settled once"):
            peer.ledger.check(number)
    peer.ledger.check(1)
    assert len(peer.ledger) == 1


async def test_what_is_not_to_be_settled_says_so(bench: Callable[..., Bench]) -> None:
    house = bench()
    peer = house.peer(QUEUE, ledger=house.broker.open_ledger())
    house.offer(QUEUE, b"a")
    peer.given()
    with pytest.raises(NotOutstanding, match="is not to be settled"):
        peer.ledger.check(1)
    assert house.broker.statistics().delivered == 1


async def test_settling_twice_or_what_was_never_given_changes_nothing(bench: Callable[..., Bench]) -> None:
    house = bench()
    peer = house.worker(QUEUE)
    house.offer(QUEUE, b"a", b"b")
    peer.given()
    for _ in range(3):
        peer.ledger.ack(1)
        peer.ledger.nack(1, requeue=True)
        peer.ledger.nack(1, requeue=False)
        for number in (-1, 0, 3):
            peer.ledger.ack(number)
            peer.ledger.nack(number, requeue=True)
    statistics = house.broker.statistics()
    assert (statistics.delivered, statistics.rejected, len(peer.ledger)) == (1, 0, 1)
    assert house.backlog(QUEUE) == 0
    house.offer(QUEUE, b"c")
    assert peer.given() == {b"c": 3}
    peer.ledger.check(3)


async def test_a_number_that_went_back_with_its_subscription_is_ignored_once(bench: Callable[..., Bench]) -> None:
    house = bench()
    goes, stays = house.worker(QUEUE), house.worker(QUEUE)
    house.offer(QUEUE, b"a", b"b")
    goes.given()
    goes.leave()
    goes.ledger.check(1)
    goes.ledger.ack(1)
    assert not may_be_settled(goes.ledger, 1)
    assert house.broker.statistics().delivered == 0
    assert set(stays.given()) == {b"a", b"b"}
    assert goes.ledger.cost == 0


async def test_a_topics_numbers_may_be_settled_once_and_that_changes_nothing(bench: Callable[..., Bench]) -> None:
    house = bench()
    peer = house.peer(TOPIC, ack=AckMode.CLIENT)
    house.offer(TOPIC, *numbers(0, 5))
    assert len(peer.given()) == 5
    before = house.broker.statistics()
    peer.ledger.check(4)
    peer.ledger.ack(4)
    peer.ledger.nack(2, requeue=True)
    assert house.broker.statistics() == before
    assert [may_be_settled(peer.ledger, number) for number in range(1, 6)] == [True, False, True, False, True]


async def test_a_cumulative_ack_settles_its_subscriptions_up_to_the_number_and_no_others(
    bench: Callable[..., Bench],
) -> None:
    house = bench()
    one = house.peer(QUEUE, ack=AckMode.CLIENT)
    two = house.peer(OTHER, ack=AckMode.CLIENT, ledger=one.ledger)
    for number in range(4):  # they alternate: 1, 3, 5, 7 and 2, 4, 6, 8
        for peer, channel in ((one, QUEUE), (two, OTHER)):
            house.offer(channel, b"%d" % number)
            peer.given()
    one.ledger.ack(5)
    assert list(one.subscription.unsettled) == [7]
    assert list(two.subscription.unsettled) == [2, 4, 6, 8]
    assert one.subscription.delivered == 3
    assert [number for number in range(1, 9) if may_be_settled(one.ledger, number)] == [2, 4, 6, 7, 8]
    one.ledger.ack(4)  # another subscription's
    assert list(two.subscription.unsettled) == [6, 8]
    assert list(one.subscription.unsettled) == [7]
    house.check()
    house.check_queue_conserved()


@pytest.mark.parametrize("requeue", [True, False])
async def test_a_cumulative_nack_gives_all_up_to_the_number_back_or_up(
    bench: Callable[..., Bench], requeue: bool
) -> None:
    house = bench()
    peer = house.peer(QUEUE, ack=AckMode.CLIENT, credit=4)
    house.offer(QUEUE, *numbers(0, 6))
    assert len(peer.given()) == 4
    peer.subscription.retire()
    peer.ledger.nack(3, requeue)
    assert list(peer.subscription.unsettled) == [4]
    assert house.broker.statistics().rejected == (0 if requeue else 3)
    next_one = house.peer(QUEUE)
    back = [(body, 1) for body in numbers(0, 3)] if requeue else []
    assert tries(next_one.subscription.take(1000)) == [*back, (b"4", 0), (b"5", 0)]
    house.check()


async def test_a_cumulative_ack_looks_at_what_it_settles_alone(bench: Callable[..., Bench]) -> None:
    """The work is counted: who acknowledges each of a thousand does not look at all thousand each time."""
    house = bench()
    peer = house.peer(QUEUE, ack=AckMode.CLIENT)
    house.offer(QUEUE, *numbers(0, 1000))
    given = peer.given()
    looked_at = 0

    class Counting(dict[int, object]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            nonlocal looked_at
            for key in super().__iter__():
                looked_at += 1
                yield key

    peer.subscription.unsettled = Counting(peer.subscription.unsettled)  # type: ignore[assignment]
    for number in given.values():
        peer.ledger.ack(number)
    assert peer.subscription.delivered == 1000
    assert 1000 <= looked_at <= 3000


async def test_who_settles_in_any_order_is_told_what_was_settled_before_within_bounds(
    bench: Callable[..., Bench],
) -> None:
    house = bench(prefetch_messages_max=10_000)
    peer = house.worker(QUEUE, credit=10_000)
    house.offer(QUEUE, *numbers(0, 2 * _RUNS_KEPT + 6))
    peer.given()
    for number in range(1, 2 * _RUNS_KEPT + 1, 2):
        peer.ledger.ack(number)
    assert not may_be_settled(peer.ledger, 1)
    peer.ledger.ack(2 * _RUNS_KEPT + 1)  # one run too many: the oldest is forgotten
    assert may_be_settled(peer.ledger, 1)
    assert not may_be_settled(peer.ledger, 3)
    peer.ledger.ack(1)  # what was forgotten is taken for something that went back
    assert peer.subscription.delivered == _RUNS_KEPT + 1
    for number in range(2, 2 * _RUNS_KEPT + 2, 2):
        peer.ledger.ack(number)  # now all is one run
    assert not any(may_be_settled(peer.ledger, number) for number in range(2, 2 * _RUNS_KEPT + 2))
    peer.ledger.ack(2 * _RUNS_KEPT + 3)
    assert not may_be_settled(peer.ledger, 3)  # joined runs make room again


async def test_a_turn_in_which_nothing_was_left_to_take_is_not_remembered(bench: Callable[..., Bench]) -> None:
    house = bench()
    auto = house.peer(QUEUE, ledger=house.broker.open_ledger())
    news = house.peer(TOPIC, ledger=auto.ledger, ack=AckMode.CLIENT)
    house.offer(QUEUE, b"a")
    auto.given()
    for _ in range(_RUNS_KEPT + 10):
        house.offer(TOPIC, b"b")
        news.given()
        assert auto.given() == {}
    assert not may_be_settled(auto.ledger, 1)


@given(st.integers(1, 12), st.lists(st.tuples(st.sampled_from("anux"), st.integers(-1, 13)), max_size=40))
def test_any_order_of_settling(given: int, plan: list[tuple[str, int]]) -> None:
    """Against a set: a number that was settled is known; all others that were given may be settled."""
    ledger = Ledger(1, 1, Memory(1))
    settled = set()
    issued = 0
    for action, number in plan:
        match action:
            case "u":
                assert ledger.number_unbound(given) == issued + 1
                issued += given
            case "x":
                assert ledger.number(given) == issued + 1
                settled |= set(range(issued + 1, issued + given + 1))
                issued += given
            case _:
                (ledger.ack if action == "a" else lambda which: ledger.nack(which, requeue=True))(number)
                if 0 < number <= issued:
                    settled.add(number)
        for each in range(-1, issued + 2):
            assert may_be_settled(ledger, each) == (0 < each <= issued and each not in settled)


async def test_what_comes_back_is_what_was_given(bench: Callable[..., Bench]) -> None:
    """Of different codecs and lifetimes, and tried before, it goes back message by message as it was."""
    house = bench()
    for round_number in range(2):
        peer = house.worker(QUEUE)
        if not round_number:
            house.offer(QUEUE, b"0", b"1")
            house.publish_nowait(QUEUE, b"2")
            mortal = framed(QUEUE, b"3")
            mortal.expires_at = 1e9
            house.broker.offer(mortal)
            house.offer(QUEUE, b"4")
        assert list(peer.given()) == numbers(0, 5)
        assert [entry.attempts for entry in peer.subscription.unsettled.values()] == [round_number] * 5
        peer.leave()
        house.check()
    deliveries = house.peer(QUEUE).subscription.take(1000)
    assert tries(deliveries) == [(body, 2) for body in numbers(0, 5)]
    lives = {body: delivery.batch.expires_at for delivery in deliveries for body, _ in tries([delivery])}
    assert [body for body, expires_at in lives.items() if expires_at == 1e9] == [b"3"]
