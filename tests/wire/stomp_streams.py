"""STOMP frames written and read without the code under test, and what a session made of them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

from trio_broker.limits import Limits
from trio_broker.wire.stomp_commands import (
    Ack,
    Commit,
    Connect,
    Disconnect,
    Fail,
    Nack,
    Publish,
    Reply,
    StompCommand,
    Subscribe,
    Unsubscribe,
)
from trio_broker.wire.stomp_server import StompServerSession

VERSIONS = ("1.0", "1.1", "1.2")

SMALL = Limits(
    frame_bytes_max=64,
    channel_bytes_max=24,
    header_bytes_max=160,
    headers_max=6,
    subscriptions_max=2,
    transactions_max=2,
    transaction_bytes_max=1024,
)

HELD_MAX = SMALL.header_bytes_max + SMALL.frame_bytes_max + SMALL.transaction_bytes_max


def raw(command: str, *lines: str, body: bytes = b"", end: str = "\n") -> bytes:
    """A frame whose header lines are written as they are."""
    return "".join(line + end for line in (command, *lines, "")).encode() + body + b"\0"


def hello(version: str = "1.2", *lines: str) -> bytes:
    """The frame that connects with one version."""
    return raw("CONNECT", f"accept-version:{version}", "host:x", *lines)


def connected(version: str = "1.2", limits: Limits | None = None) -> StompServerSession:
    """A session whose peer is connected."""
    session = StompServerSession(limits or Limits())
    connect, reply = session.receive_data(hello(version))
    assert isinstance(connect, Connect)
    assert connect.version == version
    assert isinstance(reply, Reply)
    return session


BEGIN, COMMIT, ABORT = (raw(command, "transaction:t") for command in ("BEGIN", "COMMIT", "ABORT"))


@dataclasses.dataclass
class Seen:
    """A frame that a session wrote, its headers still escaped, in the order they came."""

    command: str
    lines: list[str]
    body: bytes

    def get(self, name: str) -> str | None:
        """A header, which must not be repeated, or None if there is none."""
        values = [line[len(name) + 1 :] for line in self.lines if line.startswith(f"{name}:")]
        assert len(values) < 2, self.lines
        return values[0] if values else None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        assert value is not None, self.lines
        return value

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None


def frames_in(data: bytes) -> list[Seen]:
    """The frames in what a session wrote; all of it must be frames, each with an honest length or no NUL in it."""
    seen = []
    while data:
        head, blank, rest = data.partition(b"\n\n")
        assert blank, data
        command, *lines = head.decode().split("\n")
        length = re.search(rb"\ncontent-length:(\d+)", head)
        size = rest.index(0) if length is None else int(length[1])
        assert rest[size] == 0, data
        seen.append(Seen(command, lines, rest[:size]))
        data = rest[size + 1 :]
    return seen


def error_in(commands: Sequence[StompCommand]) -> Seen:
    """The ERROR frame of a read that had nothing else in it."""
    (failure,) = commands
    return error_of(failure)


def error_of(command: StompCommand) -> Seen:
    """The ERROR frame of a violation."""
    assert isinstance(command, Fail), command
    (seen,) = frames_in(command.farewell)
    assert seen.command == "ERROR"
    assert seen["content-type"] == "text/plain"
    assert seen["message"]
    if "version" not in seen:
        assert seen.body.decode() == command.reason
    return seen


def messages_in(commands: Iterable[StompCommand]) -> dict[str, list[tuple[bytes, Mapping[str, str]]]]:
    """What was published, by channel."""
    messages: dict[str, list[tuple[bytes, Mapping[str, str]]]] = {}
    for command in commands:
        match command:
            case Publish(batch=batch):
                assert len(batch) > 0
                assert batch.bytes == batch.codec.measure(batch.parts)
                for message in batch:
                    messages.setdefault(batch.channel, []).append((message.body, dict(message.headers)))
            case Commit(commands=bound):
                for channel, more in messages_in(bound).items():
                    messages.setdefault(channel, []).extend(more)
            case _:
                pass
    return messages


def receipts_in(commands: Iterable[StompCommand]) -> list[str]:
    """The receipts that were given, in order."""
    written = b"".join(command.data for command in commands if isinstance(command, Reply))
    return [seen["receipt-id"] for seen in frames_in(written) if seen.command == "RECEIPT"]


Stretch = tuple[dict[str, list[tuple[bytes, Mapping[str, str]]]], list[str], StompCommand | None]


def stretches(commands: Iterable[StompCommand]) -> list[Stretch]:
    """What commands mean, however the stream was cut: what came between those whose place matters."""
    result: list[Stretch] = []
    since: list[StompCommand] = []
    for command in (*commands, None):
        if isinstance(command, Connect | Subscribe | Unsubscribe | Ack | Nack | Commit | Disconnect | Fail | None):
            shown = command
            if isinstance(command, Commit):
                since.append(command)
                shown = Commit(tuple(part for part in command.commands if not isinstance(part, Publish)))
            result.append((messages_in(since), sorted(receipts_in(since)), shown))
            since = []
        else:
            since.append(command)
    return result


def kinds(commands: list[StompCommand]) -> list[str]:
    """What came, without its content."""
    return [type(command).__name__ for command in commands]


def subscribe(number: str = "0", *lines: str, to: str = "/queue/a") -> bytes:
    """A SUBSCRIBE."""
    return raw("SUBSCRIBE", f"id:{number}", f"destination:{to}", *lines)


def send(body: bytes = b"", *lines: str, to: str = "/queue/a") -> bytes:
    """A SEND."""
    return raw("SEND", f"destination:{to}", *lines, body=body)
