"""Naming what knocked at the wrong door."""

from __future__ import annotations

import pytest

from trio_broker.wire import PREFIX_BYTES, name_of_protocol
from trio_broker.wire.detect import HTTP

KNOWN = [
    (b"GET /", HTTP),
    (b"HEAD /index", HTTP),
    (b"POST /x", HTTP),
    (b"PUT /x", HTTP),
    (b"DELETE /x", HTTP),
    (b"OPTIONS * HTTP/1.1", HTTP),
    (b"PATCH /x", HTTP),
    (b"PRI * HTTP/2.0\r\n", "an HTTP/2 connection"),
    (b"CONNECT example.org:443", "an HTTP proxy request or a NATS client"),
    (b"CONNECT\nhost:x\n", "a STOMP client"),
    (b"CONNECT\r\nhost:x\r\n", "a STOMP client"),
    (b"STOMP\n", "a STOMP client"),
    (b"STOMP\r\n", "a STOMP client"),
    (b"SSH-2.0-x", "an SSH client"),
    (b"AMQP\x00\x00\x09\x01", "an AMQP client"),
    (b"*1\r\n$4\r\n", "a Redis client"),
    (b"*2\r\n$4\r\n", "a Redis client"),
    (b"*3\r\n$3\r\n", "a Redis client"),
    (b"PING\r\n", "a Redis or NATS client"),
    (b"\x16\x03\x01\x00\xc8", "a TLS handshake"),
    (b"\x10\x0c\x00\x04MQTT\x04", "an MQTT client"),
    (b"\x10\x0e\x00\x06MQIsdp\x03", "an MQTT client"),
]

UNKNOWN = [
    b"",
    b"GET",
    b"get / HTTP/1.1",
    b"GETS 1",
    b"hello world",
    b"\x00\x00\x00\x0a/topic/foo",
    b"\x16\x02\x01\x00",
    b"\x10\x0c\x00\x04MQXX\x04",
    b"*4\r\n",
    b"\xff" * 8,
]


@pytest.mark.parametrize(("first_bytes", "name"), KNOWN)
def test_a_known_protocol_is_named(first_bytes: bytes, name: str) -> None:
    assert name_of_protocol(first_bytes) == name


@pytest.mark.parametrize(("first_bytes", "name"), KNOWN)
def test_prefix_bytes_are_enough_for_all(first_bytes: bytes, name: str) -> None:
    assert name_of_protocol(first_bytes[:PREFIX_BYTES]) == name


@pytest.mark.parametrize(("first_bytes", "name"), KNOWN)
def test_four_bytes_are_enough_or_leave_a_choice_that_holds_the_truth(first_bytes: bytes, name: str) -> None:
    guess = name_of_protocol(first_bytes[:4])
    if first_bytes[:1] == b"\x10":
        assert guess is None
    elif first_bytes[:4] == b"CONN":
        assert guess == "an HTTP proxy request or a NATS client or a STOMP client"
    else:
        assert guess == name


@pytest.mark.parametrize("first_bytes", UNKNOWN)
def test_others_are_not(first_bytes: bytes) -> None:
    assert name_of_protocol(first_bytes) is None


@pytest.mark.parametrize(("first_bytes", "name"), KNOWN)
def test_fewer_than_four_bytes_say_nothing(first_bytes: bytes, name: str) -> None:
    assert [name_of_protocol(first_bytes[:count]) for count in range(4)] == [None] * 4
