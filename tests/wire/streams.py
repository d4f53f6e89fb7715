"""Byte streams of the framed protocol, and what a session made of them, for the tests in this folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from trio_broker.limits import Limits
from trio_broker.message import Batch
from trio_broker.wire import FRAMED, Command, Fail, FramedServerSession, Publish, Subscribe

EVERY_BYTE = bytes(range(256))
ALL_AND_DRIPPED = pytest.mark.parametrize("dripped", [False, True], ids=["at once", "dripped"])

SMALL = Limits(frame_bytes_max=64, channel_bytes_max=16)

settled = settings(derandomize=True, deadline=None, max_examples=200)
"""For properties: the same examples in every run, however slow the machine is."""

Pair = tuple[str, bytes]

channels = st.sampled_from(["/topic/a", "/topic/ab", "/queue/a", "/null", "x", "/ünï", "\N{GRINNING FACE}"])
payloads = st.binary(max_size=SMALL.frame_bytes_max)
pairs = st.lists(st.tuples(channels, payloads), max_size=12)
cuts = st.lists(st.integers(0, 400), max_size=12)


def length(count: int) -> bytes:
    """The four bytes that announce so many."""
    return count.to_bytes(4, "big")


def framed(content: bytes | str) -> bytes:
    """A frame, written without the code under test."""
    content = content.encode() if isinstance(content, str) else content
    return length(len(content)) + content


def pair(channel: bytes | str, payload: bytes) -> bytes:
    """What a peer sends to publish."""
    return framed(channel) + framed(payload)


def stream_of(hello: str, messages: Iterable[Pair]) -> bytes:
    """All that a peer sends in one conversation."""
    return framed(hello) + b"".join(pair(channel, payload) for channel, payload in messages)


def cut_at(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The same bytes as several reads."""
    ends = sorted({place for place in places if 0 < place < len(data)})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def drip(data: bytes) -> list[bytes]:
    """The same bytes, one a read."""
    return [data[index : index + 1] for index in range(len(data))]


def by_channel(messages: Iterable[Pair]) -> dict[str, list[bytes]]:
    """What the protocol promises of an order: that within one channel."""
    grouped: dict[str, list[bytes]] = {}
    for channel, payload in messages:
        grouped.setdefault(channel, []).append(payload)
    return grouped


@dataclasses.dataclass
class Outcome:
    """What a server session made of a stream, whatever the reads were."""

    subscribed: list[str | None] = dataclasses.field(default_factory=list)
    payloads: dict[str, list[bytes]] = dataclasses.field(default_factory=dict)
    failure: Fail | None = None


def outcome_of(commands: Sequence[Command]) -> Outcome:
    """Sum the commands up, and see to their order: the subscription first, a failure last."""
    outcome = Outcome()
    for command in commands:
        assert outcome.failure is None, "something came after a failure"
        match command:
            case Subscribe(channel=channel):
                assert not outcome.payloads, "something was published before the subscription"
                outcome.subscribed.append(channel)
            case Publish(batch=batch):
                assert len(batch) > 0
                for message in batch:
                    assert message.channel == batch.channel
                    outcome.payloads.setdefault(batch.channel, []).append(message.body)
            case Fail():
                outcome.failure = command
    return outcome


def feed(session: FramedServerSession, reads: Iterable[bytes]) -> Outcome:
    """Give a session these reads."""
    return outcome_of([command for read in reads for command in session.receive_data(read)])


def greeted(limits: Limits | None = None, channel: str = "/null") -> FramedServerSession:
    """A session whose first frame has come."""
    session = FramedServerSession(limits or Limits())
    session.receive_data(framed(channel))
    return session


def batch_of(*bodies: bytes, channel: str = "/topic/a") -> Batch:
    """A batch as a session makes it."""
    return Batch(channel, [framed(body) for body in bodies], FRAMED)


def reads_of(data: bytes, dripped: bool) -> list[bytes]:
    """One read or as many as there are bytes."""
    return drip(data) if dripped else [data]
