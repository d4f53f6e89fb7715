"""The client's half of a STOMP conversation, versions 1.0, 1.1 and 1.2. docs/stomp.md numbers the clauses.

Methods that are called as a client's frames are return such a frame; `receive_data` returns what the server's frames
say, as values. Nothing is waited for, and no frame is held back: who sends what when is the caller's business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias, final

from trio_broker.errors import ProtocolViolation, shorten
from trio_broker.headers import OWN_HEADERS
from trio_broker.limits import Limits
from trio_broker.message import AckMode, Message
from trio_broker.wire.stomp_frames import FrameReader
from trio_broker.wire.stomp_heads import Head, encode_frame, parse_decimal, required
from trio_broker.wire.stomp_heartbeat import NO_HEART_BEAT, HeartBeat, parse_heart_beat
from trio_broker.wire.stomp_messages import message_limits
from trio_broker.wire.stomp_versions import V10, V11, V12, VERSIONS, Version

__all__ = ["Connected", "Receipt", "Received", "ServerError", "StompClientSession", "StompEvent"]

_BEFORE: Final[Mapping[str, bool]] = MappingProxyType({"CONNECTED": False, "ERROR": True})
_AFTER: Final[Mapping[str, bool]] = MappingProxyType({"MESSAGE": True, "RECEIPT": False, "ERROR": True})
_NAMED: Final = frozenset({"destination", "content-length", "receipt", "transaction"})


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Connected:
    """The server accepted the connection.

    Attributes:
        version: what is spoken.
        heart_beat: what holds for the client from now on.
        session_id: what the server calls this conversation, if it says.
        server_name: what the server calls itself, if it says.
    """

    version: str
    heart_beat: HeartBeat = NO_HEART_BEAT
    session_id: str | None = None
    server_name: str | None = None


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """A message.

    Attributes:
        subscription_id: whose it is; None where 1.0 let the subscription have no identifier.
        message: its channel is the destination as the server writes it.
        message_id: what the server calls it.
        ack_id: what `StompClientSession.ack` settles it by; None in 1.2 where nothing is to be settled.
        redelivered: somebody may have had it before.
    """

    subscription_id: str | None
    message: Message
    message_id: str
    ack_id: str | None
    redelivered: bool = False


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Receipt:
    """The server has dealt with the frame that asked for this receipt."""

    receipt_id: str


@final
@dataclasses.dataclass(frozen=True, slots=True)
class ServerError:
    """The server ends the conversation.

    Attributes:
        message: why, in short.
        detail: why, at length.
        receipt_id: of the frame that was at fault, if the server says.
        headers: all that it said.
    """

    message: str
    detail: bytes
    receipt_id: str | None
    headers: Mapping[str, str]


StompEvent: TypeAlias = Connected | Received | Receipt | ServerError


@final
class StompClientSession:
    """The client's half of one STOMP conversation.

    Args:
        limits: ``frame_bytes_max``, ``header_bytes_max`` and ``headers_max`` are used, as `message_limits` says.
        versions: what the client accepts, the lowest first.
        heart_beat: what it offers.

    Every method that makes a frame raises ``ValueError`` for a header that cannot be written in the version spoken.
    """

    __slots__ = ("_heart_beat", "_over", "_reader", "_version", "_versions", "_violation")

    def __init__(
        self, limits: Limits, *, versions: tuple[str, ...] = ("1.2",), heart_beat: HeartBeat = NO_HEART_BEAT
    ) -> None:
        unknown = [name for name in versions if name not in VERSIONS]
        if unknown or not versions:
            raise ValueError(f"versions are {versions!r}; allowed are {', '.join(VERSIONS)}, at least one of them")
        self._versions = versions
        self._heart_beat = heart_beat
        self._version: Version | None = None
        self._reader = FrameReader(message_limits(limits), _BEFORE)
        self._over = False  # the server sent ERROR; nothing that follows it is looked at
        self._violation: ProtocolViolation | None = None  # the same

    @property
    def version(self) -> str | None:
        """What is spoken, once that is known."""
        return None if self._version is None else self._version.name

    @property
    def held_bytes(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return self._reader.held_bytes

    # -- frames --------------------------------------------------------------------------------------------------------

    def connect(self, host: str, login: str | None = None, passcode: str | None = None) -> bytes:
        """CONNECT (S-46). Raises ``ValueError`` for values with a line feed, a NUL or a carriage return."""
        headers = {"host": host, "login": login, "passcode": passcode}
        if self._versions != (V10.name,):
            headers = {"accept-version": ",".join(self._versions), **headers}
        if self._heart_beat != NO_HEART_BEAT:
            headers["heart-beat"] = str(self._heart_beat)
        fields = [(name, value) for name, value in headers.items() if value is not None]
        for name, value in fields:
            if "\n" in value or "\r" in value or not V12.can_write(name, value):
                raise ValueError(f"{name} cannot be written in CONNECT, where nothing is escaped")
        return encode_frame(V12, "CONNECT", fields)

    def send(self, message: Message, *, receipt: str | None = None, transaction: str | None = None) -> bytes:
        """SEND. Raises ``ValueError`` also for headers that STOMP has a meaning of its own for."""
        taken = _NAMED & message.headers.keys()
        if taken:
            raise ValueError(f"headers cannot contain {', '.join(sorted(taken))}")
        named = {"destination": message.channel, "receipt": receipt, "transaction": transaction}
        return self._frame("SEND", {**named, **message.headers}, message.body)

    def subscribe(
        self,
        channel: str,
        subscription_id: str,
        *,
        ack: AckMode = AckMode.AUTO,
        prefetch_messages: int | None = None,
        receipt: str | None = None,
    ) -> bytes:
        """SUBSCRIBE."""
        prefetch = None if prefetch_messages is None else str(prefetch_messages)
        headers = {"id": subscription_id, "destination": channel, "ack": ack.value, "prefetch-count": prefetch}
        return self._frame("SUBSCRIBE", {**headers, "receipt": receipt})

    def unsubscribe(self, subscription_id: str, *, receipt: str | None = None) -> bytes:
        """UNSUBSCRIBE."""
        return self._frame("UNSUBSCRIBE", {"id": subscription_id, "receipt": receipt})

    def ack(self, received: Received, *, receipt: str | None = None, transaction: str | None = None) -> bytes:
        """ACK (S-34). Raises ``ValueError`` for a message that is not to be settled."""
        return self._frame("ACK", self._settled(received) | {"receipt": receipt, "transaction": transaction})

    def nack(
        self,
        received: Received,
        *,
        requeue: bool = True,
        receipt: str | None = None,
        transaction: str | None = None,
    ) -> bytes:
        """NACK (S-34, S-41). Raises ``ValueError`` for a message that is not to be settled, and in 1.0."""
        if self._version is V10:
            raise ValueError("STOMP 1.0 has no NACK")
        headers = {"requeue": None if requeue else "false", "receipt": receipt, "transaction": transaction}
        return self._frame("NACK", self._settled(received) | headers)

    def begin(self, transaction: str, *, receipt: str | None = None) -> bytes:
        """BEGIN."""
        return self._frame("BEGIN", {"transaction": transaction, "receipt": receipt})

    def commit(self, transaction: str, *, receipt: str | None = None) -> bytes:
        """COMMIT."""
        return self._frame("COMMIT", {"transaction": transaction, "receipt": receipt})

    def abort(self, transaction: str, *, receipt: str | None = None) -> bytes:
        """ABORT."""
        return self._frame("ABORT", {"transaction": transaction, "receipt": receipt})

    def disconnect(self, *, receipt: str | None = None) -> bytes:
        """DISCONNECT."""
        return self._frame("DISCONNECT", {"receipt": receipt})

    # -- events --------------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> list[StompEvent]:
        """Take bytes as they came and return what they complete.

        Raises:
            ProtocolViolation: the server sent what it must not. The conversation is over. What was whole before is
                returned first; the next call, be it with no bytes, raises.
        """
        events: list[StompEvent] = []
        if self._violation is None and not self._over:
            try:
                for head, bodies in self._reader.frames(data):
                    events += [self._event(head, body) for body in bodies]
                    if self._over:
                        self._reader.clear()
                        break
            except ProtocolViolation as violation:
                self._violation = violation
                self._reader.clear()
        if self._violation is not None and not events:
            raise self._violation
        return events

    def receive_eof(self) -> str | None:
        """What an end of the stream at this place means: None between frames, else what was wrong."""
        if self._violation is not None:
            return self._violation.reason
        if self._reader.held_bytes:
            return f"the stream ended inside a frame ({self._reader.held_bytes} bytes were there)"
        return None if self._over or self._version is not None else "the stream ended before a connection was made"

    def _frame(self, command: str, headers: Mapping[str, str | None], body: bytes | None = None) -> bytes:
        version = self._version or VERSIONS[self._versions[-1]]
        fields = [(name, value) for name, value in headers.items() if value is not None]
        for name, value in fields:
            if not version.can_write(name, value):
                raise ValueError(f"the header {shorten(name)} cannot be written in STOMP {version.name}")
        return encode_frame(version, command, fields, body)

    def _settled(self, received: Received) -> dict[str, str | None]:
        """How the version spoken names a message that is settled."""
        if received.ack_id is None:
            raise ValueError("this message is not to be settled: its subscription is not one that acknowledges")
        if self._version in {V10, V11}:
            return {"message-id": received.ack_id, "subscription": received.subscription_id}
        return {"id": received.ack_id}

    def _event(self, head: Head, body: bytes) -> StompEvent:
        headers = head.headers
        match head.command:
            case "MESSAGE":
                return self._received(head, body)
            case "RECEIPT":
                return Receipt(required(head, "receipt-id"))
            case "CONNECTED":
                return self._connected(headers)
            case _:
                self._over = True
                return ServerError(
                    headers.get("message", ""), body, headers.get("receipt-id"), MappingProxyType(headers)
                )

    def _connected(self, headers: Mapping[str, str]) -> Connected:
        """CONNECTED (S-12, S-15)."""
        name = headers.get("version", V10.name).strip()
        if name not in self._versions:
            raise ProtocolViolation(
                f"the server chose version {shorten(name)}; the client accepts {', '.join(self._versions)}"
            )
        self._version = self._reader.version = VERSIONS[name]
        self._reader.commands = _AFTER
        theirs = parse_heart_beat(headers.get("heart-beat"))
        return Connected(name, self._heart_beat.agree(theirs), headers.get("session"), headers.get("server"))

    def _received(self, head: Head, body: bytes) -> Received:
        """MESSAGE (S-29 to S-33)."""
        headers = head.headers
        message_id = required(head, "message-id")
        destination = required(head, "destination")
        subscription_id = headers.get("subscription")
        if self._version is not V10:
            subscription_id = required(head, "subscription")
        own = {name: value for name, value in headers.items() if name not in OWN_HEADERS}
        message = Message(destination, body, own, parse_decimal(headers.get("dropped-before", "0")) or 0)
        ack_id = headers.get("ack") if self._version is V12 else message_id
        return Received(subscription_id, message, message_id, ack_id, headers.get("redelivered") == "true")
