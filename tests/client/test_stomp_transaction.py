"""Transactions with STOMP: all of it or nothing, and what was not committed is the program's to settle again."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from tests.client.moments import cancelled_after
from tests.client.stomp_server import ScriptedServers
from trio_broker.client import connect
from trio_broker.errors import InvalidChannel, LimitReached, MessageTooLarge
from trio_broker.limits import Limits
from trio_broker.message import Message
from trio_broker.wire.stomp_commands import Ack, Commit, Nack, Publish, Subscribe, Unsubscribe


def bodies(commit: Commit) -> list[bytes]:
    """Of the messages that were committed."""
    return [message.body for part in commit.commands if isinstance(part, Publish) for message in part.batch]


async def test_leaving_in_order_commits_and_waits_for_the_broker(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with connect(protocol="stomp", heart_beat_seconds=None) as client, trio.open_nursery() as nursery:
        server = servers.last
        async with client.subscribe("/queue/x", ack="client-individual") as jobs:
            await server.deliver(await server.next(Subscribe), b"1", b"2", b"3")
            messages = [await jobs.receive() for _ in range(3)]
            nursery.start_soon(server.answer_late, Commit, 4)
            async with client.transaction() as transaction:
                with assert_checkpoints():
                    await transaction.publish("/queue/results", b"a", headers={"type": "t"})
                with assert_no_checkpoints():
                    transaction.ack(messages[0])
                    transaction.ack(messages[0])
                    transaction.nack(messages[1], requeue=False)
                    messages[1].ack()  # nothing any more
                await transaction.publish("/queue/results", b"b")
                await trio.sleep(1)
                assert not server.all(Commit)
            assert trio.current_time() == 5
            messages[0].ack()
        (commit,) = server.all(Commit)
        assert bodies(commit) == [b"a", b"b"]
        assert [part for part in commit.commands if not isinstance(part, Publish)] == [
            Ack(None, 1),
            Nack(None, 2, requeue=False),
        ]
    assert not server.all(Ack)
    assert not server.all(Publish)


@pytest.mark.parametrize("how", ["error", "cancelled", "cancelled before its end"])
async def test_leaving_otherwise_gives_it_up(autojump_clock: MockClock, servers: ScriptedServers, how: str) -> None:
    """At once, and what was settled in it is settled anew; the server, which allows one at a time, hears of it."""
    servers.limits = Limits(transactions_max=1)
    async with connect(protocol="stomp", heart_beat_seconds=None) as client:
        server = servers.last
        async with client.subscribe("/queue/x", ack="client") as jobs:
            await server.deliver(await server.next(Subscribe), b"1", b"2", b"3")
            messages = [await jobs.receive() for _ in range(3)]
            left = trio.current_time()
            scope = trio.CancelScope()
            try:
                with scope:
                    async with client.transaction() as transaction:
                        await transaction.publish("/queue/results", b"a")
                        transaction.ack(messages[1])
                        transaction.nack(messages[2])
                        if how == "error":
                            raise ZeroDivisionError
                        scope.cancel()
                        if how == "cancelled":
                            await trio.sleep_forever()
            except ZeroDivisionError:
                assert how == "error"
            assert scope.cancelled_caught == (how != "error")
            assert trio.current_time() == left
            messages[1].ack()
            messages[2].ack()
            await client.publish("/topic/heard", b"", confirm=True)
        assert not server.all(Commit)
        assert server.all(Ack) == [Ack(None, 2), Ack(None, 3)]
        assert server.bodies == [b""]
        async with client.transaction():
            pass
        assert len(server.all(Commit)) == 1


async def test_what_was_given_up_after_its_subscription_was_left_goes_back(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    """As if it had not been settled when that was left."""
    async with connect(protocol="stomp") as client:
        server = servers.last
        messages: dict[str, Message] = {}
        with pytest.raises(ZeroDivisionError):
            async with client.transaction() as transaction:
                for number, mode in enumerate(["client", "client-individual"]):
                    async with client.subscribe("/queue/x", ack=mode) as jobs:
                        await server.deliver(await server.next(Subscribe, number), b"1")
                        messages[mode] = await jobs.receive()
                        transaction.ack(messages[mode])
                raise ZeroDivisionError
        for message in messages.values():
            message.ack()
        await client.publish("/topic/heard", b"", confirm=True)
        assert sorted(nack.number for nack in server.all(Nack)) == [1, 2]
        assert not server.all(Ack)
        assert len(server.all(Unsubscribe)) == 2


@pytest.mark.parametrize("moment", range(16))
async def test_cancelled_at_every_moment_all_of_it_happened_or_nothing(
    autojump_clock: MockClock, servers: ScriptedServers, moment: int
) -> None:
    """And the connection is as good as before."""
    async with connect(protocol="stomp") as client:
        server = servers.last
        left = False
        async with cancelled_after(moment):
            async with client.transaction() as transaction:
                await transaction.publish("/queue/results", b"a")
                await transaction.publish("/queue/results", b"b")
            left = True
        with trio.fail_after(1):
            await client.publish("/topic/heard", b"", confirm=True)
        assert [bodies(commit) for commit in server.all(Commit)] in ([[b"a", b"b"]], [] if not left else [[b"a", b"b"]])
        async with client.transaction() as transaction:
            await transaction.publish("/queue/results", b"c")
        assert bodies(server.all(Commit)[-1]) == [b"c"]


async def test_leaving_after_the_connection_broke_says_so(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(protocol="stomp") as client:
        with pytest.raises(trio.BrokenResourceError, match="the connection broke"):
            async with client.transaction():
                servers.last.stream.reset()
                await wait_all_tasks_blocked()
    assert not servers.last.all(Commit)


async def test_more_than_allowed(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """It is refused before anything is sent, and the transaction can go on."""
    limits = Limits(transaction_bytes_max=1000, transactions_max=1)
    servers.limits = limits
    async with connect(protocol="stomp", limits=limits) as client:
        server = servers.last
        async with client.subscribe("/queue/x", ack="client-individual") as jobs:
            await server.deliver(await server.next(Subscribe), *(b"" for _ in range(20)))
            for _ in range(2):
                async with client.transaction() as transaction:
                    with pytest.raises(LimitReached, match="transactions_max"):
                        async with client.transaction():
                            pass
                    with pytest.raises(LimitReached, match="transaction_bytes_max"):
                        await transaction.publish("/queue/results", bytes(1000))
                    await transaction.publish("/queue/results", bytes(300))
            acknowledged = []
            async with client.transaction() as transaction:
                with pytest.raises(LimitReached, match="transaction_bytes_max"):
                    while True:
                        message = await jobs.receive()
                        transaction.ack(message)
                        acknowledged.append(message)
            message.ack()
            await client.publish("/topic/heard", b"", confirm=True)
        assert len(server.all(Commit)[2].commands) == len(acknowledged) == 14
        assert server.all(Ack) == [Ack(None, 15)]


async def test_what_a_transaction_refuses(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with (
        connect(protocol="stomp", limits=Limits(frame_bytes_max=1000)) as client,
        connect(protocol="stomp") as other,
    ):
        server = servers.last
        async with other.subscribe("/queue/x", ack="client") as theirs, other.subscribe("/topic/x") as automatic:
            await server.deliver(await server.next(Subscribe), b"1")
            await server.deliver(await server.next(Subscribe, 1), b"2")
            message, unsettled = await theirs.receive(), await automatic.receive()
            async with client.transaction() as transaction:
                with pytest.raises(ValueError, match="not received from this client"):
                    transaction.ack(message)
                with pytest.raises(MessageTooLarge):
                    await transaction.publish("/queue/results", bytes(1001))
                with pytest.raises(InvalidChannel):
                    await transaction.publish("", b"")
                transaction.ack(unsettled)
            with pytest.raises(trio.ClosedResourceError, match="this transaction was left"):
                await transaction.publish("/queue/results", b"")
            with pytest.raises(trio.ClosedResourceError, match="this transaction was left"):
                transaction.nack(unsettled)
    assert [commit.commands for commit in servers.all[0].all(Commit)] == [()]
