"""The client's half of a framed conversation, without any input or output; see `trio_broker.wire.framed`."""

from __future__ import annotations

from typing import final

from trio_broker.errors import ProtocolViolation
from trio_broker.limits import Limits
from trio_broker.message import NULL_CHANNEL, Message
from trio_broker.wire.framed_frames import HEADER_BYTES, frame, too_large, unpack_length

__all__ = ["FramedClientSession"]


@final
class FramedClientSession:
    """The client's half of one framed conversation.

    Args:
        channel: what to subscribe to; None to send only.
        limits: ``frame_bytes_max`` is used.
    """

    __slots__ = ("_channel", "_frame_bytes_max", "_held", "_missing", "_violation")

    def __init__(self, channel: str | None, limits: Limits) -> None:
        self._channel = NULL_CHANNEL if channel is None else channel
        self._frame_bytes_max = limits.frame_bytes_max
        self._held = bytearray()  # an unfinished frame, from its first byte
        self._missing = 0  # bytes without which nothing more can be said about it
        self._violation: ProtocolViolation | None = None  # nothing that follows it is looked at

    def hello(self) -> bytes:
        """The first frame, which subscribes (F-3)."""
        return frame(self._channel.encode())

    def encode(self, message: Message) -> bytes:
        """A pair of frames that publishes a message (F-7). Headers have no place in this protocol."""
        return frame(message.channel.encode()) + frame(message.body)

    def receive_data(self, data: bytes) -> list[bytes]:
        """Take bytes as they came and return the payloads that they complete.

        Raises:
            ProtocolViolation: a payload over the limit is announced. The conversation is over. Payloads that were
                whole before it are returned first; the next call, be it with no bytes, raises.
        """
        payloads: list[bytes] = []
        if self._violation is None:
            try:
                self._parse(data, payloads)
            except ProtocolViolation as violation:
                self._violation = violation
                self._held = bytearray()
        if self._violation is not None and not payloads:
            raise self._violation
        return payloads

    def receive_eof(self) -> str | None:
        """What an end of the stream at this place means: None between frames, else what was wrong."""
        if not self._held:
            return None if self._violation is None else self._violation.reason
        return f"the stream ended inside a frame ({len(self._held)} bytes were there, at least {self._missing} missing)"

    def _parse(self, data: bytes, payloads: list[bytes]) -> None:
        """Parse all of ``data``; add what it completes to ``payloads``; hold the rest."""
        offset, end = 0, len(data)
        if self._held:
            while self._missing:
                taken = data[offset : offset + self._missing]
                self._held += taken
                offset += len(taken)
                self._missing -= len(taken)
                if self._missing:
                    return
                self._missing = self._lacking(self._held, 0)
            payloads.append(bytes(memoryview(self._held)[HEADER_BYTES:]))
            self._held = bytearray()
        while end - offset >= HEADER_BYTES and not self._lacking(data, offset):
            stop = offset + HEADER_BYTES + unpack_length(data, offset)[0]
            payloads.append(data[offset + HEADER_BYTES : stop])
            offset = stop
        if offset < end:
            self._held = bytearray(memoryview(data)[offset:])
            self._missing = self._lacking(self._held, 0)

    def _lacking(self, buffer: bytes | bytearray, offset: int) -> int:
        """How many bytes are certainly missing from the frame at ``offset``; 0 when it is whole."""
        there = len(buffer) - offset
        if there < HEADER_BYTES:
            return HEADER_BYTES - there
        size: int = unpack_length(buffer, offset)[0]
        if size > self._frame_bytes_max:
            raise too_large(size, self._frame_bytes_max)
        return max(0, HEADER_BYTES + size - there)
