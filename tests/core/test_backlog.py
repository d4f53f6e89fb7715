from __future__ import annotations

import heapq

from hypothesis import given
from hypothesis import strategies as st

from tests.core.helpers import bodies, framed, numbers, tries
from trio_broker.core.backlog import Backlog
from trio_broker.core.memory import Memory
from trio_broker.message import Batch, Delivery, Message, plain_batch
from trio_broker.wire import FRAMED, frame

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


def test_each_message_keeps_its_own_attempts() -> None:
    memory = Memory(1)
    backlog = Backlog(memory)
    whole = fresh(0, 9)
    tried = Delivery(whole.batch, whole.positions, attempts=[1] * 9)
    backlog.give_back(whole[0:9:2])
    backlog.give_back(tried[1:8:2])
    popped = []
    while (delivery := backlog.pop()) is not None:
        popped.append(delivery)
        assert memory.cost == backlog.cost
    assert bodies(popped) == numbers(0, 9)
    assert [tried for _, tried in tries(popped)] == [0, 1] * 4 + [0]
    assert memory.cost == 0


def test_what_is_left_of_a_piece_is_merged_without_what_has_gone() -> None:
    memory = Memory(1)
    whole = fresh(0, 10)
    for gone, comes_back, left in ((2, whole[5:6], [4, 5, 6, 8]), (1, whole[1:8:6], [1, 2, 4, 6, 7, 8])):
        backlog = Backlog(memory)
        backlog.give_back(whole[0::2])
        piece = backlog.pop(gone)
        assert piece is not None
        assert list(piece.positions) == [0, 2][:gone]
        backlog.give_back(comes_back)
        assert backlog.messages == len(left)
        assert run(backlog) == [b"%d" % position for position in left]
        assert memory.cost == backlog.cost == backlog.messages == 0


def test_messages_of_different_codecs_are_merged_as_messages() -> None:
    memory = Memory(1)
    backlog = Backlog(memory)
    backlog.give_back(fresh(0, 3)[::2])
    backlog.give_back(Delivery(plain_batch(Message(QUEUE, b"1")), (1,)))
    delivery = backlog.pop()
    assert delivery is not None
    assert bodies([delivery]) == numbers(0, 3)
    assert memory.cost == backlog.cost == backlog.messages == 0


def test_what_is_merged_is_given_out_in_pieces() -> None:
    """As large as reads are, so that whoever can take a little more does not get all that several had."""
    memory = Memory(1)
    backlog = Backlog(memory)
    parts = [frame(bytes(1000))] * 1200
    whole = Delivery(Batch(QUEUE, parts, FRAMED), range(1200))
    for first in range(3):
        backlog.give_back(whole[first::3])
    sizes: list[int] = []
    positions: list[int] = []
    while (delivery := backlog.pop()) is not None:
        assert memory.cost == backlog.cost
        assert delivery.batch.cost <= 300_000
        sizes.append(len(delivery))
        positions.extend(delivery.positions)
    assert positions == list(range(1200))
    assert len(sizes) < 10
    assert memory.cost == backlog.messages == 0


def test_merging_does_not_depend_on_what_was_tried_before() -> None:
    """The work is counted: 2,000 messages that alternate between tried and not are not cut one by one."""
    backlog = Backlog(Memory(1))
    whole = fresh(0, 2000)
    backlog.give_back(whole[0::2])
    tried = whole[1::2]
    backlog.give_back(Delivery(tried.batch, tried.positions, [3] * len(tried)))
    (delivery,) = iter(backlog.pop, None)
    assert list(delivery.positions) == list(range(2000))
    assert list(delivery.attempts) == [0, 3] * 1000


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
                deliveries.append(Delivery(share.batch, share.positions, [draw(st.integers(0, 2))] * len(share)))
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
        for position, (body, tried) in zip(delivery.positions, tries([delivery]), strict=True):
            assert body == b"%d" % position
            popped.append((position, tried))
            assert popped[-1] == heapq.heappop(expected)

    if with_fresh:
        backlog.append(fresh(100, 103))
        for position in range(100, 103):
            heapq.heappush(expected, (position, 0))
    for delivery in returned:
        backlog.give_back(delivery)
        for position, (_, tried) in zip(delivery.positions, tries([delivery]), strict=True):
            heapq.heappush(expected, (position, tried))
        assert backlog.messages == len(expected)
        assert memory.cost == backlog.cost
    for _ in range(pops_between):
        pop()
    while expected:
        pop()
    assert memory.cost == backlog.cost == backlog.messages == 0
