"""What a server sends in the framed protocol, and that large payloads are not copied (docs/framed.md, F-9)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from tests.wire.streams import Pair, batch_of, framed, greeted, pair
from trio_broker.limits import Limits
from trio_broker.message import Batch, Delivery, Message, plain_batch
from trio_broker.wire import Fail, FramedClientSession, Publish, encode, frame, gather, messages_within

# -- what a server sends ----------------------------------------------------------------------------------------------


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


# -- large payloads are not copied ------------------------------------------------------------------------------------


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
