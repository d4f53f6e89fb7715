"""Streams in memory that behave like sockets: a finite buffer, short writes, half-close, reset; and a listener.

`trio.testing.memory_stream_pair` takes everything at once, so a write never waits there and a frame is never torn.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import final

import trio


@final
class _Pipe:
    """One direction: what is sent waits in a buffer of a fixed size until it is received."""

    def __init__(self, buffer_bytes: int, write_bytes_max: int) -> None:
        self.waiting = bytearray()
        self.ended = False  # the sender said that nothing more comes
        self.broken = False  # the receiver has gone, or the connection was reset
        self.changed = trio.lowlevel.ParkingLot()
        self._buffer_bytes = buffer_bytes
        self._write_bytes_max = write_bytes_max

    @property
    def room(self) -> int:
        return min(self._buffer_bytes - len(self.waiting), self._write_bytes_max)

    def put(self, data: memoryview) -> int:
        """Take what there is room for; return how much that was."""
        taken = data[: max(self.room, 0)]
        self.waiting += taken
        self.changed.unpark_all()
        return len(taken)

    def take(self, bytes_max: int) -> bytes:
        data = bytes(self.waiting[:bytes_max])
        del self.waiting[:bytes_max]
        self.changed.unpark_all()
        return data

    def end(self) -> None:
        self.ended = True
        self.changed.unpark_all()

    def break_off(self, *, forget: bool) -> None:
        self.broken = True
        if forget:
            self.waiting.clear()
        self.changed.unpark_all()


@final
class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection in memory. A cancelled `send_all` has sent an unknown prefix, as on a socket."""

    def __init__(self, sending: _Pipe, receiving: _Pipe) -> None:
        self._sending = sending
        self._receiving = receiving
        self._busy = False  # a task is inside send_all
        self.closed = False

    @property
    def unread(self) -> int:
        """How many bytes wait to be received here."""
        return len(self._receiving.waiting)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._busy:
            raise trio.BusyResourceError("two tasks write to one stream")
        self._busy = True
        try:
            await trio.lowlevel.checkpoint()
            view = memoryview(data)
            while view:
                self._refuse_if_closed()
                if self._sending.broken or self._sending.ended:
                    raise trio.BrokenResourceError("the peer has gone")
                view = view[self._sending.put(view) :]
                if view:
                    await self._wait_for_room()
        finally:
            self._busy = False

    async def wait_send_all_might_not_block(self) -> None:
        await self._wait_for_room()

    async def send_eof(self) -> None:
        self._refuse_if_closed()
        self._sending.end()
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            self._refuse_if_closed()
            if self._receiving.waiting:
                return self._receiving.take(len(self._receiving.waiting) if max_bytes is None else max_bytes)
            if self._receiving.broken:
                raise trio.BrokenResourceError("the connection was reset")
            if self._receiving.ended:
                return b""
            await self._receiving.changed.park()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self.closed = True
        self._sending.end()
        self._receiving.break_off(forget=True)

    def reset(self) -> None:
        """Break both directions; what was on its way is gone."""
        self._sending.break_off(forget=True)
        self._receiving.break_off(forget=True)

    async def _wait_for_room(self) -> None:
        if self._sending.room > 0 or self._sending.broken:
            await trio.lowlevel.checkpoint()
        while self._sending.room <= 0 and not self._sending.broken and not self.closed:
            await self._sending.changed.park()

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise trio.ClosedResourceError


def stream_pair(buffer_bytes: int = 65_536, write_bytes_max: int = 65_536) -> tuple[MemoryStream, MemoryStream]:
    """Two connected ends; in each direction at most ``buffer_bytes`` wait, written in pieces of the given size."""
    there, back = _Pipe(buffer_bytes, write_bytes_max), _Pipe(buffer_bytes, write_bytes_max)
    return MemoryStream(there, back), MemoryStream(back, there)


@final
class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """A listener to which tests connect without a socket.

    Args:
        buffer_bytes: of each connection and direction.
        write_bytes_max: what a stream takes at a time.
    """

    def __init__(self, buffer_bytes: int = 65_536, write_bytes_max: int = 65_536) -> None:
        self._buffer_bytes = buffer_bytes
        self._write_bytes_max = write_bytes_max
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream | OSError](math.inf)
        self.accepted: list[MemoryStream] = []  # the server's ends, in order of arrival
        self.closed = False

    def connect(self) -> MemoryStream:
        """Connect; the server's end waits to be accepted. Raises ``ConnectionRefusedError`` after the close."""
        if self.closed:
            raise ConnectionRefusedError
        ours, theirs = stream_pair(self._buffer_bytes, self._write_bytes_max)
        self.accepted.append(theirs)
        self._send.send_nowait(theirs)
        return ours

    def offer(self, accepted: trio.abc.Stream | OSError) -> None:
        """Let the next accept give this stream, or raise this error."""
        self._send.send_nowait(accepted)

    async def accept(self) -> trio.abc.Stream:
        accepted = await self._receive.receive()
        if isinstance(accepted, OSError):
            raise accepted
        return accepted

    async def aclose(self) -> None:
        self.closed = True
        self._receive.close()
        self._send.close()
        await trio.lowlevel.checkpoint()


@final
class RaisingStream(trio.abc.Stream):
    """A stream with a defect: what its methods raise is not what streams raise.

    Args:
        error: what to raise.
        where: the method that raises it, once; the others wait for ever, or do nothing.
        data: what is received first.
        always: raise every time, not only the first.
    """

    def __init__(self, error: BaseException, where: str, data: bytes = b"", *, always: bool = False) -> None:
        self._always = always
        self._error = error
        self._where = where
        self._data = data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._act("send_all", trio.sleep_forever)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._data:
            data, self._data = self._data, b""
            await trio.lowlevel.checkpoint()
            return data
        await self._act("receive_some", trio.sleep_forever)
        return b""

    async def aclose(self) -> None:
        await self._act("aclose", trio.lowlevel.checkpoint)

    async def _act(self, name: str, otherwise: Callable[[], Awaitable[object]]) -> None:
        if name == self._where:
            if not self._always:
                self._where = ""
            raise self._error
        await otherwise()
