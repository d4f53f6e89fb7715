"""A queue gives each message to one subscription, in strict rotation among those that have room.

The rotation holds exactly the subscriptions that can take more; one whose mailbox is full, or whose credit is used up,
steps out and joins again, at the end, when it has room. What finds no taker waits in the backlog, in order. A backlog
above its mark makes publishers wait; those that have something to settle themselves may go beyond it, to a second one.

Each message has a position from its acceptance. What a subscription that ends was not sent, or has not settled, goes
back by position, so consumers that end together, in whatever order, leave the queue's order whole.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final, final

import trio

from trio_broker.core.backlog import Backlog
from trio_broker.core.channel import Channel
from trio_broker.core.statistics import ChannelStatistics
from trio_broker.errors import LimitReached
from trio_broker.message import TEMPORARY, Batch, Delivery

if TYPE_CHECKING:
    from trio_broker.core.memory import Memory
    from trio_broker.core.statistics import Counters
    from trio_broker.core.subscription import Subscription
    from trio_broker.limits import Limits

__all__ = ["Queue"]

_LOOKED_AT: Final = 64
"""In a rotation that is longer nobody's credit is looked at: each has one message at a time."""


@final
class Queue(Channel):
    """A channel that gives each message to one. For the arguments see `Channel`."""

    kind = "queue"

    __slots__ = ("_backlog", "_bounded", "_is_temporary", "_next_position", "_rotation")

    def __init__(
        self, name: str, limits: Limits, memory: Memory, counters: Counters, idle: Callable[[Channel], None]
    ) -> None:
        super().__init__(name, limits, memory, counters, idle)
        self._backlog = Backlog(memory)  # not empty only while nobody in the rotation can take more
        self._rotation: OrderedDict[Subscription, None] = OrderedDict()  # who can take more; the first is next
        self._next_position = 0
        self._bounded = 0  # members that have credit
        self._is_temporary = name.startswith(TEMPORARY)  # it ends with its subscription

    def _add(self, subscription: Subscription) -> None:
        self._bounded += subscription.credit is not None
        if subscription.is_full:  # its owner has too much to settle already
            self._full[subscription] = None
        else:
            self._rotation[subscription] = None
            self._dispatch()

    def remove(self, subscription: Subscription) -> None:
        self._bounded -= subscription.credit is not None
        self._rotation.pop(subscription, None)
        self._full.pop(subscription, None)

    def _give_back(self, taken: Sequence[Delivery], waiting: Sequence[Delivery]) -> None:
        """Put both back by position. What was taken too often is given up; see ``deliveries_max``."""
        for delivery in taken:
            again = _tried_again(delivery, self.limits.deliveries_max)
            self.counters.poisoned += len(delivery) - len(again)
            if len(again):
                self._backlog.give_back(again)
        for delivery in waiting:
            self._backlog.give_back(delivery)
        if self.line.closed or self._is_over:
            self._give_up()
            self._changed.unpark_all()
        self._dispatch()

    def has_room(self, subscription: Subscription) -> None:
        if subscription in self._full:
            del self._full[subscription]
            self._rotation[subscription] = None
            self._dispatch()

    def has_no_room(self, subscription: Subscription) -> None:
        if subscription in self._rotation:
            del self._rotation[subscription]
            self._full[subscription] = None

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(
            name=self.name,
            kind=self.kind,
            subscriptions=len(self._rotation) + len(self._full),
            full=len(self._full),
            publishers_waiting=len(self.line),
            backlog_messages=self._backlog.messages,
            backlog_cost=self._backlog.cost,
        )

    def _has_room(self) -> bool:
        if self._backlog.cost < self.limits.backlog_bytes_max:
            return True
        while self._backlog.oldest_expires_at <= trio.current_time():  # it must not keep out what is of use
            expired = self._backlog.pop()
            assert expired is not None
            self.counters.expired += len(expired)
            if self._backlog.cost < self.limits.backlog_bytes_max:
                return True
        return False

    def _has_room_at(self) -> float:
        return self._backlog.oldest_expires_at

    def _has_reserve(self) -> bool:
        if self._backlog.cost < self.limits.backlog_bytes_max + self.limits.backlog_reserve_bytes_max:
            return True
        raise LimitReached("backlog_reserve_bytes_max", self.limits.backlog_reserve_bytes_max)

    @property
    def _is_over(self) -> bool:
        """Nobody will ever receive from it again."""
        return self._is_temporary and not self._open

    def _accept(self, batch: Batch) -> None:
        if self._is_over:  # since this batch took its place in line
            self.counters.unrouted += len(batch)
            return
        position = self._next_position
        self._next_position = end = position + len(batch)
        delivery = Delivery(batch, range(position, end))
        if not self._rotation:
            self._backlog.append(delivery)
        elif self._bounded:
            self._backlog.append(delivery)
            self._dispatch()
        else:
            self._deal(delivery)

    def _dispatch(self) -> None:
        """Deal the backlog out while somebody can take more."""
        full = not self._has_room()
        dealt = False
        while self._rotation:
            delivery = self._backlog.pop(self._credit() if self._bounded else None)
            if delivery is None:
                break
            if delivery.batch.expires_at <= trio.current_time():
                self.counters.expired += len(delivery)
            else:
                self._deal(delivery)
            dealt = True
        if dealt:
            self.line.progress()
            if full and self._has_room():
                self._changed.unpark_all()

    def _credit(self) -> int | None:
        """How many messages may be dealt at once so that each in the rotation has room for its share; None for any."""
        if len(self._rotation) > _LOOKED_AT:
            return len(self._rotation)  # whoever is in it has room for one
        least = min(subscription.room for subscription in self._rotation)
        return None if least == math.inf else int(least) * len(self._rotation)

    def _deal(self, delivery: Delivery) -> None:
        """Give the messages in turn to those in the rotation, which must not be empty; each has its share at once."""
        count = len(delivery)
        takers = list(islice(self._rotation, count))
        share = len(takers)
        for index, subscription in enumerate(takers):
            subscription.put(delivery if share == 1 else delivery[index::share])
            if subscription.is_full:
                del self._rotation[subscription]
                self._full[subscription] = None
            elif index < count % share or share == count:
                self._rotation.move_to_end(subscription)

    def _members(self) -> list[Subscription]:
        return [*self._rotation, *self._full]

    def _give_up(self) -> None:
        self.counters.discarded += self._backlog.clear()

    def _is_empty(self) -> bool:
        return not self._backlog.messages


def _tried_again(delivery: Delivery, deliveries_max: int) -> Delivery:
    """The same messages, each taken for a write once more, without those for which that was once too often."""
    attempts = [count + 1 for count in delivery.attempts or [0] * len(delivery)]
    if max(attempts) < deliveries_max:
        return Delivery(delivery.batch, delivery.positions, attempts)
    kept = [index for index, count in enumerate(attempts) if count < deliveries_max]
    batch = delivery.batch
    return Delivery(
        Batch(batch.channel, [batch.parts[index] for index in kept], batch.codec, None, batch.expires_at),
        [delivery.positions[index] for index in kept],
        [attempts[index] for index in kept],
    )
