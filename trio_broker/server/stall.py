"""The stall rule for a connection: messages wait, and the peer must take ``stall_bytes_min`` in ``stall_seconds_max``.

Counted at each send call, and at the deadline once more by what the system still holds: a send buffer of some
megabytes reports room only when a third of it is free, so a slow peer may be moving all the time unseen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import trio

from trio_broker.limits import Limits

__all__ = ["StallClock"]


@final
class StallClock:
    """Runs while a write blocks; renewed by movement; stopped when nothing waits.

    Args:
        limits: ``stall_seconds_max`` and ``stall_bytes_min`` are used.
        unsent_bytes: tells what the system holds because the peer does not take it; 0 if unknown.
        slack_bytes: how many bytes may have moved unseen.
    """

    __slots__ = (
        "_bytes_min",
        "_is_exact",
        "_moved",
        "_seconds_max",
        "_unsent_at_start",
        "_unsent_bytes",
        "deadline",
        "runs",
    )

    def __init__(self, limits: Limits, unsent_bytes: Callable[[], int], slack_bytes: int = 0) -> None:
        self._seconds_max = limits.stall_seconds_max
        self._is_exact = not slack_bytes
        self._bytes_min = max(1, limits.stall_bytes_min - slack_bytes)  # who moves nothing has always stalled
        self._unsent_bytes = unsent_bytes
        self.runs = False
        self.deadline = math.inf  # when the peer must have moved, while it runs
        self._moved = 0  # bytes that were sent since the clock was started or renewed
        self._unsent_at_start = 0  # what the system held then

    def start(self) -> None:
        """A write blocks. Does nothing if the clock runs already."""
        if not self.runs:
            self._renew()

    def move(self, sent_bytes: int) -> None:
        """The system took so many bytes."""
        self._moved += sent_bytes
        if self._moved >= self._bytes_min and self.runs:
            self._renew()

    def expire(self) -> bool:
        """The deadline has come: True if the peer has stalled; else the clock is renewed.

        A write of which nobody knows how much of it left cannot be taken up again, so then the peer has stalled.
        """
        if not self._is_exact or self._moved + self._unsent_at_start - self._unsent_bytes() < self._bytes_min:
            return True
        self._renew()
        return False

    def stop(self) -> None:
        """Nothing waits any more."""
        self.runs = False

    def _renew(self) -> None:
        self.runs = True
        self.deadline = trio.current_time() + self._seconds_max
        self._moved = 0
        self._unsent_at_start = self._unsent_bytes()
