"""A network in memory that is as unkind as a real one, and the same in every run.

`trio.testing.memory_stream_pair` takes all bytes at once, so a write never waits there and a frame is never torn: it
hides what an explorer looks for. Here buffers are finite, writes are short, a close with unread input resets the
connection, and a `Fault` may happen at each operation. There is no chance and no clock; tasks are woken in the order
in which they came.

What can be done at once is done at once, and then the task gives way, as with Trio's sockets: a peer may have answered
before `send_all` returns, and a cancellation that comes in between does not undo what was done.

Operations are each step of `send_all`, `receive_some` and `send_eof`; `accept` and `connect`. What faults do to them:

=========  =====================================  ================================  ===================================
fault      on a stream                            at ``accept``                     at ``connect``
=========  =====================================  ================================  ===================================
``EOF``    this end reads what has arrived, then  the accepted stream has this      connected, past the backlog; then
           ``b""``; what either end sends is      fault from its beginning          the other end closes at once
           lost, silently
``RESET``  both ends are broken; what was on its  ``OSError(EMFILE)``; who waits    `ConnectionRefusedError`
           way is lost                            in the backlog stays there
``SHORT``  one byte moves (`send_eof`: none);     the task gives way once more      the task gives way once more
           the task gives way once more
``STALL``  nothing moves any more; the tasks of   the accepted stream has this      parks until cancelled; nobody hears
           both ends park until cancelled, or     fault from its beginning          of it
           until they close their own end
=========  =====================================  ================================  ===================================

``EMFILE``, since `trio.serve_listeners` survives no other kind of error of ``accept`` than a lack of resources.
"""

from __future__ import annotations

import errno
import os
import sys
from collections import deque
from functools import partial
from typing import Final, final

import trio

from trio_broker.explorer.faults import Fault, next_operation
from trio_broker.explorer.streams import (
    BUFFER_BYTES,
    WRITE_BYTES_MAX,
    NetworkStream,
    as_soon_as_possible,
    stream_pair,
)

__all__ = ["Network", "NetworkListener", "NetworkStream", "stream_pair"]

_BACKLOG_MAX: Final = 16
_FIRST_FREE_PORT: Final = 49_152


@final
class NetworkListener(trio.abc.Listener[NetworkStream]):
    """Where connections to a port arrive. Made by `Network.listen`.

    Attributes:
        port: its number.
    """

    __slots__ = ("_arrived", "_backlog", "_backlog_max", "_listeners", "_promised", "_room", "port")

    def __init__(self, port: int, backlog_max: int, listeners: dict[int, NetworkListener]) -> None:
        self.port: Final = port
        self._backlog_max = backlog_max
        self._listeners = listeners  # the network's, by port; this one is in there until it is closed
        self._backlog: deque[NetworkStream] = deque()
        self._arrived = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._promised = 0  # room in the backlog, for tasks that were woken and have not yet run

    async def accept(self) -> NetworkStream:
        """Wait for a connection and take it; any number of tasks may. The caller must close it.

        Raises:
            trio.ClosedResourceError: this listener was closed, even while this waits.
            OSError: ``EMFILE``, by a fault. Nothing was taken.

        Cancellation: atomic. If `trio.Cancelled` is raised, no connection was taken. Always a checkpoint.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        fault = None if self._is_closed else next_operation()
        if fault is Fault.RESET:
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise _os_error(errno.EMFILE)
        stream = await as_soon_as_possible(self._take, self._arrived)
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
        if not self._is_closed:
            del self._listeners[self.port]
            while self._backlog:
                self._backlog.popleft()._close(reset=True)
            self._room.unpark_all()
            self._arrived.unpark_all()
        await trio.lowlevel.checkpoint()

    @property
    def _is_closed(self) -> bool:
        return self._listeners.get(self.port) is not self

    def _take(self) -> NetworkStream | None:
        if self._is_closed:
            raise trio.ClosedResourceError
        if not self._backlog:
            return None
        stream = self._backlog.popleft()
        self._promised += len(self._room.unpark())  # nobody who comes now gets it before the one who waits
        return stream

    async def _wait_for_room(self) -> None:  # noqa: ASYNC910  connect has a checkpoint of its own
        if len(self._backlog) + self._promised >= self._backlog_max:
            await self._room.park()
            if self._is_closed:
                raise _os_error(errno.ECONNREFUSED)
            self._promised -= 1

    def _arrive(self, stream: NetworkStream) -> None:
        self._backlog.append(stream)
        self._arrived.unpark()


@final
class Network:
    """Listeners, those who connect to them, and a list of every stream there ever was.

    Args:
        buffer_bytes: of each connection and direction; see `stream_pair`.
        write_bytes_max: of each stream; see `stream_pair`.
        backlog_max: how many connections wait for a listener to accept them before `connect` has to; at least 1.
    """

    __slots__ = ("_backlog_max", "_listeners", "_pair", "_streams")

    def __init__(
        self,
        *,
        buffer_bytes: int = BUFFER_BYTES,
        write_bytes_max: int = WRITE_BYTES_MAX,
        backlog_max: int = _BACKLOG_MAX,
    ) -> None:
        if min(buffer_bytes, write_bytes_max, backlog_max) < 1:
            raise ValueError("a buffer, a write and a backlog must hold at least one")
        self._pair = partial(stream_pair, buffer_bytes=buffer_bytes, write_bytes_max=write_bytes_max)
        self._backlog_max = backlog_max
        self._listeners: dict[int, NetworkListener] = {}
        self._streams: list[NetworkStream] = []

    @property
    def streams(self) -> tuple[NetworkStream, ...]:
        """Both ends of every connection ever made, in order; of each, first the end that connected."""
        return tuple(self._streams)

    @property
    def open_streams(self) -> tuple[NetworkStream, ...]:
        """Those of `streams` that were not closed. At the end of a scenario there should be none."""
        return tuple(stream for stream in self._streams if not stream.closed)

    def listen(self, port: int = 0) -> NetworkListener:
        """Listen to a port; 0 for the first free one. Raises ``OSError(EADDRINUSE)`` if it is taken. Synchronous."""
        if port == 0:
            port = next(free for free in range(_FIRST_FREE_PORT, sys.maxsize) if free not in self._listeners)
        if port in self._listeners:
            raise _os_error(errno.EADDRINUSE)
        self._listeners[port] = NetworkListener(port, self._backlog_max, self._listeners)
        return self._listeners[port]

    async def connect(self, port: int) -> NetworkStream:
        """Connect to a listener. Waits while its backlog is full, not for it to accept. The caller must close it.

        Raises:
            ConnectionRefusedError: nobody listens there, or the listener was closed while this waited.

        Cancellation: atomic. If `trio.Cancelled` is raised, nothing was connected. Always a checkpoint.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        fault = next_operation()
        if fault is Fault.STALL:
            await trio.sleep_forever()
        listener = self._listeners.get(port)
        if listener is None or fault is Fault.RESET:
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise _os_error(errno.ECONNREFUSED)
        if fault is not Fault.EOF:
            await listener._wait_for_room()
        ours, theirs = self._pair()
        number = len(self._streams) // 2 + 1
        ours._name, theirs._name = f"{number} to port {port}", f"{number} at port {port}"
        self._streams += (ours, theirs)
        if fault is Fault.EOF:
            theirs._close()
        else:
            listener._arrive(theirs)
        await trio.lowlevel.cancel_shielded_checkpoint()
        if fault is Fault.SHORT:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return ours


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
