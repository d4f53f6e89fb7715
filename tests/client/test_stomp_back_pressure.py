"""Messages that are not received, and acknowledgements that are not read: what is held, and when reading stops."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.client.stomp_consumer import consuming, heard
from tests.client.stomp_server import ScriptedServers
from trio_broker.client import connect
from trio_broker.limits import Limits
from trio_broker.wire.stomp_commands import Ack, Subscribe


async def test_a_subscription_that_is_not_received_from_stops_the_reading(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    """At the mark, for all subscriptions of the connection; receiving, or leaving, goes on with it."""
    servers.network.buffer_bytes = 3000
    limits = Limits(mailbox_bytes_max=10_000)
    sent = 0
    async with consuming(servers, ack="auto", limits=limits) as (client, server, subscribe, subscription):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def flood() -> None:
                nonlocal sent
                while sent < 100:
                    await server.deliver(subscribe, b"%d" % sent + bytes(900))
                    sent += 1

            await trio.sleep(1000)
            held = sent
            assert 10 <= held <= 17
            with trio.move_on_after(1) as scope:  # its receipt stands behind
                await heard(client)
            assert scope.cancelled_caught
            for number in range(50):
                assert (await subscription.receive()).body.rstrip(b"\0") == b"%d" % number
            await trio.sleep(1000)
            assert 50 + 10 <= sent <= 50 + 17
            subscription.close()  # the rest is thrown away
    assert sent == 100


async def test_a_silent_server_is_not_judged_while_nothing_is_read(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    limits = Limits(mailbox_bytes_max=1)
    async with connect(protocol="stomp", limits=limits, heart_beat_seconds=10) as client:
        async with client.subscribe("/topic/x") as subscription:
            await servers.last.deliver(await servers.last.next(Subscribe), b"one")
            await trio.sleep(500)
            assert (await subscription.receive()).body == b"one"
            before = trio.current_time()
            with pytest.raises(trio.BrokenResourceError, match="silent for 20 s"):
                await subscription.receive()
            assert trio.current_time() == before + 20


async def test_what_is_to_be_acknowledged_does_not_stop_the_reading(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    """The broker bounds it, and a program that confirms its answer before it acknowledges must not lock itself."""
    limits = Limits(mailbox_bytes_max=1000, unsettled_bytes_max=10_000, frame_bytes_max=10_000)
    servers.network.buffer_bytes = 100_000
    async with consuming(servers, limits=limits) as (client, server, subscribe, subscription):
        await server.deliver(subscribe, *(b"%d" % number + bytes(900) for number in range(18)))
        for number in range(18):
            async with (await subscription.receive()).process():
                with trio.fail_after(1):
                    await client.publish("/queue/results", b"%d" % number, confirm=True)
        await heard(client)
        assert len(server.all(Ack)) == 18


async def test_a_server_that_sends_more_than_it_may_is_not_read_for_ever(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    limits = Limits(mailbox_bytes_max=1000, unsettled_bytes_max=10_000, frame_bytes_max=10_000)
    servers.network.buffer_bytes = 1000
    sent = 0
    async with consuming(servers, limits=limits) as (_, server, subscribe, subscription):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def flood() -> None:
                nonlocal sent
                while sent < 100:
                    await server.deliver(subscribe, bytes(900))
                    sent += 1

            await trio.sleep(1000)
            assert 20 <= sent <= 24
            subscription.close()
    assert sent == 100


async def test_acknowledgements_that_are_not_read_stop_the_reading(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    """A server that sends and does not read cannot make us hold any number of them."""
    servers.network.buffer_bytes = 2000
    acknowledged = sent = 0
    async with consuming(servers, limits=Limits(mailbox_bytes_max=10_000)) as (_, server, subscribe, subscription):
        server.pause()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def flood() -> None:
                nonlocal sent
                while sent < 1000:
                    await server.deliver(subscribe, b"")
                    sent += 1

            @nursery.start_soon
            async def acknowledge() -> None:
                nonlocal acknowledged
                while acknowledged < 1000:
                    (await subscription.receive()).ack()
                    acknowledged += 1

            await trio.sleep(1000)
            assert 100 < acknowledged < 400
            server.resume()
    assert (sent, acknowledged) == (1000, 1000)
    assert [ack.number for ack in server.all(Ack)] == list(range(1, 1001))
