"""The register: which channels exist, by name.

A channel is made when somebody subscribes to it, or when something is published to a queue. It is there while anything
is in it, and forgotten then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from trio_broker.core.queue import Queue
from trio_broker.core.statistics import BrokerStatistics
from trio_broker.core.topic import Topic
from trio_broker.errors import BrokerDraining, LimitReached
from trio_broker.message import TEMPORARY, is_queue

if TYPE_CHECKING:
    from trio_broker.core.channel import Channel
    from trio_broker.core.memory import Memory
    from trio_broker.core.statistics import Counters
    from trio_broker.limits import Limits
    from trio_broker.message import Batch

__all__ = ["Register"]


@final
class Register:
    """The channels of one broker.

    Args:
        limits: ``channels_max`` is used; the channels use others.
        memory: the account of the whole broker.
        counters: the broker's.

    Attributes:
        channels: by name.
        closed: the broker has ended; no channel is made any more.
    """

    __slots__ = ("_counters", "_memory", "channels", "closed", "limits")

    def __init__(self, limits: Limits, memory: Memory, counters: Counters) -> None:
        self.limits = limits
        self._memory = memory
        self._counters = counters
        self.channels: dict[str, Channel] = {}
        self.closed = False

    def channel(self, name: str) -> Channel:
        """The channel of this name, made if it does not exist.

        Raises:
            LimitReached: ``channels_max`` channels exist.
            BrokerDraining: it does not exist, and the broker has ended.
        """
        channel = self.channels.get(name)
        if channel is None:
            if self.closed:
                raise BrokerDraining
            if len(self.channels) >= self.limits.channels_max:
                raise LimitReached("channels_max", self.limits.channels_max)
            kind = Queue if is_queue(name) else Topic
            channel = self.channels[name] = kind(name, self.limits, self._memory, self._counters, self._forget)
        return channel

    def destination(self, name: str) -> Channel | None:
        """The channel that something is published to, made if it must be; None if nobody can receive it.

        A topic without subscriptions need not exist to take a message; a temporary queue is gone with its owner.

        Raises: as `channel`.
        """
        channel = self.channels.get(name)
        if channel is None:
            if self.closed:
                raise BrokerDraining
            if is_queue(name) and not name.startswith(TEMPORARY):
                return self.channel(name)
        return channel

    def lose(self, batch: Batch) -> None:
        """Nobody can receive this: it has no `destination`, and is counted as unrouted."""
        self._counters.published += len(batch)
        self._counters.unrouted += len(batch)

    def close(self) -> None:
        """Make no channel any more, and end those that exist; see `Channel.close`. Idempotent."""
        self.closed = True
        for channel in list(self.channels.values()):
            channel.close()

    def statistics(self) -> BrokerStatistics:
        """All channels and totals at this moment."""
        channels = {name: channel.statistics() for name, channel in self.channels.items()}
        counters = self._counters
        return BrokerStatistics(
            channels=channels,
            subscriptions=sum(channel.subscriptions for channel in channels.values()),
            memory_cost=self._memory.cost,
            published=counters.published,
            delivered=counters.delivered,
            dropped=counters.dropped,
            unrouted=counters.unrouted,
            discarded=counters.discarded,
            poisoned=counters.poisoned,
            rejected=counters.rejected,
            expired=counters.expired,
            evicted=counters.evicted,
        )

    def _forget(self, channel: Channel) -> None:
        if self.channels.get(channel.name) is channel:
            del self.channels[channel.name]
