"""A subscription that is left while a transaction is open which settles messages of it: they are left to that."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.moments import cancelled_after
from tests.client.network import Network
from tests.client.stomp_consumer import heard, take
from tests.client.stomp_house import ENDS, Planned, end_so, fill, open_stomp_house, take_all
from tests.client.stomp_server import ScriptedServer, ScriptedServers
from trio_broker.client import connect
from trio_broker.errors import LimitReached
from trio_broker.limits import Limits
from trio_broker.message import Message
from trio_broker.wire.stomp_commands import Ack, Commit, Nack, StompCommand, Subscribe, Unsubscribe

BOTH = pytest.mark.parametrize("ack", ["client", "client-individual"])


def ended(server: ScriptedServer) -> list[StompCommand]:
    """What was said of transactions, subscriptions and settlements, without what is bound to transactions."""
    kinds = Commit | Ack | Nack | Unsubscribe
    return [command for command in server.commands if isinstance(command, kinds)]


@BOTH
@pytest.mark.parametrize("how", ENDS)
async def test_a_subscription_inside_a_transaction(
    autojump_clock: MockClock, network: Network, ack: str, how: str
) -> None:
    """What it did not settle goes back; what it settled is settled if the transaction is committed."""
    async with open_stomp_house(network) as house, connect() as client:
        await fill(house, 3)
        with trio.CancelScope() as scope:
            try:
                async with client.transaction() as transaction, client.subscribe("/queue/x", ack=ack) as jobs:
                    await take(jobs, 1)
                    second = await jobs.receive()
                    await transaction.publish("/queue/results", b"r")
                    transaction.ack(second)
                    await wait_all_tasks_blocked()  # the third has come, too
                    await end_so(how, scope)
            except Planned:
                assert how == "error"
        await heard(client)
        back = [b"1", b"2", b"3"]
        if how == "committed":
            back = [b"3"] if ack == "client" else [b"1", b"3"]
        assert await take_all(house, "/queue/x") == [(body, True) for body in back]
        assert await take_all(house, "/queue/results") == ([(b"r", False)] if how == "committed" else [])


@pytest.mark.parametrize("moment", range(24))
async def test_a_subscription_inside_a_transaction_cancelled_at_every_moment(
    autojump_clock: MockClock, network: Network, moment: int
) -> None:
    """All of it happened or nothing, no message is lost, and the connection is as good as before."""
    async with open_stomp_house(network) as house, connect() as client:
        await fill(house, 3)
        async with cancelled_after(moment):
            async with client.transaction() as transaction, client.subscribe("/queue/x", ack="client") as jobs:
                transaction.ack((await take(jobs, 2))[-1])
                await transaction.publish("/queue/results", b"r")
                await client.publish("/topic/x", b"", confirm=True)
        with trio.fail_after(1):
            await heard(client)
        left = [body for body, _ in await take_all(house, "/queue/x")]
        results = await take_all(house, "/queue/results")
        assert (left, len(results)) in (([b"1", b"2", b"3"], 0), ([b"3"], 1))


@pytest.mark.parametrize("how", ENDS)
async def test_what_is_said_on_leaving(autojump_clock: MockClock, servers: ScriptedServers, how: str) -> None:
    """UNSUBSCRIBE at once, the NACK of all that is left when the transaction has ended; nothing else after that."""
    messages: list[Message] = []
    async with connect() as client:
        server = servers.last
        with trio.CancelScope() as scope:
            try:
                async with client.transaction() as transaction:
                    async with client.subscribe("/queue/x", ack="client") as jobs:
                        await server.deliver(await server.next(Subscribe), b"1", b"2", b"3")
                        messages += await take(jobs, 3)
                        transaction.ack(messages[0])
                    messages[1].ack()
                    transaction.ack(messages[2])
                    await heard(client)
                    assert [type(command) for command in ended(server)] == [Unsubscribe]
                    await end_so(how, scope)
            except Planned:
                assert how == "error"
        messages[2].nack()
        await heard(client)
        said = ended(server)[1:]
        if how == "committed":
            commit = said.pop(0)
            assert isinstance(commit, Commit)
            assert commit.commands == (Ack(None, 1),)
        assert said == [Nack(None, 3)]


@pytest.mark.parametrize("committed", [True, False])
async def test_what_crosses_the_unsubscribe_waits_too(
    autojump_clock: MockClock, servers: ScriptedServers, committed: bool
) -> None:
    """A message that came for a subscription that was left goes back, with those before it."""
    async with connect() as client:
        server = servers.last
        try:
            async with client.transaction() as transaction:
                async with client.subscribe("/queue/x", ack="client") as jobs:
                    await server.deliver(await server.next(Subscribe), b"1")
                    transaction.ack(await jobs.receive())
                await server.deliver(await server.next(Subscribe), b"2", b"3")
                await heard(client)
                assert not server.all(Nack)
                if not committed:
                    raise Planned
        except Planned:
            pass
        await server.deliver(await server.next(Subscribe), b"4")
        await heard(client)
        assert [type(command) for command in ended(server)][1:] == [Commit, Nack, Nack][0 if committed else 1 :]
        assert server.all(Nack) == [Nack(None, 3), Nack(None, 4)]


@BOTH
async def test_a_subscription_that_was_left_in_a_transaction_counts_until_its_end(
    autojump_clock: MockClock, network: Network, ack: str
) -> None:
    """As for the broker, which keeps it as long as some of it is to be settled; so that is no ERROR."""
    limits = Limits(subscriptions_max=1)
    async with open_stomp_house(network, limits) as house, connect(limits=limits) as client:
        await fill(house, 2)
        with pytest.raises(Planned):
            async with client.transaction() as transaction:
                async with client.transaction() as another:
                    async with client.subscribe("/queue/x", ack=ack) as jobs:
                        transaction.ack(await jobs.receive())
                        if ack == "client-individual":
                            another.ack(await jobs.receive())
                with pytest.raises(LimitReached, match="subscriptions_max"):
                    async with client.subscribe("/queue/y"):
                        raise AssertionError("it has no place")
                raise Planned
        async with client.subscribe("/queue/y"):
            pass
        await heard(client)
        assert await take_all(house, "/queue/x") == [(b"1", True), (b"2", True)][: 2 if ack == "client" else 1]
        assert not client._link.inboxes
