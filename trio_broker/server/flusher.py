"""One task writes for all connections of a server what can be written without waiting.

A mailbox that gets something does not wake a task of its connection; the connection's speaker stands in this line, and
is flushed together with all others that got something meanwhile. Only where the system would take no more does it start
a writer of its own (`Speaker.flush`).
"""

from __future__ import annotations

from typing import Protocol, final

import trio

__all__ = ["Flushable", "Flusher"]


class Flushable(Protocol):
    """What stands in the line: a connection's speaker."""

    def flush(self) -> None:
        """Write something, without waiting. What it raised would end the server."""
        ...


@final
class Flusher:
    """The line of those who have something to write."""

    __slots__ = ("_idle", "_line", "_will_flush")

    def __init__(self) -> None:
        self._line: dict[Flushable, None] = {}  # in order of arrival
        self._will_flush = False  # somebody will flush in this step or the next
        self._idle = trio.lowlevel.ParkingLot()

    def add(self, speaker: Flushable) -> None:
        """This one has something to write; it is flushed once, soon, however often it says so."""
        self._line[speaker] = None
        if not self._will_flush:
            self._wake()

    def announce(self) -> None:
        """The caller will `flush` in this step; so nobody needs to be woken for what comes meanwhile."""
        self._will_flush = True

    def flush(self) -> None:
        """Flush all who stand in line now; who has more left than one write stands in line again."""
        line, self._line = self._line, {}
        for speaker in line:
            speaker.flush()
        self._will_flush = False
        if self._line:
            self._wake()

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program's own tasks
    async def run(self) -> None:
        """Flush, until cancelled.

        Cancellation: atomic. Nothing is between two places when this waits.
        """
        while True:
            if self._line:
                await trio.lowlevel.checkpoint()  # others have their turn between two writes of a busy connection
            else:
                await self._idle.park()
            self.flush()

    def _wake(self) -> None:
        self._will_flush = True
        self._idle.unpark()
