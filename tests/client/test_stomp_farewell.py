"""Leaving in order what nobody has confirmed: which messages may be lost is told, once, and for what reason."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.stomp_server import ScriptedServer, ScriptedServers
from trio_broker.client import StompClient, connect
from trio_broker.errors import ServerRefused
from trio_broker.limits import Limits
from trio_broker.wire.stomp_commands import Commit, Disconnect, Publish, Subscribe

LIMITS = Limits(farewell_seconds_max=7)
LATE = r"no confirmation within 7 s$"


async def publish(client: StompClient, count: int, channel: str = "/queue/x") -> None:
    for _ in range(count):
        await client.publish(channel, b"")


async def ends(server: ScriptedServer) -> None:
    """It has read everything, and closes the connection in order."""
    await server.next(Publish)
    await wait_all_tasks_blocked()
    await server.stream.send_eof()
    await wait_all_tasks_blocked()


async def test_a_server_that_takes_everything_and_confirms_nothing(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    with pytest.raises(trio.BrokenResourceError, match=rf"^3 messages were not confirmed: {LATE}"):
        async with connect(limits=LIMITS) as client:
            servers.last.answers = False
            await publish(client, 3)
    assert trio.current_time() == 7
    assert len(servers.last.bodies) == 3
    assert servers.network.ours[0].closed


async def test_of_what_was_handed_over_a_part_may_not_have_been_sent(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    servers.network.buffer_bytes = 100
    told = rf"^3 messages were not confirmed, 1 may not have been sent: {LATE}"
    with pytest.raises(trio.BrokenResourceError, match=told):
        async with connect(limits=LIMITS) as client:
            servers.last.answers = False
            await publish(client, 2)
            await servers.last.next(Publish)
            await wait_all_tasks_blocked()
            servers.last.pause()
            await client.publish("/queue/x", bytes(1000))


@pytest.mark.parametrize("when", ["in the block", "after DISCONNECT"])
async def test_a_server_that_goes_in_order(autojump_clock: MockClock, servers: ScriptedServers, when: str) -> None:
    """As one that drains does: what it has read and not carried out is lost."""
    reason = r"^2 messages were not confirmed: the server closed the connection$"
    async with trio.open_nursery() as nursery:
        with pytest.raises(trio.BrokenResourceError, match=reason):
            async with connect(limits=LIMITS, heart_beat_seconds=None) as client:
                server = servers.last
                server.answers = False
                await publish(client, 2)
                if when == "in the block":
                    await ends(server)
                else:

                    @nursery.start_soon
                    async def go() -> None:
                        await server.next(Disconnect)
                        await server.stream.send_eof()

    assert trio.current_time() == 0
    assert bool(servers.last.all(Disconnect)) is (when != "in the block")


async def test_a_connection_that_breaks_after_all_was_sent(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    with pytest.raises(trio.BrokenResourceError, match=r"^1 messages were not confirmed: the connection broke"):
        async with connect() as client:
            await publish(client, 1)
            await servers.last.next(Publish)
            await wait_all_tasks_blocked()
            servers.last.stream.reset()
            await wait_all_tasks_blocked()


async def test_a_server_that_refuses_instead_of_confirming_is_heard(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(ServerRefused, match="the queue is full"):
            async with connect() as client:
                server = servers.last
                server.answers = False
                await publish(client, 2)

                @nursery.start_soon
                async def refuse() -> None:
                    await server.next(Disconnect)
                    await server.stream.send_all(b"ERROR\nmessage:the queue is full\n\n\0")


async def test_what_a_refusal_took_with_it_is_told_though_the_refusal_was_heard(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    told = r"^2 messages were not confirmed: the server said: 'no'$"
    with pytest.raises(trio.BrokenResourceError, match=told) as caught:
        async with connect() as client:
            await publish(client, 2)
            await wait_all_tasks_blocked()
            await servers.last.stream.send_all(b"ERROR\nmessage:no\n\n\0")
            await wait_all_tasks_blocked()
            with pytest.raises(ServerRefused):
                await publish(client, 1)
    assert not isinstance(caught.value, ServerRefused)


@pytest.mark.parametrize("how", ["the same channel", "a subscription", "a transaction"])
async def test_a_receipt_stands_for_what_was_handed_over_before_it(
    autojump_clock: MockClock, servers: ScriptedServers, how: str
) -> None:
    async with connect(heart_beat_seconds=None) as client:
        server = servers.last
        await publish(client, 3)
        if how == "the same channel":
            await client.publish("/queue/x", b"", confirm=True)
        elif how == "a subscription":
            await publish(client, 3, "/queue/y")
            async with client.subscribe("/topic/x"):
                await server.next(Subscribe)
        else:
            await publish(client, 3, "/queue/y")
            async with client.transaction():
                pass
            await server.next(Commit)
        await ends(server)


async def test_what_was_confirmed_stays_confirmed(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """Whatever the next receipt is for."""
    async with connect(heart_beat_seconds=None) as client:
        await publish(client, 2, "/queue/x")
        async with client.subscribe("/topic/x"):
            pass
        await client.publish("/queue/y", b"", confirm=True)
        await ends(servers.last)


async def test_a_receipt_does_not_stand_for_what_was_handed_over_after_it_was_asked_for(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    with pytest.raises(trio.BrokenResourceError, match=r"^1 messages were not confirmed"):
        async with connect(heart_beat_seconds=None) as client:
            server = servers.last
            server.answers = False
            await publish(client, 2)
            receipt = (await client.reserve()).send("/queue/x", b"")
            await publish(client, 1)
            await wait_all_tasks_blocked()
            await server.release()
            await receipt.confirmed()
            await ends(server)


@pytest.mark.parametrize(("first", "second"), [("/queue/x", "/queue/y"), ("/queue/y", "/queue/x")])
async def test_a_receipt_for_a_message_says_nothing_of_other_channels(
    autojump_clock: MockClock, servers: ScriptedServers, first: str, second: str
) -> None:
    """The server may confirm a message before one that was sent earlier and waits for room elsewhere (S-21, S-35)."""
    with pytest.raises(trio.BrokenResourceError, match=r"^2 messages were not confirmed"):
        async with connect(heart_beat_seconds=None) as client:
            await publish(client, 1, first)
            await publish(client, 1, second)
            await client.publish("/queue/x", b"", confirm=True)
            await ends(servers.last)


async def test_what_is_handed_over_after_everything_was_confirmed_counts_anew(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    with pytest.raises(trio.BrokenResourceError, match=r"^1 messages were not confirmed"):
        async with connect(heart_beat_seconds=None) as client:
            await publish(client, 1, "/queue/x")
            await publish(client, 1, "/queue/y")
            async with client.subscribe("/topic/x"):
                pass
            await publish(client, 2, "/queue/y")
            await client.publish("/queue/y", b"", confirm=True)
            await publish(client, 1, "/queue/x")
            await ends(servers.last)


async def test_a_sender_that_hears_of_its_own_message_is_not_told_again_on_leaving(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    """By a confirmation that it waits for, or an answer; and one who has given up waiting knows what that means."""
    async with connect(heart_beat_seconds=None) as client:
        server = servers.last
        server.answers = False
        receipt = (await client.reserve()).send("/queue/x", b"")
        with trio.move_on_after(1):
            await client.request("/queue/x", b"")
        with trio.move_on_after(1):
            await client.publish("/queue/x", b"", confirm=True)
        await ends(server)
        with pytest.raises(trio.BrokenResourceError):
            await receipt.confirmed()


async def test_a_receipt_that_nobody_waits_for_is_one_that_nobody_hears_of(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    with pytest.raises(trio.BrokenResourceError, match=r"^1 messages were not confirmed: the server closed"):
        async with connect(heart_beat_seconds=None) as client:
            servers.last.answers = False
            (await client.reserve()).send("/queue/x", b"")
            await ends(servers.last)
