"""The client's half of STOMP (docs/stomp.md, S-46 to S-48)."""

from __future__ import annotations

import re

import pytest

from tests.wire.stomp_streams import SMALL, VERSIONS, connected, raw
from tests.wire.streams import drip
from trio_broker.errors import ProtocolViolation
from trio_broker.limits import Limits
from trio_broker.message import AckMode, Delivery, Message
from trio_broker.wire.stomp_client import Connected, Receipt, Received, ServerError, StompClientSession
from trio_broker.wire.stomp_commands import Publish, Subscribe
from trio_broker.wire.stomp_heartbeat import HeartBeat
from trio_broker.wire.stomp_messages import with_reply_to


def client_of(version: str = "1.2", limits: Limits | None = None) -> StompClientSession:
    """A client whose server accepted it."""
    session = StompClientSession(limits or Limits(), versions=(version,))
    session.connect("h")
    assert session.receive_data(raw("CONNECTED", f"version:{version}")) == [Connected(version)]
    return session


def received(version: str = "1.2", *lines: str, body: bytes = b"") -> Received:
    """A message with a number to settle it by."""
    frame = raw("MESSAGE", "destination:/queue/a", "message-id:5", "subscription:s:1", "ack:6", *lines, body=body)
    (event,) = client_of(version).receive_data(frame.replace(b"s:1", b"s\\c1" if version != "1.0" else b"s:1"))
    assert isinstance(event, Received)
    return event


# -- frames, byte for byte -------------------------------------------------------------------------------------------


def test_s46_connect() -> None:
    session = StompClientSession(Limits())
    assert session.connect("h") == b"CONNECT\naccept-version:1.2\nhost:h\n\n\0"
    session = StompClientSession(Limits(), versions=("1.0", "1.1", "1.2"), heart_beat=HeartBeat(1, 2))
    assert session.connect("h", "me", ":=123\\") == (
        b"CONNECT\naccept-version:1.0,1.1,1.2\nhost:h\nlogin:me\npasscode::=123\\\nheart-beat:1,2\n\n\0"
    )
    assert StompClientSession(Limits(), versions=("1.0",)).connect("h") == b"CONNECT\nhost:h\n\n\0"


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "\ud800"])
def test_s46_connect_writes_nothing_that_would_need_an_escape(value: str) -> None:
    for arguments in (("h", "l", value), ("h", value, "p"), (value,)):
        with pytest.raises(ValueError, match="cannot be written in CONNECT"):
            StompClientSession(Limits()).connect(*arguments)


@pytest.mark.parametrize("versions", [(), ("1.3",), ("1.2", "2.0")])
def test_s46_a_client_speaks_known_versions(versions: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"allowed are 1\.0, 1\.1, 1\.2"):
        StompClientSession(Limits(), versions=versions)


def test_s46_every_frame() -> None:
    client = client_of()
    message = Message("/queue/a:b", b"x\0", {"k:": "v\n"})
    assert client.send(message) == b"SEND\ndestination:/queue/a\\cb\nk\\c:v\\n\ncontent-length:2\n\nx\0\0"
    assert client.send(Message("d", b""), receipt="r", transaction="t") == (
        b"SEND\ndestination:d\nreceipt:r\ntransaction:t\ncontent-length:0\n\n\0"
    )
    assert client.subscribe("d", "1") == b"SUBSCRIBE\nid:1\ndestination:d\nack:auto\n\n\0"
    assert client.subscribe("d", "1", ack=AckMode.CLIENT, prefetch_messages=3, receipt="r") == (
        b"SUBSCRIBE\nid:1\ndestination:d\nack:client\nprefetch-count:3\nreceipt:r\n\n\0"
    )
    assert client.unsubscribe("1", receipt="r") == b"UNSUBSCRIBE\nid:1\nreceipt:r\n\n\0"
    assert client.begin("t") == b"BEGIN\ntransaction:t\n\n\0"
    assert client.commit("t", receipt="r") == b"COMMIT\ntransaction:t\nreceipt:r\n\n\0"
    assert client.abort("t") == b"ABORT\ntransaction:t\n\n\0"
    assert client.disconnect(receipt="77") == b"DISCONNECT\nreceipt:77\n\n\0"


def test_s34_s41_settling_by_version() -> None:
    for version, names in (
        ("1.0", "message-id:5\nsubscription:s:1"),
        ("1.1", "message-id:5\nsubscription:s\\c1"),
        ("1.2", "id:6"),
    ):
        client = client_of(version)
        assert client.ack(received(version), receipt="r", transaction="t") == (
            f"ACK\n{names}\nreceipt:r\ntransaction:t\n\n\0".encode()
        )
        if version == "1.0":
            with pytest.raises(ValueError, match="no NACK"):
                client.nack(received(version))
        else:
            assert client.nack(received(version)) == f"NACK\n{names}\n\n\0".encode()
            assert client.nack(received(version), requeue=False) == f"NACK\n{names}\nrequeue:false\n\n\0".encode()


def test_s34_what_is_not_to_be_settled_cannot_be() -> None:
    client = client_of()
    (event,) = client.receive_data(raw("MESSAGE", "destination:d", "message-id:5", "subscription:s"))
    assert isinstance(event, Received)
    assert event.ack_id is None
    for settle in (client.ack, client.nack):
        with pytest.raises(ValueError, match="not to be settled"):
            settle(event)


@pytest.mark.parametrize("name", ["destination", "content-length", "receipt", "transaction"])
def test_s47_headers_with_a_meaning_cannot_be_given_as_others(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        client_of().send(Message("d", b"", {name: "x"}))


@pytest.mark.parametrize(
    ("version", "name", "value"),
    [("1.2", "", ""), ("1.1", "x", "\0"), ("1.2", "x", "\ud800"), ("1.0", "x:", ""), ("1.0", "x", "a\nb")],
)
def test_s47_what_a_version_cannot_write_is_refused(version: str, name: str, value: str) -> None:
    client = client_of(version)
    with pytest.raises(ValueError, match=f"cannot be written in STOMP {version}"):
        client.send(Message("d", b"", {name: value}))


# -- events ----------------------------------------------------------------------------------------------------------


def test_s12_s15_connected() -> None:
    session = StompClientSession(Limits(), versions=("1.1", "1.2"), heart_beat=HeartBeat(0, 5))
    assert session.version is None
    assert session.receive_eof() == "the stream ended before a connection was made"
    frame = raw("CONNECTED", "version:1.1", "heart-beat:9,9", "session:a\\b", "server:x/1")
    assert session.receive_data(frame) == [Connected("1.1", HeartBeat(0, 9), "a\\b", "x/1")]
    assert session.version == "1.1"
    assert session.receive_eof() is None


def test_s12_a_server_that_names_no_version_speaks_1_0() -> None:
    session = StompClientSession(Limits(), versions=("1.0", "1.2"))
    assert session.receive_data(raw("CONNECTED")) == [Connected("1.0")]


@pytest.mark.parametrize("lines", [(), ("version:1.1",), ("version:9",), ("version:1.2", "heart-beat:x")])
def test_s12_s15_a_server_that_chooses_what_was_not_offered_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(ProtocolViolation):
        StompClientSession(Limits()).receive_data(raw("CONNECTED", *lines))


def test_s29_s32_s33_messages() -> None:
    event = received("1.2", "x:y", "redelivered:true", "dropped-before:3", "content-type:text/plain", body=b"z")
    message = Message("/queue/a", b"z", {"x": "y", "content-type": "text/plain"}, 3)
    assert event == Received("s:1", message, "5", "6", True)
    assert received("1.1", "x:y").ack_id == "5"
    (plain,) = client_of("1.0").receive_data(raw("MESSAGE", "destination:d", "message-id:1"))
    assert plain == Received(None, Message("d", b""), "1", "1")


def test_s21_receipts() -> None:
    assert client_of().receive_data(raw("RECEIPT", r"receipt-id:a\cb")) == [Receipt("a:b")]


def test_s42_an_error_ends_the_conversation() -> None:
    for session in (client_of(), StompClientSession(Limits())):
        frame = raw("ERROR", "message:no", "receipt-id:r", "x:y", body=b"because")
        (event,) = session.receive_data(frame + raw("NONSENSE"))
        assert event == ServerError("no", b"because", "r", {"message": "no", "receipt-id": "r", "x": "y"})
        assert session.receive_data(raw("RECEIPT", "receipt-id:r")) == []
        assert session.receive_eof() is None
        assert session.held_bytes == 0


@pytest.mark.parametrize(
    "data",
    [
        raw("SEND", "destination:d"),
        raw("CONNECTED", "version:1.2"),
        raw("RECEIPT"),
        raw("RECEIPT", "receipt-id:r", body=b"x"),
        raw("MESSAGE", "destination:d", "message-id:1"),
        raw("MESSAGE", "destination:d", "subscription:1"),
        raw("MESSAGE", "message-id:1", "subscription:1"),
        raw("MESSAGE", "destination:d", "message-id:1", "subscription:1", r"x:\t"),
        raw("MESSAGE", "content-length:65"),
        b"x" * 1000,
    ],
)
def test_s48_what_was_whole_before_a_violation_is_returned_first(data: bytes) -> None:
    good = raw("RECEIPT", "receipt-id:r")
    session = client_of(limits=SMALL)
    assert session.receive_data(good + data) == [Receipt("r")]
    assert session.held_bytes == 0
    with pytest.raises(ProtocolViolation) as caught:
        session.receive_data(b"")
    with pytest.raises(ProtocolViolation):
        session.receive_data(good)
    assert session.receive_eof() == caught.value.reason
    dripped = client_of(limits=SMALL)
    with pytest.raises(ProtocolViolation, match=re.escape(caught.value.reason)):
        [dripped.receive_data(byte) for byte in drip(data)]
    assert dripped.held_bytes == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_s10_s48_what_may_be_sent_may_be_received(version: str) -> None:
    """As many headers as may be, as long as may be, and twice as long where they were sent without escapes."""
    limits = Limits()
    sent = ["destination:/queue/a", "reply-to:/temp-queue/a", *(f"{number}:" for number in range(126))]
    assert len(sent) == limits.headers_max
    sent[-1] += ":" * (limits.header_bytes_max - len(raw("SEND", *sent)) + 1)
    (publish,) = connected(version, limits).receive_data(raw("SEND", *sent, body=b"x"))
    assert isinstance(publish, Publish)
    batch = with_reply_to(publish.batch, f"/queue/temporary/{'n' * 22}")
    client = client_of(limits=limits)
    asked = client.subscribe("/queue/a" + ":" * 247, "", ack=AckMode.CLIENT)
    identifier = "i" * (limits.header_bytes_max - len(asked) + 1)
    (subscribe,) = connected(limits=limits).receive_data(
        client.subscribe("/queue/a" + ":" * 247, identifier, ack=AckMode.CLIENT)
    )
    assert isinstance(subscribe, Subscribe)
    delivery = Delivery(batch, (0,), (1,), dropped_before=10**18 - 1)
    (event,) = client.receive_data(subscribe.encoder.encode([delivery], 10**18))
    assert isinstance(event, Received)
    assert (event.message.body, event.subscription_id, event.redelivered) == (b"x", identifier, True)
    assert len(event.message.headers) == limits.headers_max - 1
    assert event.message.headers["125"].strip(":") == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_s10_s48_a_client_has_limits_too(version: str) -> None:
    head = ["MESSAGE", "destination:d", "message-id:1", "subscription:s", "content-length:0", "ack:1"]
    for lines in ([f"{number}:" for number in range(200)], ["h:" + "v" * 60_000]):
        with pytest.raises(ProtocolViolation, match="at most"):
            client_of(version).receive_data(raw(*head, *lines))


@pytest.mark.parametrize("version", VERSIONS)
def test_s48_frames_in_any_pieces_among_line_ends(version: str) -> None:
    message = raw("MESSAGE", "destination:d", "message-id:1", "subscription:s", "content-length:3", body=b"a\0b")
    data = b"\n" + message + b"\n\r\n" + raw("RECEIPT", "receipt-id:r") + b"\n" + message
    expected = client_of(version).receive_data(data)
    assert [type(event).__name__ for event in expected] == ["Received", "Receipt", "Received"]
    session = client_of(version)
    assert [event for byte in drip(data) for event in session.receive_data(byte)] == expected
    assert session.receive_data(message[:-1]) == []
    assert session.receive_eof() == f"the stream ended inside a frame ({len(message) - 1} bytes were there)"


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_client_asks_a_server_understands(version: str) -> None:
    client = client_of(version)
    ack = client.ack(received(version)) if version != "1.2" else b""
    data = client.subscribe("/queue/a", "1", ack=AckMode.CLIENT) + client.begin("t") + ack + client.commit("t")
    commands = connected(version).receive_data(data + client.unsubscribe("1") + client.disconnect(receipt="r"))
    assert [type(command).__name__ for command in commands] == [
        "Subscribe",
        *(["Ack"] if ack else []),
        "Commit",
        "Unsubscribe",
        "Reply",
        "Disconnect",
    ]
