"""Entering and leaving subscriptions over one STOMP connection: what the server is told, and what goes back."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.moments import cancelled_after
from tests.client.stomp_consumer import heard, settled, take
from tests.client.stomp_server import ScriptedServers
from trio_broker.client import connect
from trio_broker.errors import InvalidChannel, LimitReached, ServerRefused
from trio_broker.limits import Limits
from trio_broker.message import AckMode
from trio_broker.wire.stomp_commands import Ack, Nack, Publish, Subscribe, Unsubscribe

# -- subscribing ------------------------------------------------------------------------------------------------------


async def test_in_the_block_the_subscription_is_in_place(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(protocol="stomp", heart_beat_seconds=None) as client, trio.open_nursery() as nursery:
        server = servers.last
        nursery.start_soon(server.answer_late, Subscribe, 4)
        async with client.subscribe("/topic/x"):
            assert trio.current_time() == 4


async def test_many_subscriptions_share_a_connection(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(protocol="stomp") as client:
        server = servers.last
        async with (
            client.subscribe("/topic/x") as first,
            client.subscribe("/jobs", ack="client", prefetch_messages=7) as second,
            client.subscribe("/topic/x", ack=AckMode.CLIENT_INDIVIDUAL) as third,
        ):
            places = [await server.next(Subscribe, number) for number in range(3)]
            assert [place.channel for place in places] == ["/topic/x", "/queue//jobs", "/topic/x"]
            assert [place.ack for place in places] == list(AckMode)
            assert [place.prefetch_messages for place in places] == [None, 7, None]
            assert len({place.id for place in places}) == 3
            assert (second.channel, second.ack) == ("/jobs", AckMode.CLIENT)
            await server.deliver(places[2], b"c")
            await server.deliver(places[0], b"a", headers={"type": "t"})
            await server.deliver(places[1], b"b", redelivered=True)
            one, two, three = await first.receive(), await second.receive(), await third.receive()
            assert (one.channel, one.body, one.headers["type"], one.redelivered) == ("/topic/x", b"a", "t", False)
            assert (two.channel, two.body, two.redelivered) == ("/jobs", b"b", True)
            assert three.body == b"c"
    assert len(servers.all) == 1


@pytest.mark.parametrize(
    ("channel", "options", "error", "text"),
    [
        ("", {}, InvalidChannel, "the name is empty"),
        ("/a\0", {}, InvalidChannel, "a NUL"),
        ("/topic/x", {"ack": "never"}, ValueError, "ack is 'never'; allowed are auto, client, client-individual"),
        ("/topic/x", {"prefetch_messages": 0}, ValueError, "prefetch_messages is 0; at least 1 is required, or None"),
    ],
)
async def test_what_cannot_be_subscribed_to(
    autojump_clock: MockClock,
    servers: ScriptedServers,
    channel: str,
    options: dict[str, str],
    error: type[Exception],
    text: str,
) -> None:
    async with connect(protocol="stomp") as client:
        with pytest.raises(error, match=text):
            async with client.subscribe(channel, **options):  # type: ignore[arg-type]  # wrong on purpose
                pass
    assert not servers.last.all(Subscribe)


async def test_more_subscriptions_than_allowed_are_not_asked_for(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with connect(protocol="stomp", limits=Limits(subscriptions_max=1)) as client:
        with trio.move_on_after(1):
            await client.request("/topic/x", b"")  # the place for answers is none of them
        for _ in range(2):
            async with client.subscribe("/topic/x"):
                with pytest.raises(LimitReached, match="subscriptions_max"):
                    async with client.subscribe("/topic/x"):
                        pass
        await heard(client)
    assert len(servers.last.all(Subscribe)) == 2


async def test_a_subscription_that_the_server_refuses(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    servers.limits = Limits(subscriptions_max=1)
    async with connect(protocol="stomp") as client, client.subscribe("/topic/x"):
        with pytest.raises(ServerRefused, match="too many subscriptions") as caught:
            async with client.subscribe("/topic/y"):
                pass
        assert caught.value.receipt_id is not None


@pytest.mark.parametrize("moment", range(14))
async def test_entering_cancelled_at_every_moment_leaves_no_subscription(
    autojump_clock: MockClock, servers: ScriptedServers, moment: int
) -> None:
    """The server has heard nothing of it, or of its beginning and its end; what it sent meanwhile goes back."""
    async with connect(protocol="stomp", heart_beat_seconds=None) as client:
        server = servers.last
        server.answers = False

        async def serve() -> None:
            await server.deliver(await server.next(Subscribe), b"one")
            await server.release()
            server.answers = True

        async with trio.open_nursery() as serving:
            serving.start_soon(serve)
            async with cancelled_after(moment) as scope, client.subscribe("/queue/x", ack="client-individual"):
                await trio.sleep_forever()
            assert scope.cancelled_caught
            if not server.all(Subscribe):
                await wait_all_tasks_blocked()
                serving.cancel_scope.cancel()
        server.answers = True
        await heard(client)
        subscribed = server.all(Subscribe)
        assert [leave.id for leave in server.all(Unsubscribe)] == [place.id for place in subscribed]
        assert [nack.number for nack in server.all(Nack)] == [1] * len(subscribed)


# -- leaving ----------------------------------------------------------------------------------------------------------


async def test_leaving_gives_back_what_was_not_settled_after_leaving_the_channel(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    """In order, taken or not; and it is not settled again."""
    async with connect(protocol="stomp") as client:
        server = servers.last
        async with client.subscribe("/queue/x", ack="client-individual") as subscription:
            subscribe = await server.next(Subscribe)
            await server.deliver(subscribe, b"1", b"2", b"3", b"4")
            taken = await take(subscription, 3)
            taken[1].ack()
            await wait_all_tasks_blocked()
        taken[0].ack()
        await heard(client)
        left = Unsubscribe(subscribe.id)
        assert settled(server)[:-1] == [Ack(None, 2), left, Nack(None, 1), Nack(None, 3), Nack(None, 4)]


async def test_leaving_in_the_mode_client_gives_back_all_at_once(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with connect(protocol="stomp") as client:
        server = servers.last
        async with client.subscribe("/queue/x", ack="client") as subscription:
            subscribe = await server.next(Subscribe)
            await server.deliver(subscribe, b"1", b"2", b"3", b"4")
            taken = await take(subscription, 3)
            taken[0].ack()
            await wait_all_tasks_blocked()
        taken[2].ack()
        await heard(client)
        assert settled(server)[:-1] == [Ack(None, 1), Unsubscribe(subscribe.id), Nack(None, 4)]


@pytest.mark.parametrize("how", ["error", "cancelled"])
async def test_leaving_by_an_exception_leaves_the_channel_too(
    autojump_clock: MockClock, servers: ScriptedServers, how: str
) -> None:
    """It leaves as itself, the connection stays, and leaving waits for nothing."""
    async with connect(protocol="stomp", heart_beat_seconds=None) as client:
        server = servers.last
        server_answered = trio.current_time()
        with trio.move_on_after(1 if how == "cancelled" else 1000), pytest.raises(ZeroDivisionError):
            async with client.subscribe("/queue/x", ack="client-individual"):
                await server.deliver(await server.next(Subscribe), b"1")
                await wait_all_tasks_blocked()
                if how == "error":
                    raise ZeroDivisionError
                try:
                    await trio.sleep_forever()
                finally:
                    server_answered = trio.current_time()
                    raise ZeroDivisionError
        assert trio.current_time() == server_answered
        await heard(client)
        assert [type(command) for command in settled(server)] == [Unsubscribe, Nack, Publish]


async def test_what_crosses_the_leaving_goes_back(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(protocol="stomp") as client:
        server = servers.last
        for mode in AckMode:
            async with client.subscribe("/queue/x", ack=mode):
                pass
        places = [await server.next(Subscribe, number) for number in range(3)]
        await server.next(Unsubscribe, 2)
        for place in places:
            await server.deliver(place, b"late")
        await wait_all_tasks_blocked()
        await heard(client)
        assert server.all(Nack) == [Nack(None, 2), Nack(None, 3)]
