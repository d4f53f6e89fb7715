"""Leaving a STOMP connection: in order, for an error of its own or of the body's, or cancelled."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.moments import cancelled_after
from tests.client.stomp_server import ScriptedServers
from trio_broker.client import connect
from trio_broker.errors import ServerRefused
from trio_broker.limits import Limits
from trio_broker.wire.stomp_commands import Connect, Disconnect, Publish


class OfTheBody(Exception):
    pass


async def test_leaving_in_order_waits_until_the_server_has_dealt_with_everything(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with trio.open_nursery() as nursery:
        async with connect(protocol="stomp") as client:
            server = servers.last
            server.answers = False
            await client.publish("/topic/x", b"one")

            @nursery.start_soon
            async def answer() -> None:
                await server.next(Disconnect)
                await trio.sleep(3)
                await server.release()

    assert [type(command) for command in server.commands] == [Connect, Publish, Disconnect]
    assert trio.current_time() == 3
    assert servers.network.ours[0].closed


async def test_leaving_in_order_waits_no_longer_than_the_limit(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with connect(protocol="stomp", limits=Limits(farewell_seconds_max=7), heart_beat_seconds=None):
        servers.last.answers = False
    assert trio.current_time() == 7
    assert servers.network.ours[0].closed


async def test_leaving_says_when_not_all_was_sent(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    servers.network.buffer_bytes = 100
    limits = Limits(farewell_seconds_max=7)
    with pytest.raises(
        trio.BrokenResourceError, match=r"^2 messages may not have been sent: no confirmation within 7 s$"
    ):
        async with connect(protocol="stomp", limits=limits) as client:
            servers.last.pause()
            await client.publish("/topic/x", bytes(1000))
            await client.publish("/topic/x", b"two")
    assert trio.current_time() == 7


async def test_leaving_says_when_the_connection_broke(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    servers.network.buffer_bytes = 100
    with pytest.raises(trio.BrokenResourceError, match=r"^1 messages may not have been sent: the connection broke"):
        async with connect(protocol="stomp") as client:
            servers.last.pause()
            await client.publish("/topic/x", bytes(1000))
            await wait_all_tasks_blocked()
            servers.last.stream.reset()
            await wait_all_tasks_blocked()
    assert trio.current_time() == 0


async def test_leaving_says_what_the_server_had_against_it_if_nobody_heard(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    """A message without a receipt that the server refused."""
    with pytest.raises(ServerRefused) as caught:
        async with connect(protocol="stomp") as client:
            await client.publish("/topic/x", b"one", headers={"expiration": "soon"})
    error = caught.value
    assert (error.message, error.receipt_id) == ("expiration is 'soon'", None)
    assert error.detail == "expiration is 'soon'; a decimal number of milliseconds is required"
    assert servers.network.ours[0].closed


async def test_what_was_told_is_not_told_again_on_leaving(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(protocol="stomp") as client:
        with pytest.raises(ServerRefused) as caught:
            await client.publish("/topic/x", b"one", headers={"expiration": "soon"}, confirm=True)
        assert caught.value.receipt_id is not None


async def test_leaving_after_the_server_went_is_no_error_if_all_was_confirmed(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with connect(protocol="stomp") as client:
        await client.publish("/topic/x", b"sent", confirm=True)
        await servers.last.next(Publish)
        await servers.last.stream.send_eof()
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError, match="the server closed the connection"):
            await client.publish("/topic/x", b"not sent")
    assert trio.current_time() == 0


async def test_an_exception_of_the_body_leaves_as_itself(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """Not in a group, at once, without a farewell."""
    servers.network.buffer_bytes = 100
    with pytest.raises(OfTheBody):
        async with connect(protocol="stomp") as client:
            servers.last.pause()
            await client.publish("/topic/x", bytes(1000))
            await wait_all_tasks_blocked()
            raise OfTheBody
    assert trio.current_time() == 0
    assert servers.network.ours[0].closed
    assert not servers.last.all(Disconnect)


@pytest.mark.parametrize("how", ["cancelled too", "broken", "refused"])
async def test_an_exception_of_the_body_leaves_as_itself_whatever_else_happens(
    autojump_clock: MockClock, servers: ScriptedServers, how: str
) -> None:
    with trio.CancelScope() as scope, pytest.raises(OfTheBody):
        async with connect(protocol="stomp") as client:
            await client.publish("/topic/x", b"one")
            if how == "broken":
                servers.last.stream.reset()
            elif how == "refused":
                await servers.last.stream.send_all(b"ERROR\nmessage:no\n\n\0")
            await wait_all_tasks_blocked()
            if how == "cancelled too":
                scope.cancel()
            raise OfTheBody
    assert servers.network.ours[0].closed


@pytest.mark.parametrize("steps", range(15))
async def test_leaving_is_cancelled_at_every_moment(
    autojump_clock: MockClock, servers: ScriptedServers, steps: int
) -> None:
    """What leaves is cancelled alone, perhaps in a group, and the connection is closed."""
    raised: list[BaseException] = []
    servers.network.write_bytes_max = 20
    async with cancelled_after(steps):
        try:
            async with connect(protocol="stomp") as client:
                await client.publish("/topic/x", b"handed over")
        except BaseException as error:
            raised.append(error)
            raise
    assert {type(leaf) for error in raised for leaf in leaves(error)} <= {trio.Cancelled}
    assert all(stream.closed for stream in servers.network.ours)


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions in a group, however deep, or the one alone."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


async def test_a_cancelled_farewell_closes_at_once(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    with trio.move_on_after(3) as scope:
        async with connect(protocol="stomp"):
            servers.last.answers = False
    assert scope.cancelled_caught
    assert trio.current_time() == 3
    assert servers.network.ours[0].closed


async def test_after_leaving_everything_says_so(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(protocol="stomp") as client:
        permit = await client.reserve()
    with pytest.raises(trio.ClosedResourceError):
        await client.publish("/topic/x", b"")
    with pytest.raises(trio.ClosedResourceError):
        await client.reserve()
    with pytest.raises(trio.ClosedResourceError):
        await client.request("/topic/x", b"")
    with pytest.raises(trio.ClosedResourceError):
        permit.send("/topic/x", b"")
    with pytest.raises(trio.ClosedResourceError):
        async with client.subscribe("/topic/x"):
            pass
    with pytest.raises(trio.ClosedResourceError):
        async with client.transaction():
            pass
