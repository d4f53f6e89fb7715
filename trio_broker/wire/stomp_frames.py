"""Cuts a stream of STOMP into frames, on either side of a conversation. docs/stomp.md numbers the clauses.

Theory of operation:
    *A frame is a head and a body.* The head is everything up to the blank line. It is judged as soon as it is whole:
    what it announces is refused before anything of it is held.

    *Frames come in runs.* A sender's head often repeats byte for byte. Such a head is compared, not parsed: it fixes
    where the body starts and, with a ``content-length``, where it ends. `FrameReader.frames` gives each head once
    with all the bodies that followed it in a row.

    *What is incomplete is copied once and looked at once.* It collects in one growing buffer, beside how much of it
    was searched in vain, so a peer that drips costs the same for each byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias, final

from trio_broker.errors import ProtocolViolation
from trio_broker.limits import Limits
from trio_broker.wire.stomp_heads import Head, forbidden_body, parse_head
from trio_broker.wire.stomp_versions import V12

__all__ = ["FrameReader"]

_HEAD_END: Final = re.compile(rb"\n\r?\n")
_LINE_ENDS: Final = b"\r\n"
_NO_LINE_END: Final = re.compile(rb"[^\r\n]")
_RECEIPT: Final = re.compile(rb"\nreceipt:([^\r\n]*)")
_HEADS_KEPT: Final = 64
_HEAD_KEPT_BYTES: Final = 1024
"""How many heads a reader remembers, and how long ones: 64 KiB of them, and about twice that in parsed form."""

_REPEATED: Final = "SEND"  # the one command whose heads are worth remembering

_Buffer: TypeAlias = bytes | bytearray


@final
class FrameReader:
    """Cuts a stream into frames.

    Args:
        limits: ``header_bytes_max``, ``headers_max`` and ``frame_bytes_max`` are used.
        commands: what may come, and whether that may have a body.

    Attributes:
        commands: may be changed between two frames.
        version: how heads are to be read; 1.2 until it is known. May be changed before the first SEND.
        receipt_id: the receipt that the frame looked at last asks for.
    """

    __slots__ = ("_head", "_heads", "_held", "_limits", "_repeated", "_searched", "commands", "receipt_id", "version")

    def __init__(self, limits: Limits, commands: Mapping[str, bool]) -> None:
        self.commands = commands
        self.version = V12
        self.receipt_id: str | None = None
        self._limits = limits
        self._held = bytearray()  # an unfinished frame, from its first byte
        self._head: Head | None = None  # its head, if that is whole
        self._searched = 0  # how many of its bytes were searched in vain for the end of its head or body
        self._heads: dict[bytes, Head] = {}  # heads that may repeat, by their bytes
        self._repeated: Head | None = None  # the last of them, which most frames repeat

    @property
    def held_bytes(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._held)

    def clear(self) -> None:
        """Hold nothing any more."""
        self._held = bytearray()
        self._head = self._repeated = None
        self._heads = {}

    def frames(self, data: bytes) -> Iterator[tuple[Head, list[bytes]]]:
        """Cut frames out of what is held and ``data``: heads, each with the bodies that came with it in a row.

        Take all of it before the next call, or call `clear`. What one frame changes (`version`, `commands`) is
        heeded by the next. Raises `ProtocolViolation` in the place of a frame that cannot be one.
        """
        offset = 0
        if self._held:
            before = len(self._held)
            held = self._held
            held += data
            run = self._cut(held, 0)
            if run is None:
                return
            head, start, stop = run
            self._held = bytearray()
            offset = stop + 1 - before
            yield head, [bytes(memoryview(held)[start:stop])]
        while offset < len(data):
            if data[offset] in _LINE_ENDS:
                frame = _NO_LINE_END.search(data, offset)
                if frame is None:
                    return
                offset = frame.start()
            repeated = self._repeated
            if repeated is not None and data.startswith(repeated.raw, offset):
                bodies: list[bytes] = []
                offset = self._cut_repeated(repeated, data, offset, bodies)
                if bodies:
                    self.receipt_id = None
                    yield repeated, bodies
                    continue
            run = self._cut(data, offset)
            if run is None:
                self._held = bytearray(memoryview(data)[offset:])
                return
            head, start, stop = run
            offset = stop + 1
            yield head, [data[start:stop]]

    def _cut_repeated(self, head: Head, data: bytes, offset: int, bodies: list[bytes]) -> int:
        """Cut frames that have this head while they are whole; return where the first that is not starts.

        This loop is where a flood spends its time. What is wrong here is left for `_cut` to name.
        """
        end, raw, length = len(data), head.raw, head.length
        raw_bytes, body_bytes_max = len(raw), self._limits.frame_bytes_max
        append = bodies.append
        while True:
            if not data.startswith(raw, offset):
                if not data.startswith(b"\n", offset) or not data.startswith(raw, offset + 1):
                    return offset
                offset += 1
            start = offset + raw_bytes
            stop = start + length if length is not None else data.find(0, start, start + body_bytes_max + 1)
            if not start <= stop < end or data[stop]:
                return offset
            append(data[start:stop])
            offset = stop + 1

    def _cut(self, buffer: _Buffer, offset: int) -> tuple[Head, int, int] | None:
        """The frame at ``offset``: its head, and where its body starts and stops; None while it is unfinished."""
        head = self._head
        if head is None:
            head = self._find_head(buffer, offset)
            if head is None:
                return None
            self._head, self._searched = head, len(head.raw)
        start = offset + len(head.raw)
        stop = self._find_stop(head, buffer, start, offset + self._searched)
        if stop is None:
            self._searched = len(buffer) - offset
            return None
        self._head, self._searched = None, 0
        return head, start, stop

    def _find_head(self, buffer: _Buffer, offset: int) -> Head | None:
        """The head at ``offset``, judged; None while it is unfinished."""
        header_bytes_max = self._limits.header_bytes_max
        searched = offset + self._searched
        limit = min(len(buffer), offset + header_bytes_max)
        match = _HEAD_END.search(buffer, max(offset, searched - 2), limit)  # it may have begun where the search ended
        end = limit if match is None else match.end()
        nul = buffer.find(0, searched, end)
        if nul >= 0:
            self._note_receipt(bytes(buffer[offset:nul]))
            raise ProtocolViolation("a NUL among the headers; a blank line ends them, whether a body follows or not")
        if match is not None:
            return self._head_of(bytes(buffer[offset:end]))
        if limit - offset == header_bytes_max:
            self._note_receipt(bytes(buffer[offset:limit]))
            raise ProtocolViolation(
                f"headers that are too long; at most {header_bytes_max:,} bytes of them are allowed"
            )
        self._searched = limit - offset
        return None

    def _head_of(self, raw: bytes) -> Head:
        """The head that these bytes are. Raises `ProtocolViolation` unless it may come now."""
        head = self._heads.get(raw)
        if head is None:
            try:
                head = parse_head(raw, self.version, self.commands, self._limits)
            except ProtocolViolation:
                self._note_receipt(raw)
                raise
            self.receipt_id = head.headers.get("receipt")
            if head.command != _REPEATED or self.receipt_id is not None or len(raw) > _HEAD_KEPT_BYTES:
                return head
            if len(self._heads) >= _HEADS_KEPT:
                self._heads.clear()
            self._heads[raw] = head
        self.receipt_id = None
        self._repeated = head
        return head

    def _note_receipt(self, raw: bytes) -> None:
        """Note which receipt a head asks for that may turn out to be none."""
        match = _RECEIPT.search(raw)
        try:
            self.receipt_id = None if match is None else self.version.unescape(match[1].decode())
        except (UnicodeDecodeError, ProtocolViolation):
            self.receipt_id = None

    def _find_stop(self, head: Head, buffer: _Buffer, start: int, searched: int) -> int | None:
        """Where the NUL is that ends the frame; None while it is not there (S-3)."""
        end = len(buffer)
        if head.length is not None:
            stop = start + head.length
            if stop >= end:
                return None
            if buffer[stop]:
                raise ProtocolViolation(
                    f"a body that is longer than its content-length ({head.length}); a NUL must end it"
                )
            return stop
        if start < end and buffer[start] and not self.commands.get(head.command):
            raise forbidden_body(head.command)
        body_bytes_max = self._limits.frame_bytes_max
        stop = buffer.find(0, searched, start + body_bytes_max + 1)
        if stop >= 0:
            return stop
        if end - start > body_bytes_max:
            raise ProtocolViolation(f"a body without an end; at most {body_bytes_max:,} bytes are allowed")
        return None
