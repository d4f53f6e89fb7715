"""Acknowledging over one STOMP connection: what is said, in which order, and what is not said any more."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.stomp_consumer import consuming, heard, settled, take
from tests.client.stomp_server import ScriptedServers
from trio_broker.client import connect
from trio_broker.wire.stomp_commands import Ack, Nack, Publish, Subscribe


async def test_one_by_one(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """In the program's order, each once, in a scope that was cancelled too."""
    async with consuming(servers) as (client, server, subscribe, subscription):
        await server.deliver(subscribe, b"1", b"2", b"3", b"4")
        messages = await take(subscription, 4)
        with trio.CancelScope() as scope:  # noqa: ASYNC100  that it has no checkpoint is the point
            scope.cancel()
            messages[1].ack()
            messages[3].nack(requeue=False)
            messages[0].nack()
            messages[1].ack()
            messages[1].nack()
            messages[0].ack()
        await heard(client)
        assert settled(server)[:3] == [Ack(None, 2), Nack(None, 4, requeue=False), Nack(None, 1)]
        assert len(settled(server)) == 4


async def test_cumulatively(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """A message settles those before it; what is settled so is not settled again."""
    async with consuming(servers, ack="client") as (client, server, subscribe, subscription):
        await server.deliver(subscribe, b"1", b"2", b"3", b"4", b"5")
        messages = await take(subscription, 5)
        messages[2].ack()
        messages[0].ack()
        messages[1].nack()
        messages[3].nack()
        messages[4].ack()
        await heard(client)
        assert settled(server)[:-1] == [Ack(None, 3), Nack(None, 4), Ack(None, 5)]


async def test_without_acknowledgement_nothing_is_said(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with consuming(servers, ack="auto") as (client, server, subscribe, subscription):
        await server.deliver(subscribe, b"1", b"2")
        message = await subscription.receive()
        message.ack()
        message.nack()
        await heard(client)
        assert len(settled(server)) == 1
    assert not server.all(Nack)


async def test_process(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """In order: acknowledged. By an error or a cancellation: back in its queue."""
    async with consuming(servers) as (client, server, subscribe, subscription):
        await server.deliver(subscribe, b"1", b"2", b"3")
        async with (await subscription.receive()).process():
            await heard(client)
            assert not server.all(Ack)
        with pytest.raises(ZeroDivisionError):
            async with (await subscription.receive()).process():
                raise ZeroDivisionError
        with trio.move_on_after(1):
            async with (await subscription.receive()).process():
                await trio.sleep_forever()
        await heard(client)
        assert server.all(Ack) == [Ack(None, 1)]
        assert server.all(Nack) == [Nack(None, 2), Nack(None, 3)]


async def test_an_acknowledgement_does_not_overtake_what_was_published_before(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with consuming(servers) as (client, server, subscribe, subscription):
        await server.deliver(subscribe, b"1")
        message = await subscription.receive()
        await client.publish("/queue/results", b"one")
        message.ack()
        await client.publish("/queue/results", b"two")
        await heard(client)
        assert [type(command) for command in settled(server)[:3]] == [Publish, Ack, Publish]


@pytest.mark.parametrize("how", ["ended", "broken", "left"])
async def test_settling_after_the_end_says_nothing_and_raises_nothing(
    autojump_clock: MockClock, servers: ScriptedServers, how: str
) -> None:
    async with consuming(servers) as (_, server, subscribe, subscription):
        await server.deliver(subscribe, b"1", b"2")
        message = await subscription.receive()
        if how == "broken":
            server.stream.reset()
            await wait_all_tasks_blocked()
        elif how == "ended":
            await server.stream.send_eof()
            await wait_all_tasks_blocked()
        if how != "left":
            message.ack()
            async with message.process():
                pass
    message.ack()
    await wait_all_tasks_blocked()
    assert not server.all(Ack)


async def test_after_a_transaction_was_given_up_all_of_its_messages_go_back(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    """Also those that came after what it settled: in the mode ``client`` the last one stands for all."""
    for number, (ack, back) in enumerate([("client", [3]), ("client-individual", [1, 2, 3])]):
        async with connect(protocol="stomp") as client:
            server = servers.all[number]
            async with client.subscribe("/queue/x", ack=ack) as subscription:
                await server.deliver(await server.next(Subscribe), b"1", b"2", b"3")
                messages = await take(subscription, 3)
                with pytest.raises(ZeroDivisionError):
                    async with client.transaction() as transaction:
                        transaction.ack(messages[1])
                        raise ZeroDivisionError
            await heard(client)
            assert [nack.number for nack in server.all(Nack)] == back
