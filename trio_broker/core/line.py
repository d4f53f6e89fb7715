"""The publishers' line of one channel: first come, first served.

Trio shuffles the tasks that it wakes, so fairness is ours to give: a `trio.StrictFIFOLock` whose holder is the head of
the line. Each who stands in line stands in a cancel scope of its own, through which the line can send it away: all of
them when the broker drains, and those whose patience ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

import trio

__all__ = ["Line"]

_RENEWALS: Final = 16
"""How often at most the waiters' deadlines are moved in one span of patience. Moving each at every step of a busy
channel would cost more than the step; so patience may end by this share early."""


@final
class Line:
    """Who waits to publish to one channel, in order."""

    __slots__ = ("_places", "_renew_at", "closed", "head")

    def __init__(self) -> None:
        self.head: Final = trio.StrictFIFOLock()
        self.closed = False
        self._places: dict[trio.CancelScope, float] = {}  # each waiter's scope -> its patience in seconds
        self._renew_at = math.inf  # progress before this time is not worth moving the deadlines for

    def __len__(self) -> int:
        return len(self._places)

    @property
    def is_empty(self) -> bool:
        """Nobody stands here."""
        return not self._places  # whoever has the lock stands here too

    @contextmanager
    def place(self, patience_seconds: float) -> Iterator[trio.CancelScope]:
        """A place in line; inside, wait for ``head``. The scope is cancelled by `close`, or when patience ends.

        Args:
            patience_seconds: how long to stand while the channel makes no progress at all.
        """
        now = trio.current_time()
        with trio.CancelScope(deadline=now + patience_seconds) as scope:
            self._renew_at = min(self._renew_at, now + patience_seconds / _RENEWALS)
            if self.closed:
                scope.cancel(reason="the broker is draining")
            self._places[scope] = patience_seconds
            try:
                yield scope
            finally:
                del self._places[scope]

    def progress(self) -> None:
        """The channel took or gave something: whoever waits has its whole patience again."""
        if not self._places:
            return
        now = trio.current_time()
        if now >= self._renew_at:
            for scope, patience_seconds in self._places.items():
                scope.deadline = now + patience_seconds
            self._renew_at = now + min(self._places.values()) / _RENEWALS

    def close(self) -> None:
        """Send everyone away, and whoever comes later. Idempotent."""
        self.closed = True
        for scope in list(self._places):
            scope.cancel(reason="the broker is draining")
