"""The seed's length-prefixed protocol, server side and client side, without any input or output.

A frame is a length (4 bytes, big-endian, unsigned) and that many bytes. A client's first frame names the channel it
subscribes to; then it sends pairs of frames, channel and payload. A server sends payloads. docs/framed.md numbers the
clauses; F-numbers here cite it.

Theory of operation:
    *Bytes in, values out.* `receive_data` takes whatever a read gave and returns what it completes. Everything is
    synchronous, so two tasks may share a session without a lock.

    *The unit is a batch.* All whole pairs of one call are grouped by channel, each group one `Publish`. Order is a
    promise for one publisher and one channel, so grouping breaks none. A part is the payload's frame as it came,
    length included, which is also the frame that subscribers are sent: parts are joined, never encoded again.

    *What is large is not copied.* A large part is a view of the read, where that read is mostly made of such parts of
    one topic: a view keeps the whole read in memory, and the batch says so in its cost. It is sent as it is (`gather`).

    *What is incomplete is copied once.* The bytes of an unfinished pair collect in one growing buffer beside the count
    of bytes that are missing; a peer that drips costs the same for each byte. A length is judged as soon as its four
    bytes are there, before anything it announces is held.

    *A violation is a value.* `Fail` says what was wrong; the server's session is deaf from then on and never raises
    for what a peer sent. A client's raises `ProtocolViolation`, after what was whole before it has been returned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Any, Final, NoReturn, TypeAlias, final

from trio_broker.errors import ProtocolViolation, shorten
from trio_broker.limits import Limits
from trio_broker.message import NULL_CHANNEL, Batch, Delivery, Message, is_queue
from trio_broker.wire.detect import HTTP, PREFIX_BYTES, name_of_protocol

__all__ = ["FRAMED", "Command", "Fail", "FramedClientSession", "FramedServerSession", "Publish", "Subscribe", "frame"]

_LENGTH: Final = Struct(">I")
_unpack_length: Final = _LENGTH.unpack_from
_HEADER_BYTES: Final = _LENGTH.size
_NAMES_KEPT: Final = 256
"""How many channel names a session remembers in decoded form: 150 KiB of the longest in ASCII, 350 KiB of the worst."""

_VIEW_BYTES_MIN: Final = 16 * 1024
"""Payloads of this size may be views of their read. Copying a smaller one costs no more than keeping account of it."""

_GATHER_BYTES_MIN: Final = 2 * 1024
"""Parts of this size, on average, are cheaper to gather than to join."""

_GATHER_MAX: Final = 1024
"""How many parts one write can gather (``IOV_MAX`` of Linux, macOS and the BSDs)."""

_HTTP_TEXT: Final = b"This is a trio_broker port. It speaks length-prefixed frames, not HTTP.\n"
_HTTP_FAREWELL: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_HTTP_TEXT), _HTTP_TEXT)
)


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Subscribe:
    """The peer takes its place in a channel; None for a peer that only sends (F-6)."""

    channel: str | None


@final
@dataclasses.dataclass(slots=True)  # not frozen: as `Delivery`
class Publish:
    """The peer sends messages to one channel. Never changed."""

    batch: Batch


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Fail:
    """The peer broke the protocol: send ``farewell``, then close.

    Attributes:
        reason: what was wrong and what is allowed.
        farewell: last bytes for the peer, in a language that it understands; often none (F-13).
    """

    reason: str
    farewell: bytes = b""


Command: TypeAlias = Subscribe | Publish | Fail

_Groups: TypeAlias = dict[str, list[bytes | memoryview]]
"""Channel -> parts."""


@final
class _FramedCodec:
    """A part is a payload's frame: four bytes of length, then the payload."""

    __slots__ = ()

    def decode(self, channel: str, part: Any) -> Message:
        return Message(channel, bytes(part[_HEADER_BYTES:]))  # which copies a view's bytes alone

    def measure(self, parts: Sequence[Any]) -> int:
        return sum(map(len, parts))


FRAMED: Final = _FramedCodec()


def frame(payload: bytes) -> bytes:
    """The frame around a payload (F-1). Raises ``struct.error`` for a payload of 4 GiB or more."""
    return _LENGTH.pack(len(payload)) + payload


@final
class FramedServerSession:
    """The server's half of one framed conversation.

    Args:
        limits: ``frame_bytes_max`` and ``channel_bytes_max`` are used.
    """

    __slots__ = (
        "_channel_frame",
        "_channel_name",
        "_failed",
        "_farewell",
        "_greeted",
        "_has_views",
        "_held",
        "_large_bytes",
        "_limits",
        "_missing",
        "_names",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._large_bytes = min(_VIEW_BYTES_MIN, limits.frame_bytes_max + 1)  # from here on a size is looked at twice
        self._greeted = False  # the first frame, which subscribes, has come
        self._failed = False  # the peer broke the protocol; nothing it sends is looked at any more
        self._farewell = b""  # last bytes for a stranger that we can answer in its own language
        self._held = bytearray()  # an unfinished pair of frames (or the unfinished first frame), from its first byte
        self._missing = _HEADER_BYTES  # bytes without which nothing more can be said about what is held
        self._names: dict[bytes, str] = {}  # channel frame -> channel, for what this peer lately sent to
        self._has_views = False  # some parts of this read may be views of it
        self._channel_frame = b""  # the channel frame of the last pair, and its name: most pairs repeat it
        self._channel_name = ""

    @property
    def greeted(self) -> bool:
        """The first frame has come."""
        return self._greeted

    @property
    def held_bytes(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._held)

    def receive_data(self, data: bytes) -> list[Command]:
        """Take bytes as they came and return the commands that they complete, in order; nothing is waited for.

        A `Fail` is always the last command; after it the session ignores everything.
        """
        if self._failed or not data:
            return []
        commands: list[Command] = []
        groups: _Groups = {}
        failure: Fail | None = None
        try:
            self._parse(data, commands, groups)
        except ProtocolViolation as violation:
            self._failed = True
            self._held = bytearray()
            failure = Fail(violation.reason, self._farewell)
        if self._has_views:
            self._has_views = False
            commands += [Publish(_with_views(channel, parts, len(data))) for channel, parts in groups.items() if parts]
        else:
            commands += [Publish(Batch(channel, parts, FRAMED)) for channel, parts in groups.items() if parts]
        if failure is not None:
            commands.append(failure)
        return commands

    def receive_eof(self) -> str | None:
        """What an end of the stream at this place means: None between frames, else what was cut off (F-12)."""
        if self._failed or (self._greeted and not self._held):
            return None
        if not self._greeted and not self._held:
            return "the stream ended before the first frame"
        return f"the stream ended inside a frame ({len(self._held)} bytes were there, at least {self._missing} missing)"

    def gather(self, deliveries: Iterable[Delivery]) -> list[bytes | memoryview] | None:
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

    def encode(self, deliveries: Iterable[Delivery]) -> bytes:
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

    def messages_within(self, deliveries: Iterable[Delivery], size_bytes: int) -> int:
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

    def _parse(self, data: bytes, commands: list[Command], groups: _Groups) -> None:
        """Parse all of ``data``; add what it completes to ``commands`` and ``groups``; hold the rest."""
        offset = 0 if self._greeted and not self._held else self._parse_held(data, commands, groups)
        if offset < len(data):
            offset = self._parse_pairs(data, offset, groups)
            if offset < len(data):
                self._held = bytearray(memoryview(data)[offset:])
                self._missing = self._lacking()

    def _parse_held(self, data: bytes, commands: list[Command], groups: _Groups) -> int:
        """Complete what is held, and the first frame, with the head of ``data``; return how much of it was used."""
        offset = 0
        view = memoryview(data)
        while self._missing:
            taken = view[offset : offset + self._missing]
            self._held += taken
            offset += len(taken)
            self._missing -= len(taken)
            if self._missing:
                return offset
            self._missing = self._lacking(data[offset : offset + PREFIX_BYTES])
        held, self._held = self._held, bytearray()
        if self._greeted:
            groups.setdefault(self._channel_name, []).append(bytes(memoryview(held)[len(self._channel_frame) :]))
        else:
            self._greeted = True
            commands.append(Subscribe(None if self._channel_name == NULL_CHANNEL else self._channel_name))
        return offset

    def _lacking(self, following: bytes = b"") -> int:
        """How many bytes are certainly missing from the pair (or first frame) that is held; 0 when it is whole.

        Its channel is the last one seen as soon as it is there. What follows the header helps to name a stranger.
        """
        held = self._held
        if len(held) < _HEADER_BYTES:
            return _HEADER_BYTES - len(held)
        name_bytes: int = _unpack_length(held)[0]
        if not 0 < name_bytes <= self._limits.channel_bytes_max:
            self._refuse_name(name_bytes, bytes(held) + following)
        payload_start = _HEADER_BYTES + name_bytes
        if len(held) < payload_start:
            return payload_start - len(held)
        self._name(bytes(held[:payload_start]))
        if not self._greeted:
            return 0
        if len(held) < payload_start + _HEADER_BYTES:
            return payload_start + _HEADER_BYTES - len(held)
        size: int = _unpack_length(held, payload_start)[0]
        if size > self._limits.frame_bytes_max:
            raise _too_large(size, self._limits.frame_bytes_max)
        return payload_start + _HEADER_BYTES + size - len(held)

    def _parse_pairs(self, data: bytes, offset: int, groups: _Groups) -> int:
        """Cut whole pairs out of ``data``; return where the first unfinished one starts.

        This loop is where a flood spends its time. While a pair is for the same channel as the one before, its
        channel frame is compared and nothing of it is cut; one that came earlier in this read is looked up as it is.
        """
        end = len(data)
        view: memoryview | None = None  # made when it is needed, which is never for messages that come alone
        frame_bytes_max, channel_bytes_max = self._limits.frame_bytes_max, self._limits.channel_bytes_max
        large_bytes = self._large_bytes
        channel_frame, channel_frame_bytes = self._channel_frame, len(self._channel_frame)
        append = groups.setdefault(self._channel_name, []).append
        appends: dict[bytes, Callable[[bytes | memoryview], None]] = {}  # channel frame -> what takes its parts
        while True:
            if not data.startswith(channel_frame, offset):
                if end - offset < _HEADER_BYTES:
                    break
                name_bytes = _unpack_length(data, offset)[0]
                if not 0 < name_bytes <= channel_bytes_max:
                    self._refuse_name(name_bytes)
                start = offset + _HEADER_BYTES + name_bytes
                if start > end:
                    break
                channel_frame = data[offset:start]
                channel_frame_bytes = start - offset
                known = appends.get(channel_frame)
                if known is None:
                    known = appends[channel_frame] = groups.setdefault(self._name(channel_frame), []).append
                append = known
            start = offset + channel_frame_bytes
            if end - start < _HEADER_BYTES:
                break
            size = _unpack_length(data, start)[0]
            stop = start + _HEADER_BYTES + size
            if size < large_bytes:
                if stop > end:
                    break
                append(data[start:stop])
            else:
                if size > frame_bytes_max:
                    raise _too_large(size, frame_bytes_max)
                if stop > end:
                    break
                if view is None:
                    view = memoryview(data)
                    self._has_views = True
                append(view[start:stop])
            offset = stop
        return offset

    def _name(self, channel_frame: bytes) -> str:
        """The channel that a channel frame names; it is the last one seen from now on."""
        name = self._names.get(channel_frame)
        if name is None:
            try:
                name = channel_frame[_HEADER_BYTES:].decode()
            except UnicodeDecodeError:
                named = shorten(channel_frame[_HEADER_BYTES:].decode(errors="backslashreplace"))
                raise ProtocolViolation(f"a channel name that is not UTF-8: {named}") from None
            if len(self._names) >= _NAMES_KEPT:
                self._names.clear()
            self._names[channel_frame] = name
        self._channel_frame, self._channel_name = channel_frame, name
        return name

    def _refuse_name(self, name_bytes: int, first_bytes: bytes = b"") -> NoReturn:
        """Refuse a channel name of no allowed length (F-4); where it is a stranger's first bytes, say whose."""
        reason = f"a channel name of {name_bytes:,} bytes; 1 to {self._limits.channel_bytes_max} are allowed"
        stranger = None if self._greeted else name_of_protocol(first_bytes)
        if stranger is not None:
            reason = f"these bytes look like {stranger}, not like the framed protocol ({reason})"
            self._farewell = _HTTP_FAREWELL if stranger == HTTP else b""
        raise ProtocolViolation(reason)


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
            payloads.append(bytes(memoryview(self._held)[_HEADER_BYTES:]))
            self._held = bytearray()
        while end - offset >= _HEADER_BYTES and not self._lacking(data, offset):
            stop = offset + _HEADER_BYTES + _unpack_length(data, offset)[0]
            payloads.append(data[offset + _HEADER_BYTES : stop])
            offset = stop
        if offset < end:
            self._held = bytearray(memoryview(data)[offset:])
            self._missing = self._lacking(self._held, 0)

    def _lacking(self, buffer: bytes | bytearray, offset: int) -> int:
        """How many bytes are certainly missing from the frame at ``offset``; 0 when it is whole."""
        there = len(buffer) - offset
        if there < _HEADER_BYTES:
            return _HEADER_BYTES - there
        size: int = _unpack_length(buffer, offset)[0]
        if size > self._frame_bytes_max:
            raise _too_large(size, self._frame_bytes_max)
        return max(0, _HEADER_BYTES + size - there)


def _with_views(channel: str, parts: list[bytes | memoryview], read_bytes: int) -> Batch:
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


def _too_large(size: int, frame_bytes_max: int) -> ProtocolViolation:
    """The refusal of a payload that is too large (F-5)."""
    return ProtocolViolation(f"a payload of {size:,} bytes; at most {frame_bytes_max:,} are allowed")
