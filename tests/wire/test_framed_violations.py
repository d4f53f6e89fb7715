"""What breaks the framed protocol, and where a stream may end (docs/framed.md, F-12 to F-15)."""

from __future__ import annotations

import pytest

from tests.wire.streams import ALL_AND_DRIPPED, SMALL, cut_at, drip, feed, framed, greeted, length, pair, reads_of
from trio_broker.errors import ProtocolViolation
from trio_broker.limits import Limits
from trio_broker.wire import FramedClientSession, FramedServerSession

# -- violations -------------------------------------------------------------------------------------------------------


def test_f14_a_client_returns_what_was_whole_before_a_violation() -> None:
    client = FramedClientSession("/q", SMALL)
    assert client.receive_data(framed(b"1")) == [b"1"]
    assert client.receive_data(framed(b"2") + framed(b"3") + length(65) + framed(b"4")) == [b"2", b"3"]
    with pytest.raises(ProtocolViolation):
        client.receive_data(b"")
    assert client.receive_eof() == "a payload of 65 bytes; at most 64 are allowed"
    with pytest.raises(ProtocolViolation):
        client.receive_data(framed(b"5"))


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


# -- the end of the stream --------------------------------------------------------------------------------------------


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
