"""Subscriptions over one STOMP connection: what is given, what is settled, what goes back, and what is held."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from tests.client.moments import cancelled_after
from tests.client.stomp_server import ScriptedServer, ScriptedServers
from trio_broker.client import StompClient, StompSubscription, connect
from trio_broker.errors import InvalidChannel, LimitReached, ServerRefused
from trio_broker.limits import Limits
from trio_broker.message import AckMode, Message
from trio_broker.wire.stomp_commands import Ack, Nack, Publish, StompCommand, Subscribe, Unsubscribe


@asynccontextmanager
async def consuming(
    servers: ScriptedServers, *, ack: str = "client-individual", limits: Limits | None = None
) -> AsyncIterator[tuple[StompClient, ScriptedServer, Subscribe, StompSubscription]]:
    """A client with one subscription, and its server."""
    async with connect(protocol="stomp", limits=limits, heart_beat_seconds=None) as client:
        async with client.subscribe("/queue/x", ack=ack) as subscription:
            subscribe = await servers.last.next(Subscribe)
            yield client, servers.last, subscribe, subscription


async def take(subscription: StompSubscription, count: int) -> list[Message]:
    return [await subscription.receive() for _ in range(count)]


def settled(server: ScriptedServer) -> list[StompCommand]:
    """What the client said since it subscribed."""
    return [command for command in server.commands if isinstance(command, Ack | Nack | Unsubscribe | Publish)]


async def heard(client: StompClient) -> None:
    """The server has dealt with all that was said."""
    await client.publish("/topic/heard", b"", confirm=True)


# -- subscribing -------------------------------------------------------------------------------------------------------


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
            client.subscribe("jobs", ack="client", prefetch_messages=7) as second,
            client.subscribe("/topic/x", ack=AckMode.CLIENT_INDIVIDUAL) as third,
        ):
            places = [await server.next(Subscribe, number) for number in range(3)]
            assert [place.channel for place in places] == ["/topic/x", "/queue/jobs", "/topic/x"]
            assert [place.ack for place in places] == list(AckMode)
            assert [place.prefetch_messages for place in places] == [None, 7, None]
            assert len({place.id for place in places}) == 3
            assert (second.channel, second.ack) == ("jobs", AckMode.CLIENT)
            await server.deliver(places[2], b"c")
            await server.deliver(places[0], b"a", headers={"type": "t"})
            await server.deliver(places[1], b"b", redelivered=True)
            one, two, three = await first.receive(), await second.receive(), await third.receive()
            assert (one.channel, one.body, one.headers["type"], one.redelivered) == ("/topic/x", b"a", "t", False)
            assert (two.channel, two.body, two.redelivered) == ("jobs", b"b", True)
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


# -- receiving ---------------------------------------------------------------------------------------------------------


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


# -- settling ----------------------------------------------------------------------------------------------------------


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


# -- leaving -----------------------------------------------------------------------------------------------------------


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


# -- what is held ------------------------------------------------------------------------------------------------------


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


# -- the end -----------------------------------------------------------------------------------------------------------


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
