"""When what docs/stomp.md promises comes true: not before its time, and at it.

Nothing here is about "soon": each test looks right before the bound, and then at the very moment.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import House, Logs, numbered, open_house
from tests.server.stomp_house import LARGE, StompPeer, join, send, stomp, subscribe, subscriber
from trio_broker import DrainReport, Limits, LocalSubscription

PATIENT = Limits(stall_seconds_max=100)
"""No peer is evicted while others look at it."""


async def at(seconds: float) -> None:
    """Wait until a time, and until all that happens then has happened."""
    await trio.sleep_until(seconds)
    await wait_all_tasks_blocked()


async def jobs_of(house: House, queue: str = "/queue/jobs") -> list[tuple[bytes, bool]]:
    """What is in a queue, and whether it was given to somebody before; all of it is taken out."""
    async with house.broker.subscribe(queue) as jobs:
        messages = []
        while True:
            try:
                messages.append(jobs.receive_nowait())
            except trio.WouldBlock:
                return [(message.body, message.redelivered) for message in messages]


def go(peer: StompPeer, way: str) -> None:
    """Go without a word."""
    if way == "closed":
        peer.memory_stream.close()
    else:
        peer.memory_stream.reset()


# -- S-62: the last bytes ----------------------------------------------------------------------------------------------

FAREWELLS = {"DISCONNECT": 0.0, "ERROR": 0.0, "silence": 2.0}
"""When the farewell begins of one that says the first or the second at 0, or nothing any more."""


async def half_read(house: House) -> StompPeer:
    """A peer with one job to settle, half of another, and a third that waits; it promised a heart-beat each second."""
    peer = await join(house, "1.2", "heart-beat:1000,0")
    await peer.send(subscribe("s", "/queue/jobs", "ack:client-individual"))
    await wait_all_tasks_blocked()
    await house.broker.publish("/queue/jobs", b"job")
    assert (await peer.message()).body == b"job"
    await house.broker.publish("/queue/jobs", LARGE)
    await wait_all_tasks_blocked()
    await house.broker.publish("/queue/jobs", b"waits")
    await wait_all_tasks_blocked()
    assert house.backlog("/queue/jobs") == 0
    return peer


async def begin_to_end(house: House, peer: StompPeer, way: str) -> None:
    match way:
        case "DISCONNECT":
            await peer.send(stomp("DISCONNECT", "receipt:bye"))
        case "ERROR":
            await peer.send(stomp("WHAT"))
        case "drain":
            house.server.begin_drain()
        case _:
            pass


HALF_READ = [(b"job", True), (LARGE, True), (b"waits", False)]


@pytest.mark.parametrize("way", FAREWELLS)
async def test_one_who_does_not_read_its_farewell(autojump_clock: MockClock, logs: Logs, way: str) -> None:
    """After farewell_seconds_max its work is back, and not before: it might still read, and settle nothing more."""
    async with open_house(PATIENT) as house:
        peer = await half_read(house)
        await begin_to_end(house, peer, way)
        await at(FAREWELLS[way] + 4.99)
        assert (house.server.connections, house.backlog("/queue/jobs")) == (1, 0)
        await at(FAREWELLS[way] + 5)
        assert (house.server.connections, house.backlog("/queue/jobs")) == (0, 3)
        assert await jobs_of(house) == HALF_READ


@pytest.mark.parametrize("way", FAREWELLS)
async def test_one_who_reads_its_farewell_slowly_has_no_more_time(
    autojump_clock: MockClock, logs: Logs, way: str
) -> None:
    async with open_house(PATIENT) as house:
        peer = await half_read(house)
        await begin_to_end(house, peer, way)
        for seconds in (1, 2, 3, 4, 4.99):
            await at(FAREWELLS[way] + seconds)
            assert len(await peer.stream.receive_some(65_536)) > 50_000
            assert house.server.connections == 1
        await at(FAREWELLS[way] + 5)
        assert (house.server.connections, house.backlog("/queue/jobs")) == (0, 3)


@pytest.mark.parametrize("way", [*FAREWELLS, "drain"])
async def test_work_is_back_when_the_last_bytes_have_left_and_not_before(
    autojump_clock: MockClock, logs: Logs, way: str
) -> None:
    """One that reads all after three seconds. In a drain what waits has gone back before that, and nothing else."""
    async with open_house(PATIENT) as house:
        peer = await half_read(house)
        await begin_to_end(house, peer, way)
        await at(3)
        assert (house.server.connections, house.backlog("/queue/jobs")) == (1, int(way == "drain"))
        last = {"DISCONNECT": ["RECEIPT"], "drain": []}.get(way, ["ERROR"])
        assert [said.command for said in await peer.receive_all()] == ["MESSAGE", *last]
        await wait_all_tasks_blocked()
        assert (house.server.connections, house.backlog("/queue/jobs"), trio.current_time()) == (0, 3, 3)
        assert await jobs_of(house) == HALF_READ


@pytest.mark.parametrize("way", ["closed its side", "closed", "reset"])
async def test_there_are_no_last_bytes_for_one_who_goes_without_a_word(
    autojump_clock: MockClock, logs: Logs, way: str
) -> None:
    """Its work is back at once, half written or not."""
    async with open_house(PATIENT) as house:
        peer = await half_read(house)
        await at(1)
        if way == "closed its side":
            await peer.memory_stream.send_eof()
        else:
            go(peer, way)
        await wait_all_tasks_blocked()
        assert (house.server.connections, house.backlog("/queue/jobs"), trio.current_time()) == (0, 3, 1)
        assert await jobs_of(house) == HALF_READ


async def test_one_cut_off_that_promised_no_heart_beats_is_noticed_when_it_takes_nothing(
    autojump_clock: MockClock, logs: Logs
) -> None:
    """As long as nothing is to be sent to it, it may as well be at work."""
    async with open_house(Limits(stall_seconds_max=10)) as house:
        peer = await subscriber(house, "/queue/jobs", "ack:client-individual")
        await peer.send(subscribe("t", "/topic/news"))
        await house.broker.publish("/queue/jobs", b"job")
        assert (await peer.message()).body == b"job"
        await at(50_000)
        assert (house.server.connections, house.backlog("/queue/jobs")) == (1, 0)
        await house.broker.publish("/topic/news", LARGE)
        await at(50_009.99)
        assert (house.server.connections, house.backlog("/queue/jobs")) == (1, 0)
        await at(50_010)
        assert (house.server.connections, house.backlog("/queue/jobs")) == (0, 1)
        assert await jobs_of(house) == [(b"job", True)]


# -- S-63, S-69: who goes while something of it waits, where nothing tells of that before the stream is read -----------


@asynccontextmanager
async def open_waiting_house(*frames: bytes) -> AsyncIterator[tuple[House, StompPeer, LocalSubscription]]:
    """A worker with two jobs to settle, and what it sent, which waits for room in a topic; a third job is there."""
    limits = Limits(mailbox_bytes_max=1000, stall_seconds_max=3600, publish_seconds_max=60)
    async with open_house(limits) as house, house.broker.subscribe("/topic/results") as results:
        await house.broker.publish("/topic/results", bytes(1500))
        worker = await subscriber(house, "/queue/jobs", "ack:client-individual", "prefetch-count:2")
        for body in numbered(3):
            await house.broker.publish("/queue/jobs", body)
        assert [(await worker.message()).body for _ in range(2)] == numbered(3)[:2]
        await worker.send(*frames)
        await wait_all_tasks_blocked()
        assert house.broker.statistics().channels["/topic/results"].publishers_waiting == 1
        yield house, worker, results


RESULT = send("/topic/results", "receipt:r", body=b"result")
TRANSACTION = (
    stomp("BEGIN", "transaction:t"),
    send("/topic/results", "transaction:t", body=b"result"),
    stomp("ACK", "id:1", "transaction:t"),
    stomp("COMMIT", "transaction:t", "receipt:r"),
)
FIRST, SECOND, THIRD = ((body, body != numbered(3)[2]) for body in numbered(3))


@pytest.mark.parametrize("way", ["closed", "reset"])
@pytest.mark.parametrize(
    ("frames", "left"),
    [
        pytest.param((RESULT,), [FIRST, SECOND, THIRD], id="SEND"),
        pytest.param(TRANSACTION, [SECOND, THIRD], id="COMMIT"),
    ],
)
async def test_one_who_goes_while_it_waits_for_room(
    autojump_clock: MockClock, logs: Logs, frames: tuple[bytes, ...], left: list[tuple[bytes, bool]], way: str
) -> None:
    """What it sent is carried out when there is room; then the rest of its work goes back, and not before."""
    async with open_waiting_house(*frames) as (house, worker, results):
        go(worker, way)
        await at(30)
        assert (house.server.connections, house.backlog("/queue/jobs")) == (1, 1)
        assert [len((await results.receive()).body), (await results.receive()).body] == [1500, b"result"]
        await wait_all_tasks_blocked()
        assert (house.server.connections, trio.current_time()) == (0, 30)
        assert await jobs_of(house) == left
        assert not logs.reasons("refused")


@pytest.mark.parametrize("frames", [(RESULT,), TRANSACTION], ids=["SEND", "COMMIT"])
async def test_one_who_goes_while_it_waits_for_room_that_never_comes(
    autojump_clock: MockClock, logs: Logs, frames: tuple[bytes, ...]
) -> None:
    """After publish_seconds_max what it sent is given up, and all its work goes back."""
    async with open_waiting_house(*frames) as (house, worker, results):
        go(worker, "closed")
        await at(59.99)
        assert (house.server.connections, house.backlog("/queue/jobs")) == (1, 1)
        await at(60)
        assert house.server.connections == 0
        assert await jobs_of(house) == [FIRST, SECOND, THIRD]
        assert len((await results.receive()).body) == 1500
        with pytest.raises(trio.WouldBlock):
            results.receive_nowait()


@pytest.mark.parametrize("frames", [(RESULT,), TRANSACTION], ids=["SEND", "COMMIT"])
async def test_one_who_goes_while_it_waits_and_a_drain_begins(
    autojump_clock: MockClock, logs: Logs, frames: tuple[bytes, ...]
) -> None:
    async with open_waiting_house(*frames) as (house, worker, results):
        go(worker, "closed")
        await at(30)
        assert (house.server.connections, house.backlog("/queue/jobs")) == (1, 1)
        assert (await house.server.drain()).seconds == 0
        assert await jobs_of(house) == [FIRST, SECOND, THIRD]
        assert len((await results.receive()).body) == 1500
        with pytest.raises(trio.WouldBlock):
            results.receive_nowait()


# -- S-66, S-69: who waits for too long --------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [(RESULT,), TRANSACTION], ids=["SEND", "COMMIT"])
async def test_room_that_never_comes(autojump_clock: MockClock, logs: Logs, frames: tuple[bytes, ...]) -> None:
    """Its sender is told after publish_seconds_max; it has reached nobody, and has settled nothing."""
    async with open_waiting_house(*frames) as (house, worker, results):
        await at(59.99)
        await worker.is_silent()
        said = await worker.error()
        assert (said["receipt-id"], trio.current_time()) == ("r", 60)
        await wait_all_tasks_blocked()
        assert await jobs_of(house) == [FIRST, SECOND, THIRD]
        assert len((await results.receive()).body) == 1500
        with pytest.raises(trio.WouldBlock):
            results.receive_nowait()


async def test_nothing_more_is_read_from_one_who_waits(autojump_clock: MockClock) -> None:
    """Neither what came with its message nor what it sends later, acknowledgements included."""
    async with open_waiting_house(RESULT, stomp("ACK", "id:1", "receipt:1")) as (house, worker, results):
        await at(10)
        await worker.send(stomp("ACK", "id:2", "receipt:2"))
        await at(30)
        await worker.is_silent()
        assert house.broker.statistics().delivered == 0
        assert [len((await results.receive()).body), (await results.receive()).body] == [1500, b"result"]
        said = [await worker.receive() for _ in range(4)]
        assert [frame["receipt-id"] for frame in said if frame and frame.command == "RECEIPT"] == ["r", "1", "2"]
        assert (house.broker.statistics().delivered, trio.current_time()) == (2 + 2, 30)


# -- S-71: lifetimes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_transaction", [False, True], ids=["SEND", "COMMIT"])
async def test_a_lifetime_begins_when_the_message_is_carried_out(
    autojump_clock: MockClock, in_transaction: bool
) -> None:
    """That is at COMMIT, whenever it was sent. At its end it is of no use, and is counted when its turn comes."""
    async with open_house() as house:
        sender = await join(house)
        lines = ["expiration:5000"]
        if in_transaction:
            await sender.send(stomp("BEGIN", "transaction:t"))
            lines.append("transaction:t")
        else:
            await at(100)
        await sender.send(send("/queue/a", *lines), send("/queue/b", *lines))
        await at(100)
        if in_transaction:
            await sender.send(stomp("COMMIT", "transaction:t"))
        await at(104.99)
        assert await jobs_of(house, "/queue/a") == [(b"hello", False)]
        await at(105)
        assert house.broker.statistics().expired == 0
        assert await jobs_of(house, "/queue/b") == []
        assert house.broker.statistics().expired == 1


@pytest.mark.parametrize(("room_at", "comes"), [(4.99, True), (5, False)])
@pytest.mark.parametrize("in_transaction", [False, True], ids=["SEND", "COMMIT"])
async def test_waiting_for_room_counts(
    autojump_clock: MockClock, in_transaction: bool, room_at: float, comes: bool
) -> None:
    async with open_house(Limits(backlog_bytes_max=1000)) as house:
        await house.broker.publish("/queue/a", bytes(2000))
        sender = await join(house)
        message = send("/queue/a", "expiration:5000", *(["transaction:t"] if in_transaction else []))
        if in_transaction:
            message = stomp("BEGIN", "transaction:t") + message + stomp("COMMIT", "transaction:t")
        await sender.send(message, send("/queue/a", "receipt:r", body=b"next"))
        await at(room_at)
        async with house.broker.subscribe("/queue/a") as queue:
            await sender.receipt("r")
            bodies = [(await queue.receive()).body for _ in range(2 + comes)]
        assert bodies[1:] == ([b"hello", b"next"] if comes else [b"next"])
        assert (house.broker.statistics().expired, trio.current_time()) == (not comes, room_at)


# -- S-75: the drain ---------------------------------------------------------------------------------------------------


async def test_a_drain_cuts_who_does_not_read(autojump_clock: MockClock, logs: Logs) -> None:
    """At drain_seconds_max, and not before. Until then only what need not wait for a peer that reads has gone back."""
    async with open_house(PATIENT) as house, trio.open_nursery() as nursery:
        await half_read(house)
        at_work = await subscriber(house, "/queue/more jobs", "ack:client")
        await house.broker.publish("/queue/more jobs", b"at work")
        assert (await at_work.message()).body == b"at work"
        await subscriber(house, "/queue/auto")
        await subscriber(house, "/topic/news", "ack:client")
        for channel in ("/queue/auto", "/topic/news"):
            await house.broker.publish(channel, LARGE)
            await house.broker.publish(channel, b"waits")
        await wait_all_tasks_blocked()
        reports: list[DrainReport] = []

        @nursery.start_soon
        async def drain() -> None:
            reports.append(await house.server.drain())

        def seen() -> tuple[int, ...]:
            queues = ("/queue/jobs", "/queue/more jobs", "/queue/auto")
            return (house.server.connections, *(house.backlog(queue) for queue in queues))

        await wait_all_tasks_blocked()
        assert seen() == (3, 1, 1, 0)  # what waits for the first has gone back, and the second had all it is to have
        await at(9.99)
        assert seen() == (3, 1, 1, 0)
        await at(10)
        assert seen() == (0, 3, 1, 2)
        assert reports == [DrainReport(connections=4, delivered=0, discarded=2, cut=3, seconds=10)]
        assert await jobs_of(house) == HALF_READ
        assert await jobs_of(house, "/queue/more jobs") == [(b"at work", True)]
        assert await jobs_of(house, "/queue/auto") == [(LARGE, True), (b"waits", False)]


@pytest.mark.parametrize("destination", ["/queue/auto", "/topic/news"])
async def test_one_that_reads_in_the_last_moment_of_a_drain_has_all_of_it(
    autojump_clock: MockClock, logs: Logs, destination: str
) -> None:
    async with open_house(PATIENT) as house:
        peer = await subscriber(house, destination)
        for body in (LARGE, b"waits"):
            await house.broker.publish(destination, body)
        await wait_all_tasks_blocked()
        house.server.begin_drain()
        await at(9.99)
        assert [said.body for said in await peer.receive_all()] == [LARGE, b"waits"]
        report = await house.server.drain()
        assert (report.delivered, report.cut, report.seconds) == (2, 0, 9.99)


async def test_an_acknowledgement_that_comes_in_a_drain_comes_too_late(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house(PATIENT) as house:
        peer = await half_read(house)
        house.server.begin_drain()
        await peer.send(stomp("ACK", "id:1", "receipt:r"))
        await at(3)
        assert [said.command for said in await peer.receive_all()] == ["MESSAGE"]
        assert (await house.server.drain()).delivered == 0
        assert await jobs_of(house) == HALF_READ
