"""What the framed protocol's bytes mean, and how a read becomes batches (docs/framed.md, F-1, F-3, F-6 to F-11)."""

from __future__ import annotations

import pytest

from tests.wire.streams import EVERY_BYTE, Outcome, Pair, batch_of, feed, framed, greeted, pair
from trio_broker.limits import Limits
from trio_broker.message import Delivery, Message
from trio_broker.wire import FramedClientSession, FramedServerSession, Publish, Subscribe, encode, frame
from trio_broker.wire import framed as module

# -- tables, read in both directions ----------------------------------------------------------------------------------


FRAMES = [
    (b"", "00000000"),
    (b"a", "00000001 61"),
    (b"\x00\x00\x00\x00", "00000004 00000000"),
    (b"hello", "00000005 68656c6c6f"),
    (EVERY_BYTE, "00000100" + EVERY_BYTE.hex()),
]


HELLOS = [
    ("/topic/foo", "0000000a 2f746f7069632f666f6f", Subscribe("/topic/foo")),
    ("/queue/blah", "0000000b 2f71756575652f626c6168", Subscribe("/queue/blah")),
    (None, "00000005 2f6e756c6c", Subscribe(None)),
    ("/null/x", "00000007 2f6e756c6c2f78", Subscribe("/null/x")),
    ("x", "00000001 78", Subscribe("x")),
    ("/ü", "00000003 2fc3bc", Subscribe("/ü")),
]


PAIRS: list[tuple[Pair, str]] = [
    (("/topic/foo", b"hello"), "0000000a 2f746f7069632f666f6f 00000005 68656c6c6f"),
    (("/q", b""), "00000002 2f71 00000000"),
    (("/null", b"x"), "00000005 2f6e756c6c 00000001 78"),
    (("/ü", b"\xff\x00"), "00000003 2fc3bc 00000002 ff00"),
    (("x", EVERY_BYTE), "00000001 78 00000100" + EVERY_BYTE.hex()),
]


@pytest.mark.parametrize(("payload", "wire"), FRAMES)
def test_f1_a_frame_is_four_bytes_of_length_and_the_content(payload: bytes, wire: str) -> None:
    assert frame(payload) == bytes.fromhex(wire)


@pytest.mark.parametrize(("channel", "wire", "command"), HELLOS)
def test_f3_f6_the_first_frame_subscribes(channel: str | None, wire: str, command: Subscribe) -> None:
    data = bytes.fromhex(wire)
    assert FramedClientSession(channel, Limits()).hello() == data
    session = FramedServerSession(Limits())
    assert session.receive_data(data) == [command]
    assert session.receive_eof() is None


def test_f3_only_the_first_frame_subscribes() -> None:
    session = greeted(channel="/topic/a")
    assert feed(session, [pair("/topic/b", b"1")]) == Outcome(payloads={"/topic/b": [b"1"]})


def test_f6_a_pair_may_name_null() -> None:
    assert feed(greeted(), [pair("/null", b"1")]) == Outcome(payloads={"/null": [b"1"]})


@pytest.mark.parametrize(("message", "wire"), PAIRS)
def test_f7_a_pair_publishes(message: Pair, wire: str) -> None:
    channel, payload = message
    data = bytes.fromhex(wire)
    assert FramedClientSession(None, Limits()).encode(Message(channel, payload)) == data
    commands = greeted().receive_data(data)
    assert [type(command) for command in commands] == [Publish]
    assert isinstance(commands[0], Publish)
    batch = commands[0].batch
    assert list(batch) == [Message(channel, payload)]
    assert batch.bytes == len(framed(payload))


@pytest.mark.parametrize(("payload", "wire"), FRAMES)
def test_f8_f9_f10_a_server_sends_the_payload_alone(payload: bytes, wire: str) -> None:
    data = bytes.fromhex(wire)
    assert encode([Delivery(batch_of(payload))]) == data
    assert FramedClientSession("x", Limits()).receive_data(data) == [payload]


# -- how a read becomes batches ---------------------------------------------------------------------------------------


def test_f11_a_read_is_grouped_by_channel_in_order() -> None:
    data = b"".join(pair("/topic/ab"[: 8 + number % 2], b"%d" % number) for number in range(9))
    commands = greeted().receive_data(data)
    batches = [command.batch for command in commands if isinstance(command, Publish)]
    assert len(commands) == len(batches) == 2
    assert {batch.channel: [message.body for message in batch] for batch in batches} == {
        "/topic/a": [b"0", b"2", b"4", b"6", b"8"],
        "/topic/ab": [b"1", b"3", b"5", b"7"],
    }


def test_f11_each_read_has_batches_of_its_own() -> None:
    session = greeted()
    for body in (b"1", b"2"):
        (command,) = session.receive_data(pair("/topic/a", body))
        assert isinstance(command, Publish)
        assert [message.body for message in command.batch] == [body]


def test_a_message_that_was_held_leads_the_batch_of_its_read() -> None:
    session = greeted()
    first = pair("/topic/a", b"first")
    assert session.receive_data(first[:-1]) == []
    (command,) = session.receive_data(first[-1:] + pair("/topic/a", b"second"))
    assert isinstance(command, Publish)
    assert [message.body for message in command.batch] == [b"first", b"second"]


def test_parts_do_not_share_the_memory_of_the_read() -> None:
    (command,) = greeted().receive_data(pair("/topic/a", b"1") * 3)
    assert isinstance(command, Publish)
    assert [type(part) for part in command.batch.parts] == [bytes] * 3
    assert command.batch.parts == [framed(b"1")] * 3


def test_an_empty_read_changes_nothing() -> None:
    session = greeted()
    assert session.receive_data(b"") == []
    session.receive_data(pair("/topic/a", b"1")[:-1])
    assert session.receive_data(b"") == []
    assert feed(session, [b"1"]).payloads == {"/topic/a": [b"1"]}


def test_many_names_are_not_all_remembered() -> None:
    session = greeted()
    names = [f"/topic/{number}" for number in range(5_000)]
    together = feed(session, [b"".join(pair(name, name.encode()) for name in names)])
    assert together.payloads == {name: [name.encode()] for name in names}
    assert len(session._names) <= module._NAMES_KEPT
    for name in names:
        assert feed(session, [pair(name, b"1")]).payloads == {name: [b"1"]}
        assert len(session._names) <= module._NAMES_KEPT


def test_a_name_that_begins_like_the_last_one_is_another_name() -> None:
    messages = ["/topic/a", "/topic/ab", "/topic/a", "/topic/b", "/topic"]
    outcome = feed(greeted(), [b"".join(pair(name, name.encode()) for name in messages)])
    assert outcome.payloads == {name: [name.encode()] * messages.count(name) for name in messages}
