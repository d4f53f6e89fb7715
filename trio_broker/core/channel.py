"""What a topic and a queue have in common: how a publish waits for its turn and for room.

A publish first tries the way without waiting (`offer`). If somebody stands in line, or there is no room, it takes its
place in the line, waits there, at the head waits for room, and then accepts the batch in one step without a
checkpoint. So a publish that raises `trio.Cancelled` has reached nobody, and one that returns has reached all that it
will reach.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import trio

from trio_broker.core.line import Line
from trio_broker.errors import BrokerDraining, PublishStalled

if TYPE_CHECKING:
    from trio_broker.core.memory import Memory
    from trio_broker.core.statistics import ChannelStatistics, Counters
    from trio_broker.core.subscription import Subscription
    from trio_broker.limits import Limits
    from trio_broker.message import Batch, Delivery

__all__ = ["Channel", "stall_reason"]

Result = TypeVar("Result")


class Channel(ABC):
    """A named destination; the base of `Topic` and `Queue`, and of nothing else.

    Args:
        name: its name.
        limits: the broker's.
        memory: the broker's account.
        counters: the broker's.
        idle: called when nothing is left in the channel and nobody is in line, so that the register can forget it.
    """

    kind: str

    __slots__ = ("_changed", "_full", "_idle", "_open", "counters", "limits", "line", "memory", "name")

    def __init__(
        self, name: str, limits: Limits, memory: Memory, counters: Counters, idle: Callable[[Channel], None]
    ) -> None:
        self.name = name
        self.limits = limits
        self.memory = memory
        self.counters = counters
        self.line = Line()
        self._idle = idle
        self._open = 0  # subscriptions that have not ended; one that is retired may still give something back
        # Members whose mailbox is full and which therefore get nothing -> until when they are watched, and from where.
        self._full: dict[Subscription, tuple[float, int] | None] = {}
        self._changed = trio.lowlevel.ParkingLot()  # where the head of the line waits for `_has_room`

    # -- publishing --------------------------------------------------------------------------------------------------

    def offer(self, batch: Batch) -> bool:
        """Accept the batch now, if nobody stands in line and there is room. False means that nothing happened.

        Raises:
            BrokerDraining: the broker ends.
        """
        if self.can_accept():
            self.accept(batch)
            return True
        self.forget_if_idle()  # it may have been made for this batch alone
        return False

    def can_accept(self) -> bool:
        """Whether nobody stands in line and there is room.

        Raises:
            BrokerDraining: the broker ends.
        """
        if self.line.closed:
            raise BrokerDraining
        return self.line.is_empty and self._has_room() and not self.memory.is_full

    def can_accept_in_reserve(self) -> bool:
        """Whether a batch may be accepted although there is no room and others stand in line: from a publisher that
        itself has something to settle, which it may do only after this.

        Raises:
            BrokerDraining: the broker ends.
            LimitReached: the reserve is used up.
        """
        if self.line.closed:
            raise BrokerDraining
        return self._has_reserve()

    def accept(self, batch: Batch) -> None:
        """Take a batch; synchronous, and it cannot fail. Only where it may be accepted."""
        self.counters.published += len(batch.parts)
        self._accept(batch)

    async def publish(self, batch: Batch, patience_seconds: float = math.inf) -> None:
        """Accept the batch when its turn has come and there is room for it.

        Args:
            batch: the messages; they are accepted together.
            patience_seconds: how long to wait while the channel makes no progress at all.

        Raises:
            BrokerDraining: the broker ends.
            PublishStalled: patience ended.

        Cancellation: atomic. If this raises anything, `trio.Cancelled` included, the batch has reached nobody.
        """

        def accept() -> None:
            self.accept(batch)
            self.line.progress()

        await self.in_turn(accept, patience_seconds)

    async def in_turn(self, act: Callable[[], Result], patience_seconds: float) -> Result:
        """Call ``act`` when its turn has come and there is room, and return what it returns.

        Args:
            act: synchronous. What it accepts it accepts whole or not at all.
            patience_seconds: as for `publish`.

        Raises: as `publish`, and what ``act`` raises.

        Cancellation: atomic. If this raises `trio.Cancelled`, ``act`` was not called.
        """
        try:
            with self.line.place(patience_seconds):
                async with self.line.head:
                    while not self._has_room() or self.memory.is_full:
                        await self._room()
                        await self.memory.room()
                    if not self.line.closed:  # which it may be since the step that woke this task
                        return act()
            if self.line.closed:
                raise BrokerDraining
            full = "memory_bytes_max" if self._has_room() and self.memory.is_full else None
            raise PublishStalled(self.name, patience_seconds, full)
        finally:
            self.forget_if_idle()

    # -- subscriptions -----------------------------------------------------------------------------------------------

    def add(self, subscription: Subscription) -> None:
        """A subscription takes its place."""
        self._open += 1
        self._add(subscription)

    @abstractmethod
    def remove(self, subscription: Subscription) -> None:
        """A subscription leaves its place; nothing more is put into its mailbox."""

    def end(self, taken: Sequence[Delivery], waiting: Sequence[Delivery]) -> None:
        """A subscription that left has ended. It still had this: ``taken`` for a write that did not end well, and
        what was ``waiting``, never taken."""
        self._open -= 1
        self._give_back(taken, waiting)
        self.forget_if_idle()

    def take_back(self, taken: Sequence[Delivery], waiting: Sequence[Delivery] = ()) -> None:
        """A subscription that has not ended gives back what was ``taken`` and what was ``waiting``, never taken."""
        self._give_back(taken, waiting)

    @abstractmethod
    def has_room(self, subscription: Subscription) -> None:
        """A member can take more; it may have been full before."""

    @abstractmethod
    def has_no_room(self, subscription: Subscription) -> None:
        """A member that has credit can take no more although nothing was put into its mailbox."""

    # -- looking and ending ------------------------------------------------------------------------------------------

    @abstractmethod
    def statistics(self) -> ChannelStatistics:
        """This channel at this moment."""

    def close(self) -> None:
        """End: publishers are sent away, members get what is in their mailboxes and then the end, and what waits for
        a taker is counted as discarded. Idempotent."""
        self.line.close()
        for subscription in self._members():
            subscription.finish()
        self._give_up()
        self.forget_if_idle()

    def forget_if_idle(self) -> None:
        """Let the register forget this channel if nothing is left in it."""
        if self.line.is_empty and not self._open and self._is_empty():
            self._idle(self)

    async def _room(self) -> None:  # noqa: ASYNC910  waits only if it must: the lock before it was a checkpoint
        """Wait until `_has_room`; only the head of the line waits here.

        Programs whose mailbox is full are watched meanwhile, all together: whoever has not moved ``stall_bytes_min``
        in ``stall_seconds_max`` is evicted. So any number of stuck ones delays the others by one such time, once, and
        publishers that give up earlier, one after the other, do not save them. For sockets their writers see to the
        same rule; they know what the system still holds.
        """
        while not self._has_room():
            with trio.CancelScope(deadline=min(self._watch(), self._has_room_at())):  # noqa: ASYNC912  it parks, or returns
                while not self._has_room():
                    await self._changed.park()
                return  # noqa: ASYNC910  as above
            self._evict_the_stuck()

    def _watch(self) -> float:
        """Watch the programs among the full; return when to look at them. Not those that merely have much to settle."""
        end = trio.current_time() + self.limits.stall_seconds_max
        for subscription, watch in self._full.items():
            if watch is None and subscription.owner is None and subscription.mailbox.is_full:
                self._full[subscription] = (end, subscription.mailbox.moved)
        return min((watch[0] for watch in self._full.values() if watch is not None), default=end)

    def _evict_the_stuck(self) -> None:
        """Evict whoever has not moved in its time of being watched; the others' time begins anew."""
        now = trio.current_time()
        for subscription, watch in list(self._full.items()):
            if watch is None or now < watch[0]:
                continue
            moved = subscription.mailbox.moved - watch[1]
            if moved < self.limits.stall_bytes_min and subscription.mailbox.is_full:  # it may only have much to settle
                subscription.evict(stall_reason(self.limits))
            else:
                self._full[subscription] = None

    # -- what differs ------------------------------------------------------------------------------------------------

    @abstractmethod
    def _has_room(self) -> bool:
        """Whether a batch may be accepted now."""

    def _has_room_at(self) -> float:
        """When there may be room though nobody takes anything; infinite for never."""
        return math.inf

    def _has_reserve(self) -> bool:
        """See `can_accept_in_reserve`."""
        return False

    @abstractmethod
    def _accept(self, batch: Batch) -> None:
        """Take the batch; synchronous, and it cannot fail."""

    @abstractmethod
    def _members(self) -> list[Subscription]:
        """All members."""

    @abstractmethod
    def _give_up(self) -> None:
        """Count what waits in the channel itself as discarded."""

    @abstractmethod
    def _add(self, subscription: Subscription) -> None:
        """Make it a member."""

    @abstractmethod
    def _give_back(self, taken: Sequence[Delivery], waiting: Sequence[Delivery]) -> None:
        """Take back what an ended subscription had, or give it up."""

    @abstractmethod
    def _is_empty(self) -> bool:
        """Whether no message waits in the channel itself."""


def stall_reason(limits: Limits) -> str:
    """The stall rule, as its victim reads it."""
    return (
        f"it moved less than {limits.stall_bytes_min:,} bytes in {limits.stall_seconds_max:g} s while messages waited"
    )
