"""The account of everything a broker holds, against one mark.

Mailboxes, backlogs, what is to be settled, open transactions and unfinished frames are entered here in cost. Above the
mark publishers wait, wherever they publish to, and the rest of a long frame is not read, unless its sender has
something to settle.
"""

from __future__ import annotations

from typing import final

import trio

__all__ = ["Memory"]


@final
class Memory:
    """A sum with a mark.

    Args:
        cost_max: the mark, in bytes of cost. What is added while the sum is below it may pass it, so one large
            message always gets through.
    """

    __slots__ = ("_cost_max", "_room", "cost")

    def __init__(self, cost_max: int) -> None:
        self.cost = 0
        self._cost_max = cost_max
        self._room = trio.lowlevel.ParkingLot()

    @property
    def is_full(self) -> bool:
        return self.cost >= self._cost_max

    def add(self, cost: int) -> None:
        """Enter what is held from now on; a negative cost leaves."""
        self.cost += cost
        if cost < 0 and self._room and self.cost < self._cost_max:
            self._room.unpark_all()

    async def room(self) -> None:  # noqa: ASYNC910  waits only if it must
        """Wait until the sum is below the mark. Whoever is woken must look again: others were woken too."""
        while self.is_full:
            await self._room.park()
