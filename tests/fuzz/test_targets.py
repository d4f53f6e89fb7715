"""The fuzzer's targets take their seeds and anything else, and notice what may never happen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import SEEDS, TARGETS
from trio_broker.wire.framed import FramedServerSession
from trio_broker.wire.stomp_frames import FrameReader


def test_every_target_has_seeds() -> None:
    assert list(SEEDS) == list(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_their_beginnings_are_no_findings(name: str) -> None:
    for seed in SEEDS[name]:
        for end in range(len(seed) + 1):
            TARGETS[name](seed[:end])


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_no_findings(name: str, data: bytes) -> None:
    TARGETS[name](data)


def test_a_parser_that_minds_the_cut_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = FramedServerSession.receive_data
    monkeypatch.setattr(FramedServerSession, "receive_data", lambda self, data: parse(self, data[:20]))
    with pytest.raises(AssertionError):
        TARGETS["framed_server"](SEEDS["framed_server"][0])


def test_a_parser_that_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrameReader, "_note_receipt", lambda self, raw: raw.decode("ascii") + 1)
    with pytest.raises((TypeError, UnicodeDecodeError)):
        TARGETS["stomp_server"](b"\2\3\5\7BEGIN\nx\0")


def test_a_parser_that_holds_too_much_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrameReader, "held_bytes", property(lambda self: 1 << 20))
    with pytest.raises(AssertionError, match="bytes are held"):
        TARGETS["stomp_server"](SEEDS["stomp_server"][0])
