"""Frames of the framed protocol, as bytes and as parts of batches (docs/framed.md), for both sides of a conversation.

A part is a payload's frame as it came, length included, which is also the frame that subscribers are sent: parts are
joined, or gathered where they are large, and never encoded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any, Final, final

from trio_broker.errors import ProtocolViolation
from trio_broker.message import Batch, Delivery, Message, is_queue

__all__ = [
    "FRAMED",
    "HEADER_BYTES",
    "batch_of_views",
    "encode",
    "frame",
    "gather",
    "messages_within",
    "too_large",
    "unpack_length",
]

_LENGTH: Final = Struct(">I")
unpack_length: Final = _LENGTH.unpack_from
HEADER_BYTES: Final = _LENGTH.size

_GATHER_BYTES_MIN: Final = 2 * 1024
"""Parts of this size, on average, are cheaper to gather than to join."""

_GATHER_MAX: Final = 1024
"""How many parts one write can gather (``IOV_MAX`` of Linux, macOS and the BSDs)."""


@final
class _FramedCodec:
    """A part is a payload's frame: four bytes of length, then the payload."""

    __slots__ = ()

    def decode(self, channel: str, part: Any) -> Message:
        return Message(channel, bytes(part[HEADER_BYTES:]))  # which copies a view's bytes alone

    def measure(self, parts: Sequence[Any]) -> int:
        return sum(map(len, parts))


FRAMED: Final = _FramedCodec()


def frame(payload: bytes) -> bytes:
    """The frame around a payload (F-1). Raises ``struct.error`` for a payload of 4 GiB or more."""
    return _LENGTH.pack(len(payload)) + payload


def gather(deliveries: Iterable[Delivery]) -> list[bytes | memoryview] | None:
    """What `encode` would join, where that would copy much and one gathering write can take it all; else None."""
    parts: list[bytes | memoryview] = []
    for delivery in deliveries:
        batch = delivery.batch
        if batch.codec is not FRAMED or batch.encodings is not None:
            return None
        if batch.bytes < _GATHER_BYTES_MIN * len(batch.parts):
            return None
        parts.extend(batch.parts)
    return parts if len(parts) <= _GATHER_MAX else None


def encode(deliveries: Iterable[Delivery]) -> bytes:
    """The bytes that bring these deliveries to the peer: one frame a message, the payload alone (F-9)."""
    chunks: list[bytes] = []
    for delivery in deliveries:
        batch = delivery.batch
        encodings = batch.encodings
        if encodings is None:
            chunks.extend(batch.parts if batch.codec is FRAMED else _frames(batch))
        else:
            encoding = encodings.get(FRAMED)
            if encoding is None:
                encoding = encodings[FRAMED] = b"".join(batch.parts if batch.codec is FRAMED else _frames(batch))
            chunks.append(encoding)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def messages_within(deliveries: Iterable[Delivery], size_bytes: int) -> int:
    """How many of these messages lie whole within the first ``size_bytes`` of their encoding."""
    count = 0
    for delivery in deliveries:
        batch = delivery.batch
        for part in batch.parts if batch.codec is FRAMED else _frames(batch):
            size_bytes -= len(part)
            if size_bytes < 0:
                return count
            count += 1
    return count


def batch_of_views(channel: str, parts: list[bytes | memoryview], read_bytes: int) -> Batch:
    """A batch some of whose parts may be views of a read of so many bytes.

    They stay views where they are most of the read, so that what they keep in memory beside themselves is less than
    what they are. Not in a queue: it deals a batch out, and each who got a share would keep the whole read.
    """
    viewed_bytes = sum(len(part) for part in parts if isinstance(part, memoryview))
    if viewed_bytes * 2 < read_bytes or is_queue(channel):
        return Batch(channel, list(map(bytes, parts)), FRAMED)
    return Batch(channel, parts, FRAMED, kept_bytes=read_bytes - viewed_bytes)


def _frames(batch: Batch) -> Iterable[bytes]:
    """The frames of messages that came in another encoding."""
    return (frame(message.body) for message in batch)


def too_large(size: int, frame_bytes_max: int) -> ProtocolViolation:
    """The refusal of a payload that is too large (F-5)."""
    return ProtocolViolation(f"a payload of {size:,} bytes; at most {frame_bytes_max:,} are allowed")
