"""How a conversation in STOMP begins, and how long a frame may take."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import Logs, frame, open_house, open_tcp_house, until
from tests.server.stomp_house import (
    CONNECT,
    LARGE,
    StompPeer,
    greet,
    join,
    join_tcp,
    send,
    stomp,
    subscribe,
    subscriber,
)
from trio_broker import Limits

# -- the beginning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_line", [b"CONNECT\n", b"STOMP\n", b"CONNECT\r\n", b"STOMP\r\n", b"\r\n\nCONNECT\n"])
async def test_first_bytes_one_by_one(autojump_clock: MockClock, first_line: bytes) -> None:
    async with open_house() as house:
        peer = StompPeer(house.connect().stream)
        for byte in first_line + b"accept-version:1.2\nhost:x\n\n\0" + send("/queue/a"):
            await peer.send(bytes([byte]))
            await wait_all_tasks_blocked()
        assert (await peer.get("CONNECTED"))["version"] == "1.2"
        assert house.backlog("/queue/a") == 1


async def test_first_bytes_that_could_be_either(autojump_clock: MockClock) -> None:
    """A frame of the framed protocol never begins as CONNECT does; what begins so and is not STOMP is named."""
    async with open_house() as house:
        peer = house.connect()
        for byte in b"CONNECT ":
            await peer.send(bytes([byte]))
            await wait_all_tasks_blocked()
        await peer.is_ended()
        framed = house.connect()
        for byte in frame(b"/topic/x"):
            await framed.send(bytes([byte]))
            await wait_all_tasks_blocked()
        await house.broker.publish("/topic/x", b"hello")
        assert await framed.receive() == b"hello"


@pytest.mark.parametrize(
    ("sent", "is_told"),
    [(b"", False), (b"CONNE", False), (b"S", False), (b"\n", True), (b"CONNECT\nhost:x\n", True)],
)
async def test_no_whole_frame_in_time(autojump_clock: MockClock, logs: Logs, sent: bytes, is_told: bool) -> None:
    """One whose protocol is known is told."""
    async with open_house(Limits(handshake_seconds_max=10)) as house:
        peer = StompPeer(house.connect().stream)
        await peer.send(sent)
        if is_told:
            assert (await peer.error()).body == b"no whole frame within handshake_seconds_max (10 s)"
        else:
            assert await peer.receive() is None
        assert trio.current_time() == 10
        assert logs.reasons("refused") == ["no whole frame within handshake_seconds_max (10 s)"]


async def test_line_ends_are_no_greeting(autojump_clock: MockClock) -> None:
    async with open_house(Limits(handshake_seconds_max=10)) as house, trio.open_nursery() as nursery:
        peer = StompPeer(house.connect().stream)

        async def drip() -> None:
            while True:
                await peer.send(b"\n")
                await trio.sleep(1)

        nursery.start_soon(drip)
        await peer.error()
        assert trio.current_time() == 10
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "the stream ended before the first frame"),
        (b"CONN", "the stream ended before the first frame"),
        (b"\n\n", "the stream ended before a connection was made"),
        (b"CONNECT\nhost:x\n\n", "the stream ended inside a frame (16 bytes were there)"),
        (CONNECT + b"SEND\n", "the stream ended inside a frame (5 bytes were there)"),
        (CONNECT + b"\n\n", None),
    ],
)
async def test_end_of_stream(autojump_clock: MockClock, logs: Logs, sent: bytes, reason: str | None) -> None:
    async with open_house() as house:
        peer = StompPeer(house.connect().stream)
        await peer.send(sent)
        await wait_all_tasks_blocked()
        await peer.memory_stream.send_eof()
        await peer.receive_all()
        await wait_all_tasks_blocked()
        assert house.server.connections == 0
        assert logs.reasons("disconnected") == ([] if reason is None else [reason])
        assert logs.reasons("closed") == [reason or "the peer closed its side"]
        assert not logs.reasons("refused")


async def test_greeting_twice_in_one_process_gives_different_sessions(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        peers = [StompPeer(house.connect().stream) for _ in range(2)]
        assert len({(await greet(peer))["session"] for peer in peers}) == 2


# -- time for a frame -------------------------------------------------------------------------------------------------


async def test_a_frame_that_takes_too_long(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house(Limits(frame_seconds_max=60)) as house:
        peer = await join(house)
        await trio.sleep(1000)
        await peer.send(send("/queue/a", "receipt:r")[:-1])
        said = await peer.error()
        assert trio.current_time() == 1060
        assert said.body == b"a frame took longer than frame_seconds_max (60 s)"
        assert not house.broker.statistics().channels


async def test_frames_that_are_bound_to_a_transaction_have_their_own_time(
    autojump_clock: MockClock, logs: Logs
) -> None:
    """They bring nothing about before COMMIT, and yet each is over when it is whole."""
    async with open_house(Limits(frame_seconds_max=60)) as house:
        peer = await join(house)
        await peer.send(stomp("BEGIN", "transaction:t"))
        bound = send("/queue/a", "transaction:t")
        for _ in range(5):
            await peer.send(bound[:10])
            await trio.sleep(59)
            await peer.send(bound[10:] + bound[:10])  # the end of one, and the beginning of the next
            await trio.sleep(59)
            await peer.send(bound[10:])
            await trio.sleep(1000)
        await peer.send(stomp("COMMIT", "transaction:t", "receipt:r"))
        await peer.receipt("r")
        assert house.backlog("/queue/a") == 10


async def test_time_in_which_nothing_is_read_is_not_a_frames(autojump_clock: MockClock, logs: Logs) -> None:
    """One that takes what it is sent slowly is not read meanwhile, and so cannot finish its frame."""
    limits = Limits(control_bytes_max=500, frame_seconds_max=60, stall_seconds_max=10, stall_bytes_min=1000)
    async with open_house(limits, buffer_bytes=20_000) as house:
        peer = await subscriber(house, "/topic/x")
        await house.broker.publish("/topic/x", LARGE)
        await wait_all_tasks_blocked()
        asked = b"".join(send("/queue/a", f"receipt:{number}") for number in range(50))
        last = send("/queue/a", "receipt:last")
        await peer.send(asked + last[:-1])
        data = b""
        while b"receipt-id:49" not in data:
            await trio.sleep(2)
            chunk = await peer.stream.receive_some(20_000)
            assert chunk
            data += chunk
        assert trio.current_time() > 60
        await peer.send(last[-1:])
        await peer.receipt("last")
        assert not logs.reasons("refused")


# -- over TCP ---------------------------------------------------------------------------------------------------------


async def test_a_conversation_over_tcp() -> None:
    async with open_tcp_house() as house:
        peer = await join_tcp(house)
        await peer.send(subscribe("s", "/queue/a", "ack:client", "receipt:1"))
        await peer.receipt("1")
        body = bytes(range(256)) * 8000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send, send("/queue/a", body=body))
            message = await peer.message()
        assert message.body == body
        await peer.send(stomp("ACK", f"id:{message['ack']}"), stomp("DISCONNECT", "receipt:2"))
        await peer.receipt("2")
        assert await peer.receive() is None
        await until(lambda: house.server.connections == 0)
        assert house.broker.statistics().delivered == 1
