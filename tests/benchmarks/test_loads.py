"""The loads over real TCP, against a broker that does as it is told: what was wrong must be noticed."""

import re

import pytest

from benchmarks.harness import audience, bursts, flood
from benchmarks.harness.bursts import Bursts
from benchmarks.harness.flood import Flood
from benchmarks.harness.load import Load, LoadError, LoadFactory, Outcome
from benchmarks.harness.shapes import queue_flood, topic_flood, varied_flood
from benchmarks.harness.traffic import interleaved_traffic
from benchmarks.harness.wire import FRAMED, Wire
from benchmarks.protocols.stomp import STOMP
from tests.benchmarks.relay import Alter, Relay, faithful

COUNT = 90


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience, "QUIET_SECONDS", 0.02)
    for load in (bursts, flood):
        monkeypatch.setattr(load, "PATIENCE_SECONDS", 0.5)


def lose(number: int, payload: bytes) -> list[bytes]:
    return [] if number == 50 else [payload]


def double(number: int, payload: bytes) -> list[bytes]:
    return [payload] * (2 if number == COUNT - 1 else 1)


def change(number: int, payload: bytes) -> list[bytes]:
    return [b"Y" + payload[1:]] if number == 50 else [payload]


def lengthen(number: int, payload: bytes) -> list[bytes]:
    return [b"Y" + payload] if number == 50 else [payload]


def trade() -> Alter:
    """Deliver one message in the place of the one before it, of the same size."""
    last = b""

    def alter(number: int, payload: bytes) -> list[bytes]:
        nonlocal last
        last, before = payload, last
        return [before] if number == 50 else [payload]

    return alter


def run(load: LoadFactory, wire: Wire, alter: Alter = faithful, *, inspect: bool = True) -> Outcome:
    with Relay(stomp=wire is STOMP, alter=alter) as relay, load(relay.address, wire) as session:
        return session.run(COUNT, inspect=inspect)


def small_topic_flood(address: tuple[str, int], wire: Wire) -> Load:
    return topic_flood(1, 1, 16, patience=0.5)(address, wire)


def burst(address: tuple[str, int], wire: Wire, *, channels: int = 1, senders: int = 1) -> Load:
    return Bursts(address, wire, prefix="/topic/b", channels=channels, senders=senders, size=16, burst=3)


def many_topics(address: tuple[str, int], wire: Wire) -> Load:
    return burst(address, wire, channels=30)


def many_senders(address: tuple[str, int], wire: Wire) -> Load:
    return burst(address, wire, senders=30)


@pytest.mark.parametrize("wire", [FRAMED, STOMP])
@pytest.mark.parametrize("load", [small_topic_flood, queue_flood(1, 1, 16), topic_flood(1, 3, 16)])
def test_what_is_due_is_counted(load: LoadFactory, wire: Wire) -> None:
    outcome = run(load, wire)
    assert outcome.complete, outcome.faults
    assert outcome.delivered in {COUNT, 3 * COUNT}


def test_message_frames_that_grow_by_a_digit_are_counted_over_several_runs() -> None:
    with Relay(stomp=True) as relay, small_topic_flood(relay.address, STOMP) as load:
        for _ in range(3):
            outcome = load.run(COUNT, inspect=True)
            assert outcome.complete, outcome.faults


@pytest.mark.parametrize(
    ("alter", "fault"),
    [
        (lose, "nothing moved for 0.5 s"),
        (double, "frames more than were due|got 91 of 90 frames"),
        (change, "bytes that were never sent"),
        (lengthen, "bytes that were never sent"),
    ],
)
def test_what_is_wrong_over_stomp_is_noticed(alter: Alter, fault: str) -> None:
    outcome = run(small_topic_flood, STOMP, alter)
    assert not outcome.complete
    assert re.search(fault, " ".join(outcome.faults))


def test_a_payload_with_a_nul_cannot_be_counted_over_stomp() -> None:
    with pytest.raises(ValueError, match="NUL"):
        Flood(
            ("127.0.0.1", 1),
            STOMP,
            lambda wire: interleaved_traffic(wire, ["/topic/t"], [4096], 1),
            publishers=1,
            subscribers=1,
        )


def test_varied_messages_through_a_queue_are_all_counted_whoever_gets_them() -> None:
    outcome = run(varied_flood(3, 4, 16, shared=True), FRAMED)
    assert outcome.complete, outcome.faults
    assert outcome.messages == 3000


@pytest.mark.parametrize(
    ("alter", "fault"),
    [
        (lambda number, payload: [] if number == 50 else [payload], "nothing moved"),
        (lambda number, payload: [payload] * (2 if number == 2999 else 1), "more than were due|together got 600[0-9]"),
        (change, "bytes that were never sent"),
        (trade(), "of 1000 different messages did not come 3 times"),
    ],
)
def test_what_is_wrong_with_varied_messages_of_a_queue_is_noticed(
    alter: Alter, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.harness.traffic.random.Random.choices", _all_alike)
    load = varied_flood(3, 4, 16, shared=True)

    def impatient(address: tuple[str, int], wire: Wire) -> Load:
        session = load(address, wire)
        assert isinstance(session, Flood)
        session.patience = 0.5
        return session

    outcome = run(impatient, FRAMED, alter)
    assert not outcome.complete
    assert re.search(fault, " ".join(outcome.faults))


def _all_alike(_source: object, population: range | str, *, k: int) -> list[object]:
    """Choose the first always: sizes that are all the nominal one, so that one message may stand for another."""
    return [population[0]] * k


def test_several_publishers_of_different_messages_have_no_order_on_a_topic() -> None:
    with pytest.raises(LoadError, match="same message"):
        varied_flood(2, 1, 16)(("127.0.0.1", 1), FRAMED)


def test_each_time_a_broker_is_connected_to_the_names_are_the_next_and_for_all_the_same() -> None:
    load = varied_flood(1, 1, 16)
    names = [load(("127.0.0.1", port), FRAMED).traffic.channels for port in (1, 2, 2, 1)]  # type: ignore[attr-defined]  # a Flood
    assert names[0] == names[1] != names[2] == names[3]


@pytest.mark.parametrize("load", [burst, many_topics, many_senders])
def test_bursts_come_back_in_turn(load: LoadFactory) -> None:
    outcome = run(load, FRAMED)
    assert outcome.complete, outcome.faults
    assert outcome.delivered == COUNT


@pytest.mark.parametrize("load", [many_topics, many_senders])
def test_every_channel_and_every_sender_has_its_turn(load: LoadFactory) -> None:
    with Relay() as relay, load(relay.address, FRAMED) as session:
        outcome = session.run(91, inspect=True)
    assert outcome.complete, outcome.faults
    assert outcome.messages == 180


@pytest.mark.parametrize(
    ("alter", "fault"),
    [
        (lose, "nothing moved for 0.5 s"),
        (double, "more than were due|got 80 of 60 bytes"),
        (change, "bytes that were never sent"),
        (lengthen, "got 61 of 60 bytes|bytes that were never sent"),
    ],
)
def test_what_is_wrong_with_a_burst_is_noticed(alter: Alter, fault: str) -> None:
    outcome = run(many_topics, FRAMED, alter)
    assert not outcome.complete
    assert re.search(fault, " ".join(outcome.faults))
    assert outcome.delivered in ({COUNT, COUNT - 3} if alter is double else {48})
