"""The mode ``client`` and transactions: a COMMIT finds what it settles unsettled, whatever is settled meanwhile."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.network import Network
from tests.client.stomp_consumer import consuming, heard, take
from tests.client.stomp_house import ENDS, Planned, end_so, fill, open_stomp_house, take_all
from tests.client.stomp_server import ScriptedServers
from tests.server.house import House
from trio_broker.client import StompClient, connect
from trio_broker.wire.stomp_commands import Ack, Nack


@pytest.mark.parametrize("how", ENDS)
async def test_nothing_is_acknowledged_beside_a_transaction(
    autojump_clock: MockClock, network: Network, how: str
) -> None:
    """It is refused, with what is allowed, and nothing has happened: after the transaction it is done."""
    async with open_stomp_house(network) as house, connect() as client:
        await fill(house, 5)
        async with client.subscribe("/queue/x", ack="client") as jobs:
            messages = await take(jobs, 5)
            with trio.CancelScope() as scope:
                try:
                    async with client.transaction() as transaction, client.transaction() as another:
                        transaction.ack(messages[1])
                        for refused in (messages[2].ack, lambda: messages[2].nack(requeue=False)):
                            with pytest.raises(ValueError, match="allowed are to settle it in that transaction"):
                                refused()
                        for settle in (another.ack, another.nack):
                            with pytest.raises(ValueError, match="allowed are to settle it in that transaction"):
                                settle(messages[2])
                        messages[0].ack()  # it is settled, so there is nothing to refuse
                        another.ack(messages[0])
                        transaction.ack(messages[2])
                        await end_so(how, scope)
                except Planned:
                    assert how == "error"
            messages[3].ack()
        await heard(client)
        assert await take_all(house, "/queue/x") == [(b"5", True)]


@pytest.mark.parametrize("how", ENDS)
async def test_giving_back_waits_for_the_transaction(autojump_clock: MockClock, network: Network, how: str) -> None:
    """And is never refused. What was given back is not settled by the transaction."""
    async with open_stomp_house(network) as house, connect() as client:
        await fill(house, 5)
        async with client.subscribe("/queue/x", ack="client", prefetch_messages=5) as jobs:
            messages = await take(jobs, 5)
            with trio.CancelScope() as scope:
                try:
                    async with client.transaction() as transaction:
                        transaction.ack(messages[1])
                        messages[2].nack()
                        messages[3].nack()
                        messages[2].ack()
                        with pytest.raises(ValueError, match="a message before it was given back"):
                            transaction.ack(messages[4])
                        transaction.ack(messages[3])
                        await end_so(how, scope)
                except Planned:
                    assert how == "error"
            again = await take(jobs, 2 if how == "committed" else 4)
            assert [message.body for message in again] == [b"1", b"2", b"3", b"4"][-len(again) :]
            assert all(message.redelivered for message in again)
            messages[4].ack()  # and no other: they came later
        await heard(client)
        assert await take_all(house, "/queue/x") == [(message.body, True) for message in again]


async def test_a_block_that_is_cancelled_beside_a_transaction(autojump_clock: MockClock, network: Network) -> None:
    """The cancellation leaves as itself, and the message goes back."""
    async with open_stomp_house(network) as house, connect() as client:
        await fill(house, 2)
        async with client.subscribe("/queue/x", ack="client") as jobs:
            first, second = await take(jobs, 2)
            async with client.transaction() as transaction:
                transaction.ack(first)
                with trio.move_on_after(1) as scope:
                    async with second.process():
                        await trio.sleep_forever()
                assert scope.cancelled_caught
        await heard(client)
        assert await take_all(house, "/queue/x") == [(b"2", True)]


async def test_a_block_that_ends_in_order_beside_a_transaction(autojump_clock: MockClock, network: Network) -> None:
    """What it has dealt with cannot be acknowledged, so it goes back."""
    async with open_stomp_house(network) as house, connect() as client:
        await fill(house, 2)
        async with client.subscribe("/queue/x", ack="client") as jobs:
            first, second = await take(jobs, 2)
            async with client.transaction() as transaction:
                transaction.ack(first)
                with pytest.raises(ValueError, match="an open transaction"):
                    async with second.process():
                        pass
            assert (await jobs.receive()).redelivered
        await heard(client)
        assert await take_all(house, "/queue/x") == [(b"2", True)]


async def test_when_the_connection_is_over_nothing_is_refused(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with consuming(servers, ack="client") as (client, server, subscribe, jobs):
        await server.deliver(subscribe, b"1", b"2", b"3")
        messages = await take(jobs, 3)
        with pytest.raises(trio.BrokenResourceError):
            async with client.transaction() as transaction:
                transaction.ack(messages[0])
                server.stream.reset()
                await wait_all_tasks_blocked()
                messages[1].ack()
                messages[2].nack()
                jobs.close()
                assert not client._link.inboxes
        assert not server.all(Ack)
        assert not server.all(Nack)


async def test_one_by_one_nothing_waits_and_nothing_is_refused(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with consuming(servers) as (client, server, subscribe, jobs):
        await server.deliver(subscribe, b"1", b"2", b"3", b"4")
        messages = await take(jobs, 4)
        async with client.transaction() as transaction, client.transaction() as another:
            transaction.ack(messages[0])
            another.ack(messages[2])
            messages[1].ack()
            jobs.close()
            await heard(client)
            assert (server.all(Ack), server.all(Nack)) == ([Ack(None, 2)], [Nack(None, 4)])


async def _settle_in_turn(client: StompClient, house: House) -> None:
    async with client.subscribe("/queue/x", ack="client") as jobs:
        for how in ("error", "committed", "error", "committed"):
            message = await jobs.receive()
            try:
                async with client.transaction() as transaction:
                    transaction.nack(message, requeue=False)
                    if how == "error":
                        raise Planned
            except Planned:
                pass


async def test_one_transaction_after_the_other(autojump_clock: MockClock, network: Network) -> None:
    """What the first gave up the second settles, with its own."""
    async with open_stomp_house(network) as house, connect() as client:
        await fill(house, 5)
        await _settle_in_turn(client, house)
        await heard(client)
        assert await take_all(house, "/queue/x") == [(b"5", True)]
        assert house.broker.statistics().rejected == 4


async def test_what_was_settled_before_a_transaction_that_is_given_up_stays_so(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    """What it settled is settled anew, once."""
    async with consuming(servers, ack="client") as (client, server, subscribe, jobs):
        await server.deliver(subscribe, b"1", b"2", b"3")
        messages = await take(jobs, 3)
        messages[0].ack()
        with pytest.raises(Planned):
            async with client.transaction() as transaction:
                transaction.ack(messages[1])
                transaction.ack(messages[2])
                raise Planned
        for message in messages:
            message.ack()
        await heard(client)
        assert server.all(Ack) == [Ack(None, 1), Ack(None, 2), Ack(None, 3)]
