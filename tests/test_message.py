"""Batches, deliveries and names; and whether the cost of a batch is honest."""

from __future__ import annotations

import copy
import dataclasses
import gc
import math
import pickle
import tracemalloc
from collections.abc import Callable, Sequence

import pytest
import trio

from trio_broker.errors import InvalidChannel
from trio_broker.limits import BATCH_COST, MESSAGE_COST, Limits
from trio_broker.message import Batch, BoundSettler, Delivery, Message, is_queue, plain_batch, validate_channel
from trio_broker.wire import FRAMED, FramedServerSession, Publish, encode, frame
from trio_broker.wire.stomp_messages import STOMP, MessageHeaders


def batch_of(*bodies: bytes) -> Batch:
    """A batch as it comes from the network."""
    return Batch("/topic/a", [frame(body) for body in bodies], FRAMED)


def bodies_of(batch: Batch) -> list[bytes]:
    """What is in it."""
    return [message.body for message in batch]


SIZES = [b"", b"a", b"bb" * 100, b"", b"ccc"]


# -- messages --------------------------------------------------------------------------------------------------------


def test_a_message_is_a_value() -> None:
    message = Message("/topic/a", b"1")
    assert message == Message("/topic/a", b"1", {}, 0)
    assert message != Message("/topic/b", b"1")
    assert (message.headers, message.dropped_before) == ({}, 0)
    with pytest.raises(AttributeError):
        message.body = b"2"  # type: ignore[misc]


def test_the_empty_headers_that_messages_share_cannot_be_changed() -> None:
    headers = Message("/topic/a", b"1").headers
    assert isinstance(headers, dict)
    for change in (
        lambda: headers.__setitem__("name", "value"),
        lambda: headers.update(name="value"),
        lambda: headers.setdefault("name", "value"),
        lambda: headers.__ior__({"name": "value"}),
        lambda: headers.__delitem__("name"),
        lambda: headers.pop("name", None),
        headers.popitem,
        headers.clear,
    ):
        with pytest.raises(TypeError, match="makes a copy that can be"):
            change()
    assert dict(headers) == {}
    assert Message("/topic/a", b"1").headers is headers


class Desk(BoundSettler):
    """Where messages are settled."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.here = (each for each in self.acknowledged)  # what can be neither copied nor pickled, as a connection

    def ack(self, number: int) -> None:
        self.acknowledged.append(number)

    def nack(self, number: int, requeue: bool) -> None:
        raise AssertionError


MESSAGES = {
    "no headers": Message("/topic/a", b"1"),
    "headers": Message("/topic/a", b"1", {"n": "v"}, 2, True),
    "of STOMP": STOMP.decode("/topic/a", (MessageHeaders({"n": "v"}, 0), b"1")),
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=list(MESSAGES))
def test_a_message_can_be_copied_pickled_and_taken_apart(message: Message) -> None:
    for again in (copy.copy(message), copy.deepcopy(message), pickle.loads(pickle.dumps(message))):
        assert again == message
        assert hash(again) == hash(message)
    assert dataclasses.asdict(message)["headers"] == dict(message.headers)


def test_a_copy_settles_the_same_message_and_what_was_pickled_settles_nothing() -> None:
    desk = Desk()
    message = Message("/topic/a", b"1", {}, 0, False, desk, 7)
    for again in (copy.copy(message), copy.deepcopy(message), dataclasses.replace(message, body=b"2")):
        again.ack()
    pickle.loads(pickle.dumps(message)).ack()
    dataclasses.asdict(message)
    assert desk.acknowledged == [7, 7, 7]


def test_equal_messages_have_one_hash() -> None:
    assert len({Message("/a", b"1", {"n": "v"}), Message("/a", b"1", {"n": "v"}), Message("/a", b"1", {"n": "w"})}) == 2


# -- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_knows_its_number_bytes_and_cost() -> None:
    batch = batch_of(*SIZES)
    assert len(batch) == 5
    assert batch.bytes == 4 * 5 + 204
    assert batch.cost == batch.bytes + 5 * MESSAGE_COST + BATCH_COST
    assert repr(batch) == "<Batch of 5 for '/topic/a', 224 bytes>"


def test_a_given_size_is_not_measured_again() -> None:
    assert Batch("/topic/a", [frame(b"abc")], FRAMED, 7).bytes == 7


def test_a_batch_is_decoded_on_the_way_out() -> None:
    assert list(batch_of(b"1", b"")) == [Message("/topic/a", b"1"), Message("/topic/a", b"")]


def test_the_size_of_a_plain_message_includes_its_headers() -> None:
    message = Message("/topic/a", b"12345", {"ab": "cde", "f": ""})
    batch = plain_batch(message)
    assert batch.channel == "/topic/a"
    assert batch.bytes == 5 + 5 + 1
    assert next(iter(batch)) is message


@pytest.mark.parametrize("make", [lambda: batch_of(*SIZES), lambda: plain_batch(Message("a", b"1", {"n": "v"}))])
def test_the_costs_of_the_messages_and_the_batch_add_up(make: Callable[[], Batch]) -> None:
    batch = make()
    assert sum(map(batch.part_cost, range(len(batch)))) + BATCH_COST == batch.cost


@pytest.mark.parametrize("which", [slice(2), slice(2, None), slice(1, 4), slice(0, 5, 2), slice(5, 9), slice(-1, None)])
def test_a_slice_of_a_batch_is_a_batch_of_those_messages(which: slice) -> None:
    batch = batch_of(*SIZES)
    part = batch[which]
    assert (part.channel, part.codec) == (batch.channel, batch.codec)
    assert bodies_of(part) == SIZES[which]
    assert part.cost == BATCH_COST + sum(batch.part_cost(index) for index in range(5)[which])
    assert bodies_of(batch) == SIZES


def test_sharing_counts_the_encoding_once() -> None:
    batch = batch_of(*SIZES)
    alone = batch.cost
    batch.share()
    batch.share()
    assert batch.cost == alone + batch.bytes
    assert batch.encodings == {}


def test_a_slice_of_a_shared_batch_is_not_shared() -> None:
    batch = batch_of(*SIZES)
    alone = batch.cost
    batch.share()
    part = batch[:]
    assert part.encodings is None
    assert part.cost == alone


# -- deliveries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [slice(2), slice(3, None), slice(1, None, 2), slice(0, 5, 3)])
def test_a_slice_of_a_delivery_keeps_the_positions(which: slice) -> None:
    delivery = Delivery(batch_of(*SIZES), range(70, 75), attempts=range(1, 6))
    part = delivery[which]
    assert len(part) == len(SIZES[which])
    assert list(part.positions) == list(range(70, 75))[which]
    assert bodies_of(part.batch) == SIZES[which]
    assert part.attempts == range(1, 6)[which]


def test_dealing_a_delivery_out_loses_and_doubles_nothing() -> None:
    delivery = Delivery(batch_of(*SIZES), range(70, 75))
    shares = [delivery[index::3] for index in range(3)]
    dealt = sorted(pair for share in shares for pair in zip(share.positions, bodies_of(share.batch), strict=True))
    assert dealt == list(zip(range(70, 75), SIZES, strict=True))


def test_a_loss_is_told_once_not_with_every_slice() -> None:
    delivery = Delivery(batch_of(*SIZES), range(5), dropped_before=9)
    assert delivery[1:].dropped_before == 0


def test_deliveries_of_the_same_batch_are_not_equal() -> None:
    batch = batch_of(b"1")
    assert Delivery(batch) != Delivery(batch)
    assert len({Delivery(batch), Delivery(batch)}) == 2


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/queue", "/queue/", "/queue/blah", "/queueing", "/queue\n"])
def test_f20_names_that_start_so_are_queues(name: str) -> None:
    assert is_queue(name)


@pytest.mark.parametrize("name", ["/topic/a", "queue", "queue/a", " /queue", "/Queue", "/topic/queue", "/que", "/null"])
def test_f20_all_others_are_topics(name: str) -> None:
    assert not is_queue(name)


@pytest.mark.parametrize("name", ["a", "/topic/a", "n" * 16, "ü" * 8, "\N{GRINNING FACE}" * 4, " ", "\n", "\0"])
def test_a_name_of_1_to_the_limit_in_utf8_is_one(name: str) -> None:
    validate_channel(name, 16)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "the name is empty; 1 to 16 bytes are allowed"),
        ("n" * 17, "the name has 17 bytes; 1 to 16 are allowed"),
        ("ü" * 8 + "n", "the name has 17 bytes; 1 to 16 are allowed"),
        ("\N{GRINNING FACE}" * 5, "the name has 20 bytes; 1 to 16 are allowed"),
        ("\ud800", "the name cannot be written in UTF-8"),
    ],
)
def test_anything_else_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(InvalidChannel) as caught:
        validate_channel(name, 16)
    assert (caught.value.name, caught.value.reason) == (name, reason)


# -- cost is an honest estimate of memory ----------------------------------------------------------------------------

SHAPES = [(1, 0), (1, 16), (2, 16), (500, 0), (500, 16), (10, 4096)]


def _from_the_network(count: int, size: int) -> Callable[[], Batch]:
    session = FramedServerSession(Limits())
    session.receive_data(frame(b"/null"))
    data = (frame(b"/topic/a") + frame(bytes(size))) * count
    session.receive_data(data)  # the session knows the name from now on

    def make() -> Batch:
        (command,) = session.receive_data(data)
        assert isinstance(command, Publish)
        return command.batch

    return make


def _in_process(size: int) -> Callable[[], Batch]:
    return lambda: plain_batch(Message("/topic/a", bytes(bytearray(size))))


def _of_a_topic(batch: Batch, position: int) -> Delivery:
    return Delivery(batch)


def _of_a_topic_with_many(batch: Batch, position: int) -> Delivery:
    batch.share()
    delivery = Delivery(batch)
    encode([delivery])
    return delivery


def _of_a_queue(batch: Batch, position: int) -> Delivery:
    return Delivery(batch, range(position, position + len(batch)))


def _traced_bytes(
    make: Callable[[], Batch], deliver: Callable[[Batch, int], Delivery], batches: int
) -> tuple[int, int]:
    """What so many deliveries that wait in a memory channel hold, as traced and as counted."""
    send, receive = trio.open_memory_channel[Delivery](math.inf)
    cost = 0
    batch: Batch | None = None
    gc.collect()
    tracemalloc.start()
    try:
        for index in range(batches):
            batch = make()
            send.send_nowait(deliver(batch, 1_000_000 + index * len(batch)))
            cost += batch.cost
        batch = None
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    send.close()
    receive.close()
    return held, cost


MAKERS: Sequence[tuple[str, Callable[[], Batch]]] = [
    *((f"{count} x {size} B from the network", _from_the_network(count, size)) for count, size in SHAPES),
    *((f"{size} B in process", _in_process(size)) for size in (0, 16, 4096)),
]


@pytest.mark.parametrize("deliver", [_of_a_topic, _of_a_topic_with_many, _of_a_queue])
@pytest.mark.parametrize("make", [maker[1] for maker in MAKERS], ids=[maker[0] for maker in MAKERS])
def test_cost_is_an_honest_estimate_of_memory(
    make: Callable[[], Batch], deliver: Callable[[Batch, int], Delivery]
) -> None:
    held, cost = _traced_bytes(make, deliver, batches=max(20, 200 // len(make())))
    assert 0.45 <= held / cost <= 1.3, f"{held:,} bytes are held, {cost:,} are counted"
