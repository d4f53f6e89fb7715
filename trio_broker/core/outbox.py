"""A connection's outbox: which of its mailboxes have something in them, and what must go out before them.

The one place where `receive` waits, in process; who serves many connections is told instead. It names each mailbox at
most once, and what overtakes deliveries at most once, so its memory channel never holds many more than the connection
has subscriptions: those that have ended are forgotten in time. A busy subscription, named again at the end of the line
after each turn, cannot starve another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

import trio

if TYPE_CHECKING:
    from trio_broker.core.subscription import Subscription

__all__ = ["Outbox"]

_ENDED_KEPT: Final = 64
"""So many names of those that have ended are not worth looking for."""


@final
class Outbox:
    """Whose turn is it?

    A name in the channel is a subscription with something in its mailbox, or None for the control messages.

    Args:
        changed: called when there is something to do: a turn, or the end.
    """

    __slots__ = (
        "_changed",
        "_control",
        "_ended",
        "_is_named",
        "_receive",
        "_send",
        "_turns",
        "closed",
        "control_bytes",
    )

    def __init__(self, changed: Callable[[], None] | None = None) -> None:
        self._changed = changed
        self._send, self._receive = trio.open_memory_channel["Subscription | None"](math.inf)
        self._turns = 0  # how many names are in the channel
        self._ended = 0  # about how many of these are of subscriptions that have ended
        self._control: list[bytes] = []  # encoded replies and farewells: they overtake all deliveries
        self._is_named = False  # they have a turn in the channel
        self.control_bytes = 0  # how many bytes these are
        self.closed = False  # nothing is announced any more; what was announced is still to be served

    @property
    def is_quiet(self) -> bool:
        """`turn` would have to wait."""
        return not self._turns and not self.closed

    def announce(self, subscription: Subscription) -> None:
        """This subscription has something in its mailbox. Not again before its turn has come."""
        if not self.closed:
            self._turns += 1
            self._send.send_nowait(subscription)
            if self._changed is not None:
                self._changed()

    def forget(self) -> None:
        """A subscription that is named has ended. Names that nobody needs are thrown out when they are the most."""
        self._ended += 1
        if self._ended > _ENDED_KEPT and 2 * self._ended > self._turns and not self.closed:
            names = [self._receive.receive_nowait() for _ in range(self._turns)]
            needed = [name for name in names if name is None or not name.ended]
            for name in needed:
                self._send.send_nowait(name)
            self._turns = len(needed)
            self._ended = 0

    def put_control(self, data: bytes) -> None:
        """Bytes that go out before any delivery that was not yet begun."""
        if not self.closed:
            self._control.append(data)
            self.control_bytes += len(data)
            if not self._is_named:
                self._is_named = True
                self._turns += 1
                self._send.send_nowait(None)
            if self._changed is not None:
                self._changed()

    def take_control(self) -> bytes:
        """All waiting control bytes; empty if there are none."""
        if not self._control:
            return b""
        data = b"".join(self._control)
        self._control.clear()
        self.control_bytes = 0
        return data

    async def turn(self) -> Subscription | None:
        """Wait for the next turn: a subscription to serve, or None to serve control alone.

        Raises:
            trio.EndOfChannel: the outbox was closed and everything announced before has had its turn.

        Cancellation: atomic. If `trio.Cancelled` is raised, no turn was taken.
        """
        return self._took(await self._receive.receive())

    def turn_nowait(self) -> Subscription | None:
        """`turn` without waiting.

        Raises:
            trio.WouldBlock: nobody has anything.
            trio.EndOfChannel: as `turn`.
        """
        return self._took(self._receive.receive_nowait())

    def _took(self, subscription: Subscription | None) -> Subscription | None:
        """Its turn has come."""
        self._turns -= 1
        if subscription is None:
            self._is_named = False
        elif subscription.ended:
            self._ended = max(0, self._ended - 1)
        return subscription

    def close(self) -> None:
        """Announce nothing more; `turn` gives what is left and then ends. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._send.close()
        if self._changed is not None:
            self._changed()
