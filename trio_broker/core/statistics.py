"""What can be counted, and the frozen values in which it is shown.

Every message that a queue accepted is, at any moment, in exactly one of these places: waiting, unsettled, delivered,
poisoned, rejected, expired or discarded. Of a topic's, each subscription has its own copy, which is waiting, delivered,
dropped, expired or discarded; one that nobody was subscribed for is unrouted. Losses are counted where they happen,
never silent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import final

__all__ = ["BrokerStatistics", "ChannelStatistics", "Counters", "SubscriptionStatistics"]


@final
@dataclasses.dataclass(slots=True)
class Counters:
    """Running totals of one broker, in messages. Core alone writes them."""

    published: int = 0  # accepted by a publish
    delivered: int = 0  # settled: sent or received, and where it takes that, acknowledged; once for each subscription
    dropped: int = 0  # lost to an overflow policy; once for each subscription
    unrouted: int = 0  # published to a topic that nobody was subscribed to
    discarded: int = 0  # left behind: by a topic's subscription that went, or in a queue when the broker closed
    poisoned: int = 0  # taken for a write deliveries_max times, and given up
    rejected: int = 0  # given up by a subscriber: nacked, and nobody else was to have them
    expired: int = 0  # of no use any more when their turn came
    evicted: int = 0  # subscriptions, not messages: ended by the stall rule or by the policy `disconnect`


@final
@dataclasses.dataclass(frozen=True, slots=True)
class SubscriptionStatistics:
    """One subscription at one moment."""

    channel: str
    mailbox_messages: int  # waiting, not yet taken
    mailbox_cost: int  # what waits and what is being written, in bytes of cost
    unsettled: int  # given to its owner, which has yet to settle them
    delivered: int
    dropped: int
    full: bool


@final
@dataclasses.dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """One channel at one moment."""

    name: str
    kind: str  # "topic" or "queue"
    subscriptions: int
    full: int  # subscriptions whose full mailbox makes a topic wait, or a queue skip them
    publishers_waiting: int
    backlog_messages: int  # always 0 for a topic
    backlog_cost: int


@final
@dataclasses.dataclass(frozen=True, slots=True)
class BrokerStatistics:
    """A whole broker at one moment. The totals are explained at `Counters`."""

    channels: Mapping[str, ChannelStatistics]
    subscriptions: int
    memory_cost: int  # everything that waits, and unfinished frames, in bytes of cost
    published: int
    delivered: int
    dropped: int
    unrouted: int
    discarded: int
    poisoned: int
    rejected: int
    expired: int
    evicted: int
