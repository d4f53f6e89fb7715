"""The server's half of STOMP, from raw bytes: its conversations (docs/stomp.md, S-11 to S-21, S-40 to S-45)."""

from __future__ import annotations

import math

import pytest

from tests.wire.stomp_streams import (
    BEGIN,
    SMALL,
    VERSIONS,
    connected,
    error_in,
    error_of,
    frames_in,
    hello,
    kinds,
    messages_in,
    raw,
    receipts_in,
    send,
    subscribe,
)
from trio_broker.errors import ProtocolViolation
from trio_broker.limits import Limits
from trio_broker.wire.stomp_commands import (
    Ack,
    Connect,
    Disconnect,
    Nack,
    Publish,
    Reply,
    Subscribe,
)
from trio_broker.wire.stomp_heartbeat import HEART_BEAT, NO_HEART_BEAT, HeartBeat, offer_of, parse_heart_beat
from trio_broker.wire.stomp_server import StompServerSession

# -- connecting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
def test_s11_s14_connect_or_stomp_begins_a_conversation(command: str) -> None:
    session = StompServerSession(Limits(), session_id="s-1", server_name="name/1")
    connect, reply = session.receive_data(raw(command, "accept-version:1.2", "host:h", "login:l", "passcode:p"))
    assert connect == Connect("1.2", "h", "l", "p", NO_HEART_BEAT)
    assert isinstance(reply, Reply)
    assert reply.data == b"CONNECTED\nversion:1.2\nsession:s-1\nserver:name/1\n\n\0"
    assert session.receive_eof() is None


@pytest.mark.parametrize("command", ["SEND", "SUBSCRIBE", "DISCONNECT", "CONNECTED", "connect", "GET / HTTP/1.1"])
def test_s11_nothing_comes_before_it(command: str) -> None:
    session = StompServerSession(Limits())
    seen = error_in(session.receive_data(raw(command, "destination:/queue/a", "id:1", "receipt:r")))
    assert command in seen["message"]
    assert b"allowed are CONNECT, STOMP" in seen.body
    assert seen["receipt-id"] == "r"
    assert session.receive_data(hello()) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_s11_it_comes_once(version: str) -> None:
    assert "CONNECT" in error_in(connected(version).receive_data(hello(version)))["message"]


def test_s11_it_is_given_no_receipt() -> None:
    commands = StompServerSession(Limits()).receive_data(hello("1.2", "receipt:r"))
    assert kinds(commands) == ["Connect", "Reply"]
    assert receipts_in(commands) == []


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        (None, "1.0"),
        ("1.0", "1.0"),
        ("1.1", "1.1"),
        ("1.2", "1.2"),
        ("1.0,1.1,1.2", "1.2"),
        ("1.2,1.1,1.0", "1.2"),
        ("1.0,1.1,2.0", "1.1"),
        ("2.0,1.0,1.3", "1.0"),
        ("1.1, 1.2", "1.2"),
    ],
)
def test_s12_s14_the_highest_common_version_is_spoken(accepted: str | None, chosen: str) -> None:
    lines = [] if accepted is None else [f"accept-version:{accepted}"]
    connect, reply = StompServerSession(Limits()).receive_data(raw("CONNECT", *lines, "host:x"))
    assert isinstance(connect, Connect)
    assert isinstance(reply, Reply)
    assert connect.version == chosen
    (seen,) = frames_in(reply.data)
    assert (seen.command, seen["version"], seen["server"]) == ("CONNECTED", chosen, "trio_broker")
    assert "session" not in seen


@pytest.mark.parametrize("accepted", ["", "1.3", "2.0,3.0", "1", "1.20", "x"])
def test_s12_no_common_version_is_an_error_that_names_ours(accepted: str) -> None:
    session = StompServerSession(Limits())
    seen = error_in(session.receive_data(raw("CONNECT", f"accept-version:{accepted}", "host:x") + send()))
    assert seen["version"] == "1.0,1.1,1.2"
    assert seen.body == b"Supported protocol versions are 1.0 1.1 1.2"
    assert session.receive_data(hello()) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_s13_a_host_is_not_insisted_on(version: str) -> None:
    connect, _ = StompServerSession(Limits()).receive_data(raw("CONNECT", f"accept-version:{version}"))
    assert isinstance(connect, Connect)
    assert (connect.host, connect.login, connect.passcode) == (None, None, None)


# -- heart-beats -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "agreed"),
    [("0,0", "0,0"), ("500,300", "1000,1000"), ("5000,0", "0,5000"), ("0,7000", "7000,0"), ("2000,3000", "3000,2000")],
)
def test_s15_both_sides_wishes_are_met(theirs: str, agreed: str) -> None:
    connect, reply = StompServerSession(Limits()).receive_data(hello("1.2", f"heart-beat:{theirs}"))
    assert isinstance(connect, Connect)
    assert isinstance(reply, Reply)
    assert str(connect.heart_beat) == agreed
    assert frames_in(reply.data)[0]["heart-beat"] == "1000,1000"


def test_s15_what_holds_for_one_side_holds_for_the_other() -> None:
    for mine in (HeartBeat(0, 0), HeartBeat(10, 20), HeartBeat(0, 7)):
        for theirs in (HeartBeat(0, 0), HeartBeat(15, 0), HeartBeat(5, 30)):
            here, there = mine.agree(theirs), theirs.agree(mine)
            assert (here.sends_ms, here.expects_ms) == (there.expects_ms, there.sends_ms)


@pytest.mark.parametrize("value", ["", "1", "1,", ",1", "a,b", "-1,0", "1,2,3", "1.5,0"])
def test_s15_a_heart_beat_header_has_two_numbers(value: str) -> None:
    seen = error_in(StompServerSession(Limits()).receive_data(hello("1.1", f"heart-beat:{value}")))
    assert "heart-beat" in seen["message"]
    with pytest.raises(ProtocolViolation, match="two numbers"):
        parse_heart_beat(value)


def test_s15_none_is_promised_to_a_client_of_1_0_or_one_that_says_nothing() -> None:
    for lines in (("accept-version:1.0", "heart-beat:1,x"), ("accept-version:1.2",)):
        connect, reply = StompServerSession(Limits()).receive_data(raw("CONNECT", *lines))
        assert isinstance(connect, Connect)
        assert isinstance(reply, Reply)
        assert connect.heart_beat == NO_HEART_BEAT == parse_heart_beat(None)
        assert "heart-beat" not in frames_in(reply.data)[0]


def test_s15_the_offer_follows_the_limit() -> None:
    assert offer_of(Limits(heart_beat_seconds_min=0.25).heart_beat_seconds_min) == HeartBeat(250, 250)
    assert offer_of(1e-9) == HeartBeat(1, 1)
    assert offer_of(math.inf) == NO_HEART_BEAT


@pytest.mark.parametrize("version", VERSIONS)
def test_s16_heart_beats_mean_nothing_else(version: str) -> None:
    session = connected(version)
    for beats in (HEART_BEAT, b"\r\n", b"\n" * 1000, b"\n\r\n\n"):
        assert session.receive_data(beats) == []
        assert session.held_bytes == 0
        assert session.receive_eof() is None


# -- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("command", ["send", "Send", "SENDX", "MESSAGE", "RECEIPT", "ERROR", "HELLO", " SEND"])
def test_s17_an_unknown_command_is_an_error_that_lists_those_that_exist(command: str, version: str) -> None:
    seen = error_in(connected(version).receive_data(raw(command, "destination:/queue/a", "receipt:r")))
    assert repr(command) in seen["message"]
    assert b"allowed are SEND, SUBSCRIBE" in seen.body
    assert seen["receipt-id"] == "r"


def test_s17_nack_begins_with_1_1() -> None:
    lines = ("id:1", "message-id:1", "subscription:s")
    assert "NACK" in error_in(connected("1.0").receive_data(raw("NACK", *lines)))["message"]
    assert kinds(connected("1.1").receive_data(raw("NACK", *lines))) == ["Nack"]


REQUIRED = [
    *((version, "SEND", "destination") for version in VERSIONS),
    *((version, "SUBSCRIBE", "destination") for version in VERSIONS),
    *((version, "SUBSCRIBE", "id") for version in ("1.1", "1.2")),
    *((version, "UNSUBSCRIBE", "id") for version in ("1.1", "1.2")),
    ("1.0", "UNSUBSCRIBE", "destination"),
    *((version, command, "transaction") for version in VERSIONS for command in ("BEGIN", "COMMIT", "ABORT")),
    ("1.0", "ACK", "message-id"),
    *(("1.1", command, name) for command in ("ACK", "NACK") for name in ("message-id", "subscription")),
    *(("1.2", command, "id") for command in ("ACK", "NACK")),
]


@pytest.mark.parametrize(("version", "command", "name"), REQUIRED)
def test_s18_headers_that_are_required(version: str, command: str, name: str) -> None:
    every = {"destination": "/queue/a", "id": "1", "transaction": "t", "message-id": "1", "subscription": "s"}
    if command == "SEND" or "ACK" in command:
        del every["transaction"]
    if (version, command, name) == ("1.0", "UNSUBSCRIBE", "destination"):
        del every["id"]
    lines = [f"{key}:{value}" for key, value in every.items() if key != name]
    seen = error_in(connected(version).receive_data(raw(command, "receipt:r", *lines)))
    assert seen["message"] == f"{command} without {name}"
    assert seen["receipt-id"] == "r"


def test_s19_a_destination_has_a_length() -> None:
    assert "0 bytes" in error_in(connected().receive_data(send(to="")))["message"]
    limits = SMALL
    assert messages_in(connected(limits=limits).receive_data(send(to="x" * 17))) == {"/queue/" + "x" * 17: [(b"", {})]}
    seen = error_in(connected(limits=limits).receive_data(send(to="/topic/" + "x" * 18)))
    assert "25 bytes" in seen["message"]
    assert b"1 to 24" in seen.body
    assert "26 bytes" in error_in(connected(limits=limits).receive_data(send(to="/topic/" + "x" * 17 + "ü")))["message"]
    assert "25 bytes" in error_in(connected(limits=limits).receive_data(subscribe(to="x" * 18)))["message"]


def test_s20_user_headers_pass_and_those_of_the_protocol_do_not() -> None:
    own = ("receipt:r", "message-id:1", "subscription:2", "ack:3", "redelivered:true", "dropped-before:4")
    session = connected()
    publish, reply = session.receive_data(
        send(b"x", *own, "content-type:text/plain", "correlation-id:c", "priority:4", "type:t", "content-length:1")
    )
    assert messages_in([publish]) == {
        "/queue/a": [(b"x", {"content-type": "text/plain", "correlation-id": "c", "priority": "4", "type": "t"})]
    }
    assert isinstance(reply, Reply)


# -- receipts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (send(b"x", "receipt:r"), ["Publish", "Reply"]),
        (subscribe("0", "receipt:r"), ["Subscribe", "Reply"]),
        (raw("BEGIN", "transaction:t", "receipt:r"), ["Reply"]),
        (raw("ACK", "id:1", "receipt:r"), ["Ack", "Reply"]),
        (raw("NACK", "id:1", "receipt:r"), ["Nack", "Reply"]),
        (raw("DISCONNECT", "receipt:r"), ["Reply", "Disconnect"]),
    ],
)
def test_s21_a_receipt_follows_what_it_is_for(data: bytes, expected: list[str]) -> None:
    session = connected()
    before = session.receive_data(send(b"y") + data)
    commands = connected().receive_data(data)
    assert kinds(commands) == expected
    assert receipts_in(commands) == ["r"]
    assert kinds(before)[0] == "Publish"
    for command in commands:
        match command:
            case Publish() | Subscribe() | Ack() | Nack():
                assert command.receipt_id == "r"
            case _:
                pass


def test_s21_a_receipts_text_is_escaped_as_its_frame_was() -> None:
    for version, text in (("1.0", "a:b"), ("1.1", r"a\cb\n"), ("1.2", r"a\cb\n\r\\")):
        commands = connected(version).receive_data(raw("BEGIN", "transaction:t", f"receipt:{text}"))
        assert receipts_in(commands) == [text]
    assert kinds(connected().receive_data(raw("BEGIN", "transaction:t", "receipt:"))) == ["Reply"]


def test_s21_receipts_of_messages_that_travel_together_come_together() -> None:
    data = b"".join(send(b"%d" % number, f"receipt:{number}") for number in range(5))
    commands = connected().receive_data(data + send(b"x", "receipt:b", to="/queue/b") + send(b"y"))
    assert kinds(commands) == ["Publish", "Reply", "Publish", "Reply"]
    first, _, second, _ = commands
    assert isinstance(first, Publish)
    assert isinstance(second, Publish)
    assert (len(first.batch), first.receipt_id) == (6, "0")
    assert (len(second.batch), second.receipt_id) == (1, "b")
    assert receipts_in(commands) == ["0", "1", "2", "3", "4", "b"]


# -- how it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_s40_disconnect_ends_the_conversation_after_what_came_before(version: str) -> None:
    session = connected(version)
    commands = session.receive_data(send(b"1") + raw("DISCONNECT", "receipt:77") + send(b"2") + raw("NONSENSE"))
    assert kinds(commands) == ["Publish", "Reply", "Disconnect"]
    assert receipts_in(commands) == ["77"]
    assert session.receive_data(send(b"3")) == []
    assert session.receive_eof() is None
    assert connected(version).receive_data(raw("DISCONNECT")) == [Disconnect()]


def test_s42_the_broker_can_refuse_what_the_session_passed_on() -> None:
    session = connected()
    session.receive_data(BEGIN + send(b"", "transaction:t"))
    (seen,) = frames_in(session.refuse("no such place: x; try another", "r:1"))
    assert (seen.command, seen["message"], seen["receipt-id"]) == ("ERROR", r"no such place\c x", r"r\c1")
    assert seen.body == b"no such place: x; try another"
    assert session.receive_data(send()) == []
    assert session.held_bytes == 0
    assert "heart-beat-missed" not in seen
    (seen,) = frames_in(StompServerSession(Limits()).refuse("access refused"))
    assert "receipt-id" not in seen


def test_s42_an_error_says_what_was_wrong_in_the_words_of_its_version() -> None:
    for version, colon in (("1.0", ":"), ("1.1", r"\c"), ("1.2", r"\c")):
        seen = error_in(connected(version).receive_data(raw("X:Y", f"receipt:a{colon}b")))
        assert seen["message"] == f"'X{colon}Y' is not a command that may come here"
        assert seen["receipt-id"] == f"a{colon}b"


def test_s42_an_error_names_no_receipt_of_another_frame() -> None:
    seen = error_of(connected().receive_data(send(b"", "receipt:r") + raw("NONSENSE"))[-1])
    assert "receipt-id" not in seen
    bound, plain = send(b"", "transaction:t"), send(b"")
    for between in (b"", plain):  # heads that repeat one right before, and one long ago
        session = connected()
        session.receive_data(BEGIN + bound + between + raw("COMMIT", "transaction:t", "receipt:c"))
        assert "receipt-id" not in error_in(session.receive_data(bound))
        session = connected()
        data = BEGIN + bound + between + raw("COMMIT", "transaction:t", "receipt:c") + bound
        assert "receipt-id" not in error_of(session.receive_data(data)[-1])
    session = connected()
    session.receive_data(send() + send(b"", "receipt:r"))
    (publish, failure) = session.receive_data(send() + b"SEND\ndestination:/queue/a\ncontent-length:0\n\nx\0")
    assert "receipt-id" not in error_of(failure)
    assert isinstance(publish, Publish)


def test_s43_what_the_end_of_the_stream_means() -> None:
    session = StompServerSession(Limits())
    assert not session.greeted
    assert session.receive_eof() == "the stream ended before a connection was made"
    session.receive_data(b"\n")
    assert session.receive_eof() == "the stream ended before a connection was made"
    session.receive_data(b"CON")
    assert (session.held_bytes, session.unfinished_bytes) == (3, 3)
    assert session.receive_eof() == "the stream ended inside a frame (3 bytes were there)"
    session.receive_data(b"NECT\n\n\0\n")
    assert session.greeted
    assert session.receive_eof() is None


def test_s45_what_was_whole_before_a_violation_counts() -> None:
    data = send(b"1") + subscribe("0") + send(b"2", "receipt:r") + raw("NONSENSE") + send(b"3")
    commands = connected().receive_data(data)
    assert kinds(commands) == ["Publish", "Subscribe", "Publish", "Reply", "Fail"]
    assert receipts_in(commands) == ["r"]
    assert [body for body, _ in messages_in(commands)["/queue/a"]] == [b"1", b"2"]


def test_everything_may_come_in_one_read() -> None:
    session = StompServerSession(Limits())
    commands = session.receive_data(hello("1.1") + subscribe("0") + send(b"x") + raw("DISCONNECT"))
    assert kinds(commands) == ["Connect", "Reply", "Subscribe", "Publish", "Disconnect"]
