"""Scenarios for the end of a server: drains with idle, busy and stuck peers, and a cancellation in the middle."""

from __future__ import annotations

import dataclasses
from contextlib import suppress

import trio
import trio.testing

from tests.scenarios.core_house import what_is_left
from tests.scenarios.house import (
    GONE,
    LOG,
    NOBODY,
    ONE_BEHIND_ANOTHER,
    OTHER_QUEUE,
    PATIENCE,
    QUEUE,
    SMALL,
    TOPIC,
    House,
    frame,
    patience,
)
from trio_broker import Limits, Server, serve
from trio_broker.explorer import disturbed


async def drain_idle_and_busy() -> None:
    """A drain with a silent peer, one that is being sent to, and one that publishes."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        nursery.start_soon(house.listen, TOPIC, "idle")
        nursery.start_soon(house.listen, QUEUE, "busy", None, 1)
        await trio.sleep(1)
        nursery.start_soon(house.send, QUEUE, 4, "p", 30)
        await trio.sleep(0.5)
        report = await house.drain()
        assert disturbed() or (report is not None and (report.connections, report.cut, report.discarded) == (3, 0, 0))
        assert disturbed() or len(house.received["busy"]) >= 1
        nursery.cancel_scope.cancel()


async def drain_stuck() -> None:
    """A peer that does not read is cut at the deadline at the latest."""
    house = House(Limits(drain_seconds_max=3, stall_seconds_max=100, mailbox_bytes_max=3000))

    async def stick() -> None:
        async with house.peer(QUEUE) as stream:
            if stream is not None:
                await trio.sleep(30)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        nursery.start_soon(stick)
        await trio.sleep(1)
        await house.broker.publish(QUEUE, b"p 1 ".ljust(2000, b"."))
        await house.broker.publish(QUEUE, b"p 2 ".ljust(2000, b"."))
        before = trio.current_time()
        report = await house.drain()
        assert trio.current_time() <= before + 3
        if not disturbed():
            assert report is not None
            assert (report.connections, report.delivered, report.cut, report.seconds) == (1, 0, 1, 3)
            assert house.broker.statistics().channels[QUEUE].backlog_messages == 2
        nursery.cancel_scope.cancel()


async def a_connection_that_comes_with_the_drain() -> None:
    """It was accepted in the step in which the drain began: it is turned away, and the drain takes no time for it."""
    house = House()
    async with trio.open_nursery() as nursery:
        server = await house.start(nursery)
        with suppress(*GONE), patience():
            async with await house.network.connect(house.listener.port) as stream:
                if server is not None:
                    server.begin_drain()
                while await stream.receive_some(64):
                    pass
        report = await house.drain()
        assert disturbed() or (report is not None and (report.connections, report.seconds) == (0, 0))
        with patience():
            try:
                await trio.aclose_forcefully(await house.network.connect(house.listener.port))
            except OSError:
                pass
            else:
                raise AssertionError("it listens still")
        nursery.cancel_scope.cancel()


async def a_peer_that_never_stops_sending() -> None:
    """A drain reads on, for ``linger_seconds_max``, so that closing sends no reset; the peer gets all that waited."""
    house = House()
    held = bytearray()
    orderly = False

    async def talk() -> None:
        nonlocal orderly
        async with house.peer(TOPIC) as stream:
            if stream is None:
                return
            with patience(), suppress(*GONE):
                async with trio.open_nursery() as both:
                    both.start_soon(chatter, stream)
                    with suppress(*GONE):
                        while data := await stream.receive_some(200):
                            held.extend(data)
                            await trio.sleep(0.5)
                        orderly = True
                    both.cancel_scope.cancel()

    async def chatter(stream: trio.abc.SendStream) -> None:
        with suppress(*GONE):
            while True:
                await stream.send_all(frame(b"/topic/other") + frame(b"?"))
                await trio.sleep(0.25)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        nursery.start_soon(talk)
        await trio.sleep(1)
        with patience():
            await house.broker.publish(TOPIC, b"p 1 ".ljust(500, b"."))
        report = await house.drain()
        assert disturbed() or (report is not None and (report.connections, report.delivered, report.cut) == (1, 1, 0))
        await trio.sleep(2)
        assert disturbed() or (orderly and bytes(held) == frame(b"p 1 ".ljust(500, b".")))
        nursery.cancel_scope.cancel()


async def a_drain_with_a_publisher_in_line() -> None:
    """What waits for its channel is abandoned, also if there is room again before the peer has read what waits for it;
    and what it had sent after that is not accepted either."""
    house = House()

    async def make_room() -> None:
        await trio.sleep(2)
        async with house.broker.subscribe(QUEUE) as subscription:
            with suppress(trio.WouldBlock):
                house.received.setdefault("taker", []).append(subscription.receive_nowait().body)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        house.fill_queue()
        house.consumers.add("taker")
        house.received["taker"] = []
        async with house.peer(TOPIC) as stream:
            await trio.sleep(1)
            house.broker.publish_nowait(TOPIC, b"p 1 ".ljust(500, b"."))
            with suppress(*GONE), patience():
                if stream is not None:
                    await stream.send_all(ONE_BEHIND_ANOTHER)
            await trio.sleep(1)
            nursery.start_soon(make_room)
            report = await house.drain()
            assert disturbed() or (report is not None and (report.connections, report.seconds) == (1, 4)), report
            assert disturbed() or "abandoned" in LOG.events
        nursery.cancel_scope.cancel()


async def a_subscription_that_comes_with_the_drain() -> None:
    """It is being made in the steps around that in which the drain begins: nobody is in a channel after that step."""
    house = House()
    for steps in (2, 4, 6):
        house.listener = house.network.listen()
        async with trio.open_nursery() as nursery:
            server = await house.start(nursery)
            nursery.start_soon(house.listen, TOPIC, "late")
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            if server is not None:
                server.begin_drain()
                for _ in range(6):
                    assert not house.broker.statistics().subscriptions
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()


async def a_drain_whose_waiting_is_cancelled() -> None:
    """It goes on: cancelling stops only the waiting, even if it comes before the first step."""
    house = House()
    async with trio.open_nursery() as nursery:
        server = await house.start(nursery)
        nursery.start_soon(house.listen, TOPIC, "idle")
        await trio.sleep(1)
        if server is not None:
            with trio.CancelScope() as scope:
                scope.cancel()
                await server.drain()
        await trio.sleep(SMALL.drain_seconds_max)
        assert not house.connections
        nursery.cancel_scope.cancel()


async def a_drain_that_is_cut() -> None:
    """The server is cancelled while somebody waits for its drain, who is then told what came of it."""
    house = House(dataclasses.replace(SMALL, stall_seconds_max=100, mailbox_bytes_max=10_000))
    reports = []

    async def drain(server: Server) -> None:
        reports.append(await server.drain())

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as servers:
            server = await house.start(servers)
            nursery.start_soon(house.listen, QUEUE, "stuck", None, PATIENCE)
            await trio.sleep(1)
            for number in range(2):
                house.broker.publish_nowait(QUEUE, (b"p %d " % number).ljust(500, b"."))
            if server is not None:
                nursery.start_soon(drain, server)
            await trio.sleep(1)
            servers.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert disturbed() or [(report.cut, report.seconds) for report in reports] == [(1, 1)], reports
        nursery.cancel_scope.cancel()


async def the_broker_ends_under_its_server() -> None:
    """Subscribers are sent what waits for them and then the end, at once; who only publishes is told when it does."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        nursery.start_soon(house.listen, TOPIC, "listener")
        await trio.sleep(1)
        before = trio.current_time()
        house.broker.publish_nowait(TOPIC, b"p 1")
        house.broker.close()
        house.ended = True
        await trio.testing.wait_all_tasks_blocked()
        assert disturbed() or (not house.connections and house.received == {"listener": [b"p 1"]})
        assert trio.current_time() == before
        nursery.cancel_scope.cancel()


async def abort() -> None:
    """A server is cancelled with peers in every state; that takes no time, and a queue has its work back."""
    house = House()
    before = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.listen, QUEUE, "busy", None, 1)
        nursery.start_soon(house.listen, TOPIC, "idle")
        nursery.start_soon(house.say, b"")
        nursery.start_soon(house.send, QUEUE, 3, "p")
        async with trio.open_nursery() as servers:
            await house.start(servers)
            await trio.sleep(1.5)
            before = trio.current_time()
            servers.cancel_scope.cancel()
        assert before in {None, trio.current_time()}
        assert not house.connections
        nursery.cancel_scope.cancel()


async def cancelled_as_it_starts() -> None:
    """A server that is cancelled some steps after its first has closed its listener, whether it had started or not."""
    house = House()
    for steps in range(6):
        house.listener = house.network.listen()
        async with trio.open_nursery() as servers:
            servers.start_soon(_serve, house)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            servers.cancel_scope.cancel()


async def _serve(house: House) -> None:
    try:
        await serve(house.broker, listeners=[house.listener])
    finally:
        await trio.aclose_forcefully(house.listener)  # which it never saw if it was cancelled before its first step


async def a_drain_in_the_step_of_room() -> None:
    """A message that waited is accepted in the step in which the drain begins; what stood behind it is not."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        house.fill_queue()
        async with house.peer(NOBODY) as stream:
            with suppress(*GONE), patience():
                if stream is not None:
                    await stream.send_all(ONE_BEHIND_ANOTHER)
            await trio.sleep(1)
            house.consumers.add("taker")
            received = house.received.setdefault("taker", [])
            async with house.broker.subscribe(QUEUE) as subscription:
                with suppress(trio.WouldBlock):
                    received.append(subscription.receive_nowait().body)
                if house.server is not None:
                    house.server.begin_drain()
            await trio.sleep(1)
            assert OTHER_QUEUE not in house.broker.statistics().channels
            accepted = b"a 1 " in await what_is_left(house.broker)
            assert not (accepted and QUEUE in LOG.abandoned), "what was accepted was told as abandoned"
            assert disturbed() or (accepted and LOG.abandoned == [OTHER_QUEUE]), LOG.abandoned
        nursery.cancel_scope.cancel()


async def a_cancel_with_a_publisher_in_line() -> None:
    """What stood behind a message that waited for its channel is not accepted after the cancellation."""
    house = House()
    before = None
    async with trio.open_nursery() as servers:
        await house.start(servers)
        house.fill_queue()
        async with house.peer(NOBODY) as stream:
            with suppress(*GONE), patience():
                if stream is not None:
                    await stream.send_all(ONE_BEHIND_ANOTHER)
            await trio.sleep(1)
            before = house.broker.statistics().published
            servers.cancel_scope.cancel()
    assert before in {None, house.broker.statistics().published}


SCENARIOS = (
    drain_idle_and_busy,
    drain_stuck,
    a_connection_that_comes_with_the_drain,
    a_peer_that_never_stops_sending,
    a_drain_with_a_publisher_in_line,
    a_drain_in_the_step_of_room,
    a_cancel_with_a_publisher_in_line,
    a_subscription_that_comes_with_the_drain,
    a_drain_whose_waiting_is_cancelled,
    a_drain_that_is_cut,
    the_broker_ends_under_its_server,
    abort,
    cancelled_as_it_starts,
)
