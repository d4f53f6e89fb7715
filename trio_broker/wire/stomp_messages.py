"""Messages on their way through STOMP: what of a SEND is kept, and how it becomes MESSAGE frames.

A part of a batch is a pair: the headers that pass through, parsed and shared by all messages that had the same ones,
and the body. So a MESSAGE is four pieces: what is constant for this subscription, these headers and this length, the
message's number, the body and the end. Only the number is made for each message.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, final

from trio_broker.headers import OWN_HEADERS, SharedHeaders
from trio_broker.limits import Limits
from trio_broker.message import Batch, Delivery, Message
from trio_broker.wire.stomp_versions import V12, Version

__all__ = [
    "STOMP",
    "TEMPORARY_QUEUE",
    "MessageEncoder",
    "MessageHeaders",
    "Part",
    "channel_of",
    "message_limits",
    "messages_within",
    "with_reply_to",
]

TEMPORARY_QUEUE: Final = "/temp-queue/"
"""How a ``reply-to`` begins that asks for a private queue (S-38)."""

_PREFIXES: Final = ("/topic", "/queue")
_ENCODINGS_KEPT: Final = 1
_ADDED_HEADERS: Final = 6
"""Of a MESSAGE, to those of its SEND: ``subscription``, ``content-length``, ``message-id``, ``ack``, ``redelivered``
and ``dropped-before``. Its destination takes the place of the SEND's."""

_ADDED_HEADER_BYTES: Final = 256
"""What those amount to, but for ``subscription``, and the real name of a temporary queue in ``reply-to``, with room to
spare: numbers have 20 digits at most."""

_batch_numbers: Final = itertools.count(1)  # what distinguishes shared batches, for all sessions of this process


def channel_of(destination: str) -> str:
    """The channel that a destination names (S-36): itself, or for a name without a prefix, the queue of that name."""
    return destination if destination.startswith(_PREFIXES) else f"/queue/{destination}"


def message_limits(limits: Limits) -> Limits:
    """The limits by which MESSAGE is to be read, so that what may be sent may be received (S-10).

    A MESSAGE has the headers of its SEND, which may be twice as long as they came, if that was without escapes; those
    of the SUBSCRIBE; and a few of the server's.

    Args:
        limits: of the server. ``headers_max`` and ``header_bytes_max`` become larger.
    """
    return dataclasses.replace(
        limits,
        headers_max=limits.headers_max + _ADDED_HEADERS,
        header_bytes_max=3 * limits.header_bytes_max + _ADDED_HEADER_BYTES,
    )


@final
class MessageHeaders:
    """The headers that pass through from SEND to MESSAGE (S-20), shared by all messages that have the same.

    They are kept as the lines that 1.2 has for them: nearly always those of every version, and small beside a dict.

    Attributes:
        size_bytes: what they amount to on the wire, roughly.
        expiration_ms: how long the message is of use; None for ever (S-39).
        reply_to: a temporary queue that its sender wants the answers in (S-38).
    """

    __slots__ = ("_fields", "_lines", "expiration_ms", "reply_to", "size_bytes")

    def __init__(self, headers: Mapping[str, str], size_bytes: int, expiration_ms: int | None = None) -> None:
        self._lines = V12.write_all({name: value for name, value in headers.items() if name not in OWN_HEADERS})
        self._fields: Mapping[str, str] | None = None
        self.size_bytes = size_bytes
        self.expiration_ms = expiration_ms
        reply_to = headers.get("reply-to", "")
        self.reply_to = reply_to if reply_to.startswith(TEMPORARY_QUEUE) else None

    @property
    def fields(self) -> Mapping[str, str]:
        """The headers, without those that the protocol itself uses."""
        if self._fields is None:
            pairs = (line.split(":", 1) for line in self._lines.decode().split("\n")[:-1])
            self._fields = SharedHeaders((V12.unescape(name), V12.unescape(value)) for name, value in pairs)
        return self._fields

    def lines(self, version: Version) -> bytes:
        """Their lines in a version. What it cannot write is left out (S-7)."""
        lines = self._lines
        if version is V12 or (b"\\" not in lines and not (version.padded and b" " in lines)):
            return lines
        return version.write_all(self.fields)


Part: TypeAlias = tuple[MessageHeaders, bytes]
"""One message of a batch."""

_NO_HEADERS: Final = MessageHeaders({}, 0)


@final
class _StompCodec:
    """A part is `MessageHeaders` and a body."""

    __slots__ = ()

    def decode(self, channel: str, part: Any) -> Message:
        headers, body = part
        return Message(channel, body, headers.fields)

    def measure(self, parts: Sequence[Any]) -> int:
        return sum([headers.size_bytes + len(body) for headers, body in parts])


STOMP: Final = _StompCodec()


def with_reply_to(batch: Batch, reply_to: str) -> Batch:
    """The same messages of STOMP with another ``reply-to``: the name that a temporary queue was given."""
    made: dict[int, MessageHeaders] = {}
    parts: list[Part] = []
    for headers, body in batch.parts:
        changed = made.get(id(headers))
        if changed is None:
            fields = {**headers.fields, "reply-to": reply_to}
            changed = made[id(headers)] = MessageHeaders(fields, headers.size_bytes, headers.expiration_ms)
        parts.append((changed, body))
    return Batch(batch.channel, parts, STOMP)


@final
class MessageEncoder:
    """Makes the MESSAGE frames of one subscription. Lives as long as anything is sent to it, also after UNSUBSCRIBE.

    Args:
        version: of the connection.
        destination: as the subscriber wrote it (S-36).
        subscription_id: as the subscriber wrote it; None where 1.0 let it have none.
        settles: whether the subscriber is to settle what it gets, so that each message needs a number of its own.
    """

    __slots__ = ("_constant", "_number_in_ack", "_settles", "_version")

    def __init__(self, version: Version, destination: str, subscription_id: str | None, settles: bool) -> None:
        identified = "" if subscription_id is None else version.write("subscription", subscription_id)
        self._constant = f"MESSAGE\n{identified}{version.write('destination', destination)}".encode()
        self._version = version
        self._settles = settles
        self._number_in_ack = settles and version is V12

    def encode(self, deliveries: Iterable[Delivery], number: int) -> bytes:
        """The frames that bring these deliveries to the subscriber (S-29 to S-33).

        Args:
            deliveries: what to send, in this order.
            number: of the first message; each that follows has the next. A subscriber that settles does so by it.
        """
        chunks: list[bytes] = []
        for delivery in deliveries:
            batch = delivery.batch
            if batch.encodings is None or self._settles or delivery.attempts or delivery.dropped_before:
                self._encode(chunks, delivery, number)
            else:
                chunks.append(self._encode_shared(delivery, batch.encodings))
            number += len(batch.parts)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _encode_shared(self, delivery: Delivery, encodings: dict[Any, bytes]) -> bytes:
        """The frames of a batch for all subscriptions that have the same identifier, made once.

        Their message-ids are places in this batch, since the subscribers' own numbers differ. One such encoding is
        kept, so that many identifiers cannot make a batch grow.
        """
        key = (STOMP, self._version, self._constant)
        encoding = encodings.get(key)
        if encoding is None:
            chunks: list[bytes] = []
            self._encode(chunks, delivery, 0, b"%012x-" % next(_batch_numbers))
            encoding = b"".join(chunks)
            if sum(type(kept) is tuple for kept in encodings) < _ENCODINGS_KEPT:
                encodings[key] = encoding
        return encoding

    def _encode(self, chunks: list[bytes], delivery: Delivery, number: int, prefix: bytes = b"") -> None:
        """Add the pieces of a delivery's frames to ``chunks``. A flood spends its time here."""
        batch = delivery.batch
        parts: Iterable[Part] = batch.parts if batch.codec is STOMP else _parts(batch)
        attempts: Iterable[int] = delivery.attempts or itertools.repeat(0)
        dropped_before = delivery.dropped_before
        number_in_ack = self._number_in_ack
        add = chunks.extend
        head, head_headers, head_length, head_redelivered = b"", _NO_HEADERS, -1, False
        for (headers, body), attempted in zip(parts, attempts, strict=False):
            length, redelivered = len(body), attempted > 0
            if length != head_length or headers is not head_headers or redelivered is not head_redelivered:
                head_headers, head_length, head_redelivered = headers, length, redelivered
                head = self._head(headers, length, redelivered, prefix)
            digits = b"%d" % number
            if dropped_before:
                add((head.replace(b"\n", b"\ndropped-before:%d\n" % dropped_before, 1), digits))
                dropped_before = 0
            else:
                add((head, digits))
            add((b"\nack:", digits, b"\n\n", body, b"\0") if number_in_ack else (b"\n\n", body, b"\0"))
            number += 1

    def _head(self, headers: MessageHeaders, length: int, redelivered: bool, prefix: bytes) -> bytes:
        """What comes before the number in all messages with these headers and this length."""
        return b"%b%b%bcontent-length:%d\nmessage-id:%b" % (
            self._constant,
            headers.lines(self._version),
            b"redelivered:true\n" if redelivered else b"",
            length,
            prefix,
        )


def messages_within(encoded: bytes, size_bytes: int) -> int:
    """How many frames that a `MessageEncoder` made lie whole within the first ``size_bytes`` of them."""
    count = offset = 0
    while True:
        end = encoded.find(b"\n\n", offset)
        if end < 0:
            return count
        length = encoded.find(b"\ncontent-length:", offset, end) + len(b"\ncontent-length:")
        offset = end + 2 + int(encoded[length : encoded.find(b"\n", length)]) + 1
        if offset > size_bytes:
            return count
        count += 1


def _parts(batch: Batch) -> Iterator[Part]:
    """The parts of messages that came in another encoding."""
    for message in batch:
        yield MessageHeaders(message.headers, 0) if message.headers else _NO_HEADERS, message.body
