"""The server's half of the seed's length-prefixed protocol, without any input or output.

A frame is a length (4 bytes, big-endian, unsigned) and that many bytes. A client's first frame names the channel it
subscribes to; then it sends pairs of frames, channel and payload. A server sends payloads. docs/framed.md numbers the
clauses; F-numbers here cite it.

Theory of operation:
    *Bytes in, values out.* `receive_data` takes whatever a read gave and returns what it completes. Everything is
    synchronous, so two tasks may share a session without a lock.

    *The unit is a batch.* All whole pairs of one call are grouped by channel, each group one `Publish`. Order is a
    promise for one publisher and one channel, so grouping breaks none.

    *What is large is not copied.* A large part is a view of the read, where that read is mostly made of such parts of
    one topic: a view keeps the whole read in memory, and the batch says so in its cost.

    *What is incomplete is copied once.* The bytes of an unfinished pair collect in one growing buffer beside the count
    of bytes that are missing; a peer that drips costs the same for each byte. A length is judged as soon as its four
    bytes are there, before anything it announces is held.

    *A violation is a value.* `Fail` says what was wrong; the session is deaf from then on and never raises for what a
    peer sent.

What goes the other way is in `framed_frames`, and a client's half in `framed_client`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final, NoReturn, TypeAlias, final

from trio_broker.errors import ProtocolViolation, shorten
from trio_broker.limits import Limits
from trio_broker.message import NULL_CHANNEL, Batch
from trio_broker.wire.detect import HTTP, PREFIX_BYTES, name_of_protocol
from trio_broker.wire.framed_frames import FRAMED, HEADER_BYTES, batch_of_views, too_large, unpack_length

__all__ = ["Command", "Fail", "FramedServerSession", "Publish", "Subscribe"]

_NAMES_KEPT: Final = 256
"""How many channel names a session remembers in decoded form: 150 KiB of the longest in ASCII, 350 KiB of the worst."""

_VIEW_BYTES_MIN: Final = 16 * 1024
"""Payloads of this size may be views of their read. Copying a smaller one costs no more than keeping account of it."""

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
        self._missing = HEADER_BYTES  # bytes without which nothing more can be said about what is held
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
            commands += [
                Publish(batch_of_views(channel, parts, len(data))) for channel, parts in groups.items() if parts
            ]
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
        if len(held) < HEADER_BYTES:
            return HEADER_BYTES - len(held)
        name_bytes: int = unpack_length(held)[0]
        if not 0 < name_bytes <= self._limits.channel_bytes_max:
            self._refuse_name(name_bytes, bytes(held) + following)
        payload_start = HEADER_BYTES + name_bytes
        if len(held) < payload_start:
            return payload_start - len(held)
        self._name(bytes(held[:payload_start]))
        if not self._greeted:
            return 0
        if len(held) < payload_start + HEADER_BYTES:
            return payload_start + HEADER_BYTES - len(held)
        size: int = unpack_length(held, payload_start)[0]
        if size > self._limits.frame_bytes_max:
            raise too_large(size, self._limits.frame_bytes_max)
        return payload_start + HEADER_BYTES + size - len(held)

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
                if end - offset < HEADER_BYTES:
                    break
                name_bytes = unpack_length(data, offset)[0]
                if not 0 < name_bytes <= channel_bytes_max:
                    self._refuse_name(name_bytes)
                start = offset + HEADER_BYTES + name_bytes
                if start > end:
                    break
                channel_frame = data[offset:start]
                channel_frame_bytes = start - offset
                known = appends.get(channel_frame)
                if known is None:
                    known = appends[channel_frame] = groups.setdefault(self._name(channel_frame), []).append
                append = known
            start = offset + channel_frame_bytes
            if end - start < HEADER_BYTES:
                break
            size = unpack_length(data, start)[0]
            stop = start + HEADER_BYTES + size
            if size < large_bytes:
                if stop > end:
                    break
                append(data[start:stop])
            else:
                if size > frame_bytes_max:
                    raise too_large(size, frame_bytes_max)
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
                name = channel_frame[HEADER_BYTES:].decode()
            except UnicodeDecodeError:
                named = shorten(channel_frame[HEADER_BYTES:].decode(errors="backslashreplace"))
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
