"""S-63, S-69: peers that go while something of theirs waits for room, and something else is, or would be, written to
them. What waits is carried out; the rest of their work is others' in time; and nothing is dealt to them any more."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import House, Logs, TcpHouse, numbered, open_house, open_tcp_house, until
from tests.server.stomp_house import StompPeer, greet, join, only_on_linux, send, stomp, subscribe
from tests.server.test_stomp_time_bounds import (
    FIRST,
    RESULT,
    SECOND,
    THIRD,
    TRANSACTION,
    at,
    go,
    jobs_of,
)
from trio_broker import Limits, LocalSubscription

either_kind = pytest.mark.parametrize("frames", [(RESULT,), TRANSACTION], ids=["SEND", "COMMIT"])

NEWS = subscribe("news", "/topic/news")


def settles(frames: tuple[bytes, ...]) -> bool:
    """Whether what waits is a transaction, which settles the first job."""
    return frames is TRANSACTION


# -- over TCP ----------------------------------------------------------------------------------------------------------

LARGE = bytes(16_000_000)
"""More than the buffers of two sockets hold."""


@asynccontextmanager
async def open_full_tcp_house(
    *frames: bytes, beats: bool = False, large_job: bool = False
) -> AsyncIterator[tuple[TcpHouse, StompPeer, LocalSubscription]]:
    """A worker with two jobs to settle, and what it sent, which waits for room in a topic; a third job is there.

    Args:
        frames: what it sends.
        beats: whether it has asked for a heart-beat each second.
        large_job: whether its second job is only half written.
    """
    limits = Limits(
        mailbox_bytes_max=1000, stall_seconds_max=3600, unsettled_bytes_max=1 << 30, frame_bytes_max=len(LARGE)
    )
    async with open_tcp_house(limits) as house, house.broker.subscribe("/topic/results") as results:
        await house.broker.publish("/topic/results", bytes(1500))
        jobs = [b"first", LARGE if large_job else b"second", b"third"]
        for body in jobs:
            await house.broker.publish("/queue/jobs", body)
        worker = StompPeer((await house.connect(buffer_bytes=65_536)).stream)
        await greet(worker, "1.2", *(["heart-beat:0,1000"] if beats else []))
        await worker.send(NEWS, subscribe("s", "/queue/jobs", "ack:client-individual", "prefetch-count:2"))
        for body in jobs[: 1 if large_job else 2]:
            assert (await worker.message()).body == body
        await worker.send(*frames)
        await until(lambda: waiting(house) == 1)
        await until(lambda: backlog(house) == 1)
        yield house, worker, results


def waiting(house: TcpHouse) -> int:
    """How many wait in line."""
    return house.broker.statistics().channels["/topic/results"].publishers_waiting


def backlog(house: TcpHouse) -> int:
    """How many jobs wait for whoever comes."""
    return house.broker.statistics().channels["/queue/jobs"].backlog_messages


async def is_noticed(house: TcpHouse) -> None:
    """The server knows that the worker has gone."""
    await until(lambda: not house.broker.statistics().channels["/queue/jobs"].subscriptions)


async def some_steps() -> None:
    """Let everything be done that can be."""
    for _ in range(100):
        await trio.lowlevel.checkpoint()


async def leave(worker: StompPeer, way: str) -> None:
    """Go without a word, with or without a reset."""
    assert isinstance(worker.stream, trio.SocketStream)
    if way == "reset":
        worker.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await worker.stream.aclose()


async def bodies_of(house: TcpHouse) -> list[bytes]:
    """The jobs that are left, all taken."""
    bodies = []
    async with house.broker.subscribe("/queue/jobs") as jobs:
        with suppress(trio.WouldBlock):
            while True:
                bodies.append(jobs.receive_nowait().body)
    return bodies


@only_on_linux
@pytest.mark.parametrize("way", ["end of stream", "reset"])
@either_kind
async def test_heart_beats_do_not_end_what_waits(
    mock_clock: MockClock, logs: Logs, frames: tuple[bytes, ...], way: str
) -> None:
    """They would only find out once more that the peer has gone."""
    async with open_full_tcp_house(*frames, beats=True) as (house, worker, results):
        await leave(worker, way)
        await is_noticed(house)
        for _ in range(20):
            mock_clock.jump(0.5)
            await some_steps()
        assert (waiting(house), house.server.connections) == (1, 1)
        assert backlog(house) == (1 if settles(frames) else 3)
        assert [len((await results.receive()).body), (await results.receive()).body] == [1500, b"result"]
        await until(lambda: not house.server.connections)
        assert await bodies_of(house) == [b"first", b"second", b"third"][int(settles(frames)) :]
        assert not logs.reasons("refused")


@only_on_linux
@pytest.mark.parametrize("way", ["end of stream", "reset"])
@either_kind
async def test_nor_does_a_message_that_is_half_written(
    mock_clock: MockClock, logs: Logs, frames: tuple[bytes, ...], way: str
) -> None:
    """It breaks, which is no reason to give up what was read."""
    async with open_full_tcp_house(*frames) as (house, worker, results):
        await house.broker.publish("/topic/news", LARGE)
        await some_steps()
        if way == "end of stream":
            assert isinstance(worker.stream, trio.SocketStream)
            await worker.stream.send_eof()
        else:
            await leave(worker, way)
            await until(lambda: backlog(house) == (1 if settles(frames) else 3))
        await is_noticed(house)
        await some_steps()
        assert (waiting(house), house.server.connections) == (1, 1)
        assert [len((await results.receive()).body), (await results.receive()).body] == [1500, b"result"]
        await until(lambda: not house.server.connections)
        assert await bodies_of(house) == [b"first", b"second", b"third"][int(settles(frames)) :]
        assert not logs.reasons("refused")


@only_on_linux
@either_kind
async def test_a_write_to_one_who_closed_its_sending_side_alone_may_end_well(
    mock_clock: MockClock, logs: Logs, frames: tuple[bytes, ...]
) -> None:
    """Then its work goes back, also what it has just read, and is not kept until its own message is published."""
    async with open_full_tcp_house(*frames, large_job=True) as (house, worker, results):
        assert isinstance(worker.stream, trio.SocketStream)
        await worker.stream.send_eof()
        await is_noticed(house)
        await some_steps()
        assert backlog(house) == 1  # the writer alone knows what has left
        assert (await worker.message()).body == LARGE
        await some_steps()
        assert backlog(house) == (1 if settles(frames) else 3)
        assert (waiting(house), house.server.connections) == (1, 1)
        assert [len((await results.receive()).body), (await results.receive()).body] == [1500, b"result"]
        await until(lambda: not house.server.connections)
        assert await bodies_of(house) == [b"first", LARGE, b"third"][int(settles(frames)) :]
        assert trio.current_time() == 0


BEHIND = {
    "SUBSCRIBE": [subscribe("u", "/queue/others")],
    "SUBSCRIBE, UNSUBSCRIBE": [subscribe("u", "/queue/others"), stomp("UNSUBSCRIBE", "id:u")],
    "UNSUBSCRIBE, SUBSCRIBE": [stomp("UNSUBSCRIBE", "id:s"), subscribe("s", "/queue/others", "ack:client")],
    "twice": [subscribe("u", "/queue/others"), stomp("UNSUBSCRIBE", "id:u"), subscribe("u", "/queue/others")],
}
"""What is read behind a message that waits."""


def subscribed(logs: Logs) -> list[str]:
    """To what anybody was ever subscribed."""
    return [record.__dict__["channel"] for record in logs.records if record.getMessage() == "subscribed"]


@only_on_linux
@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("together", [True, False], ids=["read", "unread"])
async def test_one_who_has_gone_is_subscribed_to_nothing_more(
    mock_clock: MockClock, logs: Logs, behind: str, together: bool
) -> None:
    """Not by what was read with its message, nor by what is read after it; what else stands there is carried out."""
    after = send("/queue/after", body=b"it goes on")
    frames = (RESULT + b"".join(BEHIND[behind]) + after,) if together else (RESULT,)
    async with open_full_tcp_house(*frames) as (house, worker, results):
        if not together:
            await worker.send(*BEHIND[behind], after)
        await leave(worker, "end of stream")
        await is_noticed(house)
        await house.broker.publish("/queue/others", b"a job for others")
        assert [len((await results.receive()).body), (await results.receive()).body] == [1500, b"result"]
        await until(lambda: not house.server.connections)
        assert subscribed(logs) == ["/topic/news", "/queue/jobs"]
        channels = house.broker.statistics().channels
        assert (channels["/queue/others"].backlog_messages, channels["/queue/after"].backlog_messages) == (1, 1)
        assert not logs.reasons("refused")


# -- where only a write that breaks tells of it ------------------------------------------------------------------------


@asynccontextmanager
async def open_waiting_house(
    *frames: bytes, beats: bool = False
) -> AsyncIterator[tuple[House, StompPeer, LocalSubscription]]:
    """The same in memory, where nothing is known of a peer that is not read."""
    limits = Limits(mailbox_bytes_max=1000, stall_seconds_max=3600, publish_seconds_max=60)
    async with open_house(limits) as house, house.broker.subscribe("/topic/results") as results:
        await house.broker.publish("/topic/results", bytes(1500))
        for body in numbered(3):
            await house.broker.publish("/queue/jobs", body)
        worker = await join(house, "1.2", *(["heart-beat:0,1000"] if beats else []))
        await worker.send(NEWS, subscribe("s", "/queue/jobs", "ack:client-individual", "prefetch-count:2"))
        assert [(await worker.message()).body for _ in range(2)] == numbered(2)
        await worker.send(*frames)
        await wait_all_tasks_blocked()
        assert house.broker.statistics().channels["/topic/results"].publishers_waiting == 1
        yield house, worker, results


@pytest.mark.parametrize("way", ["closed", "reset"])
@either_kind
async def test_a_write_that_breaks_tells_that_it_has_gone(
    autojump_clock: MockClock, logs: Logs, frames: tuple[bytes, ...], way: str
) -> None:
    """Its work goes back then, but not apart from a transaction; and it ends when what waits has been carried out."""
    async with open_waiting_house(*frames) as (house, worker, results):
        go(worker, way)
        await at(10)
        assert (house.server.connections, house.backlog("/queue/jobs")) == (1, 1)
        await house.broker.publish("/topic/news", b"news")
        await wait_all_tasks_blocked()
        assert (house.server.connections, house.backlog("/queue/jobs")) == (1, 1 if settles(frames) else 3)
        await house.broker.publish("/topic/news", b"to nobody")
        assert house.broker.statistics().unrouted == 1
        await at(30)
        assert house.server.connections == 1
        assert [len((await results.receive()).body), (await results.receive()).body] == [1500, b"result"]
        await wait_all_tasks_blocked()
        assert (house.server.connections, trio.current_time()) == (0, 30)
        assert await jobs_of(house) == [FIRST, SECOND, THIRD][int(settles(frames)) :]
        assert logs.reasons("closed")[0].startswith("the connection broke: ")
        assert not logs.reasons("refused")


@pytest.mark.parametrize("way", ["closed", "reset"])
@either_kind
async def test_a_heart_beat_that_breaks_tells_it_too(
    autojump_clock: MockClock, logs: Logs, frames: tuple[bytes, ...], way: str
) -> None:
    async with open_waiting_house(*frames, beats=True) as (house, worker, results):
        await at(10.1)
        go(worker, way)
        await wait_all_tasks_blocked()
        assert (house.server.connections, house.backlog("/queue/jobs")) == (1, 1)
        await at(11.1)
        assert (house.server.connections, house.backlog("/queue/jobs")) == (1, 1 if settles(frames) else 3)
        await at(30)
        assert [len((await results.receive()).body), (await results.receive()).body] == [1500, b"result"]
        await wait_all_tasks_blocked()
        assert (house.server.connections, trio.current_time()) == (0, 30)
        assert await jobs_of(house) == [FIRST, SECOND, THIRD][int(settles(frames)) :]


async def test_after_it_nothing_more_is_read(autojump_clock: MockClock, logs: Logs) -> None:
    """What was read with the message that waited is carried out; what came later is not, as it was not read."""
    behind = send("/queue/behind", body=b"read") + stomp("ACK", "id:1")
    async with open_waiting_house(RESULT + behind) as (house, worker, results):
        await worker.send(send("/queue/later", body=b"not read"))
        go(worker, "closed")
        await house.broker.publish("/topic/news", b"news")
        await wait_all_tasks_blocked()
        assert [len((await results.receive()).body), (await results.receive()).body] == [1500, b"result"]
        await wait_all_tasks_blocked()
        assert house.server.connections == 0
        assert (house.backlog("/queue/behind"), house.backlog("/queue/later")) == (1, 0)
        assert await jobs_of(house) == [FIRST, SECOND, THIRD]  # they had gone back before that ACK


async def test_several_messages_that_wait_are_all_carried_out(autojump_clock: MockClock) -> None:
    """The connection ends with the last of them."""
    apart = (stomp("ACK", "id:1"), stomp("ACK", "id:2"), stomp("UNSUBSCRIBE", "id:s"))  # or they are accepted together
    more = b"".join(between + send("/topic/results", body=bytes(1500)) for between in apart)
    async with open_waiting_house(RESULT + more + stomp("DISCONNECT", "receipt:bye")) as (house, worker, results):
        go(worker, "closed")
        await house.broker.publish("/topic/news", b"news")
        await wait_all_tasks_blocked()
        sizes, connections = [], []
        for _ in range(5):
            connections.append(house.server.connections)
            sizes.append(len((await results.receive()).body))
            await wait_all_tasks_blocked()
        assert sizes == [1500, len(b"result"), 1500, 1500, 1500]
        assert connections == [1, 1, 1, 1, 0]  # there is room for the last when the one before it was taken


@either_kind
async def test_one_who_is_known_to_have_gone_and_room_that_never_comes(
    autojump_clock: MockClock, logs: Logs, frames: tuple[bytes, ...]
) -> None:
    """There is nobody to be told."""
    async with open_waiting_house(*frames) as (house, worker, results):
        go(worker, "closed")
        await house.broker.publish("/topic/news", b"news")
        await at(59.99)
        assert (house.server.connections, house.backlog("/queue/jobs")) == (1, 1 if settles(frames) else 3)
        await at(60)
        assert (house.server.connections, len(logs.reasons("refused"))) == (0, 1)
        assert await jobs_of(house) == [FIRST, SECOND, THIRD]
        assert len((await results.receive()).body) == 1500
        with pytest.raises(trio.WouldBlock):
            results.receive_nowait()


@either_kind
async def test_one_who_is_known_to_have_gone_and_a_drain(
    autojump_clock: MockClock, logs: Logs, frames: tuple[bytes, ...]
) -> None:
    async with open_waiting_house(*frames) as (house, worker, results):
        go(worker, "closed")
        await house.broker.publish("/topic/news", b"news")
        await at(30)
        assert house.server.connections == 1
        assert (await house.server.drain()).seconds == 0
        assert await jobs_of(house) == [FIRST, SECOND, THIRD]
        assert len((await results.receive()).body) == 1500
        with pytest.raises(trio.WouldBlock):
            results.receive_nowait()


@pytest.mark.parametrize("behind", BEHIND)
async def test_one_who_is_known_to_have_gone_is_subscribed_to_nothing_more(
    autojump_clock: MockClock, logs: Logs, behind: str
) -> None:
    after = send("/queue/after", body=b"it goes on")
    frames = RESULT + b"".join(BEHIND[behind]) + after
    async with open_waiting_house(frames) as (house, worker, results):
        go(worker, "closed")
        await house.broker.publish("/topic/news", b"news")
        await house.broker.publish("/queue/others", b"a job for others")
        await wait_all_tasks_blocked()
        assert [len((await results.receive()).body), (await results.receive()).body] == [1500, b"result"]
        await wait_all_tasks_blocked()
        assert subscribed(logs) == ["/topic/news", "/queue/jobs"]
        assert (house.server.connections, house.backlog("/queue/others"), house.backlog("/queue/after")) == (0, 1, 1)
        assert await jobs_of(house) == [FIRST, SECOND, THIRD]
