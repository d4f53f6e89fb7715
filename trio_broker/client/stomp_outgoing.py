"""What a STOMP client has handed over and not yet sent: frames, bounded by cost, and the task that writes them.

Whoever sends hands a whole frame over, in one step; one task writes. So a frame can be torn only as the last bytes of
a connection, and what has no checkpoint, such as an acknowledgement, need not wait for the network.
"""

from __future__ import annotations

import math
from typing import Final, final

import trio

from trio_broker.limits import MESSAGE_COST, Limits
from trio_broker.wire.stomp_heartbeat import HEART_BEAT

__all__ = ["Outgoing"]

_EARLY: Final = 0.8
"""Of the time agreed on, how much an idle writer lets pass: a timer that fires when it is due is late."""


@final
class Outgoing:
    """The frames of one connection on their way out, in the order in which they were handed over.

    Args:
        limits: ``mailbox_bytes_max`` is used.
        relief: who waits there looks again when something was written.

    Attributes:
        unsent: messages handed over and not yet handed to the system.
        receipts_due: receipts that were asked for and have not come; they count, so that a server that owes them
            does not make us hold any number.
    """

    def __init__(self, limits: Limits, relief: trio.lowlevel.ParkingLot) -> None:
        self.unsent = 0
        self.receipts_due = 0
        self._relief = relief
        self._mark = limits.mailbox_bytes_max
        self._line = trio.StrictFIFOLock()  # who wants to send, first come, first served
        self._room = trio.lowlevel.ParkingLot()  # where the head of the line waits
        self._work = trio.lowlevel.ParkingLot()  # where the writer waits
        self._frames: list[bytes] = []
        self._cost = 0  # of all of them, those being written included
        self._small_cost = 0  # of those that did not have to wait for room
        self._reserved = 0  # what permits have been promised
        self._over = False
        self._idle_seconds = math.inf

    @property
    def small_full(self) -> bool:
        """Whether what need not wait for room, such as acknowledgements, has come to the mark by itself."""
        return self._small_cost >= self._mark

    def promise(self, every_seconds: float) -> None:
        """From now on, do not let the server wait longer than this for a sign of life."""
        self._idle_seconds = every_seconds * _EARLY

    async def room(self) -> None:
        """Wait, in line, until there is room or no use in waiting. Use it before the next checkpoint."""
        async with self._line:
            while not self._over and self._full():
                await self._room.park()

    def put(self, frame: bytes, *, messages: int = 0, waited: bool = True) -> None:
        """Hand a frame over.

        Args:
            frame: all of it.
            messages: how many of these the program wants to know of if they cannot be sent.
            waited: it comes after `room`, or uses up what was reserved.
        """
        cost = len(frame) + MESSAGE_COST
        self._frames.append(frame)
        self._cost += cost
        self._small_cost += 0 if waited else cost
        self.unsent += messages
        self._work.unpark()

    def reserve(self, cost: int) -> None:
        """Keep room for later."""
        self._reserved += cost

    def give_back(self, cost: int) -> None:
        """Room that was kept is not needed, or is used now."""
        self._reserved -= cost
        self.relieve()

    def relieve(self) -> None:
        """There may be room."""
        self._room.unpark_all()

    def end(self) -> None:
        """There is no use in waiting any more."""
        self._over = True
        self.relieve()

    async def write(self, stream: trio.SocketStream) -> None:
        """Write what is handed over, and heart-beats, until cancelled. Raises as ``stream.send_all``."""
        while True:
            if not self._frames:
                with trio.move_on_after(self._idle_seconds):
                    await self._work.park()
            frames, cost, small, messages = self._frames, self._cost, self._small_cost, self.unsent
            self._frames = []
            await stream.send_all(b"".join(frames) or HEART_BEAT)
            self._cost -= cost
            self._small_cost -= small
            self.unsent -= messages
            self.relieve()
            self._relief.unpark_all()

    def _full(self) -> bool:
        return self._cost + self._reserved >= self._mark or self.receipts_due * MESSAGE_COST >= self._mark
