from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.helpers import bodies, framed, numbers
from trio_broker.core.mailbox import Mailbox
from trio_broker.core.memory import Memory
from trio_broker.limits import BATCH_COST, MESSAGE_COST
from trio_broker.message import Delivery


def make(cost_max: int = 1 << 20) -> tuple[Mailbox, Memory]:
    memory = Memory(1 << 30)
    return Mailbox(cost_max, memory), memory


def delivery(*messages: bytes) -> Delivery:
    return Delivery(framed("/topic/t", *messages))


def test_what_is_taken_stays_on_the_account_until_it_is_released() -> None:
    mailbox, memory = make()
    first = delivery(b"one")
    mailbox.put(first)
    assert mailbox.cost == memory.cost == first.batch.cost == BATCH_COST + MESSAGE_COST + 4 + 3
    assert mailbox.take() is first
    assert (mailbox.messages, mailbox.waiting_cost, mailbox.taken_cost) == (0, 0, first.batch.cost)
    assert memory.cost == first.batch.cost
    mailbox.release()
    assert mailbox.cost == memory.cost == 0
    assert mailbox.take_message() is None


def test_it_is_full_at_the_mark_and_not_one_byte_before() -> None:
    cost = delivery(b"one").batch.cost
    for cost_max, full in ((cost + 1, False), (cost, True), (cost - 1, True)):
        mailbox, _ = make(cost_max)
        mailbox.put(delivery(b"one"))
        assert mailbox.is_full is full
        mailbox.take()
        assert mailbox.is_full is full  # what is being written counts
        mailbox.release()
        assert not mailbox.is_full


def test_messages_one_by_one_leave_the_account_one_by_one() -> None:
    mailbox, memory = make()
    mailbox.put(delivery(b"a", b"bb", b"ccc"))
    costs = [memory.cost]
    while (message := mailbox.take_message()) is not None:
        assert message.dropped_before == 0
        costs.append(memory.cost)
    assert [before - after for before, after in pairwise(costs)] == [
        MESSAGE_COST + 5,
        MESSAGE_COST + 6,
        MESSAGE_COST + 7 + BATCH_COST,
    ]
    assert memory.cost == 0


def test_the_rest_of_a_begun_delivery_can_be_taken_whole() -> None:
    mailbox, memory = make()
    mailbox.put(delivery(b"a", b"b", b"c"))
    first = mailbox.take_message()
    assert first is not None
    assert first.body == b"a"
    assert bodies([mailbox.take()]) == [b"b", b"c"]
    mailbox.release()
    assert memory.cost == 0


def test_recover_gives_all_that_was_not_taken_oldest_first_and_clears_the_account_of_it() -> None:
    mailbox, memory = make()
    mailbox.put(delivery(b"gone"))
    mailbox.put(delivery(b"a", b"b", b"c"))
    mailbox.put(delivery(b"d"))
    taken = mailbox.take()
    mailbox.take_message()
    assert bodies(mailbox.recover()) == [b"b", b"c", b"d"]
    assert mailbox.messages == mailbox.waiting_cost == 0
    assert memory.cost == mailbox.taken_cost == taken.batch.cost
    mailbox.release()
    assert memory.cost == 0
    mailbox.close()


def test_what_a_program_receives_counts_as_moved_and_what_is_dropped_does_not() -> None:
    mailbox, _ = make()
    mailbox.put(delivery(b"a", b"b", b"c"))
    mailbox.drop_oldest()
    assert mailbox.moved == 0
    mailbox.take_message()
    assert mailbox.moved == MESSAGE_COST + 5
    mailbox.take_message()
    assert mailbox.moved == 2 * (MESSAGE_COST + 5) + BATCH_COST


@dataclass
class Model:
    """The plain truth: a list of (body, losses to be told with it)."""

    waiting: list[tuple[bytes, int]] = field(default_factory=list)
    lost_at_end: int = 0

    def put(self, messages: list[bytes]) -> None:
        for body in messages:
            self.waiting.append((body, self.lost_at_end))
            self.lost_at_end = 0

    def drop_oldest(self) -> None:
        _, lost = self.waiting.pop(0)
        if self.waiting:
            body, more = self.waiting[0]
            self.waiting[0] = (body, more + lost + 1)
        else:
            self.lost_at_end += lost + 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 4)),
        st.tuples(st.sampled_from(["take", "message", "oldest", "newest", "release"]), st.just(0)),
    ),
    max_size=40,
)


@given(steps)
def test_any_mixture_of_steps_tells_every_loss_right_where_it_happened(plan: list[tuple[str, int]]) -> None:
    mailbox, memory = make()
    model = Model()
    number = 0
    for step, count in plan:
        match step:
            case "put":
                messages = numbers(number, number + count)
                number += count
                mailbox.put(delivery(*messages))
                model.put(messages)
            case "take" if model.waiting:
                taken = mailbox.take()
                expected = [model.waiting.pop(0) for _ in range(len(taken))]
                assert bodies([taken]) == [body for body, _ in expected]
                assert taken.dropped_before == expected[0][1]
                assert not any(lost for _, lost in expected[1:])
            case "message":
                message = mailbox.take_message()
                if message is not None:
                    assert (message.body, message.dropped_before) == model.waiting.pop(0)
            case "oldest" if model.waiting:
                mailbox.drop_oldest()
                model.drop_oldest()
            case "newest" if model.waiting:
                mailbox.drop_newest(1)
                model.lost_at_end += 1
            case "release":
                mailbox.release()
            case _:  # there is nothing to take or drop
                pass
        assert mailbox.messages == len(model.waiting)
        assert memory.cost == mailbox.cost == mailbox.waiting_cost + mailbox.taken_cost
        assert (mailbox.waiting_cost > 0) is bool(model.waiting)
    mailbox.release()
    assert bodies(mailbox.recover()) == [body for body, _ in model.waiting]
    assert memory.cost == 0


@pytest.mark.parametrize("one_by_one", [True, False])
def test_losses_before_and_after_what_is_dropped_add_up(one_by_one: bool) -> None:
    mailbox, _ = make()
    mailbox.put(delivery(b"a"))
    for body in (b"b", b"c"):
        mailbox.drop_newest(1)
        mailbox.put(delivery(body, b"+"))
    mailbox.drop_oldest()  # a: one lost, and one more right before b
    mailbox.drop_oldest()  # b
    mailbox.drop_oldest()  # its companion, and then the one right before c
    if one_by_one:
        told = [message.dropped_before for message in iter(mailbox.take_message, None)]
        assert told == [5, 0]
    else:
        assert mailbox.take().dropped_before == 5


def test_dropping_the_only_message_is_told_with_whatever_comes_next() -> None:
    mailbox, _ = make()
    mailbox.put(delivery(b"lost"))
    mailbox.drop_oldest()
    mailbox.put(delivery(b"next"))
    message = mailbox.take_message()
    assert message is not None
    assert (message.body, message.dropped_before) == (b"next", 1)


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_loss_is_told_once(one_by_one: bool) -> None:
    mailbox, _ = make()
    mailbox.drop_newest(3)
    mailbox.put(delivery(b"a", b"b"))
    if one_by_one:
        told = [message.dropped_before for message in iter(mailbox.take_message, None)]
        assert told == [3, 0]
    else:
        assert mailbox.take().dropped_before == 3
    mailbox.put(delivery(b"c"))
    message = mailbox.take_message()
    assert message is not None
    assert message.dropped_before == 0
