"""Whatever a peer sends ends that peer's connection at most, with a reason; the others go on."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import House, Logs, frame, open_house, open_tcp_house, pairs
from trio_broker import Limits

FRAME_BYTES_MAX = Limits().frame_bytes_max


def length(size: int) -> bytes:
    return size.to_bytes(4, "big")


async def others_go_on(house: House) -> None:
    """A message still finds its way from a new peer to a new peer."""
    subscriber, sender = await house.subscribe("/topic/others"), await house.sender()
    await sender.publish("/topic/others", b"still here")
    assert await subscriber.receive() == b"still here"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(b"", "the stream ended before the first frame", id="nothing"),
        pytest.param(b"\0\0", "the stream ended inside a frame (2 bytes were there", id="part of the first length"),
        pytest.param(frame(b"/topic/x")[:-1], "the stream ended inside a frame", id="part of the first frame"),
        pytest.param(frame(b"/null") + b"\0", "the stream ended inside a frame", id="part of a channel's length"),
        pytest.param(frame(b"/null") + frame(b"/t"), "the stream ended inside a frame", id="a channel, no payload"),
        pytest.param(
            frame(b"/null") + pairs("/t", b"12345")[:-1], "the stream ended inside a frame", id="part of a payload"
        ),
    ],
)
async def test_end_of_stream_where_none_should_be(
    autojump_clock: MockClock, logs: Logs, sent: bytes, reason: str
) -> None:
    async with open_house() as house:
        peer = house.connect()
        await peer.send(sent)
        await house.stream_of(peer).send_eof()
        await peer.is_ended()
        await wait_all_tasks_blocked()
        assert house.server.connections == 0
        assert len(logs.reasons("disconnected")) == 1
        assert logs.reasons("disconnected")[0].startswith(reason)
        assert {record.levelname for record in logs.records} == {"INFO"}
        await others_go_on(house)
        assert trio.current_time() == 0


async def test_end_of_stream_between_frames_is_in_order(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house() as house:
        peer = await house.subscribe("/topic/x")
        await house.stream_of(peer).send_eof()
        await peer.is_ended()
        assert not logs.reasons("disconnected")
        assert logs.reasons("closed") == ["the peer closed its side"]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(length(0), "a channel name of 0 bytes; 1 to 255 are allowed", id="subscribe to an empty name"),
        pytest.param(
            length(256), "a channel name of 256 bytes; 1 to 255 are allowed", id="subscribe to an over-long name"
        ),
        pytest.param(frame(b"/t/\xff"), "a channel name that is not UTF-8: '/t/\\\\xff'", id="subscribe, not UTF-8"),
        pytest.param(frame(b"/null") + length(0), "a channel name of 0 bytes", id="publish to an empty name"),
        pytest.param(frame(b"/null") + length(256), "a channel name of 256 bytes", id="publish to an over-long name"),
        pytest.param(frame(b"/null") + frame(b"\xc3("), "a channel name that is not UTF-8", id="publish, not UTF-8"),
        pytest.param(
            frame(b"/null") + frame(b"/t") + length(FRAME_BYTES_MAX + 1),
            "a payload of 16,777,216 bytes; at most 16,777,215 are allowed",
            id="payload too large",
        ),
        pytest.param(
            frame(b"/null") + frame(b"/t") + length(2**32 - 1),
            "a payload of 4,294,967,295 bytes",
            id="payload of 4 GiB",
        ),
    ],
)
async def test_refused_at_the_header(autojump_clock: MockClock, logs: Logs, sent: bytes, reason: str) -> None:
    """No byte of what is announced is waited for, and none is held."""
    async with open_house() as house:
        bystander = await house.subscribe("/topic/x")
        peer = house.connect()
        await peer.send(sent)
        await peer.is_ended()
        assert trio.current_time() == 0
        assert house.broker.memory.cost == 0
        [said] = logs.reasons("refused")
        assert said.startswith(reason)
        await wait_all_tasks_blocked()
        assert house.server.connections == 1
        await house.broker.publish("/topic/x", b"untouched")
        assert await bystander.receive() == b"untouched"
        await others_go_on(house)


async def test_what_came_whole_before_a_violation_counts(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        subscriber, sender = await house.subscribe("/topic/x"), await house.sender()
        await sender.send(pairs("/topic/x", b"whole") + length(0))
        assert await subscriber.receive() == b"whole"
        await sender.is_ended()


async def test_longest_name_and_longest_reason(autojump_clock: MockClock, logs: Logs) -> None:
    """255 bytes are a name, not characters; and a name in a reason is cut and quoted."""
    async with open_house() as house:
        name = "/" + "é" * 127
        assert len(name.encode()) == 255
        subscriber, sender = await house.subscribe(name), await house.sender()
        await sender.publish(name, b"hello")
        assert await subscriber.receive() == b"hello"
        peer = house.connect()
        await peer.send(frame(b"\xff\n" * 127))
        await peer.is_ended()
        assert len(logs.reasons("refused")[0]) < 200
        assert "\n" not in logs.reasons("refused")[0]


async def test_subscribing_to_what_is_no_channel_is_no_defect(autojump_clock: MockClock, logs: Logs) -> None:
    """A peer may name ``/null``; it gets nothing and may send."""
    async with open_house() as house:
        peer = await house.subscribe("/null")
        await house.broker.publish("/null", b"for nobody")
        await peer.publish("/null", b"for nobody")
        await wait_all_tasks_blocked()
        assert house.stream_of(peer).unread == 0
        assert house.server.connections == 1
        assert not logs.reasons("refused")


@pytest.mark.parametrize("pause_seconds", [60.0, 3.0, 0.5], ids=["a byte a minute", "a byte in 3 s", "a byte in 0.5 s"])
async def test_dripping_before_the_first_frame(autojump_clock: MockClock, logs: Logs, pause_seconds: float) -> None:
    async with open_house(Limits(handshake_seconds_max=10)) as house, trio.open_nursery() as nursery:
        peer = house.connect()

        async def drip() -> None:
            for byte in frame(b"/topic/" + b"x" * 100):
                await peer.send(bytes([byte]))
                await trio.sleep(pause_seconds)

        nursery.start_soon(drip)
        await peer.is_ended()
        assert trio.current_time() == 10
        assert logs.reasons("refused") == ["no whole frame within handshake_seconds_max (10 s)"]
        nursery.cancel_scope.cancel()


async def test_silence_before_the_first_frame(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house() as house:
        talker, silent = await house.subscribe("/topic/x"), house.connect()
        await silent.is_ended()
        assert trio.current_time() == Limits().handshake_seconds_max
        assert logs.reasons("refused") == ["no whole frame within handshake_seconds_max (10 s)"]
        await trio.sleep(10_000)  # silence after the first frame is every subscriber's right
        await house.broker.publish("/topic/x", b"hello")
        assert await talker.receive() == b"hello"


async def test_dripping_inside_a_large_frame(autojump_clock: MockClock, logs: Logs) -> None:
    """15 of 16 MiB at once and then a byte a minute: what is held is on the account, and it ends."""
    size = 15 * 1024 * 1024
    async with open_house() as house, trio.open_nursery() as nursery:
        sender = await house.sender()
        start = frame(b"/topic/x") + length(FRAME_BYTES_MAX) + bytes(size)
        await sender.send(start)
        await wait_all_tasks_blocked()
        assert house.broker.memory.cost == len(start)

        async def drip() -> None:
            while True:
                await trio.sleep(59)
                await sender.send(b"x")

        nursery.start_soon(drip)
        await sender.is_ended()
        assert trio.current_time() == Limits().frame_seconds_max
        assert logs.reasons("refused") == ["a frame took longer than frame_seconds_max (60 s)"]
        await wait_all_tasks_blocked()
        assert house.broker.memory.cost == 0
        nursery.cancel_scope.cancel()


async def test_each_frame_has_its_own_time(autojump_clock: MockClock, logs: Logs) -> None:
    """Frames that come slowly, each in time, may go on for ever; time between frames does not count."""
    async with open_house(Limits(frame_seconds_max=60)) as house:
        subscriber, sender = await house.subscribe("/topic/x"), await house.sender()
        whole = pairs("/topic/x", b"slow")
        for _ in range(5):
            await sender.send(whole[:10])
            await trio.sleep(59)
            await sender.send(whole[10:] + whole[:10])  # the end of one, and the beginning of the next
            await trio.sleep(59)
            await sender.send(whole[10:])
            await trio.sleep(1000)
        for _ in range(10):
            assert await subscriber.receive() == b"slow"
        assert not logs.reasons("refused")


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "an HTTP request"),
        (b"POST /x HTTP/1.1\r\n", "an HTTP request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "an HTTP/2 connection"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "a TLS handshake"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "an SSH client"),
        (b"*1\r\n$4\r\nPING\r\n", "a Redis client"),
        (b"AMQP\0\0\x09\x01", "an AMQP client"),
    ],
)
async def test_another_protocol_is_named(autojump_clock: MockClock, logs: Logs, sent: bytes, name: str) -> None:
    async with open_house() as house:
        peer = house.connect()
        await peer.send(sent)
        answer = await peer.read_to_end()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n" if name == "an HTTP request" else b"")
        assert bool(answer) == (name == "an HTTP request")
        [reason] = logs.reasons("refused")
        assert name in reason
        assert trio.current_time() == 0
        await others_go_on(house)


async def test_an_http_client_that_does_not_read(autojump_clock: MockClock) -> None:
    """The farewell is bounded: by its own time, then by the lingering."""
    limits = Limits(farewell_seconds_max=5, linger_seconds_max=1)
    async with open_house(limits, buffer_bytes=20) as house:
        peer = house.connect()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        await trio.sleep(4.5)
        assert house.server.connections == 1
        await trio.sleep(0.5)
        await wait_all_tasks_blocked()
        assert house.server.connections == 0
        assert peer.stream is not None


@pytest.mark.parametrize("body_bytes", [0, 1_000_000], ids=["a small request", "a large request"])
async def test_http_over_tcp_gets_an_answer_and_no_reset(logs: Logs, body_bytes: int) -> None:
    """Whatever of the request is unread when the server closes, its answer arrives, and then a clean end."""
    async with open_tcp_house() as house, trio.open_nursery() as nursery:
        peer = await house.connect()

        async def request() -> None:
            stream = peer.stream
            assert isinstance(stream, trio.SocketStream)
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % body_bytes)
            await stream.send_all(bytes(body_bytes))
            await stream.send_eof()

        nursery.start_soon(request)
        head, _, text = (await peer.read_to_end()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"Content-Length: %d" % len(text) in head
        assert b"trio_broker" in text
        assert logs.reasons("refused")[0].startswith("these bytes look like an HTTP request")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(range(256)), id="every byte value"),
        pytest.param(bytes(255), id="looks like lengths"),
        pytest.param(frame(b"/topic/y") + frame(b"nested"), id="looks like frames"),
        pytest.param(b"x" * FRAME_BYTES_MAX, id="the largest"),
    ],
)
@pytest.mark.parametrize("channel", ["/topic/x", "/queue/x"])
async def test_any_payload_is_delivered_as_sent(autojump_clock: MockClock, channel: str, body: bytes) -> None:
    async with open_house() as house:
        subscriber, sender = await house.subscribe(channel), await house.sender()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.publish, channel, body, b"next")
            assert await subscriber.receive() == body
            assert await subscriber.receive() == b"next"


async def test_the_largest_payload_over_tcp() -> None:
    body = bytes(range(256)) * 65_536
    async with open_tcp_house() as house, trio.open_nursery() as nursery:
        peer = await house.connect()
        await peer.send(frame(b"/topic/x"))
        nursery.start_soon(peer.publish, "/topic/x", body[:-1], b"")
        assert await peer.receive() == body[:-1]
        assert await peer.receive() == b""


async def test_a_million_empty_payloads_are_bounded_by_their_cost(autojump_clock: MockClock) -> None:
    """An empty payload is not free: its publisher waits when the mailbox is full, and nobody's memory grows."""
    limits = Limits(mailbox_bytes_max=1024 * 1024)
    async with open_house(limits) as house, trio.open_nursery() as nursery:
        await house.subscribe("/topic/x")  # and never read
        sender = await house.sender()
        some = pairs("/topic/x", *[b""] * 10_000)
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for _ in range(100):
                await sender.send(some)
                sent += 10_000

        nursery.start_soon(flood)
        await wait_all_tasks_blocked()
        assert sent < 100_000
        assert 0.9 * limits.mailbox_bytes_max < house.broker.memory.cost < 2 * limits.mailbox_bytes_max
        assert house.broker.statistics().channels["/topic/x"].publishers_waiting == 1
        nursery.cancel_scope.cancel()


async def test_names_of_queues_are_bounded(autojump_clock: MockClock, logs: Logs) -> None:
    """Each queue that holds something exists; one over channels_max is refused, with its connection only."""
    limits = Limits(channels_max=1000)
    async with open_house(limits) as house, trio.open_nursery() as nursery:
        bystander = await house.subscribe("/topic/x")
        greedy = await house.sender()

        async def ask() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await greedy.send(b"".join(pairs(f"/queue/{number}", b"") for number in range(100_000)))

        nursery.start_soon(ask)
        await greedy.is_ended()
        assert logs.reasons("refused") == ["the limit channels_max (1,000) is reached"]
        assert len(house.broker.statistics().channels) == 1000
        latecomer = house.connect()
        await latecomer.send(frame(b"/topic/new"))
        await latecomer.is_ended()
        await house.broker.publish("/topic/x", b"untouched")
        assert await bystander.receive() == b"untouched"
        async with house.broker.subscribe("/queue/7") as freed:
            await freed.receive()
        assert await (await house.subscribe("/queue/8")).receive() == b""


async def test_names_of_topics_cost_nothing(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house(Limits(channels_max=1000)) as house:
        subscriber, sender = await house.subscribe("/topic/x"), await house.sender()
        await sender.send(b"".join(pairs(f"/topic/{number}", b"") for number in range(100_000)))
        await sender.publish("/topic/x", b"after all of them")
        assert await subscriber.receive() == b"after all of them"
        assert set(house.broker.statistics().channels) == {"/topic/x"}
        assert house.broker.memory.cost == 0
        assert not logs.reasons("refused")


async def test_unfinished_frames_wait_while_the_broker_is_full(autojump_clock: MockClock) -> None:
    """Above memory_bytes_max a connection with an unfinished frame is not read, so its bytes stay with the peer."""
    limits = Limits(memory_bytes_max=200_000, read_bytes_min=4096, read_bytes_max=4096)
    async with open_house(limits) as house, trio.open_nursery() as nursery:
        senders = [await house.sender() for _ in range(10)]
        whole = pairs("/topic/x", bytes(1_000_000))
        for sender in senders:
            nursery.start_soon(sender.send, whole)
        await wait_all_tasks_blocked()
        assert 200_000 <= house.broker.memory.cost < 200_000 + 10 * 4096
        nursery.cancel_scope.cancel()
