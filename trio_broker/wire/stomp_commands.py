"""What a STOMP client asks for, as values. A `StompServerSession` makes them, the server carries them out in order."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias, final

from trio_broker.message import AckMode, Batch
from trio_broker.wire.framed import Fail
from trio_broker.wire.stomp_heartbeat import HeartBeat
from trio_broker.wire.stomp_messages import MessageEncoder

__all__ = [
    "Ack",
    "Commit",
    "Connect",
    "Disconnect",
    "Fail",
    "Nack",
    "Publish",
    "Reply",
    "StompCommand",
    "Subscribe",
    "Unsubscribe",
]


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Connect:
    """The peer wants a connection. Where it may not have one: `StompServerSession.refuse`, then close.

    Attributes:
        version: what will be spoken.
        host: the virtual host that it asks for; None if it did not say.
        login: who it says it is.
        passcode: its proof.
        heart_beat: what holds for the server from now on.
    """

    version: str
    host: str | None = None
    login: str | None = None
    passcode: str | None = dataclasses.field(default=None, repr=False)
    heart_beat: HeartBeat = dataclasses.field(default_factory=HeartBeat)


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Publish:
    """The peer sends messages to one channel.

    Attributes:
        batch: the messages.
        expiration_ms: how long each is of use; None for ever.
        reply_to: the temporary queue that each asks for answers in; `with_reply_to` puts its real name in its place.
        receipt_id: what the first that asked for a receipt asked for.
    """

    batch: Batch
    expiration_ms: int | None = None
    reply_to: str | None = None
    receipt_id: str | None = None


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Subscribe:
    """The peer takes its place in a channel.

    Attributes:
        id: names the subscription within its connection. For one without an identifier, in 1.0, a line feed and the
            destination: no identifier of 1.0 can be that.
        channel: whose messages it wants.
        ack: how it settles them.
        prefetch_messages: how many it takes before it settles one; None if it left that to the broker.
        receipt_id: the receipt that it asked for.
        encoder: makes its MESSAGE frames.
    """

    id: str
    channel: str
    ack: AckMode
    prefetch_messages: int | None
    receipt_id: str | None
    encoder: MessageEncoder = dataclasses.field(repr=False, compare=False)


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The peer leaves a subscription, which exists."""

    id: str
    receipt_id: str | None = None


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Ack:
    """The peer has dealt with a message.

    Attributes:
        subscription: what it says it got the message from; None where its version does not say. It may be over.
        number: of the delivery, within the connection. Whether that is outstanding has not been looked at.
        receipt_id: the receipt that it asked for.
    """

    subscription: str | None
    number: int
    receipt_id: str | None = None


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Nack:
    """The peer has not dealt with a message; otherwise as `Ack`.

    Attributes:
        requeue: whether somebody else is to have it (S-41).
    """

    subscription: str | None
    number: int
    requeue: bool = True
    receipt_id: str | None = None


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Commit:
    """All of these at once or none (S-26): first the messages, then the settlements, each in the order they came."""

    commands: tuple[Publish | Ack | Nack, ...]
    receipt_id: str | None = None


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """Send this to the peer, now that everything before it in the list has been carried out."""

    data: bytes


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Disconnect:
    """The peer has said goodbye: send what is waiting as control, then close. Nothing follows it."""


StompCommand: TypeAlias = Connect | Publish | Subscribe | Unsubscribe | Ack | Nack | Commit | Reply | Disconnect | Fail
