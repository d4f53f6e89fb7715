from __future__ import annotations

import heapq

from hypothesis import given
from hypothesis import strategies as st

from tests.core.helpers import bodies, framed, numbers
from trio_broker.core.backlog import Backlog
from trio_broker.core.memory import Memory
from trio_broker.message import Delivery, Message, plain_batch

QUEUE = "/queue/q"


def fresh(start: int, end: int) -> Delivery:
    return Delivery(framed(QUEUE, *numbers(start, end)), range(start, end))


def run(backlog: Backlog) -> list[bytes]:
    """Take all: the bodies."""
    popped = []
    while (delivery := backlog.pop()) is not None:
        popped.append(delivery)
    return bodies(popped)


def test_fresh_ones_come_in_the_order_of_their_acceptance() -> None:
    backlog = Backlog(Memory(1))
    backlog.append(fresh(0, 3))
    backlog.append(fresh(3, 4))
    assert backlog.messages == 4
    assert run(backlog) == numbers(0, 4)
    assert backlog.pop() is None


def test_returned_ones_come_before_fresh_ones() -> None:
    backlog = Backlog(Memory(1))
    backlog.append(fresh(6, 9))
    backlog.give_back(fresh(3, 6))
    backlog.give_back(fresh(0, 3))
    assert run(backlog) == numbers(0, 9)


def test_interleaved_ones_are_merged_into_one_delivery() -> None:
    memory = Memory(1)
    backlog = Backlog(memory)
    whole = fresh(0, 10)
    for first in (2, 0, 1):
        backlog.give_back(whole[first::3])
    merged = backlog.pop()
    assert merged is not None
    assert bodies([merged]) == numbers(0, 10)
    assert list(merged.positions) == list(range(10))
    assert memory.cost == backlog.cost == backlog.messages == 0


def test_what_cannot_be_merged_is_cut_so_that_the_order_holds() -> None:
    memory = Memory(1)
    backlog = Backlog(memory)
    whole = fresh(0, 9)
    tried = Delivery(whole.batch, whole.positions, attempts=1)
    backlog.give_back(whole[0:9:2])
    backlog.give_back(tried[1:8:2])
    popped = []
    while (delivery := backlog.pop()) is not None:
        popped.append(delivery)
        assert memory.cost == backlog.cost
    assert bodies(popped) == numbers(0, 9)
    assert [delivery.attempts for delivery in popped] == [0, 1] * 4 + [0]
    assert memory.cost == 0


def test_messages_of_different_codecs_are_never_merged() -> None:
    backlog = Backlog(Memory(1))
    backlog.give_back(fresh(0, 3)[::2])
    backlog.give_back(Delivery(plain_batch(Message(QUEUE, b"1")), (1,)))
    assert run(backlog) == numbers(0, 3)


def test_clear_counts_what_it_gives_up() -> None:
    memory = Memory(1)
    backlog = Backlog(memory)
    backlog.append(fresh(5, 8))
    backlog.give_back(fresh(0, 5)[::2])
    backlog.give_back(fresh(0, 5)[1::2])
    assert backlog.clear() == 8
    assert (backlog.messages, backlog.cost, memory.cost) == (0, 0, 0)


@st.composite
def returns(draw: st.DrawFn) -> list[Delivery]:
    """Some of 30 messages: batches of all sizes, dealt out by strides, some tried before, given back in any order."""
    deliveries = []
    position = 0
    while position < 30:
        end = position + draw(st.integers(1, 12))
        whole = fresh(position, end)
        position = end
        members = draw(st.integers(1, 4))
        for first in range(members):
            share = whole[first::members]
            sent = draw(st.integers(0, len(share)))
            if draw(st.booleans()):
                share = share[sent:]
            if len(share):
                deliveries.append(Delivery(share.batch, share.positions, draw(st.integers(0, 2))))
    return draw(st.permutations(deliveries))


@given(returns(), st.integers(0, 4), st.booleans())
def test_the_order_is_whole_whatever_comes_back_when(
    returned: list[Delivery], pops_between: int, with_fresh: bool
) -> None:
    """What is popped comes before all that stays; each keeps its attempts; the account is exact at each step."""
    memory = Memory(1)
    backlog = Backlog(memory)
    expected: list[tuple[int, int]] = []
    popped: list[tuple[int, int]] = []

    def pop() -> None:
        before = backlog.cost
        delivery = backlog.pop()
        if delivery is None:
            assert not expected
            return
        assert memory.cost == backlog.cost
        assert before > 0
        for position, message in zip(delivery.positions, delivery.batch, strict=True):
            assert message.body == b"%d" % position
            popped.append((position, delivery.attempts))
            assert popped[-1] == heapq.heappop(expected)

    if with_fresh:
        backlog.append(fresh(100, 103))
        for position in range(100, 103):
            heapq.heappush(expected, (position, 0))
    for delivery in returned:
        backlog.give_back(delivery)
        for position in delivery.positions:
            heapq.heappush(expected, (position, delivery.attempts))
        assert backlog.messages == len(expected)
        assert memory.cost == backlog.cost
    for _ in range(pops_between):
        pop()
    while expected:
        pop()
    assert memory.cost == backlog.cost == backlog.messages == 0
