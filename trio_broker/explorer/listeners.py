"""Where connections to a port of the in-memory network arrive, and wait to be accepted.

What faults do at ``accept`` says `network`.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import Final, final

import trio

from trio_broker.explorer.addresses import Place, os_error
from trio_broker.explorer.faults import Fault, next_operation
from trio_broker.explorer.streams import NetworkStream, Parking, as_soon_as_possible

__all__ = ["NetworkListener"]


@final
class NetworkListener(trio.abc.Listener[NetworkStream]):
    """Where connections to a port arrive. Made by `Network.listen`.

    Attributes:
        port: its number.
    """

    __slots__ = ("_arrived", "_backlog", "_backlog_max", "_place", "_places", "_promised", "_room", "port")

    def __init__(self, place: Place, backlog_max: int, places: dict[Place, NetworkListener | None]) -> None:
        self.port: Final = place[1]
        self._backlog_max = backlog_max
        self._place = place
        self._places = places  # the network's; this one is in there until it is closed
        self._backlog: deque[NetworkStream] = deque()
        self._arrived = trio.lowlevel.ParkingLot()
        self._room: deque[trio.lowlevel.ParkingLot] = deque()  # of those who wait for room, each in one of its own
        self._promised = 0  # room in the backlog, for tasks that were woken and have not yet run

    async def accept(self) -> NetworkStream:
        """Wait for a connection and take it; any number of tasks may. The caller must close it.

        Raises:
            trio.ClosedResourceError: this listener was closed, even while this waits.
            OSError: ``EMFILE``, by a fault. Nothing was taken.

        Cancellation: atomic. If `trio.Cancelled` is raised, no connection was taken. Always a checkpoint.
        """
        return await self._accept(self._arrived)

    async def _accept(self, arrived: Parking) -> NetworkStream:
        await trio.lowlevel.checkpoint_if_cancelled()
        fault = None if self._is_closed else next_operation()
        if fault is Fault.RESET:
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise os_error(errno.EMFILE)
        stream = await as_soon_as_possible(self._take, arrived)
        if fault is Fault.SHORT:
            await trio.lowlevel.cancel_shielded_checkpoint()
        elif fault is not None:
            stream._suffer(fault)
        return stream

    async def aclose(self) -> None:
        """Stop listening. Connects are refused from now on, also those that wait for room in the backlog. What is in
        the backlog is reset, what was accepted lives on. Idempotent.

        Cancellation: cleanup. The listener is closed whatever is raised. Always a checkpoint.
        """
        self._close()
        await trio.lowlevel.checkpoint()

    def _close(self) -> None:
        if self._is_closed:
            return
        del self._places[self._place]
        while self._backlog:
            self._backlog.popleft()._close(reset=True)
        while self._room:
            self._room.popleft().unpark()
        self._arrived.unpark_all()

    @property
    def _is_closed(self) -> bool:
        return self._places.get(self._place) is not self

    def _take(self) -> NetworkStream | None:
        if self._is_closed:
            raise trio.ClosedResourceError
        if not self._backlog:
            return None
        stream = self._backlog.popleft()
        if self._room:
            self._room.popleft().unpark()
            self._promised += 1  # nobody who comes now gets it before the one who waits
        return stream

    async def _wait_for_room(self, parking: trio.lowlevel.ParkingLot) -> None:
        if len(self._backlog) + self._promised < self._backlog_max:
            return  # noqa: ASYNC910  connect has a checkpoint of its own
        self._room.append(parking)
        try:
            await parking.park()
        finally:
            gave_up = parking in self._room
            if gave_up:
                self._room.remove(parking)
        if gave_up:
            raise trio.ClosedResourceError("the socket was closed while it waited to be connected")
        if self._is_closed:
            raise os_error(errno.ECONNREFUSED)
        self._promised -= 1

    def _arrive(self, stream: NetworkStream) -> None:
        self._backlog.append(stream)
        self._arrived.unpark()
