"""What is fuzzed: each target takes arbitrary bytes, and raises `AssertionError` for what may never happen.

The first bytes of an input say how the rest is cut into reads and, for STOMP, which version is spoken. What holds:

- a server's session never raises, and a client's raises `ProtocolViolation` alone;
- what is held stays within the limits;
- a stream means the same however it is cut into reads;
- `Fail` is a session's last word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from types import MappingProxyType
from typing import Any, Final

from trio_broker.errors import ProtocolViolation
from trio_broker.limits import Limits
from trio_broker.wire.framed import FramedServerSession
from trio_broker.wire.framed import Publish as FramedPublish
from trio_broker.wire.framed_client import FramedClientSession
from trio_broker.wire.stomp_client import StompClientSession
from trio_broker.wire.stomp_commands import Commit, Fail, Publish, Subscribe
from trio_broker.wire.stomp_server import StompServerSession

__all__ = ["SEEDS", "TARGETS"]

_SMALL: Final = Limits(
    frame_bytes_max=64,
    channel_bytes_max=32,
    header_bytes_max=256,
    headers_max=6,
    subscriptions_max=3,
    transactions_max=3,
    transaction_bytes_max=600,
)
_HELD_MAX: Final = 2 * (_SMALL.header_bytes_max + _SMALL.frame_bytes_max + _SMALL.transaction_bytes_max)
_VERSIONS: Final = ("1.0", "1.1", "1.2")


def _cut(data: bytes, plan: bytes) -> Iterator[bytes]:
    """The same bytes in reads of the lengths that the plan repeats; in one read without a plan."""
    lengths = cycle([byte % 32 + 1 for byte in plan] or [len(data) + 1])
    offset = 0
    while offset < len(data):
        length = next(lengths)
        yield data[offset : offset + length]
        offset += length


def _parts(data: bytes) -> tuple[int, bytes, bytes]:
    """A choice, a plan for the reads, and the stream."""
    return (data[0] if data else 0), data[1:4], data[4:]


def _meaning(command: Any) -> list[Any]:
    """A command without what depends on the reads: how messages are gathered into batches."""
    match command:
        case Publish(batch=batch) | FramedPublish(batch=batch):
            return [("message", batch.channel, message.body, dict(message.headers)) for message in batch]
        case Commit(commands=commands):
            return ["commit", *(meaning for bound in commands for meaning in _meaning(bound))]
        case Subscribe():
            return [("subscribe", command.id, command.channel, command.ack, command.prefetch_messages)]
        case _:
            return [repr(command)]


def _by_kind(commands: list[Any]) -> dict[str, list[Any]]:
    """Messages by channel, whose order is promised, and everything else apart; replies that follow messages too."""
    found: dict[str, list[Any]] = {}
    for command in commands:
        for meaning in _meaning(command):
            place = meaning[1] if isinstance(meaning, tuple) and meaning[0] == "message" else ""
            if not (isinstance(meaning, str) and meaning.startswith("Reply")):
                found.setdefault(place, []).append(meaning)
    return found


def _serve(session: Any, reads: Iterator[bytes]) -> tuple[dict[str, list[Any]], int, str | None]:
    commands: list[Any] = []
    for read in reads:
        more = session.receive_data(read)
        assert not (more and commands and isinstance(commands[-1], Fail)), "something came after a violation"
        commands += more
        assert session.held_bytes <= _HELD_MAX, f"{session.held_bytes} bytes are held"
    end = session.receive_eof()
    return _by_kind(commands), session.held_bytes, end


def _receive(session: Any, reads: Iterator[bytes]) -> tuple[list[str], str | None]:
    events: list[str] = []
    try:
        for read in reads:
            events += map(repr, session.receive_data(read))
            assert session.held_bytes <= _HELD_MAX if hasattr(session, "held_bytes") else True
        session.receive_data(b"")
    except ProtocolViolation:
        pass
    return events, session.receive_eof()


def framed_server(data: bytes) -> None:
    """A server of the framed protocol."""
    _, plan, stream = _parts(data)
    whole = _serve(FramedServerSession(_SMALL), _cut(stream, b""))
    assert _serve(FramedServerSession(_SMALL), _cut(stream, plan)) == whole


def framed_client(data: bytes) -> None:
    """A client of the framed protocol."""
    _, plan, stream = _parts(data)
    whole = _receive(FramedClientSession(None, _SMALL), _cut(stream, b""))
    assert _receive(FramedClientSession(None, _SMALL), _cut(stream, plan)) == whole


def stomp_server(data: bytes) -> None:
    """A server of STOMP, before and after a connection was made."""
    choice, plan, stream = _parts(data)
    if choice % 4 < len(_VERSIONS):
        stream = f"CONNECT\naccept-version:{_VERSIONS[choice % 4]}\n\n\0".encode() + stream
    whole = _serve(StompServerSession(_SMALL), _cut(stream, b""))
    assert _serve(StompServerSession(_SMALL), _cut(stream, plan)) == whole


def stomp_client(data: bytes) -> None:
    """A client of STOMP."""
    choice, plan, stream = _parts(data)
    if choice % 4 < len(_VERSIONS):
        stream = f"CONNECTED\nversion:{_VERSIONS[choice % 4]}\n\n\0".encode() + stream
    whole = _receive(StompClientSession(_SMALL, versions=_VERSIONS), _cut(stream, b""))
    assert _receive(StompClientSession(_SMALL, versions=_VERSIONS), _cut(stream, plan)) == whole


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = MappingProxyType({
    target.__name__: target for target in (framed_server, framed_client, stomp_server, stomp_client)
})  # fmt: skip

_FRAMED: Final = b"\0\3\5\7" + b"\0\0\0\x08/topic/a" + 3 * b"\0\0\0\x08/topic/a\0\0\0\3abc"
SEEDS: Final[Mapping[str, tuple[bytes, ...]]] = MappingProxyType({
    "framed_server": (_FRAMED, b"\0\1\1\1GET / HTTP/1.1\r\n\r\n"),
    "framed_client": (b"\0\3\5\7\0\0\0\3abc\0\0\0\0\0\0\0\x01x",),
    "stomp_server": (
        b"\2\3\5\7SEND\ndestination:/queue/a\nx:y\nreceipt:r\n\nbody\0\nSEND\ndestination:b\ncontent-length:3\n\na\0b\0",
        b"\2\3\5\7SUBSCRIBE\nid:1\ndestination:/queue/a\nack:client\n\n\0ACK\nid:1\n\n\0NACK\nid:2\nrequeue:false\n\n\0",
        b"\1\3\5\7BEGIN\ntransaction:t\n\n\0SEND\ndestination:a\ntransaction:t\n\nb\0COMMIT\ntransaction:t\n\n\0",
        b"\0\3\5\7SUBSCRIBE\ndestination:/queue/a\n\n\0UNSUBSCRIBE\ndestination:/queue/a\n\n\0DISCONNECT\n\n\0",
        b"\3\3\5\7STOMP\naccept-version:1.0,1.2\nheart-beat:0,500\n\n\0\n\nSEND\r\ndestination:a\\c\\\\b\r\n\r\n\0",
    ),
    "stomp_client": (
        b"\2\3\5\7MESSAGE\nsubscription:1\ndestination:a\nmessage-id:1\nack:1\ncontent-length:3\n\na\0b\0",
        b"\2\3\5\7RECEIPT\nreceipt-id:r\n\n\0\nERROR\nmessage:no\n\nwhy\0",
    ),
})  # fmt: skip
