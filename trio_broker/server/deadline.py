"""The reader's deadline: what the peer must finish, until when, and what is said when it does not.

One scope, whose deadline means different things at different times: first the handshake, then each frame that has begun
and is not whole, or room for the rest of one. There is none between frames, nor while a message waits for its channel.
"""

from __future__ import annotations

import math
from typing import final

import trio

from trio_broker.limits import Limits

__all__ = ["Deadline"]


@final
class Deadline:
    """Runs while something is unfinished.

    Args:
        scope: what is cancelled when it passes.
        limits: ``handshake_seconds_max``, ``frame_seconds_max`` and ``publish_seconds_max`` are used.

    Attributes:
        runs: something is to come.
        overdue: what is to be said when it has not.
    """

    __slots__ = ("_limits", "_scope", "overdue", "runs")

    def __init__(self, scope: trio.CancelScope, limits: Limits) -> None:
        self._scope = scope
        self._limits = limits
        self.runs = False
        self.overdue = ""

    def expect_handshake(self) -> None:
        """Nothing has come yet; the first frame must be whole in time."""
        self._expect(self._limits.handshake_seconds_max, "no whole frame within handshake_seconds_max")

    def expect_the_rest(self) -> None:
        """A frame has begun, and must be whole in time. Does nothing if this runs already."""
        if not self.runs:
            self._expect(self._limits.frame_seconds_max, "a frame took longer than frame_seconds_max")

    def expect_room(self) -> None:
        """The rest of a frame is not read before there is memory for it."""
        self._expect(self._limits.publish_seconds_max, "no memory for the rest of a frame within publish_seconds_max")

    def stop(self) -> None:
        """What was expected has come, or nobody reads it."""
        if self.runs:  # setting a deadline costs more than this question
            self.runs = False
            self._scope.deadline = math.inf

    def _expect(self, seconds: float, otherwise: str) -> None:
        self._scope.deadline = trio.current_time() + seconds
        self.runs = True
        self.overdue = f"{otherwise} ({seconds:g} s)"
