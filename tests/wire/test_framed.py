"""The framed protocol, clause by clause (docs/framed.md)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from tests.wire.streams import SMALL, Outcome, Pair, cut_at, drip, feed, framed, greeted, length, pair
from trio_broker.errors import ProtocolViolation
from trio_broker.limits import Limits
from trio_broker.message import Batch, Delivery, Message, plain_batch
from trio_broker.wire import (
    FRAMED,
    Fail,
    FramedClientSession,
    FramedServerSession,
    Publish,
    Subscribe,
    encode,
    frame,
    gather,
    messages_within,
)
from trio_broker.wire import framed as module

EVERY_BYTE = bytes(range(256))


def batch_of(*bodies: bytes, channel: str = "/topic/a") -> Batch:
    """A batch as a session makes it."""
    return Batch(channel, [framed(body) for body in bodies], FRAMED)


# -- tables, read in both directions ---------------------------------------------------------------------------------

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


# -- what a server sends ---------------------------------------------------------------------------------------------


class _ReversingCodec:
    """Some other protocol's encoding: the part is the payload, back to front."""

    def decode(self, channel: str, part: bytes) -> Message:
        return Message(channel, part[::-1])

    def measure(self, parts: Sequence[bytes]) -> int:
        return sum(map(len, parts))


def _deliveries() -> list[tuple[str, list[Delivery], list[bytes]]]:
    many = Delivery(batch_of(*(b"%d" % number for number in range(10))), range(100, 110))
    plain = plain_batch(Message("/topic/a", b"plain", {"name": "value"}))
    other = Batch("/topic/a", [b"eno", b"owt"], _ReversingCodec())
    return [
        ("none", [], []),
        ("one message", [Delivery(batch_of(b"a"))], [b"a"]),
        ("several", [many], [b"%d" % number for number in range(10)]),
        ("a slice", [many[2:4]], [b"2", b"3"]),
        ("a stride", [many[1::3]], [b"1", b"4", b"7"]),
        ("a stride of a slice", [many[1:9][::4]], [b"1", b"5"]),
        ("published in process", [Delivery(plain)], [b"plain"]),
        ("from another protocol", [Delivery(other)], [b"one", b"two"]),
        ("mixed", [Delivery(plain), many[9:], Delivery(other)[1:]], [b"plain", b"9", b"two"]),
    ]


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
@pytest.mark.parametrize(
    ("deliveries", "bodies"), [case[1:] for case in _deliveries()], ids=[c[0] for c in _deliveries()]
)
def test_f9_deliveries_of_every_kind(deliveries: list[Delivery], bodies: list[bytes], shared: bool) -> None:
    if shared:
        for delivery in deliveries:
            delivery.batch.share()
    data = encode(deliveries)
    assert data == b"".join(map(framed, bodies))
    assert encode(deliveries) == data  # the second time from what was kept
    assert FramedClientSession("x", Limits()).receive_data(data) == bodies


def test_f9_a_shared_batch_is_encoded_once_for_all() -> None:
    delivery = Delivery(batch_of(b"a", b"b"))
    delivery.batch.share()
    assert encode([delivery]) is encode([delivery])


def test_a_batch_for_one_keeps_no_encoding() -> None:
    delivery = Delivery(batch_of(b"a", b"b"))
    encode([delivery])
    assert delivery.batch.encodings is None


# -- large payloads are not copied -----------------------------------------------------------------------------------

LARGE = bytes(range(256)) * 64


def _read(*messages: Pair) -> list[Batch]:
    """What a session makes of one read."""
    commands = greeted().receive_data(b"".join(pair(*message) for message in messages))
    return [command.batch for command in commands if isinstance(command, Publish)]


def test_large_payloads_are_views_of_their_read_which_is_counted() -> None:
    messages = [("/topic/a", LARGE), ("/topic/a", b"small"), ("/topic/a", LARGE)]
    [batch] = _read(*messages)
    assert [type(part) for part in batch.parts] == [memoryview, bytes, memoryview]
    assert [message.body for message in batch] == [LARGE, b"small", LARGE]
    assert all(type(message.body) is bytes for message in batch)
    read_bytes = sum(len(pair(*message)) for message in messages)
    assert batch.bytes + batch.kept_bytes == read_bytes + len(framed(b"small"))
    assert batch.cost == batch_of(*(body for _, body in messages)).cost + batch.kept_bytes


def test_a_share_of_views_costs_the_whole_read() -> None:
    [batch] = _read(*[("/topic/a", LARGE)] * 4)
    part = batch[1:2]
    assert part.bytes + part.kept_bytes == batch.bytes + batch.kept_bytes
    assert part[:1].cost == part.cost


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([("/topic/a", LARGE[:-1])] * 4, id="not-large"),
        pytest.param([("/queue/a", LARGE)] * 4, id="a-queue"),
        pytest.param([(f"/topic/{number}", LARGE) for number in range(3)], id="no-topic-has-most"),
    ],
)
def test_where_views_would_keep_too_much_payloads_are_copied(messages: list[Pair]) -> None:
    for batch in _read(*messages):
        assert {type(part) for part in batch.parts} == {bytes}
        assert batch.kept_bytes == 0


def test_views_before_a_violation_are_counted_too() -> None:
    commands = greeted().receive_data(pair("/topic/a", LARGE) + bytes(4))
    assert [type(command) for command in commands] == [Publish, Fail]
    assert isinstance(commands[0], Publish)
    assert commands[0].batch.kept_bytes > 0


def test_what_is_large_is_gathered_as_it_is() -> None:
    first, second = batch_of(LARGE, b"small"), batch_of(LARGE)
    parts = gather([Delivery(first), Delivery(second)])
    assert parts == [*first.parts, *second.parts]
    assert parts is not None
    assert b"".join(parts) == encode([Delivery(first), Delivery(second)])


def test_what_is_small_or_shared_or_foreign_or_too_many_is_joined() -> None:
    large = batch_of(LARGE)
    shared = batch_of(LARGE)
    shared.share()
    foreign = plain_batch(Message("/topic/a", LARGE))
    for batch in (batch_of(b"small"), shared, foreign, batch_of(*[LARGE] * 1025)):
        assert gather([Delivery(large), Delivery(batch)]) is None
    assert gather([Delivery(batch_of(*[LARGE] * 1024))]) is not None


@pytest.mark.parametrize("deliveries", [case[1] for case in _deliveries()], ids=[case[0] for case in _deliveries()])
def test_messages_within_a_written_prefix(deliveries: list[Delivery]) -> None:
    sizes = [len(frame(message.body)) for delivery in deliveries for message in delivery.batch]
    ends = list(itertools.accumulate(sizes))
    for size_bytes in range(sum(sizes) + 3):
        whole = sum(end <= size_bytes for end in ends)
        assert messages_within(deliveries, size_bytes) == whole


# -- how a read becomes batches --------------------------------------------------------------------------------------


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


# -- sizes at their borders ------------------------------------------------------------------------------------------

NAMES = ["n" * 255, "ü" * 127 + "n", "\N{GRINNING FACE}" * 63 + "nnn"]
ALL_AND_DRIPPED = pytest.mark.parametrize("dripped", [False, True], ids=["at once", "dripped"])


def reads_of(data: bytes, dripped: bool) -> list[bytes]:
    """One read or as many as there are bytes."""
    return drip(data) if dripped else [data]


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


def test_f14_a_client_returns_what_was_whole_before_a_violation() -> None:
    client = FramedClientSession("/q", SMALL)
    assert client.receive_data(framed(b"1")) == [b"1"]
    assert client.receive_data(framed(b"2") + framed(b"3") + length(65) + framed(b"4")) == [b"2", b"3"]
    with pytest.raises(ProtocolViolation):
        client.receive_data(b"")
    assert client.receive_eof() == "a payload of 65 bytes; at most 64 are allowed"
    with pytest.raises(ProtocolViolation):
        client.receive_data(framed(b"5"))


# -- violations ------------------------------------------------------------------------------------------------------

VIOLATIONS = {
    "empty name": length(0),
    "long name": length(17),
    "not UTF-8": framed(b"\xff"),
    "large payload": framed("/q") + length(65),
    "HTTP after the first frame": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("violation", VIOLATIONS.values(), ids=VIOLATIONS.keys())
@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_f14_what_was_whole_before_a_violation_is_published(violation: bytes, cut: int) -> None:
    before = framed("/topic/a") + pair("/q", b"1") + pair("/p", b"2") + pair("/q", b"3")
    session = FramedServerSession(SMALL)
    outcome = feed(session, cut_at(before + violation, [cut]))
    assert outcome.failure is not None
    assert outcome.failure.farewell == b""
    assert outcome.subscribed == ["/topic/a"]
    assert outcome.payloads == {"/q": [b"1", b"3"], "/p": [b"2"]}


@pytest.mark.parametrize("violation", VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_f15_after_a_violation_the_session_is_deaf_and_holds_nothing(violation: bytes) -> None:
    session = greeted(SMALL)
    assert feed(session, [violation + pair("/q", b"1") + b"more"]).failure is not None
    assert session.receive_data(pair("/q", b"2")) == []
    assert session.receive_data(length(65)) == []
    assert session.held_bytes == 0
    assert session.receive_eof() is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@ALL_AND_DRIPPED
def test_f13_an_http_request_is_answered_in_http(method: str, dripped: bool) -> None:
    request = f"{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    failure = feed(FramedServerSession(Limits()), reads_of(request, dripped)).failure
    assert failure is not None
    assert failure.reason.startswith("these bytes look like an HTTP request, not like the framed protocol (a channel")
    head, _, body = failure.farewell.partition(b"\r\n\r\n")
    status, *fields = head.decode("ascii").split("\r\n")
    headers = {name.lower(): value for name, value in (field.split(": ") for field in fields)}
    assert status == "HTTP/1.1 400 Bad Request"
    assert headers["connection"] == "close"
    assert headers["content-type"] == "text/plain"
    assert int(headers["content-length"]) == len(body) > 0


STRANGERS = [
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "an HTTP/2 connection"),
    (b"CONNECT example.org:443 HTTP/1.1\r\n", "an HTTP proxy request or a NATS client"),
    (b'CONNECT {"verbose":false}\r\n', "an HTTP proxy request or a NATS client"),
    (b"CONNECT\naccept-version:1.2\n\n\0", "a STOMP client"),
    (b"CONNECT\r\naccept-version:1.2\r\n", "a STOMP client"),
    (b"STOMP\naccept-version:1.2\n\n\0", "a STOMP client"),
    (b"SSH-2.0-OpenSSH_9.6\r\n", "an SSH client"),
    (b"AMQP\x00\x00\x09\x01", "an AMQP client"),
    (b"*1\r\n$4\r\nPING\r\n", "a Redis client"),
    (b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n", "a Redis client"),
    (b"PING\r\n", "a Redis or NATS client"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "a TLS handshake"),
    (b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c", "an MQTT client"),
    (b"\x10\x12\x00\x06MQIsdp\x03\x02\x00\x3c", "an MQTT client"),
]


@pytest.mark.parametrize(("first_bytes", "name"), STRANGERS)
def test_f13_other_strangers_are_named_and_not_answered(first_bytes: bytes, name: str) -> None:
    failure = feed(FramedServerSession(Limits()), [first_bytes]).failure
    assert failure is not None
    assert failure.reason.startswith(f"these bytes look like {name}, not like the framed protocol (a channel name of ")
    assert failure.farewell == b""


@pytest.mark.parametrize(("first_bytes", "name"), STRANGERS)
def test_f13_strangers_that_drip_are_named_by_four_bytes(first_bytes: bytes, name: str) -> None:
    failure = feed(FramedServerSession(Limits()), drip(first_bytes)).failure
    assert failure is not None
    # "CONN" and the first half of an MQTT packet leave a choice.
    assert name in failure.reason or first_bytes[:1] == b"\x10"
    assert failure.farewell == b""


@pytest.mark.parametrize("first_bytes", [row[0] for row in STRANGERS] + [b"GET / HTTP/1.1\r\n\r\n"])
@ALL_AND_DRIPPED
def test_f13_nobody_is_a_stranger_after_the_first_frame(first_bytes: bytes, dripped: bool) -> None:
    failure = feed(greeted(), reads_of(first_bytes, dripped)).failure
    assert failure is not None
    assert failure.reason.startswith("a channel name of ")
    assert failure.farewell == b""


# -- the end of the stream -------------------------------------------------------------------------------------------

ENDS = [
    (b"", "the stream ended before the first frame"),
    (b"\x00", "the stream ended inside a frame (1 bytes were there, at least 3 missing)"),
    (length(5), "the stream ended inside a frame (4 bytes were there, at least 5 missing)"),
    (framed("/null")[:-1], "the stream ended inside a frame (8 bytes were there, at least 1 missing)"),
    (framed("/null"), None),
    (framed("/null") + length(2), "the stream ended inside a frame (4 bytes were there, at least 2 missing)"),
    (framed("/null") + framed("/q"), "the stream ended inside a frame (6 bytes were there, at least 4 missing)"),
    (
        framed("/null") + framed("/q") + length(3) + b"a",
        "the stream ended inside a frame (11 bytes were there, at least 2 missing)",
    ),
    (framed("/null") + pair("/q", b""), None),
    (framed("/null") + pair("/q", b"abc") * 2, None),
]


@pytest.mark.parametrize(("data", "meaning"), ENDS)
@ALL_AND_DRIPPED
def test_f12_what_the_end_of_the_stream_means(data: bytes, meaning: str | None, dripped: bool) -> None:
    session = FramedServerSession(Limits())
    assert feed(session, reads_of(data, dripped)).failure is None
    assert session.receive_eof() == meaning


@pytest.mark.parametrize(
    ("data", "meaning"),
    [
        (b"", None),
        (framed(b""), None),
        (framed(b"abc") * 2, None),
        (b"\x00\x00", "the stream ended inside a frame (2 bytes were there, at least 2 missing)"),
        (framed(b"abc")[:-1], "the stream ended inside a frame (6 bytes were there, at least 1 missing)"),
    ],
)
@ALL_AND_DRIPPED
def test_f12_what_the_end_of_the_stream_means_to_a_client(data: bytes, meaning: str | None, dripped: bool) -> None:
    client = FramedClientSession("x", Limits())
    for read in reads_of(data, dripped):
        client.receive_data(read)
    assert client.receive_eof() == meaning


# -- what a peer that drips costs ------------------------------------------------------------------------------------


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
