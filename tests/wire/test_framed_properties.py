"""What holds for every stream, however it is cut into reads (docs/framed.md, F-2)."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.wire.streams import (
    SMALL,
    Outcome,
    Pair,
    by_channel,
    channels,
    cut_at,
    cuts,
    drip,
    feed,
    framed,
    greeted,
    pair,
    pairs,
    payloads,
    settled,
    stream_of,
)
from trio_broker.errors import ProtocolViolation
from trio_broker.message import Batch, Delivery, Message, plain_batch
from trio_broker.wire import FRAMED, FramedClientSession, FramedServerSession, encode, messages_within

LIMIT = SMALL.frame_bytes_max + SMALL.channel_bytes_max + 8
"""What an unfinished pair within the limits can amount to."""


@settled
@given(channels, pairs, cuts)
def test_f2_f11_any_split_of_a_valid_stream_means_the_same(hello: str, messages: list[Pair], places: list[int]) -> None:
    expected = Outcome([None if hello == "/null" else hello], by_channel(messages))
    stream = stream_of(hello, messages)
    for reads in (cut_at(stream, places), drip(stream), [stream]):
        session = FramedServerSession(SMALL)
        assert feed(session, reads) == expected
        assert session.receive_eof() is None
        assert session.held_bytes == 0


@settled
@given(st.lists(payloads, max_size=12), cuts)
def test_f2_any_split_of_a_valid_stream_means_the_same_to_a_client(bodies: list[bytes], places: list[int]) -> None:
    stream = b"".join(map(framed, bodies))
    for reads in (cut_at(stream, places), drip(stream), [stream]):
        client = FramedClientSession("x", SMALL)
        assert [payload for read in reads for payload in client.receive_data(read)] == bodies
        assert client.receive_eof() is None


mangled = st.one_of(
    st.binary(max_size=200),
    st.tuples(pairs, st.binary(max_size=100)).map(lambda both: stream_of("", both[0])[4:] + both[1]),
    st.tuples(pairs, st.integers(0, 400), st.integers(0, 255)).map(
        lambda plan: spoil(stream_of("", plan[0])[4:], *plan[1:])
    ),
)


def spoil(data: bytes, place: int, value: int) -> bytes:
    """The same bytes but for one."""
    return data[:place] + bytes([value]) + data[place + 1 :] if place < len(data) else data


@settled
@given(mangled, cuts)
def test_f2_f14_any_split_of_any_bytes_means_the_same(data: bytes, places: list[int]) -> None:
    whole = greeted(SMALL)
    expected = feed(whole, [data])
    for reads in (cut_at(data, places), drip(data)):
        session = greeted(SMALL)
        assert feed(session, reads) == expected
        assert session.receive_eof() == whole.receive_eof()
        assert session.held_bytes == whole.held_bytes <= LIMIT
    if expected.failure is not None:
        assert whole.held_bytes == 0


@settled
@given(st.binary(max_size=300), cuts)
def test_arbitrary_bytes_raise_nothing_on_a_server(data: bytes, places: list[int]) -> None:
    for reads in (cut_at(data, places), drip(data)):
        session = FramedServerSession(SMALL)
        outcome = feed(session, reads)
        assert len(outcome.subscribed) <= 1
        assert session.held_bytes <= LIMIT
        session.receive_eof()


@settled
@given(
    st.one_of(
        st.binary(max_size=300),
        st.tuples(st.lists(payloads), st.binary()).map(lambda both: b"".join(map(framed, both[0])) + both[1]),
    ),
    cuts,
)
def test_f14_any_split_of_any_bytes_means_the_same_to_a_client(data: bytes, places: list[int]) -> None:
    results = []
    for reads in (cut_at(data, places), drip(data), [data]):
        client = FramedClientSession("x", SMALL)
        received: list[bytes] = []
        violated = False
        for read in reads:
            try:
                received += client.receive_data(read)
            except ProtocolViolation:
                violated = True
        results.append((received, client.receive_eof()))
        assert not violated or client.receive_eof() is not None
    assert results[0] == results[1] == results[2]


@settled
@given(channels, pairs, cuts)
def test_f3_f7_what_a_client_encodes_a_server_parses(hello: str, messages: list[Pair], places: list[int]) -> None:
    client = FramedClientSession(hello, SMALL)
    stream = client.hello() + b"".join(client.encode(Message(channel, body)) for channel, body in messages)
    assert stream == stream_of(hello, messages)
    outcome = feed(FramedServerSession(SMALL), cut_at(stream, places))
    assert outcome == Outcome([None if hello == "/null" else hello], by_channel(messages))


@st.composite
def deliveries(draw: st.DrawFn) -> list[Delivery]:
    """Deliveries as channels make them: whole, cut and dealt out, from the network and from this process."""
    made = []
    for bodies in draw(st.lists(st.lists(payloads, min_size=1, max_size=6), max_size=5)):
        if draw(st.booleans()):
            batch = Batch("/topic/a", [framed(body) for body in bodies], FRAMED)
        else:
            batch = plain_batch(Message("/topic/a", bodies[0], {"name": "value"}))
        if draw(st.booleans()):
            batch.share()
        delivery = Delivery(batch, range(len(batch)))
        made.append(delivery[draw(st.slices(len(batch)).filter(lambda which: (which.step or 1) > 0))])
    return made


@settled
@given(deliveries(), cuts)
def test_f9_what_a_server_encodes_a_client_parses(made: list[Delivery], places: list[int]) -> None:
    bodies = [message.body for delivery in made for message in delivery.batch]
    for _ in range(2):  # the second time from what shared batches kept
        data = encode(made)
        assert data == b"".join(map(framed, bodies))
        client = FramedClientSession("x", SMALL)
        assert [payload for read in cut_at(data, places) for payload in client.receive_data(read)] == bodies


@settled
@given(deliveries())
def test_messages_within_is_what_counting_gives(made: list[Delivery]) -> None:
    ends = list(itertools.accumulate(len(message.body) + 4 for delivery in made for message in delivery.batch))
    for size_bytes in range((ends[-1] if ends else 0) + 2):
        assert messages_within(made, size_bytes) == sum(end <= size_bytes for end in ends)


@settled
@given(pairs)
def test_f10_what_passes_a_server_is_sent_on_unchanged(messages: list[Pair]) -> None:
    commands = greeted(SMALL).receive_data(b"".join(pair(channel, body) for channel, body in messages))
    sent: dict[str, bytes] = {}
    for command in commands:
        batch = command.batch  # type: ignore[union-attr]
        sent[batch.channel] = encode([Delivery(batch)])
    assert sent == {name: b"".join(map(framed, bodies)) for name, bodies in by_channel(messages).items()}
