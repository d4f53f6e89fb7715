"""Against the bytes that the specifications print or prescribe."""

import pytest

from benchmarks.harness.wire import FRAMED
from benchmarks.protocols.mqtt import MQTT
from benchmarks.protocols.nats import NATS
from benchmarks.protocols.resp import RESP


def test_framed_pair_and_delivery() -> None:
    assert FRAMED.publication("/t", b"abc") == b"\x00\x00\x00\x02/t\x00\x00\x00\x03abc"
    assert FRAMED.delivery("/t", b"abc") == b"\x00\x00\x00\x03abc"


def test_nats_topic() -> None:
    assert NATS.subscription("/topic/t").endswith(b"\r\nSUB /topic/t 1\r\n")
    assert NATS.publication("/topic/t", b"abc") == b"PUB /topic/t 3\r\nabc\r\n"
    assert NATS.delivery("/topic/t", b"abc") == b"MSG /topic/t 1 3\r\nabc\r\n"


def test_nats_queue_is_a_group() -> None:
    assert NATS.subscription("/queue/q").endswith(b"\r\nSUB /queue/q workers 1\r\n")


def test_redis_commands_are_arrays_of_bulk_strings() -> None:
    assert RESP.publication("/t", b"abc") == b"*3\r\n$7\r\nPUBLISH\r\n$2\r\n/t\r\n$3\r\nabc\r\n"
    assert RESP.subscription("/t") == b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*2\r\n$9\r\nSUBSCRIBE\r\n$2\r\n/t\r\n"


def test_redis_delivers_a_push_and_answers_a_publisher() -> None:
    push = b">3\r\n$7\r\nmessage\r\n$2\r\n/t\r\n$3\r\nabc\r\n"
    assert RESP.delivery("/t", b"abc") == push
    assert RESP.echo("/t", b"abc") == push + b":1\r\n"


def test_mqtt_connects_without_an_identity_and_subscribes() -> None:
    connect = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"
    assert MQTT.publisher_greeting() == connect
    assert MQTT.subscription("/t") == connect + b"\x82\x07\x00\x01\x00\x02/t\x00"


@pytest.mark.parametrize(
    ("length", "encoded"),
    [
        (4, b"\x04"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (16_383, b"\xff\x7f"),
        (16_384, b"\x80\x80\x01"),
        (2_097_152, b"\x80\x80\x80\x01"),
    ],
)
def test_mqtt_lengths_have_seven_bits_a_byte(length: int, encoded: bytes) -> None:
    payload = b"X" * (length - 4)  # the topic's name takes 2 + 2
    assert MQTT.publication("/t", payload) == b"\x30" + encoded + b"\x00\x02/t" + payload
    assert MQTT.delivery("/t", payload) == MQTT.publication("/t", payload)
