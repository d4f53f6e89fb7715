"""The clauses of docs/framed.md that no session can keep alone: a peer on a stream, a broker at its other end.

Streams in memory and a clock that jumps, so nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock, memory_stream_pair, wait_all_tasks_blocked

from tests.wire.streams import framed, length, pair
from trio_broker import Broker, Limits, Server, open_broker, serve

Stream = trio.StapledStream[trio.abc.SendStream, MemoryReceiveStream]


class _Stuck(trio.abc.SendStream):
    """The way to a peer that takes nothing."""

    def __init__(self, stream: MemorySendStream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Listener(trio.abc.Listener[Stream]):
    """Accepts streams in memory."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Stream](100)

    def connect(self, *, stuck: bool = False) -> trio.abc.HalfCloseableStream:
        here, there = memory_stream_pair()
        send = _Stuck(there.send_stream) if stuck else there.send_stream
        self._send.send_nowait(trio.StapledStream(send, there.receive_stream))
        return here

    async def accept(self) -> Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self._receive.close()
        await trio.lowlevel.checkpoint()


class _Peer:
    """Speaks bytes and nothing else."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream

    async def send(self, data: bytes) -> None:
        """Send, and let the server do what follows."""
        await self._stream.send_all(data)
        await wait_all_tasks_blocked()

    async def send_eof(self) -> None:
        await self._stream.send_eof()
        await wait_all_tasks_blocked()

    async def receive(self, count: int) -> bytes:
        """So many bytes exactly."""
        data = b""
        while len(data) < count:
            more = await self._stream.receive_some(count - len(data))
            assert more, f"the stream ended after {data!r}"
            data += bytes(more)
        return data

    async def receive_all(self) -> bytes:
        """Everything up to the end of the stream."""
        data = b""
        while more := await self._stream.receive_some():
            data += bytes(more)
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


class _World:
    """A broker, its server, and peers that come in."""

    def __init__(self, broker: Broker, server: Server, listener: _Listener) -> None:
        self.broker = broker
        self.server = server
        self._listener = listener

    async def peer(self, first: bytes, *, stuck: bool = False) -> _Peer:
        """A peer that has sent these bytes and has been understood; a stuck one takes nothing."""
        peer = _Peer(self._listener.connect(stuck=stuck))
        await peer.send(first)
        return peer

    async def subscriber(self, channel: str) -> _Peer:
        return await self.peer(framed(channel))

    async def sender(self) -> _Peer:
        return await self.peer(framed("/null"))


@asynccontextmanager
async def world(**changes: Any) -> AsyncIterator[_World]:
    """A broker with these limits, and what reaches it."""
    listener = _Listener()
    async with open_broker(Limits(**changes)) as broker, trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(serve, broker, listeners=[listener]))
        try:
            yield _World(broker, server, listener)
        finally:
            nursery.cancel_scope.cancel()


async def test_f3_f9_a_subscriber_gets_payloads_and_nothing_else(autojump_clock: MockClock) -> None:
    async with world() as here:
        subscriber, sender = await here.subscriber("/topic/a"), await here.sender()
        await sender.send(pair("/topic/a", b"1") + pair("/topic/b", b"not for it") + pair("/topic/a", b""))
        await here.server.drain()
        assert await subscriber.receive_all() == framed(b"1") + framed(b"")


async def test_f6_nobody_can_be_sent_to_by_the_name_null(autojump_clock: MockClock) -> None:
    async with world() as here:
        first, second = await here.sender(), await here.sender()
        await first.send(pair("/null", b"1"))
        await here.server.drain()
        assert await first.receive_all() == await second.receive_all() == b""


async def test_f7_a_peer_may_send_and_receive_at_once(autojump_clock: MockClock) -> None:
    async with world() as here:
        peer = await here.subscriber("/topic/a")
        for number in range(3):
            body = b"%d" % number
            await peer.send(pair("/topic/a", body))
            assert await peer.receive(5) == framed(body)


async def test_f11_one_senders_messages_keep_their_order_within_a_channel(autojump_clock: MockClock) -> None:
    async with world() as here:
        subscriber, sender = await here.subscriber("/topic/a"), await here.sender()
        bodies = [b"%03d" % number for number in range(300)]
        data = b"".join(pair("/topic/a", body) + pair("/topic/b", body) for body in bodies)
        for start in range(0, len(data), 1_000):
            await sender.send(data[start : start + 1_000])
        assert await subscriber.receive(7 * 300) == b"".join(map(framed, bodies))


@pytest.mark.parametrize("cut_off", [b"\x00", length(8) + b"/top", framed("/topic/a"), pair("/topic/a", b"half")[:-1]])
async def test_f12_the_end_inside_a_pair_loses_that_pair_alone(autojump_clock: MockClock, cut_off: bytes) -> None:
    async with world() as here:
        subscriber, sender = await here.subscriber("/topic/a"), await here.sender()
        await sender.send(pair("/topic/a", b"whole") + cut_off)
        await sender.send_eof()
        assert await sender.receive_all() == b""
        await here.server.drain()
        assert await subscriber.receive_all() == framed(b"whole")


@pytest.mark.parametrize("first", [b"", b"\x00", framed("/topic/a")[:-1]])
async def test_f12_the_end_before_the_first_frame_ends_the_connection(autojump_clock: MockClock, first: bytes) -> None:
    async with world() as here:
        peer = await here.peer(first)
        await peer.send_eof()
        assert await peer.receive_all() == b""
        assert here.broker.statistics().subscriptions == 0


async def test_f13_a_violation_closes_without_a_word(autojump_clock: MockClock) -> None:
    async with world() as here:
        for first in (
            length(0),
            length(256),
            framed(b"\xff"),
            framed("/null") + framed("/q") + b"\xff" * 4,
            b"SSH-2.0-x",
        ):
            peer = await here.peer(first)
            assert await peer.receive_all() == b""


async def test_f13_an_http_request_is_told_in_http(autojump_clock: MockClock) -> None:
    async with world() as here:
        peer = await here.peer(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await peer.receive_all()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")


async def test_f14_what_came_before_a_violation_is_delivered(autojump_clock: MockClock) -> None:
    async with world() as here:
        subscriber = await here.subscriber("/topic/a")
        await here.peer(framed("/null") + pair("/topic/a", b"1") + length(0))
        assert await subscriber.receive(5) == framed(b"1")


async def test_f13_one_peers_violation_is_nobody_elses(autojump_clock: MockClock) -> None:
    async with world() as here:
        subscriber, sender = await here.subscriber("/topic/a"), await here.sender()
        await here.peer(length(0))
        await sender.send(pair("/topic/a", b"1"))
        assert await subscriber.receive(5) == framed(b"1")


async def test_f16_a_first_frame_that_does_not_come_ends_the_connection(autojump_clock: MockClock) -> None:
    async with world(handshake_seconds_max=3.0) as here:
        peer = await here.peer(framed("/topic/a")[:-1])
        began = trio.current_time()
        assert await peer.receive_all() == b""
        assert trio.current_time() - began == pytest.approx(3.0)


async def test_f16_an_unfinished_frame_ends_the_connection_and_silence_does_not(autojump_clock: MockClock) -> None:
    async with world(handshake_seconds_max=3.0, frame_seconds_max=5.0) as here:
        silent, dripping = await here.subscriber("/topic/a"), await here.sender()
        await dripping.send(pair("/topic/a", b"12")[:-2])
        began = trio.current_time()
        assert await dripping.receive_all() == b""
        assert trio.current_time() - began == pytest.approx(5.0)
        with trio.move_on_after(1_000):
            await silent.receive(1)
        await here.broker.publish("/topic/a", b"1")
        assert await silent.receive(5) == framed(b"1")


async def test_f17_a_peer_that_closes_its_side_has_left(autojump_clock: MockClock) -> None:
    async with world() as here:
        subscriber, sender = await here.subscriber("/topic/a"), await here.sender()
        await subscriber.send_eof()
        await sender.send(pair("/topic/a", b"too late"))
        assert await subscriber.receive_all() == b""
        assert here.broker.statistics().unrouted == 1


async def test_f17_what_a_peer_sent_before_it_closed_its_side_is_published(autojump_clock: MockClock) -> None:
    async with world() as here:
        subscriber = await here.subscriber("/topic/a")
        sender = await here.peer(framed("/null") + pair("/topic/a", b"1") * 3)
        await sender.send_eof()
        assert await subscriber.receive(15) == framed(b"1") * 3


async def test_f18_a_drain_ends_between_frames_after_what_was_accepted(autojump_clock: MockClock) -> None:
    async with world() as here:
        subscriber, sender = await here.subscriber("/topic/a"), await here.sender()
        await sender.send(pair("/topic/a", bytes(1_000)) * 50 + pair("/topic/a", b"unfinished")[:-1])
        here.server.begin_drain()
        assert await subscriber.receive_all() == framed(bytes(1_000)) * 50
        assert await sender.receive_all() == b""


async def test_f19_a_sender_is_told_nothing(autojump_clock: MockClock) -> None:
    async with world() as here:
        sender = await here.sender()
        await sender.send(pair("/topic/a", b"to nobody") + pair("/queue/a", b"kept"))
        await here.server.drain()
        assert await sender.receive_all() == b""


async def test_f20_f21_a_queue_gives_each_message_to_one_in_turn_and_a_topic_to_all(autojump_clock: MockClock) -> None:
    async with world() as here:
        sender = await here.sender()
        for channel in ("/queue/a", "/queueing"):
            peers = [await here.subscriber(channel) for _ in range(2)]
            await sender.send(b"".join(pair(channel, b"%d" % number) for number in range(4)))
            assert await peers[0].receive(10) == framed(b"0") + framed(b"2")
            assert await peers[1].receive(10) == framed(b"1") + framed(b"3")
        peers = [await here.subscriber("/topic/a") for _ in range(2)]
        await sender.send(pair("/topic/a", b"0") + pair("/topic/a", b"1"))
        for peer in peers:
            assert await peer.receive(10) == framed(b"0") + framed(b"1")


async def test_f21_a_queue_keeps_what_nobody_takes_and_a_topic_does_not(autojump_clock: MockClock) -> None:
    async with world() as here:
        sender = await here.sender()
        await sender.send(pair("/topic/a", b"0") + pair("/queue/a", b"0"))
        topic, queue = await here.subscriber("/topic/a"), await here.subscriber("/queue/a")
        assert await queue.receive(5) == framed(b"0")
        await here.server.drain()
        assert await topic.receive_all() == b""


async def test_f24_a_peer_over_a_limit_is_closed_without_a_word(autojump_clock: MockClock) -> None:
    async with world(connections_max=1) as here:
        first = await here.subscriber("/topic/a")
        second = await here.subscriber("/topic/a")
        assert await second.receive_all() == b""
        await here.broker.publish("/topic/a", b"1")
        assert await first.receive(5) == framed(b"1")


async def test_f22_what_a_queues_subscriber_was_not_sent_goes_to_another(autojump_clock: MockClock) -> None:
    async with world() as here:
        first, sender = await here.peer(framed("/queue/a"), stuck=True), await here.sender()
        await sender.send(pair("/queue/a", b"1"))  # is being written
        await sender.send(pair("/queue/a", b"2"))
        await first.send_eof()
        await sender.send(pair("/queue/a", b"3"))
        second = await here.subscriber("/queue/a")
        assert await second.receive(15) == framed(b"1") + framed(b"2") + framed(b"3")
        assert await first.receive_all() == b""


async def test_f23_a_channel_without_room_stops_its_publishers(autojump_clock: MockClock) -> None:
    async with world(backlog_bytes_max=1, publish_seconds_max=7.0) as here:
        sender = await here.sender()
        await sender.send(pair("/queue/a", b"1"))
        await sender.send(pair("/queue/a", b"2"))  # waits
        assert here.broker.statistics().published == 1
        began = trio.current_time()
        assert await sender.receive_all() == b""
        assert trio.current_time() - began == pytest.approx(7.0)
        assert here.broker.statistics().published == 1


async def test_f23_a_subscriber_that_takes_nothing_is_closed(autojump_clock: MockClock) -> None:
    async with world(stall_seconds_max=7.0) as here:
        stuck = await here.peer(framed("/topic/a"), stuck=True)
        silent, sender = await here.subscriber("/topic/b"), await here.sender()
        began = trio.current_time()
        await sender.send(pair("/topic/a", b"1"))
        assert await stuck.receive_all() == b""
        assert trio.current_time() - began == pytest.approx(7.0)
        await sender.send(pair("/topic/b", b"1"))  # of one for whom nothing waits nothing is asked
        assert await silent.receive(5) == framed(b"1")
