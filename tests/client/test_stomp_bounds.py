"""What the STOMP client keeps for a program: never more than its limits say, whatever the program does not do."""

from __future__ import annotations

import gc

import pytest
import trio
from trio.testing import MockClock

from tests.client.network import Network
from tests.client.stomp_consumer import heard, settled, take
from tests.client.stomp_house import open_stomp_house
from tests.client.stomp_server import ScriptedServers
from trio_broker.client import connect
from trio_broker.client.stomp_settlements import Given
from trio_broker.errors import LimitReached
from trio_broker.limits import Limits
from trio_broker.wire.stomp_commands import Ack, Commit, Nack, Subscribe


@pytest.mark.parametrize("ack", ["client", "client-individual"])
async def test_a_topics_messages_that_are_never_settled_are_not_kept(
    autojump_clock: MockClock, network: Network, ack: str
) -> None:
    """A topic has no credit, so nothing bounds how many there are."""
    async with open_stomp_house(network) as house, connect() as client:
        async with client.subscribe("/topic/x", ack=ack) as news:
            for _ in range(3):
                for number in range(100):
                    await house.broker.publish("/topic/x", b"%d" % number)
                await take(news, 100)
            gc.collect()
            assert sum(isinstance(each, Given) for each in gc.get_objects()) <= 1
        await heard(client)


@pytest.mark.parametrize("ack", ["client", "client-individual"])
async def test_a_topic_does_not_stop_at_what_was_prefetched(
    autojump_clock: MockClock, network: Network, ack: str
) -> None:
    """It is read on until as much waits as the limits say; then nothing is, a confirmation neither."""
    limits = Limits(frame_bytes_max=1000, unsettled_bytes_max=4000)
    async with open_stomp_house(network) as house, connect(limits=limits, heart_beat_seconds=None) as client:
        async with client.subscribe("/topic/x", ack=ack, prefetch_messages=1) as news:
            for _ in range(4):  # each costs 564
                await house.broker.publish("/topic/x", bytes(500))
            await client.publish("/queue/x", b"", confirm=True)
            assert client._link._held[True] == 4 * 564
            for _ in range(5):
                await house.broker.publish("/topic/x", bytes(500))
            with trio.move_on_after(1) as scope:
                await client.publish("/queue/x", b"", confirm=True)
            assert scope.cancelled_caught
            await take(news, 1)
            await client.publish("/queue/x", b"", confirm=True)


async def test_a_topics_messages_are_settled_once_each(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """By themselves or in a transaction; and leaving has nothing to give back."""
    async with connect() as client:
        server = servers.last
        async with client.subscribe("/topic/x", ack="client-individual") as news:
            await server.deliver(await server.next(Subscribe), *(b"" for _ in range(4)))
            messages = await take(news, 4)
            for message in (messages[1], messages[0], messages[1]):
                message.ack()
            with pytest.raises(ZeroDivisionError):
                async with client.transaction() as transaction:
                    transaction.ack(messages[1])
                    transaction.ack(messages[2])
                    raise ZeroDivisionError
            async with client.transaction() as transaction:
                transaction.nack(messages[2])
                messages[2].ack()
        await heard(client)
        assert [(type(each), each.number) for each in settled(server) if isinstance(each, Ack | Nack)] == [
            (Ack, 2),
            (Ack, 1),
        ]
        assert [commit.commands for commit in server.all(Commit)] == [(Nack(None, 3),)]


async def test_what_all_open_transactions_hold_together(autojump_clock: MockClock, network: Network) -> None:
    """As the broker counts it: what is refused does no harm, and what has ended is not counted any more."""
    limits = Limits(transaction_bytes_max=10_000)
    async with open_stomp_house(network, limits) as house, connect(limits=limits) as client:
        for _ in range(3):
            async with client.transaction() as first:
                await first.publish("/queue/x", bytes(6000))
                with trio.CancelScope() as scope:
                    async with client.transaction() as second:
                        await second.publish("/queue/x", bytes(3000))
                        scope.cancel()  # gives it up
                async with client.transaction() as second:
                    with pytest.raises(LimitReached, match=r"transaction_bytes_max \(10,000\)"):
                        await second.publish("/queue/x", bytes(6000))
                    await second.publish("/queue/x", bytes(3000))
                    with pytest.raises(LimitReached, match="transaction_bytes_max"):
                        await first.publish("/queue/x", bytes(1000))
        assert house.backlog("/queue/x") == 6


async def test_there_is_no_room_for_another_transaction(autojump_clock: MockClock, network: Network) -> None:
    limits = Limits(transaction_bytes_max=1000)
    async with open_stomp_house(network, limits), connect(limits=limits) as client:
        async with client.transaction() as first:
            await first.publish("/queue/x", bytes(770))
            with pytest.raises(LimitReached, match="transaction_bytes_max"):
                async with client.transaction():
                    raise AssertionError("it must not begin")
        async with client.transaction():
            pass
