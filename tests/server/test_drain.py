"""A drain: in one step nothing new; then everybody gets what is theirs, within drain_seconds_max."""

import contextlib
import functools

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import (
    Logs,
    Peer,
    cut_frames,
    frame,
    numbered,
    open_house,
    open_tcp_house,
    pairs,
    until,
)
from tests.server.streams import MemoryListener
from trio_broker import DrainReport, Limits, Server, open_broker, serve

STUCK = Limits(drain_seconds_max=7, stall_seconds_max=100)
"""A drain that is over before anybody is evicted."""


async def test_nothing_to_wait_for_takes_no_time(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        assert await house.server.drain() == DrainReport(connections=0, delivered=0, discarded=0, cut=0, seconds=0)
        assert trio.current_time() == 0
        assert house.listener.closed


async def test_idle_and_silent_peers_take_no_time(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house() as house:
        peers = [await house.subscribe(channel) for channel in ("/topic/x", "/queue/x", "/null")]
        peers.append(house.connect())  # says nothing
        await wait_all_tasks_blocked()
        report = await house.server.drain()
        assert report == DrainReport(connections=4, delivered=0, discarded=0, cut=0, seconds=0)
        for peer in peers:
            await peer.is_ended()
        assert trio.current_time() == 0
        assert logs.reasons("closed") == ["drained"] * 4
        assert not house.broker.statistics().channels


@pytest.mark.parametrize("steps", range(8))
async def test_peers_that_come_as_the_drain_begins(autojump_clock: MockClock, steps: int) -> None:
    """Accepted or not, begun or not: it takes no time, and whoever was accepted sees the end."""
    async with open_house() as house:
        peers = [house.connect() for _ in range(5)]
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        report = await house.server.drain()
        assert report.seconds == 0
        assert house.server.connections == 0
        await wait_all_tasks_blocked()
        for peer, theirs in zip(peers, house.listener.accepted, strict=True):
            if theirs.closed:
                await peer.is_ended()
            else:  # it was never accepted: closing the listener resets it
                await theirs.aclose()


async def test_a_busy_subscriber_gets_all_that_was_accepted(autojump_clock: MockClock) -> None:
    bodies = numbered(40, 50_000)
    async with open_house(buffer_bytes=1000) as house, trio.open_nursery() as nursery:
        subscriber = await house.subscribe("/topic/x")
        for body in bodies:
            house.broker.publish_nowait("/topic/x", body)
        received: list[bytes] = []

        async def read_slowly() -> None:
            while (payload := await subscriber.receive()) is not None:
                received.append(payload)
                await trio.sleep(0.1)

        nursery.start_soon(read_slowly)
        report = await house.server.drain()
        await wait_all_tasks_blocked()
        assert received == bodies
        assert report.connections == 1
        assert report.delivered == 40
        assert report.cut == report.discarded == 0
        assert 3.5 < report.seconds < 4.5
        await wait_all_tasks_blocked()


async def test_what_is_published_during_a_drain_reaches_nobody_of_it(autojump_clock: MockClock) -> None:
    """The subscriptions have left their channels: the next message of a queue waits for somebody who stays."""
    async with open_house(STUCK, buffer_bytes=1000) as house:
        subscriber = await house.subscribe("/queue/x")
        house.broker.publish_nowait("/queue/x", bytes(5000))
        await wait_all_tasks_blocked()
        house.server.begin_drain()
        house.broker.publish_nowait("/queue/x", b"later")
        await house.broker.publish("/topic/x", b"nobody")
        assert await subscriber.receive_all() == [bytes(5000)]
        await house.server.drain()
        assert house.backlog("/queue/x") == 1


async def test_the_stuck_are_cut_and_their_work_is_back(autojump_clock: MockClock, logs: Logs) -> None:
    bodies = numbered(60, 30_000)
    async with open_house(STUCK, buffer_bytes=100) as house:
        for _ in range(3):
            await house.subscribe("/queue/x")
        await house.subscribe("/topic/x")
        idle = await house.subscribe("/topic/y")
        for body in bodies:
            house.broker.publish_nowait("/queue/x", body)
        for body in bodies[:5]:
            house.broker.publish_nowait("/topic/x", body)
        await wait_all_tasks_blocked()
        report = await house.server.drain()
        assert report == DrainReport(connections=5, delivered=0, discarded=5, cut=4, seconds=7)
        assert trio.current_time() == 7
        await idle.is_ended()
        assert house.backlog("/queue/x") == 60
        async with house.broker.subscribe("/queue/x") as jobs:
            assert [(await jobs.receive()).body for _ in bodies] == bodies
        assert logs.reasons("closed") == ["drained"] * 5


async def test_the_stall_rule_holds_during_a_drain(autojump_clock: MockClock) -> None:
    limits = Limits(drain_seconds_max=100, stall_seconds_max=10)
    async with open_house(limits, buffer_bytes=100) as house:
        await house.subscribe("/queue/x")
        house.broker.publish_nowait("/queue/x", bytes(10_000))
        await trio.sleep(4)
        report = await house.server.drain()
        assert report == DrainReport(connections=1, delivered=0, discarded=0, cut=0, seconds=6)
        assert house.backlog("/queue/x") == 1


async def test_drained_twice_at_the_same_time_and_later(autojump_clock: MockClock) -> None:
    """Everybody waits for the same drain, and reads the same report, at whatever time."""
    async with open_house(STUCK, buffer_bytes=100) as house:
        await house.subscribe("/queue/x")
        house.broker.publish_nowait("/queue/x", bytes(10_000))
        reports: list[DrainReport] = []

        async def drain() -> None:
            reports.append(await house.server.drain())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain)
            await trio.sleep(3)
            nursery.start_soon(drain)
        assert trio.current_time() == 7
        expected = DrainReport(connections=1, delivered=0, discarded=0, cut=1, seconds=7)
        assert reports == [expected] * 2
        await trio.sleep(100)
        assert await house.server.drain() == expected


async def test_a_cancelled_drain_goes_on(autojump_clock: MockClock) -> None:
    async with open_house(STUCK, buffer_bytes=100) as house:
        stuck, idle = await house.subscribe("/queue/x"), await house.subscribe("/topic/x")
        house.broker.publish_nowait("/queue/x", bytes(10_000))
        with trio.move_on_after(2) as scope:
            await house.server.drain()
        assert scope.cancelled_caught
        assert house.server.connections == 1
        await idle.is_ended()
        await trio.sleep(4.5)
        assert house.server.connections == 1
        await trio.sleep(0.5)
        await wait_all_tasks_blocked()
        assert house.server.connections == 0
        assert cut_frames(await stuck.read_to_end())[0] == []
        assert (await house.server.drain()).cut == 1


async def test_a_drain_that_was_cancelled_before_it_waited(autojump_clock: MockClock) -> None:
    """It is irrevocable even then."""
    async with open_house() as house:
        peer = await house.subscribe("/topic/x")
        with trio.CancelScope() as scope:
            scope.cancel()
            await house.server.drain()
        assert scope.cancelled_caught
        await peer.is_ended()


async def test_publishers_that_wait_are_not_accepted(autojump_clock: MockClock) -> None:
    """And they do not hold the drain up. A program's own publisher is no business of the server's."""
    async with open_house(Limits(backlog_bytes_max=1000)) as house, trio.open_nursery() as nursery:
        house.broker.publish_nowait("/queue/x", bytes(2000))
        senders = [await house.sender() for _ in range(3)]
        for sender in senders:
            await sender.publish("/queue/x", b"waits", b"waits too")
        await wait_all_tasks_blocked()
        nursery.start_soon(house.broker.publish, "/queue/x", b"a program's own")
        await wait_all_tasks_blocked()
        assert house.broker.statistics().channels["/queue/x"].publishers_waiting == 4
        report = await house.server.drain()
        assert report.seconds == 0
        assert house.broker.statistics().channels["/queue/x"].publishers_waiting == 1
        async with house.broker.subscribe("/queue/x") as jobs:
            assert (await jobs.receive()).body == bytes(2000)
            assert (await jobs.receive()).body == b"a program's own"


async def test_bytes_that_arrive_in_the_tick_of_the_drain(autojump_clock: MockClock) -> None:
    """Whatever the order in which the tasks run then: accepted is what the broker counted, and it is delivered."""
    async with open_house() as house:
        subscriber, sender = await house.subscribe("/queue/x"), await house.sender()
        await sender.publish("/queue/x", *numbered(3))
        newcomer = house.connect()
        await newcomer.send(frame(b"/queue/x"))
        report = await house.server.drain()
        assert report.seconds == 0
        published = house.broker.statistics().published
        assert await subscriber.receive_all() == numbered(3)[: published - house.backlog("/queue/x")]


async def test_a_subscriber_that_goes_during_the_drain(autojump_clock: MockClock) -> None:
    async with open_house(STUCK, buffer_bytes=100) as house, trio.open_nursery() as nursery:
        peer = await house.subscribe("/queue/x")
        house.broker.publish_nowait("/queue/x", bytes(10_000))
        await wait_all_tasks_blocked()

        async def go() -> None:
            await trio.sleep(2)
            await peer.stream.aclose()

        nursery.start_soon(go)
        report = await house.server.drain()
        assert report == DrainReport(connections=1, delivered=0, discarded=0, cut=0, seconds=2)
        assert house.backlog("/queue/x") == 1


async def test_serve_returns_after_a_drain(autojump_clock: MockClock) -> None:
    async with open_house() as house, trio.open_nursery() as nursery:
        nursery.start_soon(house.server.drain)
        await wait_all_tasks_blocked()
        assert house.listener.closed


async def test_serve_cancelled_during_a_drain(autojump_clock: MockClock) -> None:
    """The second signal: it ends at once, and whoever waits for the drain hears of it."""
    listener = MemoryListener(buffer_bytes=100)
    async with open_broker(STUCK) as broker, trio.open_nursery() as drains, trio.open_nursery() as nursery:
        server: Server = await nursery.start(functools.partial(serve, broker, listeners=[listener]))
        await Peer(listener.connect()).send(frame(b"/queue/x"))
        await wait_all_tasks_blocked()
        broker.publish_nowait("/queue/x", bytes(10_000))
        reports: list[DrainReport] = []

        async def drain() -> None:
            reports.append(await server.drain())

        drains.start_soon(drain)
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert reports == [DrainReport(connections=1, delivered=0, discarded=0, cut=1, seconds=3)]


# -- over real TCP -----------------------------------------------------------------------------------------------------


async def test_tcp_subscribers_get_everything_and_a_clean_end(mock_clock: MockClock) -> None:
    """While a publisher keeps sending, in a frozen time: nothing of it needs a timeout but the publisher's linger."""
    async with open_tcp_house() as house, trio.open_nursery() as nursery:
        subscribers = [await house.subscribe("/topic/x") for _ in range(3)]
        sender = await house.connect()
        await sender.send(frame(b"/null"))
        received: list[list[bytes]] = []

        async def flood() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                number = 0
                while True:
                    await sender.send(b"".join(pairs("/topic/x", b"%d" % i) for i in range(number, number + 100)))
                    number += 100

        async def listen(peer: Peer) -> None:
            received.append(await peer.receive_all())

        nursery.start_soon(flood)
        for peer in subscribers:
            nursery.start_soon(listen, peer)
        await until(lambda: house.broker.statistics().published > 1000)
        nursery.start_soon(house.server.drain)
        await until(lambda: len(received) == 3)
        published = house.broker.statistics().published
        assert received == [[b"%d" % number for number in range(published)]] * 3
        assert house.server.connections == 1  # the publisher's: it still sends
        mock_clock.jump(Limits().linger_seconds_max)
        report = await house.server.drain()
        assert report.connections == 4
        assert report.cut == 0
        assert report.seconds == Limits().linger_seconds_max


async def test_tcp_slow_subscriber_gets_everything(mock_clock: MockClock) -> None:
    """Megabytes are still in the mailbox when the drain begins; it reads them all, in no virtual time."""
    bodies = numbered(100, 100_000)
    limits = Limits(mailbox_bytes_max=64 * 1024 * 1024)
    async with open_tcp_house(limits) as house, trio.open_nursery() as nursery:
        subscriber = await house.subscribe("/topic/x", buffer_bytes=10_000)
        for body in bodies:
            house.broker.publish_nowait("/topic/x", body)
        nursery.start_soon(house.server.drain)
        assert await subscriber.receive_all() == bodies
        assert await house.server.drain() == DrainReport(connections=1, delivered=100, discarded=0, cut=0, seconds=0)


async def test_tcp_nothing_to_wait_for_takes_no_time(mock_clock: MockClock) -> None:
    """With nobody moving the time, whatever waited for a deadline would wait for ever."""
    async with open_tcp_house() as house:
        peers = [await house.subscribe(channel) for channel in ("/topic/x", "/queue/x")]
        peers.append(await house.connect())
        await until(lambda: house.server.connections == 3)
        assert await house.server.drain() == DrainReport(connections=3, delivered=0, discarded=0, cut=0, seconds=0)
        for peer in peers:
            assert await peer.read_to_end() == b""
