"""Against the bytes that the specifications print or prescribe."""

import os

import pytest

from benchmarks.harness.brokers import TRIO
from benchmarks.harness.catalogue import all_works
from benchmarks.harness.placement import Placement
from benchmarks.harness.wire import FRAMED
from benchmarks.peers import ALL_RECIPES
from benchmarks.peers.nats import NATS_SERVER
from benchmarks.peers.rabbitmq import RABBITMQ_STOMP
from benchmarks.protocols.mqtt import MQTT
from benchmarks.protocols.nats import NATS
from benchmarks.protocols.resp import RESP
from benchmarks.protocols.stomp import STOMP
from trio_broker.limits import Limits
from trio_broker.wire.stomp_commands import Connect, Publish, Reply, Subscribe
from trio_broker.wire.stomp_server import StompServerSession


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


def test_stomp_connects_without_waiting_and_subscribes_with_automatic_acknowledgement() -> None:
    connect = b"CONNECT\naccept-version:1.2\nhost:/\n\n\0"
    assert STOMP.publisher_greeting() == connect
    assert STOMP.subscription("/topic/t") == connect + b"SUBSCRIBE\nid:0\ndestination:/topic/t\nack:auto\n\n\0"


def test_stomp_sends_a_frame_and_knows_a_delivery_by_its_body_and_its_end() -> None:
    assert STOMP.publication("/topic/t", b"abc") == b"SEND\ndestination:/topic/t\ncontent-length:3\n\nabc\0"
    assert STOMP.delivery("/topic/t", b"abc") == b"abc\0"
    assert STOMP.terminator == b"\0"


def test_our_own_session_reads_what_is_sent_to_it_over_stomp() -> None:
    session = StompServerSession(Limits())
    commands = session.receive_data(STOMP.subscription("/topic/t") + STOMP.publication("/topic/t", b"abc"))
    assert [type(command) for command in commands if not isinstance(command, Reply)] == [Connect, Subscribe, Publish]


def test_a_recipe_takes_part_in_works_of_its_protocols_only() -> None:
    assert (TRIO.find_wire(None), TRIO.find_wire("STOMP")) == (FRAMED, STOMP)
    assert (RABBITMQ_STOMP.find_wire(None), RABBITMQ_STOMP.find_wire("STOMP")) == (None, STOMP)
    assert (NATS_SERVER.find_wire(None), NATS_SERVER.find_wire("STOMP")) == (NATS, None)
    assert RABBITMQ_STOMP.protocol_obstacle(None) == "it is measured over STOMP alone"
    assert NATS_SERVER.protocol_obstacle("STOMP") == "it is not measured over STOMP"
    assert TRIO.protocol_obstacle(None) is TRIO.protocol_obstacle("STOMP") is None


def test_every_work_asks_for_protocol_queues_and_policy_before_it_begins() -> None:
    able = {work.name: [r.name for r in ALL_RECIPES.values() if work.obstacle(r) is None] for work in all_works()}
    assert able.pop("stomp-128") == able.pop("stomp-queue") == ["trio", "rabbitmq-stomp"]
    assert able.pop("stuck") == ["trio"]
    assert able.pop("queue-10") == able.pop("varied-queue-10") == ["trio", "seed", "seed-uvloop", "nats"]
    everybody = [name for name in ALL_RECIPES if name != "rabbitmq-stomp"]
    assert {name: found for name, found in able.items() if found != everybody and not name.endswith("-10000")} == {}


def test_a_broker_on_both_cpus_leaves_the_load_on_its_own() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    placement = Placement(broker=allowed[0], load=allowed[-1])
    try:
        with placement.on_broker_cpu(both=True):
            assert os.sched_getaffinity(0) == {placement.broker, placement.load}
        assert os.sched_getaffinity(0) == {placement.load}
        with placement.on_broker_cpu():
            assert os.sched_getaffinity(0) == {placement.broker}
    finally:
        os.sched_setaffinity(0, allowed)


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
