"""Bytes come and go: plain TCP to the byte, any other stream in pieces."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import until
from tests.server.streams import stream_pair
from trio_broker import Limits
from trio_broker.server.transport import StreamTransport, TcpTransport, Transport, open_transport

LIMITS = Limits(read_bytes_min=1000, read_bytes_max=16_000)


@asynccontextmanager
async def tcp_pair() -> AsyncIterator[tuple[TcpTransport, trio.SocketStream]]:
    """A transport and the stream of its peer, over the loopback interface."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        peer = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        transport = open_transport(await listener.accept(), LIMITS)
    assert isinstance(transport, TcpTransport)
    try:
        yield transport, peer
    finally:
        await transport.aclose()
        await trio.aclose_forcefully(peer)


def fill(transport: Transport) -> int:
    """Send until the socket takes no more; return how many bytes that were."""
    data = bytes(1_000_000)
    total = 0
    while sent := transport.send_nowait(data):
        total += sent
    return total


async def receive(transport: Transport) -> bytes:
    """What comes next."""
    taken: list[bytes] = []

    def digest(data: bytes) -> bool:
        taken.append(data)
        return False

    await transport.feed(digest)
    [data] = taken
    return data


async def read_to_end(stream: trio.SocketStream) -> int:
    count = 0
    while data := await stream.receive_some(1_000_000):
        count += len(data)
    return count


def reset(stream: trio.SocketStream) -> None:
    """Close with a reset."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def test_which_transport_for_which_stream() -> None:
    ours, _theirs = stream_pair()
    assert isinstance(open_transport(ours, LIMITS), StreamTransport)
    left, right = socket.socketpair()
    with right:
        unix = trio.SocketStream(trio.socket.from_stdlib_socket(left))
        transport = open_transport(unix, LIMITS)
        assert isinstance(transport, StreamTransport)
        await transport.aclose()
    async with tcp_pair() as (tcp, _peer):
        assert isinstance(tcp, TcpTransport)


async def test_tcp_names_its_peer() -> None:
    async with tcp_pair() as (transport, peer):
        host, port = peer.socket.getsockname()
        assert transport.peer == f"{host}:{port}"


async def test_tcp_receives_what_was_sent_and_then_the_end() -> None:
    async with tcp_pair() as (transport, peer):
        await peer.send_all(b"hello")
        assert await receive(transport) == b"hello"
        await peer.send_eof()
        assert await receive(transport) == b""
        assert await receive(transport) == b""


async def test_tcp_reads_grow_while_they_come_back_full_and_shrink_again() -> None:
    async with tcp_pair() as (transport, peer):
        await peer.send_all(bytes(100_000))
        sizes: list[int] = []
        while sum(sizes) < 100_000:
            sizes.append(len(await receive(transport)))
        assert sizes[:3] == [1000, 4000, 16_000]
        assert max(sizes) == 16_000
        for _ in range(3):
            await peer.send_all(b"x")
            await receive(transport)
        await peer.send_all(bytes(100_000))
        assert len(await receive(transport)) == 1000


async def test_tcp_reads_grow_further_while_they_are_for_many_channels() -> None:
    async with tcp_pair() as (transport, peer):
        sizes: list[int] = []

        def digest(data: bytes) -> bool:
            sizes.append(len(data))
            transport.read_more(len(data))
            return sum(sizes) < 400_000

        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, bytes(400_000))
            await transport.feed(digest)
        assert sizes[:4] == [1000, 4000, 16_000, 64_000]
        assert max(sizes) == 64_000
        await peer.send_all(bytes(100_000))
        sizes = [len(await receive(transport)) for _ in range(3)]  # now for one channel
        assert max(sizes[1:]) <= 16_000


async def test_tcp_receive_is_cancelled_with_nothing_taken() -> None:
    async with tcp_pair() as (transport, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive, transport)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await peer.send_all(b"hello")
        assert await receive(transport) == b"hello"


async def test_tcp_receive_of_a_busy_peer_lets_others_run() -> None:
    """A peer whose reads all come back full never has to be waited for; it yields all the same."""
    async with tcp_pair() as (transport, peer):
        await peer.send_all(bytes(100_000))
        await receive(transport)
        with trio.CancelScope() as scope:
            scope.cancel()
            await receive(transport)
        assert scope.cancelled_caught


async def test_tcp_counts_what_left_to_the_byte() -> None:
    """However a send is interrupted: the peer has exactly as many bytes as were counted."""
    async with tcp_pair() as (transport, peer):
        total = fill(transport)
        assert total
        assert transport.send_nowait(b"x") == 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.send, memoryview(b"never"))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:

            async def send_some_more() -> None:
                nonlocal total
                total += await transport.send(memoryview(bytes(100_000)))
                await transport.finish(1)

            nursery.start_soon(send_some_more)
            count = await read_to_end(peer)
        assert count == total


async def test_tcp_knows_what_the_system_still_holds() -> None:
    async with tcp_pair() as (transport, peer):
        assert transport.unsent_bytes() == 0
        total = fill(transport)
        held = transport.unsent_bytes()
        assert 0 < held < total
        await peer.receive_some(500_000)
        await until(lambda: transport.unsent_bytes() < held)


async def test_tcp_reset_is_a_broken_connection() -> None:
    async with tcp_pair() as (transport, peer):
        reset(peer)
        with pytest.raises(trio.BrokenResourceError):
            await receive(transport)
        with pytest.raises(trio.BrokenResourceError):
            transport.send_nowait(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await transport.send(memoryview(b"x"))
        await transport.finish(1000)


async def test_tcp_finish_takes_no_time_with_nothing_unread(mock_clock: MockClock) -> None:
    """In a frozen time, in which no lingering would ever end; what was sent before still arrives."""
    async with tcp_pair() as (transport, peer):
        assert transport.send_nowait(b"last words") == 10
        await transport.finish(1)
        await transport.aclose()
        assert await peer.receive_some() == b"last words"
        assert await peer.receive_some() == b""


async def test_tcp_finish_lingers_for_who_still_sends(mock_clock: MockClock) -> None:
    """Closing with input unread would reset, and a reset takes away what the peer has yet to read."""
    async with tcp_pair() as (transport, peer), trio.open_nursery() as nursery:
        sent = fill(transport)
        await peer.send_all(bytes(100_000))

        async def end() -> None:
            await transport.finish(1)
            await transport.aclose()

        nursery.start_soon(end)
        await peer.send_all(bytes(100_000))
        assert await read_to_end(peer) == sent
        await peer.send_eof()


async def test_tcp_finish_lingers_for_so_long_at_most(mock_clock: MockClock) -> None:
    async with tcp_pair() as (transport, peer), trio.open_nursery() as nursery:
        await peer.send_all(b"unread")
        finished = trio.Event()

        async def finish() -> None:
            await transport.finish(1)
            finished.set()

        nursery.start_soon(finish)
        assert await peer.receive_some() == b""  # the end of the stream came first
        await wait_all_tasks_blocked()
        mock_clock.jump(0.99)
        await wait_all_tasks_blocked()
        assert not finished.is_set()
        mock_clock.jump(0.01)
        await finished.wait()


async def test_tcp_close_needs_no_checkpoint_and_wakes_who_waits() -> None:
    async with tcp_pair() as (transport, peer), trio.open_nursery() as nursery:

        async def be_told() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await receive(transport)

        nursery.start_soon(be_told)
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:  # noqa: ASYNC912  which is what this shows
            scope.cancel()
            await transport.aclose()
            await transport.aclose()
        assert not scope.cancelled_caught
        assert await peer.receive_some() == b""


async def test_stream_sends_in_pieces_and_says_how_much() -> None:
    ours, theirs = stream_pair(buffer_bytes=1_000_000, write_bytes_max=1_000_000)
    transport = StreamTransport(ours, LIMITS)
    assert transport.send_nowait(b"never at once") == 0
    assert transport.unsent_bytes() == 0
    sent = await transport.send(memoryview(bytes(500_000)))
    assert 0 < sent < 500_000
    assert theirs.unread == sent
    assert await transport.send(memoryview(b"short")) == 5


async def test_stream_receives_and_finishes() -> None:
    ours, theirs = stream_pair()
    transport = StreamTransport(ours, LIMITS)
    await theirs.send_all(b"hello")
    assert await receive(transport) == b"hello"
    await transport.finish(1)
    assert await theirs.receive_some() == b""
    await transport.aclose()
    assert ours.closed


class NeverClosing(trio.abc.Stream):
    """A stream whose orderly close says good-bye to a peer that does not listen, as TLS does."""

    def __init__(self) -> None:
        self.closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.sleep_forever()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()
        return b""

    async def aclose(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.closed = True


async def test_stream_that_cannot_say_good_bye_is_closed_in_bounded_time(autojump_clock: MockClock) -> None:
    stream = NeverClosing()
    transport = StreamTransport(stream, LIMITS)
    await transport.finish(3)
    assert trio.current_time() == 3
    assert stream.closed


async def test_stream_is_closed_under_cancellation() -> None:
    stream = NeverClosing()
    transport = StreamTransport(stream, LIMITS)
    with trio.CancelScope() as scope:  # noqa: ASYNC912  it may end without noticing, as long as it closes
        scope.cancel()
        await transport.aclose()
    assert stream.closed


async def test_stream_that_broke_finishes_all_the_same() -> None:
    ours, theirs = stream_pair()
    transport = StreamTransport(ours, LIMITS)
    theirs.reset()
    with pytest.raises(trio.BrokenResourceError):
        await receive(transport)
    with pytest.raises(trio.BrokenResourceError):
        await transport.send(memoryview(b"x"))
    await transport.finish(1)
    await transport.aclose()
    assert ours.closed


async def test_tcp_gathers_parts_in_order_and_tells_how_much_left() -> None:
    async with tcp_pair() as (transport, peer):
        parts: list[bytes | memoryview] = [b"one ", memoryview(b"-two -")[1:-1], b"three"]
        assert transport.gather_nowait(parts) == 13
        assert bytes(await peer.receive_some(100)) == b"one two three"
        filled = fill(transport)
        assert transport.gather_nowait(parts) == 0
        await read_exactly(peer, filled)
        large: list[bytes | memoryview] = [bytes(1_000_000)] * 64
        assert 0 < transport.gather_nowait(large) < 64_000_000


async def test_tcp_gathering_for_a_peer_that_is_gone_says_so() -> None:
    async with tcp_pair() as (transport, peer):
        reset(peer)
        with pytest.raises(trio.BrokenResourceError, match="sending failed"):
            while True:
                transport.gather_nowait((b"x", b"y"))


async def test_a_general_stream_gathers_nothing_without_waiting() -> None:
    ours, _theirs = stream_pair()
    assert open_transport(ours, LIMITS).gather_nowait([b"x", b"y"]) == 0


async def read_exactly(stream: trio.SocketStream, count: int) -> None:
    """Read so many bytes."""
    while count:
        count -= len(await stream.receive_some(min(count, 1_000_000)))
