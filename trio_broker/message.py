"""The values that flow: `Message`, `Batch`, `Delivery`, and the `Codec` that lets the floors above share them.

The unit that flows is a **batch**: all messages of one read for one channel. It is parsed once, travels as one object
through the memory channels, is encoded once for all subscribers and leaves in one write. It keeps its parts in the
encoding they arrived in; only their codec knows what a part looks like. So a message becomes a Python object of its
own (`Message`) only where a person's code looks at it.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, Self, TypeAlias, final

import trio

from trio_broker.errors import InvalidChannel, MessageTooLarge
from trio_broker.headers import NO_HEADERS
from trio_broker.limits import BATCH_COST, MESSAGE_COST

__all__ = [
    "PLAIN",
    "AckMode",
    "Batch",
    "BoundSettler",
    "Codec",
    "Delivery",
    "Message",
    "Settler",
    "as_body",
    "is_queue",
    "plain_batch",
    "validate_channel",
]

Part: TypeAlias = Any
"""One message as it arrived; opaque to all but the batch's codec."""

TEMPORARY: Final = "/queue/temporary/"
"""How the names of temporary queues begin, to which only one connection subscribes."""

NULL_CHANNEL: Final = "/null"
"""A name nobody can be sent to. A framed peer that only sends subscribes to it."""


class AckMode(enum.StrEnum):
    """How a subscriber settles what it gets."""

    AUTO = "auto"
    """Not at all: a message is settled when it was sent, or in process when it was received."""
    CLIENT = "client"
    """Cumulatively: a message settles all that were given to the subscription before it too."""
    CLIENT_INDIVIDUAL = "client-individual"
    """One by one."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ValueError(f"ack is {value!r}; allowed are {', '.join(cls)}")


class Settler(Protocol):
    """Where a message is settled."""

    def ack(self, number: int) -> None:
        """It has been dealt with. Idempotent."""
        ...

    def nack(self, number: int, requeue: bool) -> None:
        """It has not: somebody else is to have it, or nobody. Idempotent."""
        ...


class BoundSettler:
    """A `Settler` that stays where it is: copies of its messages share it, and it is not pickled with them."""

    __slots__ = ()

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One message, as a person's code sees it. A copy settles the same message; what was pickled settles nothing.

    Attributes:
        channel: the name it was published under.
        body: its payload, exactly as it was sent.
        headers: what was published with it, and nothing of the protocol that brought it, so that a message can be
            published anew with them; the framed protocol carries none.
        dropped_before: how many messages this subscription lost to its overflow policy right before this one.
        redelivered: somebody, perhaps this very subscriber, may have had it before.
    """

    channel: str
    body: bytes
    headers: Mapping[str, str] = dataclasses.field(default_factory=lambda: NO_HEADERS, hash=False)
    dropped_before: int = 0
    redelivered: bool = False
    _settler: Settler | None = dataclasses.field(default=None, repr=False, compare=False)
    _number: int = dataclasses.field(default=0, repr=False, compare=False)

    def ack(self) -> None:
        """It has been dealt with. Nothing where there is nothing to settle; idempotent.

        Raises:
            ValueError: over STOMP, with ``ack="client"``: it would settle messages that an open transaction settles.

        Cancellation: never; this is synchronous.
        """
        if self._settler is not None:
            self._settler.ack(self._number)

    def nack(self, *, requeue: bool = True) -> None:
        """It has not been dealt with. Nothing where there is nothing to settle; idempotent.

        Args:
            requeue: whether it goes back to its queue, where it stood; otherwise it is given up.

        Raises:
            ValueError: to give it up, as `ack`. To let it go back is never refused.

        Cancellation: never; this is synchronous.
        """
        if self._settler is not None:
            self._settler.nack(self._number, requeue)

    @asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def process(self) -> AsyncIterator[Message]:
        """Deal with it in a block: acknowledged on leaving in order, back in its queue after an error, also of `ack`.

        Cancellation: entering is never cancelled: it has no checkpoint. Leaving is never cancelled: it has no
        checkpoint. A block that is cancelled has not dealt with its message, which goes back.
        """
        try:
            yield self
            self.ack()
        except BaseException:
            self.nack()
            raise


class Codec(Protocol):
    """How the parts of a batch are to be read. A codec is a constant: one object for each encoding."""

    def decode(self, channel: str, part: Part) -> Message:
        """The message that a part stands for."""
        ...

    def measure(self, parts: Sequence[Part]) -> int:
        """The bytes that these parts hold."""
        ...


@final
class Batch:
    """Messages for one channel that arrived together, in the encoding they arrived in.

    Immutable, but for the encodings that subscribers share (`share`).

    Attributes:
        expires_at: when its messages are of no use any more, on Trio's clock; infinite for never.
        kept_bytes: what the parts keep in memory beside themselves, because they are views of something larger. A
            share of the batch keeps all of it too, and so costs as much.
    """

    __slots__ = ("bytes", "channel", "codec", "cost", "encodings", "expires_at", "kept_bytes", "parts")

    def __init__(
        self,
        channel: str,
        parts: Sequence[Part],
        codec: Codec,
        size_bytes: int | None = None,
        expires_at: float = math.inf,
        kept_bytes: int = 0,
    ) -> None:
        self.channel = channel
        self.parts = parts
        self.codec = codec
        self.bytes = codec.measure(parts) if size_bytes is None else size_bytes
        self.kept_bytes = kept_bytes
        self.cost = self.bytes + kept_bytes + MESSAGE_COST * len(parts) + BATCH_COST
        self.encodings: dict[Codec, bytes] | None = None
        self.expires_at = expires_at

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, which: slice) -> Batch:
        parts = self.parts[which]
        size_bytes = self.codec.measure(parts)
        kept_bytes = self.kept_bytes + self.bytes - size_bytes if self.kept_bytes else 0
        return Batch(self.channel, parts, self.codec, size_bytes, self.expires_at, kept_bytes)

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} for {self.channel!r}, {self.bytes} bytes>"

    def __iter__(self) -> Iterator[Message]:
        """The messages, decoded."""
        decode, channel = self.codec.decode, self.channel
        return (decode(channel, part) for part in self.parts)

    def part_cost(self, index: int) -> int:
        """What the message at this index costs while it waits, without its share of the batch's own overhead."""
        return self.codec.measure(self.parts[index : index + 1]) + MESSAGE_COST

    def share(self) -> None:
        """This batch goes to several subscriptions: its encoding is kept for all of them, and counted from now on.

        Call it before the batch is put anywhere; the cost must not change while it waits.
        """
        if self.encodings is None:
            self.encodings = {}
            self.cost += self.bytes


@final
@dataclasses.dataclass(slots=True, eq=False)  # not frozen, which would cost a message that comes alone a tenth more
class Delivery:
    """A batch, or a share of one, on its way to one subscription (or, from a topic, to all of them). Never changed.

    Attributes:
        batch: the messages.
        positions: in a queue, the place of each in the order of acceptance; in a topic, nothing.
        attempts: how often each was taken for a write before; nothing if none ever was.
        dropped_before: how many messages the subscription lost right before these.
    """

    batch: Batch
    positions: Sequence[int] = ()
    attempts: Sequence[int] = ()
    dropped_before: int = 0

    def __len__(self) -> int:
        return len(self.batch.parts)

    def __getitem__(self, which: slice) -> Delivery:
        return Delivery(self.batch[which], self.positions[which], self.attempts[which])


@final
class _PlainCodec:
    """The codec of messages that were published in process: the part is the message."""

    __slots__ = ()

    def decode(self, channel: str, part: Part) -> Message:
        message: Message = part
        return message

    def measure(self, parts: Sequence[Part]) -> int:
        return sum(
            len(part.body) + sum(len(name) + len(value) for name, value in part.headers.items()) for part in parts
        )


PLAIN: Final = _PlainCodec()


def plain_batch(message: Message) -> Batch:
    """A batch of one message that was published in process."""
    return Batch(message.channel, (message,), PLAIN)


def is_queue(channel: str) -> bool:
    """Whether this is a queue: its name starts with ``/queue``. All others are topics (docs/framed.md, F-20)."""
    return channel.startswith("/queue")


def as_body(body: bytes, bytes_max: int) -> bytes:
    """The bytes of a payload.

    Args:
        body: anything that has bytes, such as ``bytes``, ``bytearray`` or ``array.array``, as they are now; how many
            items they make does not matter.
        bytes_max: how many they may be.

    Raises:
        MessageTooLarge: there are too many.
        TypeError: it has none.
    """
    if not isinstance(body, bytes):
        body = memoryview(body).tobytes()
    if len(body) > bytes_max:
        raise MessageTooLarge(len(body), bytes_max)
    return body


def validate_channel(channel: str, channel_bytes_max: int) -> None:
    """Raise `InvalidChannel` unless this can be a channel's name: 1 to ``channel_bytes_max`` bytes of UTF-8."""
    if not channel:
        raise InvalidChannel(channel, f"the name is empty; 1 to {channel_bytes_max} bytes are allowed")
    try:
        size_bytes = len(channel.encode())
    except UnicodeEncodeError:
        raise InvalidChannel(channel, "the name cannot be written in UTF-8") from None
    if size_bytes > channel_bytes_max:
        raise InvalidChannel(channel, f"the name has {size_bytes} bytes; 1 to {channel_bytes_max} are allowed")
