"""The server's half of a STOMP conversation, versions 1.0, 1.1 and 1.2. docs/stomp.md numbers the clauses.

Theory of operation:
    *Bytes in, values out.* As in the framed protocol: `receive_data` returns the commands that its bytes complete, and
    is synchronous, so a reader and a writer may share a session without a lock.

    *Messages of one read travel together.* SENDs are gathered by channel until the read ends, or until a frame comes
    whose place among them matters: SUBSCRIBE and UNSUBSCRIBE (who gets what was sent before?), ACK and NACK (which
    must not overtake the answer that was sent before, nor be kept waiting by one sent after), COMMIT, DISCONNECT, and
    every frame but SEND that asks for a receipt. What was gathered comes before it in the list. A SEND that asks for a
    receipt ends nothing: its receipts follow the messages of its channel, which are carried out together. BEGIN,
    ABORT and what is bound to a transaction change nothing outside this session before COMMIT.

    *The session keeps the names.* Subscriptions and transactions exist for it from the moment their frame is parsed;
    carrying it out comes later. So what is sent to a subscription is made by a `MessageEncoder` of its own, which does
    not care whether UNSUBSCRIBE has been parsed meanwhile. Numbers of deliveries are the broker's: the session parses
    them and knows nothing of what is outstanding.

    *A violation is a value*, `Fail`, with the ERROR frame to send in it; the session is deaf from then on.
"""

from __future__ import annotations

from typing import final

from trio_broker.errors import ProtocolViolation, shorten
from trio_broker.limits import Limits
from trio_broker.wire.stomp_commands import Disconnect, Fail, Reply, StompCommand
from trio_broker.wire.stomp_frames import FrameReader
from trio_broker.wire.stomp_heads import Head, encode_frame, required
from trio_broker.wire.stomp_heartbeat import HEART_BEAT_MISSED, offer_of
from trio_broker.wire.stomp_requests import (
    Send,
    parse_connect,
    parse_send,
    parse_settlement,
    parse_subscribe,
    parse_unsubscribe,
)
from trio_broker.wire.stomp_transactions import Gathering, Transactions
from trio_broker.wire.stomp_versions import CONNECT_COMMANDS, V10, VERSIONS, version_of

__all__ = ["StompServerSession"]


@final
class StompServerSession:
    """The server's half of one STOMP conversation.

    Args:
        limits: ``frame_bytes_max``, ``channel_bytes_max``, ``header_bytes_max``, ``headers_max``,
            ``subscriptions_max``, ``transactions_max``, ``transaction_bytes_max`` and ``heart_beat_seconds_min`` are
            used.
        session_id: what CONNECTED calls this conversation; empty for nothing.
        server_name: what CONNECTED calls this server.
    """

    __slots__ = (
        "_commands",
        "_connected",
        "_gathering",
        "_heart_beat",
        "_limits",
        "_over",
        "_reader",
        "_server_name",
        "_session_id",
        "_subscriptions",
        "_transactions",
    )

    def __init__(self, limits: Limits, *, session_id: str = "", server_name: str = "trio_broker") -> None:
        self._limits = limits
        self._session_id = session_id
        self._server_name = server_name
        self._heart_beat = offer_of(limits.heart_beat_seconds_min)
        self._reader = FrameReader(limits, CONNECT_COMMANDS)
        self._connected = False
        self._over = False  # the peer said goodbye or broke the protocol; nothing it sends is looked at any more
        self._subscriptions: dict[str, str] = {}  # names and destinations
        self._transactions = Transactions(limits)
        self._gathering = Gathering()  # messages of this read; empty between calls
        self._commands: list[StompCommand] = []  # what this read has completed otherwise; empty between calls

    @property
    def greeted(self) -> bool:
        """Whether a connection was made."""
        return self._connected

    @property
    def held_bytes(self) -> int:
        """How many bytes of an unfinished frame are held, and the cost of what waits for its COMMIT."""
        return self._reader.held_bytes + self._transactions.cost

    @property
    def unfinished_bytes(self) -> int:
        """How many of these belong to an unfinished frame; a transaction may be open for as long as it likes."""
        return self._reader.held_bytes

    def receive_data(self, data: bytes) -> list[StompCommand]:
        """Take bytes as they came and return the commands that they complete, in order; nothing is waited for.

        A `Fail` or `Disconnect` is always the last command; after it the session ignores everything.
        """
        if self._over or not data:
            return []
        try:
            for head, bodies in self._reader.frames(data):
                self._take(head, bodies)
                if self._over:
                    break
            self._flush()
        except ProtocolViolation as violation:
            self._flush()
            self._commands.append(Fail(violation.reason, self.refuse(violation.reason, self._reader.receipt_id)))
        if self._over:
            self._end()
        commands, self._commands = self._commands, []
        return commands

    def receive_eof(self) -> str | None:
        """What an end of the stream at this place means: None between frames, else what was cut off (S-43)."""
        if self._over:
            return None
        if self._reader.held_bytes:
            return f"the stream ended inside a frame ({self._reader.held_bytes} bytes were there)"
        return None if self._connected else "the stream ended before a connection was made"

    def refuse(self, reason: str, receipt_id: str | None = None, *, heart_beat_missed: bool = False) -> bytes:
        """The ERROR frame that says why the conversation is over (S-42). The session is deaf from now on.

        Args:
            reason: what was wrong and what is allowed. Up to its last semicolon it is the ``message`` too.
            receipt_id: of the frame that was refused, if it asked for a receipt.
            heart_beat_missed: nothing was refused; the peer was silent for too long (S-73).
        """
        self._end()
        headers: tuple[tuple[str, str], ...] = () if receipt_id is None else (("receipt-id", receipt_id),)
        if heart_beat_missed:
            headers += ((HEART_BEAT_MISSED, "true"),)
        return self._error(reason.rpartition("; ")[0] or reason, reason, headers)

    def _error(self, message: str, body: str, headers: tuple[tuple[str, str], ...]) -> bytes:
        version = self._reader.version
        all_headers = (("message", message), *headers, ("content-type", "text/plain"))
        return encode_frame(
            version, "ERROR", filter(lambda header: version.can_write(*header), all_headers), body.encode()
        )

    def _end(self) -> None:
        """Be deaf, and hold nothing."""
        self._over = True
        self._reader.clear()
        self._transactions.clear()
        self._subscriptions = {}

    def _flush(self) -> None:
        """The messages that were gathered come now."""
        if self._gathering.groups:
            self._commands += self._gathering.take(self._receipt)

    def _add(self, command: StompCommand) -> None:
        """This command comes now, after the messages that were gathered."""
        self._flush()
        self._commands.append(command)

    def _receipt(self, receipt_id: str) -> bytes:
        """The frame that says that a frame has been dealt with (S-21)."""
        return encode_frame(self._reader.version, "RECEIPT", (("receipt-id", receipt_id),))

    def _take(self, head: Head, bodies: list[bytes]) -> None:
        """Make commands of frames that have the same head; only those of SEND are given several at once."""
        if head.command == "SEND":
            self._send(head, bodies)
            return
        self._obey(head)
        receipt_id = head.headers.get("receipt")
        if receipt_id is not None and head.command not in CONNECT_COMMANDS:
            self._add(Reply(self._receipt(receipt_id)))
        if head.command == "DISCONNECT":
            self._add(Disconnect())
            self._over = True

    def _obey(self, head: Head) -> None:
        """Do what a frame other than SEND says, as far as it is the session's business."""
        match head.command:
            case "CONNECT" | "STOMP":
                self._connect(head)
            case "SUBSCRIBE":
                self._subscribe(head)
            case "UNSUBSCRIBE":
                self._unsubscribe(head)
            case "ACK" | "NACK":
                self._settle(head)
            case "BEGIN":
                self._transactions.begin(required(head, "transaction"))
            case "COMMIT":
                transaction_id = required(head, "transaction")
                self._add(self._transactions.commit(transaction_id, head.headers.get("receipt")))
            case "DISCONNECT":
                pass  # what follows from it comes after its receipt
            case _:  # ABORT: the reader lets nothing else through
                self._transactions.abort(required(head, "transaction"))

    def _connect(self, head: Head) -> None:
        """CONNECT: choose a version, and promise heart-beats (S-11 to S-15)."""
        version = version_of(head.headers.get("accept-version"))
        if version is None:
            self._refuse_versions(head.headers["accept-version"])
            return
        connect = parse_connect(head, version, self._heart_beat)
        fields = [("version", version.name)]
        if "heart-beat" in head.headers and version is not V10:
            fields.append(("heart-beat", str(self._heart_beat)))
        if self._session_id:
            fields.append(("session", self._session_id))
        fields.append(("server", self._server_name))
        self._connected = True
        self._reader.version = version
        self._reader.commands = version.commands
        self._add(connect)
        self._add(Reply(encode_frame(version, "CONNECTED", fields)))

    def _refuse_versions(self, accept_version: str) -> None:
        """No version in common: say which there are (S-12)."""
        reason = f"no common version: the client accepts {shorten(accept_version)}; allowed are {', '.join(VERSIONS)}"
        headers = (("version", ",".join(VERSIONS)),)
        self._add(
            Fail(
                reason,
                self._error("no common version", f"Supported protocol versions are {' '.join(VERSIONS)}", headers),
            )
        )
        self._over = True

    def _send(self, head: Head, bodies: list[bytes]) -> None:
        """SEND: gather messages, or bind them to their transaction (S-19, S-20)."""
        send: Send | None = head.meaning
        if send is None:
            send = head.meaning = parse_send(head, self._limits)
        receipt_id = head.headers.get("receipt")
        if send.transaction_id is None:
            self._gathering.add(send.channel, send.headers, bodies, receipt_id)
            return
        self._transactions.add_messages(send.transaction_id, send.channel, send.headers, bodies)
        if receipt_id is not None:
            self._add(Reply(self._receipt(receipt_id)))

    def _subscribe(self, head: Head) -> None:
        """SUBSCRIBE: a place under a name of its own (S-22)."""
        subscribe = parse_subscribe(head, self._reader.version, self._limits)
        if subscribe.id in self._subscriptions:
            named = shorten(subscribe.id.removeprefix("\n"))
            raise ProtocolViolation(f"subscription {named} exists already; identifiers must differ")
        if len(self._subscriptions) >= self._limits.subscriptions_max:
            raise ProtocolViolation(f"too many subscriptions; {self._limits.subscriptions_max} are allowed at once")
        self._subscriptions[subscribe.id] = head.headers["destination"]
        self._add(subscribe)

    def _unsubscribe(self, head: Head) -> None:
        """UNSUBSCRIBE: that name is free again (S-24)."""
        unsubscribe = parse_unsubscribe(head, self._reader.version, self._subscriptions)
        del self._subscriptions[unsubscribe.id]
        self._add(unsubscribe)

    def _settle(self, head: Head) -> None:
        """ACK and NACK: settle, or bind that to a transaction (S-34)."""
        settlement = parse_settlement(head, self._reader.version)
        transaction_id = head.headers.get("transaction")
        if transaction_id is None:
            self._add(settlement)
        else:
            self._transactions.add_settlement(transaction_id, settlement)
