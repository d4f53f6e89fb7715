"""Streams in memory that are as unkind as real ones: finite buffers, short writes, resets, and faults.

What is said of them, and a table of the faults, stands at the top of `network`, which makes listeners out of them.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, TypeVar, final

import trio

from trio_broker.explorer.addresses import Place
from trio_broker.explorer.faults import Fault, next_operation

__all__ = ["BUFFER_BYTES", "WRITE_BYTES_MAX", "NetworkStream", "Parking", "as_soon_as_possible", "stream_pair"]

_Result = TypeVar("_Result")

# Small enough to tear an ordinary frame, large enough that not every byte costs a run of its own.
BUFFER_BYTES: Final = 256
WRITE_BYTES_MAX: Final = 64


def stream_pair(
    *, buffer_bytes: int = BUFFER_BYTES, write_bytes_max: int = WRITE_BYTES_MAX
) -> tuple[NetworkStream, NetworkStream]:
    """Two connected ends.

    Args:
        buffer_bytes: how much waits in each direction before a sender has to; at least 1.
        write_bytes_max: how much one step of `NetworkStream.send_all` moves at most; at least 1.
    """
    if min(buffer_bytes, write_bytes_max) < 1:
        raise ValueError("a buffer and a write must hold at least one byte")
    there, back = _Pipe(buffer_bytes, write_bytes_max), _Pipe(buffer_bytes, write_bytes_max)
    return NetworkStream("left", there, back), NetworkStream("right", back, there)


@final
@dataclass(slots=True, eq=False)
class _Pipe:
    """One direction of a connection: what was sent waits here until it is received."""

    buffer_bytes: int
    write_bytes_max: int
    waiting: bytearray = field(default_factory=bytearray)
    changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    ended: bool = False  # nothing more comes after what waits
    broken: bool = False  # the connection was reset, or it looks so to the sender
    deaf: bool = False  # the receiving end was closed
    void: bool = False  # a fault: what is sent vanishes
    stalled: bool = False  # a fault: nothing moves, and nothing else that happens can be seen


@final
class NetworkStream(trio.abc.HalfCloseableStream):
    """One end of a connection. Made by `stream_pair`, `Network.connect` and `NetworkListener.accept`.

    Attributes:
        closed: whether this end was closed: by its owner, or by a listener that had not given it to anybody.
    """

    __slots__ = ("_busy", "_ended", "_local", "_name", "_receiving", "_remote", "_sending", "closed")

    def __init__(self, name: str, sending: _Pipe, receiving: _Pipe) -> None:
        self._name = name
        self._sending = sending
        self._receiving = receiving
        self._busy: set[str] = set()  # what a task does with this end at this moment
        self._ended = False  # send_eof has been done
        self._local: Place = ("", 0)  # where this end is, and where the other: of interest to sockets only
        self._remote: Place = ("", 0)
        self.closed = False

    def __repr__(self) -> str:
        return f"<NetworkStream {self._name}, {'closed' if self.closed else 'open'}>"

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything, in steps of at most ``write_bytes_max`` bytes with a checkpoint in between.

        Raises:
            trio.BrokenResourceError: the peer has closed its end, or the connection was reset.
            trio.ClosedResourceError: this end was closed, even while this waits, or `send_eof` was called.
            trio.BusyResourceError: another task is inside a method that sends.

        Cancellation: unknown. Some prefix of the data was sent, and nobody says how much. Always a checkpoint.
        """
        with _one_task(self._busy, "sends on"), memoryview(data) as view, view.cast("B") as rest:
            self._refuse_if_closed(or_ended=True)
            await trio.lowlevel.checkpoint_if_cancelled()
            if not rest:
                await trio.lowlevel.cancel_shielded_checkpoint()
            sent = 0
            while sent < len(rest):
                with rest[sent:] as piece:
                    put = partial(self._put, piece)
                    sent += await self._operation(self._sending, put, self._sending.write_bytes_max)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room, or sending would fail. Not an operation at which a fault happens.

        Raises: `trio.ClosedResourceError` and `trio.BusyResourceError`, as `send_all`.

        Cancellation: atomic; it changes nothing. Always a checkpoint.
        """
        with _one_task(self._busy, "sends on"):
            await trio.lowlevel.checkpoint_if_cancelled()
            await as_soon_as_possible(self._has_room, self._sending.changed)

    async def send_eof(self) -> None:
        """Say that nothing more comes: the peer reads what was sent, then ``b""``. Idempotent.

        Raises:
            trio.BrokenResourceError: the connection was reset. That the peer has closed its end is no error here,
                unless a `send_all` has found out.
            trio.ClosedResourceError: this end was closed.
            trio.BusyResourceError: another task is inside a method that sends.

        Cancellation: atomic. If `trio.Cancelled` is raised, the peer was told nothing. Always a checkpoint.
        """
        with _one_task(self._busy, "sends on"):
            await self._operation(self._sending, self._put_eof)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait until something has arrived and take it; ``b""`` when the peer has ended and everything was taken.

        Args:
            max_bytes: how much to take at most, at least 1; None for all that is there.

        Raises:
            trio.BrokenResourceError: the connection was reset. As on Linux, what arrived before can be received
                first (unless a fault lost it), and ``b""`` is given instead if the peer's end of data had arrived.
                Unlike Linux, which reports a reset once and then gives ``b""``, what is broken stays broken.
            trio.ClosedResourceError: this end was closed, even while this waits.
            trio.BusyResourceError: another task receives.

        Cancellation: atomic. If `trio.Cancelled` is raised, nothing was taken. Always a checkpoint.
        """
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        with _one_task(self._busy, "receives from"):
            return await self._operation(self._receiving, self._take, max_bytes or sys.maxsize)

    async def aclose(self) -> None:
        """Close this end. Idempotent.

        The peer reads what was sent, then ``b""``; when it sends it gets `trio.BrokenResourceError`. If input waits
        here that nobody has read, the connection is reset instead, as TCP does it: see `receive_some`.

        Cancellation: cleanup. The end is closed whatever is raised. Always a checkpoint.
        """
        self._close()
        await trio.lowlevel.checkpoint()

    def _close(self, *, reset: bool = False) -> None:
        if self.closed:
            return
        self.closed = True
        if reset or self._receiving.waiting:
            self._sending.broken = self._receiving.broken = True
        else:
            self._sending.ended = True
        self._receiving.deaf = True
        self._receiving.waiting.clear()
        self._tell_both_ends()

    def _suffer(self, fault: Fault) -> None:
        for pipe in (self._sending, self._receiving):
            match fault:
                case Fault.EOF:
                    pipe.void = True
                case Fault.RESET:
                    pipe.broken, pipe.ended = True, False
                    pipe.waiting.clear()
                case Fault.STALL:
                    pipe.stalled = True
                case Fault.SHORT:
                    pass  # the operation's own affair
        if fault is Fault.EOF and not self._receiving.broken:
            self._receiving.ended = True
        self._tell_both_ends()

    def _tell_both_ends(self) -> None:
        self._sending.changed.unpark_all()
        self._receiving.changed.unpark_all()

    def _refuse_if_closed(self, *, or_ended: bool = False) -> None:
        if self.closed or (or_ended and self._ended):
            raise trio.ClosedResourceError("this end was closed" if self.closed else "the end was already sent")

    async def _operation(
        self,
        pipe: _Pipe,
        attempt: Callable[[int], _Result | None],
        bytes_max: int = 0,
        parking: Parking | None = None,
    ) -> _Result:
        """Count an operation, let the fault happen that is to happen at it, then do what it is about."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._refuse_if_closed()
        fault = next_operation()
        if fault is not None:
            self._suffer(fault)
        limit = 1 if fault is Fault.SHORT else bytes_max
        result = await as_soon_as_possible(partial(attempt, limit), parking or pipe.changed)
        if fault is Fault.SHORT:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return result

    # The attempts of `as_soon_as_possible`: None says that it is not possible yet.

    def _put(self, data: memoryview, limit: int) -> int | None:
        self._refuse_if_closed(or_ended=True)
        pipe = self._sending
        if pipe.stalled:
            return None
        if pipe.broken or pipe.deaf:
            pipe.broken = True  # from now on send_eof fails too, as on Linux
            raise trio.BrokenResourceError("the peer has closed the connection, or it was reset")
        if pipe.void:
            return min(len(data), limit)
        taken = data[: min(limit, pipe.buffer_bytes - len(pipe.waiting))]
        pipe.waiting += taken
        pipe.changed.unpark_all()
        return len(taken) or None

    def _has_room(self) -> bool | None:
        self._refuse_if_closed(or_ended=True)
        pipe = self._sending
        has_room = len(pipe.waiting) < pipe.buffer_bytes or pipe.broken or pipe.deaf or pipe.void
        return (has_room and not pipe.stalled) or None

    def _put_eof(self, _limit: int = 0) -> bool | None:
        self._refuse_if_closed()
        pipe = self._sending
        if pipe.stalled:
            return None
        if pipe.broken and not self._ended:
            raise trio.BrokenResourceError("the connection was reset")
        self._ended = pipe.ended = True
        pipe.changed.unpark_all()
        return True

    def _take(self, limit: int) -> bytes | None:
        self._refuse_if_closed()
        pipe = self._receiving
        if pipe.stalled:
            return None
        if pipe.broken and not pipe.waiting and not pipe.ended:
            raise trio.BrokenResourceError("the connection was reset")
        data = bytes(pipe.waiting[:limit])
        del pipe.waiting[:limit]
        pipe.changed.unpark_all()
        return data if data or pipe.ended else None


@contextmanager
def _one_task(busy: set[str], what: str) -> Iterator[None]:
    if what in busy:
        raise trio.BusyResourceError(f"another task {what} this stream")
    busy.add(what)
    try:
        yield
    finally:
        busy.remove(what)


class Parking(Protocol):
    """Where a task waits for a change: a `trio.lowlevel.ParkingLot`, or one with a rule of its own."""

    async def park(self) -> None:
        """Wait to be woken."""


async def as_soon_as_possible(attempt: Callable[[], _Result | None], changed: Parking) -> _Result:
    """Attempt something at once and then give way; or park, and attempt it again whenever something has changed.

    Cancellation: atomic. Only the parking can be cancelled, and then no attempt has succeeded.
    """
    try:
        result = attempt()
    except BaseException:
        await trio.lowlevel.cancel_shielded_checkpoint()  # else a loop around an error would never give way
        raise
    if result is not None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        return result
    while True:  # noqa: ASYNC913  it parks
        await changed.park()
        result = attempt()
        if result is not None:
            return result
