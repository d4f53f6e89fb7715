"""`memory_bytes_max`, the mark of everything that a broker holds: who is still read when it is reached, and how long
the others wait. S-66, S-67."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import House, Logs, Peer, numbered, open_house, pairs
from tests.server.stomp_house import StompPeer, join, send, stomp, subscriber
from tests.server.streams import MemoryStream
from tests.server.test_stomp_time_bounds import at
from trio_broker import Limits

HEADER_BYTES_MAX = 1000
FRAME_SECONDS_MAX = 10.0
PUBLISH_SECONDS_MAX = 25.0

NO_MEMORY = "no memory for the rest of a frame within publish_seconds_max (25 s)"
TOO_LONG = "a frame took longer than frame_seconds_max (10 s)"


def limits(frame_seconds_max: float = FRAME_SECONDS_MAX, publish_seconds_max: float = PUBLISH_SECONDS_MAX) -> Limits:
    """One read is 4 KiB, so what is longer comes in several."""
    return Limits(
        memory_bytes_max=200_000,
        header_bytes_max=HEADER_BYTES_MAX,
        read_bytes_min=4096,
        read_bytes_max=4096,
        frame_seconds_max=frame_seconds_max,
        publish_seconds_max=publish_seconds_max,
    )


async def fill(house: House) -> None:
    """Reach the mark, by one message in a queue that nobody takes from."""
    await house.broker.publish("/queue/other", bytes(300_000))
    assert house.broker.memory.is_full


async def make_room(house: House) -> None:
    """Take that message."""
    async with house.broker.subscribe("/queue/other") as other:
        assert len((await other.receive()).body) == 300_000
    assert not house.broker.memory.is_full


@asynccontextmanager
async def open_full_house(jobs: int) -> AsyncIterator[tuple[House, StompPeer]]:
    """A worker with so many jobs to settle, whose numbers begin at 1; there is no memory for anything more."""
    async with open_house(limits()) as house:
        worker = await subscriber(house, "/queue/jobs", "ack:client-individual")
        for body in numbered(jobs):
            await house.broker.publish("/queue/jobs", body)
        assert [(await worker.message())["ack"] for _ in range(jobs)] == [str(number + 1) for number in range(jobs)]
        await fill(house)
        yield house, worker


async def drip(peer: StompPeer, data: bytes) -> None:
    """Send byte by byte; each is read before the next."""
    for place in range(len(data)):
        await peer.send(data[place : place + 1])
        await wait_all_tasks_blocked()


def servers_end(house: House) -> MemoryStream:
    """Of the connection that came last."""
    return house.listener.accepted[-1]


# -- one that has something to settle is read --------------------------------------------------------------------------


async def test_settlements_are_read_wherever_they_are_cut(autojump_clock: MockClock) -> None:
    """By them memory comes free, so they must not wait for it. The last one leaves nothing to settle."""
    async with open_full_house(jobs=4) as (house, worker):
        await drip(worker, stomp("ACK", "id:1", "receipt:1") + stomp("NACK", "id:2", "requeue:false", "receipt:2"))
        await drip(worker, stomp("ACK", "id:3", "receipt:3") + stomp("ACK", "id:4", "receipt:4"))
        for number in range(1, 5):
            await worker.receipt(str(number))
        statistics = house.broker.statistics()
        assert (statistics.delivered, statistics.rejected, trio.current_time()) == (3, 1, 0)


async def test_many_settlements_in_one_write_are_read(autojump_clock: MockClock) -> None:
    """Nobody cut them but the size of a read."""
    async with open_full_house(jobs=500) as (house, worker):
        acks = b"".join(stomp("ACK", f"id:{number}") for number in range(1, 501))
        assert len(acks) > 4096
        await worker.send(acks)
        await wait_all_tasks_blocked()
        assert (house.broker.statistics().delivered, trio.current_time()) == (500, 0)


@pytest.mark.parametrize("size", [100, HEADER_BYTES_MAX, 50_000])
async def test_a_message_of_any_length_is_read(autojump_clock: MockClock, size: int) -> None:
    """The mark is not for one with something to settle, and so not for the rest of its frame either."""
    async with open_full_house(jobs=1) as (house, worker):
        await worker.send(send("/queue/out", "receipt:r", body=bytes(size)), stomp("ACK", "id:1", "receipt:a"))
        await worker.receipt("r")
        await worker.receipt("a")
        assert (house.backlog("/queue/out"), house.broker.statistics().delivered, trio.current_time()) == (1, 1, 0)


async def test_one_that_stops_in_the_middle_has_the_time_of_a_frame(autojump_clock: MockClock, logs: Logs) -> None:
    """Nobody waits for memory, so nobody is told that there was none."""
    async with open_full_house(jobs=1) as (house, worker):
        await worker.send(send("/queue/out", body=bytes(50_000))[:5000])
        await at(9.99)
        await worker.is_silent()
        assert ((await worker.error())["message"], trio.current_time()) == (TOO_LONG, 10)
        await wait_all_tasks_blocked()
        assert house.backlog("/queue/jobs") == 1


@pytest.mark.parametrize("body", [b"result", bytes(50_000)], ids=["short", "long"])
async def test_a_transaction_may_come_in_pieces(autojump_clock: MockClock, body: bytes) -> None:
    """It grows beyond the mark, as its COMMIT may settle something."""
    async with open_full_house(jobs=1) as (house, worker):
        for piece in (
            stomp("BEGIN", "transaction:t") + stomp("ACK", "id:1", "transaction:t"),
            send("/queue/out", "transaction:t", body=body),
            stomp("COMMIT", "transaction:t", "receipt:r"),
        ):
            await worker.send(piece)
            await worker.is_silent() if b"COMMIT" not in piece else await worker.receipt("r")
        assert (house.backlog("/queue/out"), house.broker.statistics().delivered, trio.current_time()) == (1, 1, 0)


# -- one that has not is read as long as its frame is short ------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(stomp("ACK", "id:1", "receipt:r"), id="ACK"),
        pytest.param(stomp("NACK", "id:1", "receipt:r"), id="NACK"),
        pytest.param(stomp("UNSUBSCRIBE", "id:s", "receipt:r"), id="UNSUBSCRIBE"),
    ],
)
async def test_what_has_no_body_is_carried_out(autojump_clock: MockClock, frame: bytes) -> None:
    """What the peer was given is a topic's, so it has nothing to settle; by UNSUBSCRIBE memory may come free too."""
    async with open_house(limits()) as house:
        peer = await subscriber(house, "/topic/news", "ack:client-individual")
        await house.broker.publish("/topic/news", b"news")
        assert (await peer.message())["ack"] == "1"
        await fill(house)
        await drip(peer, frame)
        await peer.receipt("r")
        assert house.broker.statistics().subscriptions == int(b"UNSUBSCRIBE" not in frame)
        assert trio.current_time() == 0


@pytest.mark.parametrize(("begun", "is_read"), [(HEADER_BYTES_MAX, True), (HEADER_BYTES_MAX + 1, False)])
async def test_a_frame_that_has_begun_is_read_up_to_the_length_of_a_head(
    autojump_clock: MockClock, begun: int, is_read: bool
) -> None:
    async with open_house(limits()) as house:
        peer = await join(house)
        await fill(house)
        message = send("/queue/out", "receipt:r", body=bytes(2000))
        await peer.send(message[:begun])
        await wait_all_tasks_blocked()
        await peer.send(message[begun:])
        await peer.is_silent()
        assert servers_end(house).unread == (0 if is_read else len(message) - begun)
        assert house.backlog("/queue/out") == 0  # there is no room for it, read or not
        await make_room(house)
        await peer.receipt("r")
        assert (house.backlog("/queue/out"), trio.current_time()) == (1, 0)


# -- the rest of a longer one waits for memory -------------------------------------------------------------------------


class Sender:
    """Somebody with nothing to settle, who sends one message in pieces, in either protocol."""

    def __init__(self, house: House, peer: Peer | StompPeer, message: bytes, logs: Logs) -> None:
        self._house = house
        self._peer = peer
        self._message = message
        self._logs = logs

    async def begin(self, size: int = 1500) -> None:
        await self._peer.send(self._message[:size])
        self._message = self._message[size:]
        await wait_all_tasks_blocked()

    async def finish(self) -> None:
        await self._peer.send(self._message)
        await wait_all_tasks_blocked()

    async def is_refused(self, reason: str) -> None:
        """At this moment, and it is told so if its protocol has words for it."""
        assert self._logs.reasons("refused") == [reason]
        if isinstance(self._peer, StompPeer):
            assert (await self._peer.error()).body.decode() == reason
        else:
            await self._peer.is_ended()
        await wait_all_tasks_blocked()
        assert self._house.server.connections == 0
        assert self._house.backlog("/queue/out") == 0


@asynccontextmanager
async def open_senders_house(
    protocol: str, logs: Logs, of: Limits | None = None
) -> AsyncIterator[tuple[House, Sender]]:
    async with open_house(of or limits()) as house:
        if protocol == "STOMP":
            yield house, Sender(house, await join(house), send("/queue/out", body=bytes(3000)), logs)
        else:
            yield house, Sender(house, await house.sender(), pairs("/queue/out", bytes(3000)), logs)


both_protocols = pytest.mark.parametrize("protocol", ["STOMP", "framed"])


@both_protocols
@pytest.mark.parametrize(("frame_seconds_max", "publish_seconds_max"), [(10, 25), (60, 25)])
@pytest.mark.parametrize("rest_is_there", [False, True])
async def test_memory_that_never_comes_free(
    autojump_clock: MockClock,
    logs: Logs,
    protocol: str,
    frame_seconds_max: float,
    publish_seconds_max: float,
    rest_is_there: bool,
) -> None:
    """Its sender waits as long as for any room, however much time a frame has; and what it sent is not held against it
    before that."""
    of = limits(frame_seconds_max, publish_seconds_max)
    async with open_senders_house(protocol, logs, of) as (house, sender):
        await fill(house)
        full = house.broker.memory.cost
        await at(3)
        await sender.begin()
        assert house.broker.memory.cost == full + 1500 - (len(pairs("/queue/out")) if protocol == "framed" else 0)
        if rest_is_there:
            await sender.finish()
        await at(27.99)
        assert (house.server.connections, logs.reasons("refused")) == (1, [])
        await at(28)
        await sender.is_refused(NO_MEMORY)
        assert (house.broker.memory.cost, trio.current_time()) == (full, 28)


@both_protocols
@pytest.mark.parametrize("rest_comes_at", [4, 29.99])
async def test_memory_that_comes_free(
    autojump_clock: MockClock, logs: Logs, protocol: str, rest_comes_at: float
) -> None:
    """The rest is read then, or when it comes."""
    async with open_senders_house(protocol, logs) as (house, sender):
        await fill(house)
        await at(3)
        await sender.begin()
        for now in sorted([rest_comes_at, 20]):
            assert house.backlog("/queue/out") == 0
            await at(now)
            if now == 20:
                await make_room(house)
                await wait_all_tasks_blocked()
            else:
                await sender.finish()
        assert house.backlog("/queue/out") == 1


@both_protocols
async def test_the_time_of_a_frame_begins_anew_when_memory_comes_free(
    autojump_clock: MockClock, logs: Logs, protocol: str
) -> None:
    async with open_senders_house(protocol, logs) as (house, sender):
        await fill(house)
        await at(3)
        await sender.begin()
        await at(20)
        await make_room(house)
        await at(29.99)
        assert (house.server.connections, logs.reasons("refused")) == (1, [])
        await at(30)
        await sender.is_refused(TOO_LONG)


@both_protocols
async def test_memory_that_is_used_up_in_the_middle_of_a_frame(
    autojump_clock: MockClock, logs: Logs, protocol: str
) -> None:
    """The wait begins with what is read last, and ends the time of the frame."""
    async with open_senders_house(protocol, logs) as (house, sender):
        await sender.begin()
        await at(5)
        await fill(house)
        await at(8)
        await sender.begin(100)
        await at(32.99)
        assert (house.server.connections, logs.reasons("refused")) == (1, [])
        await at(33)
        await sender.is_refused(NO_MEMORY)


@both_protocols
async def test_one_who_waits_for_memory_in_a_drain_goes_at_once(
    autojump_clock: MockClock, logs: Logs, protocol: str
) -> None:
    async with open_senders_house(protocol, logs) as (house, sender):
        await fill(house)
        await sender.begin()
        await at(3)
        assert (await house.server.drain()).seconds == 0
        assert house.backlog("/queue/out") == 0
        assert not logs.reasons("refused")


# -- open transactions -------------------------------------------------------------------------------------------------

REFUSED = b"the limit memory_bytes_max (200,000) is reached"


async def test_a_transaction_of_one_with_nothing_to_settle_may_not_grow(autojump_clock: MockClock, logs: Logs) -> None:
    """It is told at once: it cannot be made to wait, since its COMMIT would wait too."""
    async with open_house(limits()) as house:
        peer = await join(house)
        await peer.send(stomp("BEGIN", "transaction:t"), send("/queue/out", "transaction:t"))
        await peer.is_silent()
        await fill(house)
        await at(1000)
        await peer.is_silent()
        await peer.send(send("/queue/out", "transaction:t"))
        assert ((await peer.error()).body, trio.current_time()) == (REFUSED, 1000)


async def test_a_transaction_that_comes_whole_does_not_grow(autojump_clock: MockClock) -> None:
    """It waits for memory as one message does."""
    async with open_house(limits()) as house:
        peer = await join(house)
        await fill(house)
        await peer.send(
            stomp("BEGIN", "transaction:t"),
            send("/queue/out", "transaction:t"),
            stomp("COMMIT", "transaction:t", "receipt:r"),
        )
        await at(20)
        await peer.is_silent()
        await make_room(house)
        await peer.receipt("r")
        assert house.backlog("/queue/out") == 1


async def test_a_transaction_may_grow_until_the_last_is_settled(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_full_house(jobs=2) as (house, worker):
        await worker.send(stomp("BEGIN", "transaction:t"))
        for number in (1, 2):
            await worker.send(send("/queue/out", "transaction:t"))
            await worker.is_silent()
            await worker.send(stomp("ACK", f"id:{number}", f"receipt:{number}"))
            await worker.receipt(str(number))
        await worker.send(send("/queue/out", "transaction:t"))
        assert (await worker.error()).body == REFUSED
        assert (house.backlog("/queue/out"), house.broker.statistics().delivered) == (0, 2)
