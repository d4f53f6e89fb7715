"""A queue gives each message to one subscription, in strict rotation among those that have room.

The rotation holds exactly the subscriptions that can take more; one whose mailbox is full steps out and joins again,
at the end, when it has room. What finds no taker waits in the backlog, in order. A backlog above its mark makes
publishers wait.

Each message has a position from its acceptance. What a subscription that ends was not sent goes back by position, so
consumers that end together, in whatever order, leave the queue's order whole.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, final

from trio_broker.core.backlog import Backlog
from trio_broker.core.channel import Channel
from trio_broker.core.statistics import ChannelStatistics
from trio_broker.message import Batch, Delivery

if TYPE_CHECKING:
    from trio_broker.core.memory import Memory
    from trio_broker.core.statistics import Counters
    from trio_broker.core.subscription import Subscription
    from trio_broker.limits import Limits

__all__ = ["Queue"]


@final
class Queue(Channel):
    """A channel that gives each message to one. For the arguments see `Channel`."""

    kind = "queue"

    __slots__ = ("_backlog", "_next_position", "_rotation")

    def __init__(
        self, name: str, limits: Limits, memory: Memory, counters: Counters, idle: Callable[[Channel], None]
    ) -> None:
        super().__init__(name, limits, memory, counters, idle)
        self._backlog = Backlog(memory)  # not empty only while nobody in the rotation can take more
        self._rotation: OrderedDict[Subscription, None] = OrderedDict()  # who can take more; the first is next
        self._next_position = 0

    def _add(self, subscription: Subscription) -> None:
        self._rotation[subscription] = None
        self._dispatch()

    def remove(self, subscription: Subscription) -> None:
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
        if self.line.closed:
            self._give_up()
        self._dispatch()

    def has_room(self, subscription: Subscription) -> None:
        del self._full[subscription]
        self._rotation[subscription] = None
        self._dispatch()

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
        return self._backlog.cost < self.limits.backlog_bytes_max

    def _accept(self, batch: Batch) -> None:
        position = self._next_position
        self._next_position = end = position + len(batch)
        delivery = Delivery(batch, range(position, end))
        if self._rotation:
            self._deal(delivery)
        else:
            self._backlog.append(delivery)

    def _dispatch(self) -> None:
        """Deal the backlog out while somebody can take more."""
        full = not self._has_room()
        dealt = False
        while self._rotation:
            delivery = self._backlog.pop()
            if delivery is None:
                break
            self._deal(delivery)
            dealt = True
        if dealt:
            self.line.progress()
            if full and self._has_room():
                self._changed.unpark_all()

    def _deal(self, delivery: Delivery) -> None:
        """Give the messages in turn to those in the rotation, which must not be empty; each has its share at once."""
        count = len(delivery)
        takers = list(islice(self._rotation, count))
        share = len(takers)
        for index, subscription in enumerate(takers):
            subscription.put(delivery if share == 1 else delivery[index::share])
            if subscription.mailbox.is_full:
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
        Batch(batch.channel, [batch.parts[index] for index in kept], batch.codec),
        [delivery.positions[index] for index in kept],
        [attempts[index] for index in kept],
    )
