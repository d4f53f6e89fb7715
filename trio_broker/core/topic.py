"""A topic gives each message to every subscription.

The head of the publishers' line waits until every mailbox that blocks has room, then puts to all in one step. Which
mailboxes block is kept as a set that changes when one fills or empties, so a publish looks at that set alone, not at
every subscription.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, final

from trio_broker.core.channel import Channel
from trio_broker.core.statistics import ChannelStatistics
from trio_broker.limits import BATCH_COST, Overflow
from trio_broker.message import Delivery

if TYPE_CHECKING:
    from trio_broker.core.memory import Memory
    from trio_broker.core.statistics import Counters
    from trio_broker.core.subscription import Subscription
    from trio_broker.limits import Limits
    from trio_broker.message import Batch

__all__ = ["Topic"]


@final
class Topic(Channel):
    """A channel that gives each message to all. For the arguments see `Channel`."""

    kind = "topic"

    __slots__ = ("_subscriptions",)

    def __init__(
        self, name: str, limits: Limits, memory: Memory, counters: Counters, idle: Callable[[Channel], None]
    ) -> None:
        super().__init__(name, limits, memory, counters, idle)
        self._subscriptions: dict[Subscription, None] = {}  # in order of arrival

    def _add(self, subscription: Subscription) -> None:
        self._subscriptions[subscription] = None

    def remove(self, subscription: Subscription) -> None:
        del self._subscriptions[subscription]
        self._no_longer_full(subscription)

    def _give_back(self, taken: Sequence[Delivery], waiting: Sequence[Delivery]) -> None:
        """A topic takes nothing back: what one subscription was not sent nobody else lacks."""
        self.counters.discarded += sum(map(len, taken)) + sum(map(len, waiting))

    def has_room(self, subscription: Subscription) -> None:
        self._no_longer_full(subscription)

    def has_no_room(self, subscription: Subscription) -> None:
        """A topic's members have no credit."""

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(
            name=self.name,
            kind=self.kind,
            subscriptions=len(self._subscriptions),
            full=len(self._full),
            publishers_waiting=len(self.line),
            backlog_messages=0,
            backlog_cost=0,
        )

    def _has_room(self) -> bool:
        return not self._full

    def _accept(self, batch: Batch) -> None:
        subscriptions = self._subscriptions
        if not subscriptions:
            self.counters.unrouted += len(batch)
            return
        if len(subscriptions) > 1:
            batch.share()
        delivery = Delivery(batch)
        # A copy, because the policy `disconnect` removes a subscription in the middle.
        for subscription in tuple(subscriptions):
            if subscription.overflow is Overflow.BLOCK:
                subscription.put(delivery)
                if subscription.mailbox.is_full:  # whatever is unsettled: a topic's subscription has no credit
                    self._full[subscription] = None
            else:
                self._put_by_policy(subscription, delivery)

    def _put_by_policy(self, subscription: Subscription, delivery: Delivery) -> None:
        """Put what the subscription's overflow policy lets through; count what it drops."""
        mailbox = subscription.mailbox
        dropped = 0
        match subscription.overflow:
            case Overflow.DISCONNECT:
                if mailbox.is_full:
                    dropped = len(delivery)
                    subscription.evict("its mailbox was full, and its overflow policy is to disconnect")
                else:
                    subscription.put(delivery)
            case Overflow.LATEST:
                dropped = mailbox.messages + len(delivery) - 1
                subscription.put(delivery)
                for _ in range(dropped):
                    mailbox.drop_oldest()
            case Overflow.DROP_OLDEST:
                subscription.put(delivery)
                while mailbox.cost > self.limits.mailbox_bytes_max and mailbox.messages > 1:
                    mailbox.drop_oldest()
                    dropped += 1
            case _:  # Overflow.DROP_NEWEST; BLOCK does not come here
                admitted = _admitted(delivery, self.limits.mailbox_bytes_max - mailbox.cost)
                dropped = len(delivery) - admitted
                if admitted:
                    subscription.put(delivery if not dropped else delivery[:admitted])
                mailbox.drop_newest(dropped)
        subscription.dropped += dropped
        self.counters.dropped += dropped

    def _no_longer_full(self, subscription: Subscription) -> None:
        if subscription in self._full:
            del self._full[subscription]
            self.line.progress()
            if not self._full:
                self._changed.unpark_all()

    def _members(self) -> list[Subscription]:
        return list(self._subscriptions)

    def _give_up(self) -> None:
        """A topic keeps nothing."""

    def _is_empty(self) -> bool:
        return True


def _admitted(delivery: Delivery, room: int) -> int:
    """How many messages of a delivery are admitted: each that finds the cost still below the mark."""
    batch = delivery.batch
    if batch.cost < room:
        return len(delivery)
    index = 0
    while index < len(delivery) and room > 0:
        room -= batch.part_cost(index) + (0 if index else BATCH_COST)
        index += 1
    return index
