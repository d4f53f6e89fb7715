"""What holds for every STOMP stream, however it is cut into reads (docs/stomp.md, S-44)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.wire.stomp_streams import HELD_MAX, SMALL, VERSIONS, Stretch, connected, hello, messages_in, raw, stretches
from tests.wire.streams import cut_at, cuts, drip, settled
from trio_broker.errors import ProtocolViolation
from trio_broker.limits import Limits
from trio_broker.message import AckMode, Delivery, Message
from trio_broker.wire.stomp_client import Received, StompClientSession
from trio_broker.wire.stomp_commands import Fail, Publish, StompCommand, Subscribe
from trio_broker.wire.stomp_server import StompServerSession
from trio_broker.wire.stomp_versions import VERSIONS as KNOWN

versions = st.sampled_from(VERSIONS)
bodies = st.binary(max_size=SMALL.frame_bytes_max)
RESERVED = {
    *("ack", "content-length", "destination", "dropped-before", "message-id", "receipt", "redelivered", "subscription"),
    *("transaction", "reply-to", "expiration"),
}


@st.composite
def sends(draw: st.DrawFn) -> bytes:
    """A SEND, with or without what is optional."""
    lines = [f"destination:{draw(st.sampled_from(['/queue/a', '/topic/b', 'c']))}"]
    lines += draw(
        st.lists(st.sampled_from(["x:y", "x:z", "empty:", "expiration:5", "reply-to:/temp-queue/x"]), max_size=2)
    )
    lines += draw(st.sampled_from([[], [], ["receipt:r1"], ["transaction:t"], ["transaction:t", "receipt:r2"]]))
    body = draw(bodies)
    if b"\0" in body or draw(st.booleans()):
        lines.append(f"content-length:{len(body)}")
    return raw("SEND", *lines, body=body)


others = st.sampled_from([
    b"\n", b"\n\n\n",
    raw("SUBSCRIBE", "id:1", "destination:/queue/a"), raw("SUBSCRIBE", "id:2", "destination:/queue/a", "ack:client"),
    raw("UNSUBSCRIBE", "id:1"), raw("UNSUBSCRIBE", "id:2", "receipt:u"),
    raw("ACK", "id:1", "message-id:1", "subscription:1"),
    raw("ACK", "id:2", "message-id:2", "subscription:1", "transaction:t", "receipt:a"),
    raw("BEGIN", "transaction:t"), raw("BEGIN", "transaction:u", "receipt:b"),
    raw("COMMIT", "transaction:t", "receipt:c"), raw("ABORT", "transaction:t"), raw("DISCONNECT", "receipt:d"),
])  # fmt: skip


def is_valid(version: str, stream: bytes) -> bool:
    """Whether a server has nothing to object to."""
    return not any(isinstance(command, Fail) for command in connected(version, SMALL).receive_data(stream))


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, bytes]:
    """A version, and what a client sends that breaks no rule: frames that would break one are left out."""
    version, stream = draw(versions), b""
    for frame in draw(st.lists(st.one_of(sends(), sends(), others), max_size=14)):
        if is_valid(version, stream + frame):
            stream += frame
    return version, stream


def results(version: str, reads: list[bytes]) -> tuple[list[Stretch], int, str | None]:
    """What a session makes of these reads."""
    session = StompServerSession(SMALL)
    commands: list[StompCommand] = []
    for read in [hello(version), *reads]:
        commands += session.receive_data(read)
        assert session.held_bytes <= HELD_MAX
    assert not any(isinstance(command, Fail) for command in commands[:-1])
    return stretches(commands), session.held_bytes, session.receive_eof()


@settled
@given(streams(), cuts)
def test_s44_any_split_of_a_valid_stream_means_the_same(made: tuple[str, bytes], places: list[int]) -> None:
    version, stream = made
    expected = results(version, [stream])
    assert expected[2] is None
    assert not any(isinstance(command, Fail) for _, _, command in expected[0])
    for reads in (cut_at(stream, places), drip(stream)):
        assert results(version, reads) == expected


def spoil(data: bytes, place: int, value: int) -> bytes:
    """The same bytes but for one."""
    return data[:place] + bytes([value]) + data[place + 1 :] if place < len(data) else data


mangled = st.one_of(
    st.tuples(versions, st.binary(max_size=300)),
    st.tuples(versions, st.lists(st.one_of(sends(), others), max_size=8).map(b"".join)),
    st.tuples(streams(), st.binary(max_size=200)).map(lambda both: (both[0][0], both[0][1] + both[1])),
    st.tuples(streams(), st.integers(0, 500), st.sampled_from(list(b"\0\n\r\\:x1 \xff"))).map(
        lambda plan: (plan[0][0], spoil(plan[0][1], *plan[1:]))
    ),
)


@settled
@given(mangled, cuts)
def test_s44_any_split_of_any_bytes_means_the_same(made: tuple[str, bytes], places: list[int]) -> None:
    version, stream = made
    expected = results(version, [stream])
    for reads in (cut_at(stream, places), drip(stream)):
        assert results(version, reads) == expected


@settled
@given(st.binary(max_size=400), cuts)
def test_s44_arbitrary_bytes_raise_nothing_on_a_server(data: bytes, places: list[int]) -> None:
    for reads in (cut_at(data, places), drip(data)):
        session = StompServerSession(SMALL)
        for read in reads:
            session.receive_data(read)
            assert session.held_bytes <= HELD_MAX
        session.receive_eof()


@settled
@given(
    versions,
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from([
                b"\n",
                raw("RECEIPT", "receipt-id:r"),
                raw("MESSAGE", "destination:d", "message-id:1", "subscription:2"),
                raw("MESSAGE", "destination:d", "message-id:1", "content-length:3", body=b"a\0b"),
                raw("ERROR", body=b"no"),
            ]),
        ),
        max_size=5,
    ).map(b"".join),
    cuts,
)  # fmt: skip
def test_s44_any_split_of_any_bytes_means_the_same_to_a_client(version: str, data: bytes, places: list[int]) -> None:
    outcomes = []
    for reads in ([data], cut_at(data, places), drip(data)):
        client = StompClientSession(SMALL, versions=(version,))
        events: list[object] = [*client.receive_data(raw("CONNECTED", f"version:{version}"))]
        for read in reads:
            try:
                events += client.receive_data(read)
            except ProtocolViolation:
                break
            assert client.held_bytes <= HELD_MAX
        outcomes.append((events, client.receive_eof()))
    assert outcomes[0] == outcomes[1] == outcomes[2]


texts = st.text(st.one_of(st.sampled_from("\\:\n\rab \t"), st.characters(codec="utf-8")), max_size=12)


@st.composite
def messages(draw: st.DrawFn, version: str) -> Message:
    """A message with any headers that a version can write and that have no meaning of their own."""
    headers = draw(st.dictionaries(texts, texts, max_size=4))
    return Message(
        draw(st.sampled_from(["/queue/a:b", "/topic/ünï"])),
        draw(st.binary(max_size=100)),
        {
            name: value
            for name, value in headers.items()
            if KNOWN[version].can_write(name, value) and name not in RESERVED
            if version != "1.0" or (name, value) == (name.strip(" "), value.strip(" "))  # 1.0 pads
        },
    )


@settled
@given(st.data(), versions, cuts)
def test_what_one_client_sends_another_receives(data: st.DataObject, version: str, places: list[int]) -> None:
    """Through both halves of the client and both of the server, in one version, cut anywhere."""
    sent = data.draw(st.lists(messages(version), max_size=6))
    client = StompClientSession(Limits(), versions=(version,))
    client.receive_data(raw("CONNECTED", f"version:{version}"))
    stream = b"".join(map(client.send, sent)) + client.subscribe("/queue/a:b", "i:d", ack=AckMode.CLIENT)
    server = connected(version)
    commands = [command for read in cut_at(stream, places) for command in server.receive_data(read)]
    subscribe = commands.pop()
    assert isinstance(subscribe, Subscribe)
    assert messages_in(commands) == {
        channel: [(message.body, message.headers) for message in sent if message.channel == channel]
        for channel in {message.channel for message in sent}
    }
    deliveries = [Delivery(command.batch) for command in commands if isinstance(command, Publish)]
    encoded = subscribe.encoder.encode(deliveries, 1)
    events = [event for read in cut_at(encoded, places) for event in client.receive_data(read)]
    bodies_and_headers = [(m.body, m.headers) for delivery in deliveries for m in delivery.batch]
    assert [(e.message.body, e.message.headers) for e in events if isinstance(e, Received)] == bodies_and_headers
    assert {(e.subscription_id, e.message.channel) for e in events if isinstance(e, Received)} <= {
        ("i:d", "/queue/a:b")
    }
    for number, event in enumerate(events, 1):
        assert isinstance(event, Received)
        (ack,) = server.receive_data(client.ack(event))
        assert ack.number == number  # type: ignore[union-attr]  # it fails if it is another command


@settled
@given(st.data(), versions, versions)
def test_headers_survive_a_change_of_version(data: st.DataObject, sender: str, receiver: str) -> None:
    """Each header arrives as it was sent, or not at all where the receiver's version cannot write it."""
    message = data.draw(messages(sender))
    out = StompClientSession(Limits(), versions=(sender,))
    out.receive_data(raw("CONNECTED", f"version:{sender}"))
    (publish,) = connected(sender).receive_data(out.send(message))
    (subscribe,) = connected(receiver).receive_data(raw("SUBSCRIBE", "id:1", "destination:/topic/x"))
    assert isinstance(publish, Publish)
    assert isinstance(subscribe, Subscribe)
    back = StompClientSession(Limits(), versions=(receiver,))
    back.receive_data(raw("CONNECTED", f"version:{receiver}"))
    (event,) = back.receive_data(subscribe.encoder.encode([Delivery(publish.batch)], 1))
    assert isinstance(event, Received)
    expected = {n: v for n, v in message.headers.items() if KNOWN[receiver].can_write(n, v)}
    if receiver == "1.0":
        expected = {name: value.strip(" ") for name, value in expected.items()}  # 1.0 pads
    assert (event.message.body, event.message.headers) == (message.body, expected)
