"""What one owner was given by queues and has not settled yet, by number.

Each message that is given has a number, which is one more than the last one's, whichever of the owner's subscriptions
it was for. What is to be settled is entered; the cost of all entries together has a mark, above which the owner's
subscriptions are given nothing more.

What was settled is remembered, as runs of numbers: who settles in order needs one. So a number that is settled twice is
told from one that went back with its subscription, and whose late acknowledgement is no mistake.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import repeat, takewhile
from typing import TYPE_CHECKING, Final, NamedTuple, final

import trio

from trio_broker.errors import NotOutstanding
from trio_broker.limits import MESSAGE_COST
from trio_broker.message import AckMode, Batch, BoundSettler, Codec, Delivery, Part

if TYPE_CHECKING:
    from trio_broker.core.memory import Memory
    from trio_broker.core.subscription import Subscription

__all__ = ["Entry", "Ledger", "runs_of"]

_ENTRY_COST: Final = 4 * MESSAGE_COST
"""Bytes of overhead an entry: a tuple of seven, its number, and its places in two dicts."""

_RUNS_KEPT: Final = 1024
"""How many runs of settled numbers are remembered. Beyond that the oldest is forgotten: then a number that is settled
twice is taken for one that went back."""


class Entry(NamedTuple):
    """A message that is to be settled; it holds nothing of those that it came with."""

    subscription: Subscription
    codec: Codec
    part: Part
    expires_at: float
    position: int
    attempts: int
    cost: int


@final
class Ledger(BoundSettler):
    """One owner's unsettled messages; a `trio_broker.message.Settler`.

    Args:
        number: distinguishes it from the broker's others.
        cost_max: the mark.
        memory: the account of the whole broker.
    """

    __slots__ = (
        "_cost_max",
        "_ends",
        "_entries",
        "_memory",
        "_next_number",
        "_starts",
        "_subscriptions",
        "_was_full",
        "cost",
        "id",
    )

    def __init__(self, number: int, cost_max: int, memory: Memory) -> None:
        self.id = number
        self._cost_max = cost_max
        self._memory = memory
        self._entries: dict[int, Entry] = {}
        self._next_number = 1
        self._starts: list[int] = []  # of the runs of numbers that were settled, ascending
        self._ends: list[int] = []  # their ends
        self._subscriptions: dict[Subscription, None] = {}  # of the owner; some may wait for room here
        self.cost = 0
        self._was_full = False  # the mark was reached, and nobody has been told that it is not any more

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The owner's subscriptions that have not ended, the oldest first."""
        return tuple(self._subscriptions)

    @property
    def is_full(self) -> bool:
        return self.cost >= self._cost_max

    # -- giving --------------------------------------------------------------------------------------------------------

    def join(self, subscription: Subscription) -> None:
        """This subscription is the owner's."""
        self._subscriptions[subscription] = None

    def part(self, subscription: Subscription) -> None:
        """It has ended."""
        self._subscriptions.pop(subscription, None)

    def give(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> int:
        """Number what the owner takes, and enter what is to be settled; return the number of the first."""
        if subscription.credit is not None:
            return self.enter(subscription, deliveries)
        messages = sum(map(len, deliveries))
        return self.number(messages) if subscription.ack is AckMode.AUTO else self.number_unbound(messages)

    def number(self, messages: int) -> int:
        """Number so many messages that nobody is to settle; return the first number."""
        first = self._next_number
        self._next_number += messages
        self._note_settled(first, self._next_number)
        return first

    def number_unbound(self, messages: int) -> int:
        """Number messages that may be acknowledged, which changes nothing: a topic's. Return the first number."""
        first = self._next_number
        self._next_number += messages
        return first

    def enter(self, subscription: Subscription, deliveries: Iterable[Delivery]) -> int:
        """Enter messages that are to be settled, in this order; return the number of the first."""
        first = number = self._next_number
        added = 0
        for delivery in deliveries:
            batch = delivery.batch
            codec, expires_at, part_cost = batch.codec, batch.expires_at, batch.part_cost
            attempts = delivery.attempts or repeat(0)
            for index, (part, position, tried) in enumerate(
                zip(batch.parts, delivery.positions, attempts, strict=False)
            ):
                cost = part_cost(index) + _ENTRY_COST
                entry = Entry(subscription, codec, part, expires_at, position, tried, cost)
                self._entries[number] = subscription.unsettled[number] = entry
                added += cost
                number += 1
        self._next_number = number
        self._count(added)
        return first

    # -- settling ------------------------------------------------------------------------------------------------------

    def subscription_of(self, number: int) -> Subscription | None:
        """Whose a delivery is; None if it is not outstanding."""
        entry = self._entries.get(number)
        return None if entry is None else entry.subscription

    def check(self, number: int) -> None:
        """Whether this number may be settled: it is outstanding, or was and went back since.

        Raises:
            NotOutstanding: it was never given, or settled before.
        """
        if not 0 < number < self._next_number:
            raise NotOutstanding(number, "was never made; allowed are those whose message has come")
        if self._is_settled(number):
            raise NotOutstanding(number, "is not to be settled, or was settled before; each is settled once")

    @trio.lowlevel.enable_ki_protection
    def ack(self, number: int) -> None:
        """It has been dealt with, and in mode `client` all before it. Idempotent."""
        entries = self._remove(number)
        if entries:
            subscription = entries[0].subscription
            subscription.delivered += len(entries)
            subscription.channel.counters.delivered += len(entries)
            self._tell(subscription)

    @trio.lowlevel.enable_ki_protection
    def nack(self, number: int, requeue: bool) -> None:
        """It has not been dealt with, nor in mode `client` any before it. Idempotent.

        Args:
            number: the delivery's.
            requeue: whether it goes back to its queue, where it stood.
        """
        entries = self._remove(number)
        if entries:
            subscription = entries[0].subscription
            if requeue:  # before anybody hears of the room: it comes first
                subscription.channel.take_back(runs_of(entries))
            else:
                subscription.channel.counters.rejected += len(entries)
            self._tell(subscription)

    def give_up(self, subscription: Subscription) -> list[Delivery]:
        """Take everything out that this subscription has not settled, in order."""
        entries = list(subscription.unsettled.values())
        for number in subscription.unsettled:
            del self._entries[number]
        subscription.unsettled.clear()
        self._count(-sum(entry.cost for entry in entries))
        return runs_of(entries)

    def tell_of_room(self) -> None:
        """If the mark was reached and is not any more, tell all of the owner's subscriptions."""
        if self._was_full and not self.is_full:
            self._was_full = False
            for subscription in self.subscriptions:
                subscription.may_have_room()

    def _remove(self, number: int) -> list[Entry]:
        """Take out what a settlement of this number settles."""
        entry = self._entries.get(number)
        if entry is None:
            if 0 < number < self._next_number and not self._is_settled(number):
                self._note_settled(number, number + 1)
            return []
        unsettled = entry.subscription.unsettled
        numbers = [number]
        if entry.subscription.ack is AckMode.CLIENT:
            numbers = list(takewhile(number.__ge__, unsettled))
        entries = []
        for each in numbers:
            del self._entries[each]
            entries.append(unsettled.pop(each))
            self._note_settled(each, each + 1)
        self._count(-sum(entry.cost for entry in entries))
        return entries

    def _tell(self, subscription: Subscription) -> None:
        """Something of this subscription's was settled: who waited for that may have room now."""
        self.tell_of_room()
        subscription.may_have_room()
        subscription.end_if_settled()

    def _count(self, cost: int) -> None:
        self.cost += cost
        self._memory.add(cost)
        if self.is_full and not self._was_full:
            self._was_full = True
            for subscription in self.subscriptions:
                subscription.has_no_room()

    # -- what was settled ----------------------------------------------------------------------------------------------

    def _is_settled(self, number: int) -> bool:
        place = bisect_right(self._starts, number) - 1
        return place >= 0 and number < self._ends[place]

    def _note_settled(self, start: int, end: int) -> None:
        """Remember a run of numbers, none of which was settled before."""
        starts, ends = self._starts, self._ends
        place = bisect_right(starts, start)
        joins_before = place > 0 and ends[place - 1] == start
        joins_after = place < len(starts) and starts[place] == end
        if joins_before and joins_after:
            ends[place - 1] = ends.pop(place)
            del starts[place]
        elif joins_before:
            ends[place - 1] = end
        elif joins_after:
            starts[place] = start
        else:
            starts.insert(place, start)
            ends.insert(place, end)
            if len(starts) > _RUNS_KEPT:
                del starts[0], ends[0]


def runs_of(entries: Iterable[Entry]) -> list[Delivery]:
    """The messages of these entries, in order; together those that can be."""
    runs: list[Delivery] = []
    run: list[Entry] = []
    for entry in entries:
        if run and not (
            entry.codec is run[-1].codec
            and entry.expires_at == run[-1].expires_at
            and entry.position > run[-1].position
        ):
            runs.append(_together(run))
            run = []
        run.append(entry)
    if run:
        runs.append(_together(run))
    return runs


def _together(entries: list[Entry]) -> Delivery:
    first = entries[0]
    parts = [entry.part for entry in entries]
    batch = Batch(first.subscription.channel.name, parts, first.codec, None, first.expires_at)
    return Delivery(batch, [entry.position for entry in entries], [entry.attempts for entry in entries])
