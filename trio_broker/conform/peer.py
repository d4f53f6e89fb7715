"""One connection to the broker under test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, final

import trio

from trio_broker.conform.check import Mismatch
from trio_broker.conform.frames import Frame, FrameReader, Malformed, encode

__all__ = ["End", "Peer"]

_READ_BYTES: Final = 65_536
_BYTES_MAX: Final = 32 * 1024 * 1024  # of one connection; no check asks for a tenth of it

Headers = Mapping[str, str]


class End(NamedTuple):
    """How the broker ended a connection."""

    reset: bool = False
    inside: bool = False

    def __str__(self) -> str:
        if self.inside:
            return "connection closed inside a frame"
        return "connection reset" if self.reset else "connection closed"


@final
class Peer:
    """A client that writes what it is told, and reads strictly.

    Attributes:
        version: how frames are written and read.
        waiting: what the peer waits for, for a report should it never come.
    """

    def __init__(self, stream: trio.abc.Stream, version: str, quiet_seconds: float) -> None:
        self.version = version
        self.waiting = ""
        self._stream = stream
        self._quiet_seconds = quiet_seconds
        self._reader = FrameReader(version)
        self._held: list[Frame] = []
        self._end: End | None = None
        self._receipts = 0
        self._bytes = 0

    @property
    def beats(self) -> int:
        """How many line ends came between frames."""
        return self._reader.beats

    async def send(self, data: bytes) -> None:
        """Write these bytes. A connection that the broker has ended swallows them: reading will tell.

        Cancellation: part of it may have been written.
        """
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            await trio.lowlevel.checkpoint()

    async def frame(self, command: str, headers: Headers, body: bytes | None = None) -> None:
        """Write a well-formed frame. Cancellation: as `send`."""
        await self.send(encode(self.version, command, headers.items(), body))

    async def receipted(self, command: str, headers: Headers, body: bytes | None = None) -> None:
        """Write a frame with a receipt and wait until that came. Raises `Mismatch`. Cancellation: as `send`."""
        self._receipts += 1
        receipt = f"receipt-{self._receipts}"
        await self.frame(command, {**headers, "receipt": receipt}, body)
        await self.receipt(receipt, command)

    async def receipt(self, receipt: str, command: str = "it") -> Frame:
        """Wait for a RECEIPT. Raises `Mismatch`. Cancellation: what came meanwhile is kept."""
        wanted = lambda frame: frame.command == "RECEIPT" and frame.get("receipt-id") == receipt  # noqa: E731  a sentence
        return await self.expect(f"the RECEIPT for {command}", wanted)

    async def message(self, what: str = "a MESSAGE") -> Frame:
        """Wait for a MESSAGE. Raises `Mismatch`. Cancellation: what came meanwhile is kept."""
        return await self.expect(what, lambda frame: frame.command == "MESSAGE")

    async def error(self, what: str = "an ERROR") -> Frame:
        """Wait for an ERROR. Raises `Mismatch`. Cancellation: what came meanwhile is kept."""
        return await self.expect(what, lambda frame: frame.command == "ERROR")

    async def expect(self, what: str, wanted: Callable[[Frame], bool]) -> Frame:
        """Wait for a frame; others are kept for later.

        Args:
            what: it is, for reports.
            wanted: whether it is this one.

        Raises:
            Mismatch: an ERROR came instead, or the end, or something that is no frame.

        Cancellation: what came meanwhile is kept.
        """
        self.waiting = what
        await trio.lowlevel.checkpoint()
        for index, frame in enumerate(self._held):
            if wanted(frame):
                return self._held.pop(index)
        while True:
            came = await self.receive()
            if isinstance(came, End) or (came.command == "ERROR" and not wanted(came)):
                raise Mismatch(f"{came} instead of {what}")
            if wanted(came):
                return came
            self._held.append(came)

    async def quiet(self) -> list[Frame]:
        """All that came and was not asked for, once nothing has come for a while and the connection still stands.

        Raises:
            Mismatch: the connection ended, or something came that is no frame.

        Cancellation: what came meanwhile is lost.
        """
        frames, end = await self.quiet_or_end()
        if end is not None:
            raise Mismatch(", ".join(map(str, [*frames[-1:], end])))
        return frames

    async def quiet_or_end(self) -> tuple[list[Frame], End | None]:
        """All that came and was not asked for, once nothing has come for a while; and the end, if that came.

        Raises:
            Mismatch: something came that is no frame.

        Cancellation: what came meanwhile is lost.
        """
        await trio.lowlevel.checkpoint()
        frames, self._held = self._held, []
        while self._end is None:
            came = None
            with trio.move_on_after(self._quiet_seconds):
                came = await self.receive()
            if not isinstance(came, Frame):
                break
            frames.append(came)
        return frames, self._end

    async def ended(self, seconds: float, after: str) -> End:
        """Wait for the end of the connection; frames that come before it are kept.

        Args:
            seconds: how long the broker may take.
            after: what came before, for reports.

        Raises:
            Mismatch: it did not end in time, or something came that is no frame.

        Cancellation: what came meanwhile is kept.
        """
        with trio.move_on_after(seconds):
            while True:
                came = await self.receive()
                if isinstance(came, End):
                    return came
                self._held.append(came)
        raise Mismatch(f"{after}, but the connection is still open after {seconds:g} s")

    async def receive(self) -> Frame | End:
        """The next frame, or the end. Raises `Mismatch` for what is neither. Cancellation: nothing is lost."""
        await trio.lowlevel.checkpoint()
        try:
            while self._end is None:
                frame = self._reader.next_frame()
                if frame is not None:
                    return frame
                await self._read()
        except Malformed as error:
            raise Mismatch(f"not a frame: {error}") from None
        return self._end

    async def data(self) -> End | None:
        """Wait until the broker sent anything at all; returns the end, or None. Cancellation: as `receive`."""
        await trio.lowlevel.checkpoint()
        if self._end is None:
            await self._read()
        return self._end

    async def _read(self) -> None:
        try:
            data = await self._stream.receive_some(_READ_BYTES)
        except trio.BrokenResourceError:
            self._end = End(reset=True)
            await trio.lowlevel.checkpoint()
            return
        self._bytes += len(data)
        if self._bytes > _BYTES_MAX:
            raise Mismatch(f"more than {_BYTES_MAX:,} bytes that nobody asked for")
        if data:
            self._reader.feed(data)
        else:
            self._end = End(inside=self._reader.unfinished)

    async def finish_sending(self) -> None:
        """Tell the broker that nothing more comes, where the stream can and the broker has not ended it.

        Cancellation: it may not have been told.
        """
        await trio.lowlevel.checkpoint()
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            with contextlib.suppress(trio.BrokenResourceError):  # reading will tell, as with `send`
                await self._stream.send_eof()

    async def close(self) -> None:
        """Close the connection without a word. Cancellation: it is closed all the same."""
        await trio.aclose_forcefully(self._stream)
