"""Sizes at the framed protocol's borders, and what a peer that drips costs (docs/framed.md, F-2, F-4, F-5, F-8)."""

from __future__ import annotations

import pytest

from tests.wire.streams import (
    ALL_AND_DRIPPED,
    EVERY_BYTE,
    SMALL,
    Outcome,
    feed,
    framed,
    greeted,
    length,
    pair,
    reads_of,
)
from trio_broker.errors import ProtocolViolation
from trio_broker.limits import Limits
from trio_broker.wire import Fail, FramedClientSession, FramedServerSession, Publish

# -- sizes at their borders -------------------------------------------------------------------------------------------


NAMES = ["n" * 255, "ü" * 127 + "n", "\N{GRINNING FACE}" * 63 + "nnn"]


@ALL_AND_DRIPPED
@pytest.mark.parametrize("name", NAMES, ids=["ascii", "two bytes each", "four bytes each"])
def test_f4_a_name_may_have_255_bytes(name: str, dripped: bool) -> None:
    assert len(name.encode()) == 255
    session = FramedServerSession(Limits())
    data = framed(name) + pair("x", b"1") + pair(name, b"2")
    assert feed(session, reads_of(data, dripped)) == Outcome([name], {"x": [b"1"], name: [b"2"]})


@ALL_AND_DRIPPED
@pytest.mark.parametrize("greeting", [b"", framed("/null")], ids=["first frame", "pair"])
@pytest.mark.parametrize("size", [0, 256, 2**31, 2**32 - 1])
def test_f4_f5_a_name_of_another_length_is_refused_at_its_header(size: int, greeting: bytes, dripped: bool) -> None:
    session = FramedServerSession(Limits())
    outcome = feed(session, reads_of(greeting + length(size), dripped))
    assert outcome.failure == Fail(f"a channel name of {size:,} bytes; 1 to 255 are allowed")
    assert session.held_bytes == 0


@ALL_AND_DRIPPED
@pytest.mark.parametrize("name", [b"\xff", b"/topic/\xc3", b"\xed\xa0\x80", b"\xc0\xaf"])
def test_f4_a_name_must_be_utf8(name: bytes, dripped: bool) -> None:
    first = feed(FramedServerSession(Limits()), reads_of(framed(name), dripped))
    later = feed(greeted(), reads_of(framed(name), dripped))  # before a byte of the payload is there
    assert first.failure == later.failure
    assert first.failure is not None
    assert first.failure.reason.startswith("a channel name that is not UTF-8: '")
    assert "\\\\x" in first.failure.reason


def test_f4_a_refused_name_cannot_flood_or_forge_a_log() -> None:
    failure = feed(greeted(), [framed(b"\n\x1b[2J" + b"\xff" * 200)]).failure
    assert failure is not None
    assert failure.reason.isprintable()
    assert len(failure.reason) < 250


@ALL_AND_DRIPPED
@pytest.mark.parametrize("size", [0, 1, 63, 64])
def test_f5_f8_payloads_up_to_the_limit(size: int, dripped: bool) -> None:
    payload = EVERY_BYTE[:size]
    assert feed(greeted(SMALL), reads_of(pair("/q", payload), dripped)) == Outcome(payloads={"/q": [payload]})
    client = FramedClientSession("/q", SMALL)
    assert [p for read in reads_of(framed(payload), dripped) for p in client.receive_data(read)] == [payload]


@ALL_AND_DRIPPED
@pytest.mark.parametrize("size", [65, 2**31, 2**32 - 1])
def test_f5_a_larger_payload_is_refused_at_its_header(size: int, dripped: bool) -> None:
    session = greeted(SMALL)
    outcome = feed(session, reads_of(framed("/q") + length(size), dripped))
    assert outcome.failure == Fail(f"a payload of {size:,} bytes; at most 64 are allowed")
    assert session.held_bytes == 0


@ALL_AND_DRIPPED
@pytest.mark.parametrize(
    "message",
    [pair(b"", b"1"), pair(b"n" * 17, b"1"), pair(b"\xff", b"1"), pair("/q", bytes(65))],
    ids=["empty name", "long name", "not UTF-8", "large payload"],
)
def test_f4_f5_a_whole_pair_that_breaks_a_limit_is_not_published(message: bytes, dripped: bool) -> None:
    outcome = feed(greeted(SMALL), reads_of(message + pair("/q", b"1"), dripped))
    assert outcome.payloads == {}
    assert outcome.failure is not None


def test_f5_the_default_limit_is_exact() -> None:
    most = Limits().frame_bytes_max
    session = greeted()
    assert session.receive_data(framed("/q") + length(most)) == []
    assert session.held_bytes == len(framed("/q")) + 4
    (command,) = session.receive_data(bytes(most))
    assert isinstance(command, Publish)
    assert command.batch.bytes == most + 4
    assert feed(session, [framed("/q") + length(most + 1)]).failure is not None


def test_f5_what_is_announced_is_not_held_before_it_comes() -> None:
    session = greeted()
    session.receive_data(framed("/q") + length(Limits().frame_bytes_max))
    assert session._held.__alloc__() < 64


@ALL_AND_DRIPPED
@pytest.mark.parametrize("size", [65, 2**32 - 1])
def test_f5_a_client_refuses_a_larger_payload_at_its_header(size: int, dripped: bool) -> None:
    client = FramedClientSession("/q", SMALL)
    with pytest.raises(ProtocolViolation, match=f"a payload of {size:,} bytes; at most 64 are allowed"):
        for read in reads_of(length(size), dripped):
            assert client.receive_data(read) == []
    for later in (framed(b"1"), b""):
        with pytest.raises(ProtocolViolation):
            client.receive_data(later)
    assert client.receive_eof() == f"a payload of {size:,} bytes; at most 64 are allowed"


# -- what a peer that drips costs -------------------------------------------------------------------------------------


class _Counter:
    """Counts the calls of a method."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.calls = 0
        method = getattr(owner, name)

        def counting(*args: object) -> object:
            self.calls += 1
            return method(*args)

        monkeypatch.setattr(owner, name, counting)


def test_f2_a_dripped_frame_is_judged_a_few_times_and_never_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1 << 18
    session = greeted()
    judged = _Counter(monkeypatch, FramedServerSession, "_lacking")
    data = pair("/topic/a", bytes(size))
    assert session.receive_data(data[:1]) == []
    held = session._held
    for index in range(1, len(data) - 1):
        session.receive_data(data[index : index + 1])
        if session._held is not held or session.held_bytes != index + 1:
            pytest.fail(f"what was held was copied at byte {index}")
    assert judged.calls <= 4  # at the header, at the name, at the second header, and at the first byte
    assert feed(session, [data[-1:]]).payloads == {"/topic/a": [bytes(size)]}
    assert session.held_bytes == 0


def test_f2_a_frame_dripped_to_a_client_is_judged_a_few_times_and_never_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1 << 18
    client = FramedClientSession("x", Limits())
    judged = _Counter(monkeypatch, FramedClientSession, "_lacking")
    data = framed(bytes(size))
    assert client.receive_data(data[:1]) == []
    held = client._held
    for index in range(1, len(data) - 1):
        client.receive_data(data[index : index + 1])
        if client._held is not held or len(held) != index + 1:
            pytest.fail(f"what was held was copied at byte {index}")
    assert judged.calls <= 2
    assert client.receive_data(data[-1:]) == [bytes(size)]
