"""Peers that go while something they sent waits: over real sockets, since only the system knows that they went."""

import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.server.house import TcpHouse, open_tcp_house, until
from tests.server.stomp_house import StompPeer, join_tcp, send, stomp, subscribe
from trio_broker import Limits, LocalSubscription

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells before the stream is read")

LIMITS = Limits(mailbox_bytes_max=1000, stall_seconds_max=3600)


@asynccontextmanager
async def open_full_house() -> AsyncIterator[tuple[TcpHouse, StompPeer, LocalSubscription]]:
    """A worker that has not settled two jobs, and whose result waits for a slow subscriber; a third job is there."""
    async with open_tcp_house(LIMITS) as house, house.broker.subscribe("/topic/results") as results:
        for body in (b"job 1", b"job 2", b"job 3"):
            await house.broker.publish("/queue/jobs", body)
        await house.broker.publish("/topic/results", bytes(1500))
        worker = await join_tcp(house)
        await worker.send(subscribe("s", "/queue/jobs", "ack:client-individual", "prefetch-count:2"))
        for body in (b"job 1", b"job 2"):
            assert (await worker.message()).body == body
        await worker.send(send("/topic/results", body=b"result 1"))
        await until(lambda: len(house.broker._channels["/topic/results"].line) == 1)
        assert backlog(house) == 1
        yield house, worker, results


def backlog(house: TcpHouse) -> int:
    """How many jobs wait for whoever comes."""
    return house.broker.statistics().channels["/queue/jobs"].backlog_messages


async def test_what_a_peer_that_has_gone_did_not_settle_is_for_others_at_once(mock_clock: MockClock) -> None:
    """Its result still waits, and is published when there is room."""
    async with open_full_house() as (house, worker, results):
        await worker.stream.aclose()
        await until(lambda: backlog(house) == 3)
        assert house.broker.statistics().channels["/queue/jobs"].subscriptions == 0
        heir = await join_tcp(house)
        await heir.send(subscribe("s", "/queue/jobs"))
        jobs = [await heir.message() for _ in range(3)]
        assert [job.body for job in jobs] == [b"job 1", b"job 2", b"job 3"]
        assert ["redelivered" in job.headers for job in jobs] == [True, True, False]
        await results.receive()
        assert (await results.receive()).body == b"result 1"
        assert trio.current_time() == 0


async def test_so_it_is_after_a_reset(mock_clock: MockClock) -> None:
    async with open_full_house() as (house, worker, _):
        assert isinstance(worker.stream, trio.SocketStream)
        worker.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await worker.stream.aclose()
        await until(lambda: backlog(house) == 3)
        assert trio.current_time() == 0


async def test_a_late_acknowledgement_of_one_that_has_gone_changes_nothing(mock_clock: MockClock) -> None:
    """It had been sent behind what waits; the job has gone back to its queue meanwhile, and stays there."""
    async with open_full_house() as (house, worker, results):
        await worker.send(stomp("ACK", "id:1"), stomp("UNSUBSCRIBE", "id:s"), subscribe("t", "/topic/x"))
        await worker.stream.aclose()
        await until(lambda: backlog(house) == 3)
        await results.receive()
        assert (await results.receive()).body == b"result 1"
        await until(lambda: house.broker.statistics().subscriptions == 1 and not house.server.connections)
        assert backlog(house) == 3


async def test_a_transaction_that_waits_is_still_all_or_nothing(mock_clock: MockClock) -> None:
    """What it settles does not go back while its messages wait; nor does anything else, until it is carried out."""
    async with open_full_house() as (house, worker, results), trio.open_nursery() as nursery:
        line = house.broker._channels["/topic/results"].line
        nursery.start_soon(house.broker.publish, "/topic/results", bytes(1500))
        await until(lambda: len(line) == 2)
        await worker.send(
            stomp("BEGIN", "transaction:t"),
            send("/topic/results", "transaction:t", body=b"result 2"),
            stomp("ACK", "id:1", "transaction:t"),
            stomp("COMMIT", "transaction:t"),
        )
        await results.receive()
        await until(lambda: house.broker.statistics().published == 6 and len(line) == 1)
        await worker.stream.aclose()
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert backlog(house) == 1
        bodies = [(await results.receive()).body for _ in range(3)]
        assert (bodies[0], bodies[2]) == (b"result 1", b"result 2")
        await until(lambda: not house.server.connections)
        assert backlog(house) == 2
        async with house.broker.subscribe("/queue/jobs") as jobs:
            assert [(await jobs.receive()).body for _ in range(2)] == [b"job 2", b"job 3"]


async def test_a_peer_that_stays_keeps_its_work_while_it_waits(mock_clock: MockClock) -> None:
    async with open_full_house() as (house, worker, results):
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert backlog(house) == 1
        for _ in range(2):
            await results.receive()
        await worker.send(stomp("ACK", "id:1", "receipt:r"))
        while (said := await worker.receive()) is not None and said.command == "MESSAGE":
            pass
        assert said is not None
        assert said["receipt-id"] == "r"
        assert house.broker.statistics().delivered == 3
