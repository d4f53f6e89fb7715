"""Receiving over one STOMP connection: nothing lost to a cancellation, and what can be received after the end."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from tests.client.stomp_consumer import consuming, heard
from tests.client.stomp_server import ScriptedServers
from trio_broker.client import connect
from trio_broker.limits import Limits
from trio_broker.wire.stomp_commands import Subscribe, Unsubscribe

# -- receiving --------------------------------------------------------------------------------------------------------


async def test_receiving_and_entering_are_checkpoints_and_leaving_is_none(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with connect(protocol="stomp") as client:
        entering = client.subscribe("/topic/x")
        with assert_checkpoints():
            subscription = await entering.__aenter__()
        await servers.last.deliver(await servers.last.next(Subscribe), b"one")
        await wait_all_tasks_blocked()
        with assert_checkpoints():
            assert (await subscription.receive()).body == b"one"
        with assert_no_checkpoints():
            await entering.__aexit__(None, None, None)
        with pytest.raises(trio.ClosedResourceError):
            await subscription.receive()


@pytest.mark.parametrize("moment", range(12))
async def test_a_loop_that_is_cancelled_at_any_moment_loses_nothing(
    autojump_clock: MockClock, servers: ScriptedServers, moment: int
) -> None:
    received: list[bytes] = []
    async with consuming(servers, ack="auto") as (_, server, subscribe, subscription):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def loop() -> None:
                async for message in subscription:
                    received.append(message.body)

            for step in range(12):
                if step in {1, 5}:
                    with trio.CancelScope(shield=True):
                        await server.deliver(subscribe, b"%d" % step, b"%d" % (step + 1))
                if step == moment:
                    nursery.cancel_scope.cancel()
                await trio.lowlevel.cancel_shielded_checkpoint()
        await server.stream.send_eof()
        received += [message.body async for message in subscription]
    assert received == [b"1", b"2", b"5", b"6"]


async def test_several_receive_at_once(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    received: list[bytes] = []
    async with consuming(servers) as (_, server, subscribe, subscription):
        async with trio.open_nursery() as nursery:

            async def work() -> None:
                received.append((await subscription.receive()).body)

            for _ in range(5):
                nursery.start_soon(work)
            await wait_all_tasks_blocked()
            await server.deliver(subscribe, b"1")
            await wait_all_tasks_blocked()
            assert received == [b"1"]
            await server.deliver(subscribe, b"2", b"3", b"4", b"5")
    assert sorted(received) == [b"1", b"2", b"3", b"4", b"5"]


async def test_close_ends_a_receive_that_waits_even_with_a_message_for_it(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    ended = 0
    async with consuming(servers, ack="auto") as (_, server, subscribe, subscription):

        async def receive() -> None:
            nonlocal ended
            with pytest.raises(trio.ClosedResourceError, match="this subscription was closed"):
                await subscription.receive()
            ended += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            await server.deliver(subscribe, b"one")
            with trio.CancelScope() as scope:  # noqa: ASYNC100  that it has no checkpoint is the point
                scope.cancel()
                subscription.close()
                subscription.close()
    assert ended == 2
    assert len(server.all(Unsubscribe)) == 1


async def test_a_subscription_as_a_block_of_its_own(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """Entering is nothing, leaving is `aclose`: closed although cancelled."""
    async with consuming(servers) as (client, server, _, subscription):
        with trio.CancelScope() as scope:
            scope.cancel()
            with assert_no_checkpoints():
                assert await subscription.__aenter__() is subscription
            await subscription.__aexit__(None, None, None)
        assert scope.cancelled_caught
        with pytest.raises(trio.ClosedResourceError):
            await subscription.receive()
        await heard(client)
        assert len(server.all(Unsubscribe)) == 1
        with assert_checkpoints():
            await subscription.aclose()


# -- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["ended", "broken"])
async def test_what_has_come_can_be_received_after_the_end_unless_it_has_gone_back(
    autojump_clock: MockClock, servers: ScriptedServers, how: str
) -> None:
    for ack in ("auto", "client-individual"):
        async with consuming(servers, ack=ack) as (_, server, subscribe, subscription):
            await server.deliver(subscribe, b"1", b"2")
            await wait_all_tasks_blocked()
            if how == "broken":
                server.stream.reset()
            else:
                await server.stream.send_eof()
            await wait_all_tasks_blocked()
            received = []
            with pytest.raises(trio.EndOfChannel if how == "ended" else trio.BrokenResourceError):
                while True:
                    received.append((await subscription.receive()).body)
            assert received == ([b"1", b"2"] if ack == "auto" else [])


async def test_a_client_can_leave_although_a_subscription_holds_too_much(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    """The server's farewell is read; what had come before can still be received."""
    async with connect(protocol="stomp", limits=Limits(mailbox_bytes_max=1), heart_beat_seconds=None) as client:
        entering = client.subscribe("/topic/x")  # to outlive the client
        subscription = await entering.__aenter__()
        await servers.last.deliver(await servers.last.next(Subscribe), b"1")
        await wait_all_tasks_blocked()
    assert trio.current_time() == 0
    assert (await subscription.receive()).body == b"1"
    with pytest.raises(trio.ClosedResourceError, match="this client was closed"):
        await subscription.receive()
    await entering.__aexit__(None, None, None)
