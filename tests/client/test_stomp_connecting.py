"""The beginning and the end of a STOMP connection, heart-beats, and what is told to whom when it is over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.client.moments import cancelled_after
from tests.client.stomp_server import ScriptedServer, ScriptedServers
from trio_broker.client import Client, StompClient, connect
from trio_broker.errors import ProtocolViolation, ServerRefused
from trio_broker.limits import Limits
from trio_broker.wire.stomp_commands import Connect, Disconnect, Publish
from trio_broker.wire.stomp_heartbeat import HeartBeat


class OfTheBody(Exception):
    pass


@asynccontextmanager
async def silent_server(servers: ScriptedServers) -> AsyncIterator[ScriptedServer]:
    """A connection whose server has said CONNECTED and says nothing more of its own accord."""
    async with connect(protocol="stomp"):
        yield servers.last


# -- entering ----------------------------------------------------------------------------------------------------------


async def test_connect_says_who_is_there_and_what_is_wanted(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    connecting = connect("broker.example", 1, protocol="stomp", login="me", passcode="a:b\\c", heart_beat_seconds=2.5)
    with assert_checkpoints():
        client = await connecting.__aenter__()
    (command,) = servers.last.all(Connect)
    assert (command.version, command.host) == ("1.2", "broker.example")
    assert (command.login, command.passcode) == ("me", "a:b\\c")
    assert command.heart_beat == HeartBeat(2500, 2500)
    assert client.local_address == ("127.0.0.1", 50_000)
    with assert_checkpoints():
        await connecting.__aexit__(None, None, None)


async def test_the_protocol_decides_what_is_given(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(protocol="stomp") as named, connect() as over_stomp:
        assert isinstance(named, StompClient)
        assert isinstance(over_stomp, StompClient)
    async with connect(protocol="framed") as framed:
        assert isinstance(framed, Client)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"protocol": "mqtt"}, "protocol is 'mqtt'; allowed are framed and stomp"),
        ({"protocol": "framed", "login": "me"}, "the framed protocol cannot send a login"),
        (
            {"protocol": "framed", "passcode": "x"},
            "the framed protocol cannot send a login or passcode; protocol='stomp' can",
        ),
        ({"protocol": "stomp", "login": "a\nb"}, "login cannot be written in CONNECT"),
        ({"protocol": "stomp", "heart_beat_seconds": 0}, "heart_beat_seconds is 0; more than 0 is allowed, or None"),
        ({"protocol": "stomp", "heart_beat_seconds": float("nan")}, "heart_beat_seconds is nan"),
    ],
)
async def test_what_cannot_be_asked_for(servers: ScriptedServers, arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        async with connect(**arguments):  # type: ignore[call-overload]  # wrong on purpose
            pass
    assert not servers.all


async def test_entering_is_cancelled_at_every_moment(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """Whatever was opened is closed."""
    entered = 0
    for moment in range(30):
        servers.network.write_bytes_max = 7
        async with cancelled_after(moment) as scope, connect(protocol="stomp"):
            entered += 1
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert all(stream.closed for stream in servers.network.ours)
    assert 0 < entered < 30


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (
            b"ERROR\nmessage:wrong passcode\n\nAsk Ann.\0",
            ServerRefused,
            "the server said: 'wrong passcode': 'Ask Ann.'",
        ),
        (b"", trio.BrokenResourceError, "the stream ended before a connection was made"),
        (b"CONN", trio.BrokenResourceError, "the stream ended inside a frame"),
        (b"HTTP/1.1 400 Bad Request\n\n\0", ProtocolViolation, "'HTTP/1.1 400 Bad Request' is not a command"),
        (b"CONNECTED\nversion:1.0\n\n\0", ProtocolViolation, "the server chose version '1.0'"),
        (b"CONNECTED\nversion:1.2\n\n\0MESSAGE\n\n\0", ProtocolViolation, "MESSAGE without message-id"),
    ],
)
async def test_a_server_that_does_not_want_us(
    autojump_clock: MockClock, servers: ScriptedServers, answer: bytes, error: type[Exception], text: str
) -> None:
    async def prepare(server: ScriptedServer) -> None:
        await server.stream.send_all(answer)
        await server.stream.send_eof()

    servers.prepare = prepare
    with pytest.raises(error, match=text):
        async with connect(protocol="stomp"):
            raise AssertionError("entered")
    assert servers.network.ours[0].closed


async def test_a_connection_that_breaks_before_it_is_made(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async def prepare(server: ScriptedServer) -> None:
        server.stream.reset()

    servers.prepare = prepare
    with pytest.raises(trio.BrokenResourceError, match="the connection broke"):
        async with connect(protocol="stomp"):
            raise AssertionError("entered")


async def test_nobody_there(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    servers.network.refusing = 1
    with pytest.raises(ConnectionRefusedError):
        async with connect(protocol="stomp"):
            pass


# -- leaving -----------------------------------------------------------------------------------------------------------


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
    with pytest.raises(trio.BrokenResourceError, match=r"^2 messages were not sent: the server took nothing for 7 s$"):
        async with connect(protocol="stomp", limits=limits) as client:
            servers.last.pause()
            await client.publish("/topic/x", bytes(1000))
            await client.publish("/topic/x", b"two")
    assert trio.current_time() == 7


async def test_leaving_says_when_the_connection_broke(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    servers.network.buffer_bytes = 100
    with pytest.raises(trio.BrokenResourceError, match=r"^1 messages were not sent: the connection broke"):
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


async def test_leaving_after_the_server_went_is_no_error_if_all_was_sent(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with connect(protocol="stomp") as client:
        await client.publish("/topic/x", b"sent")
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


# -- heart-beats -------------------------------------------------------------------------------------------------------


async def test_an_idle_client_beats_a_fifth_before_the_time(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    """The server, which expects 1 s at least, agrees to the client's 10 s; what else is sent counts as well."""
    async with connect(protocol="stomp", heart_beat_seconds=10) as client:

        async def beat() -> None:
            while True:
                await servers.last.stream.send_all(b"\n")
                await trio.sleep(10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(beat)
            await trio.sleep(20)
            await client.publish("/topic/x", b"")
            await trio.sleep(15)
            nursery.cancel_scope.cancel()
    assert servers.last.beats == [8, 16, 28]


@pytest.mark.parametrize("heart_beat_seconds", [None, 100_000.0])
async def test_without_heart_beats_silence_means_nothing(
    autojump_clock: MockClock, servers: ScriptedServers, heart_beat_seconds: float | None
) -> None:
    async with connect(protocol="stomp", heart_beat_seconds=heart_beat_seconds) as client:
        await trio.sleep(5000)
        await client.publish("/topic/x", b"", confirm=True)
    assert servers.last.beats == []


async def test_a_server_that_falls_silent_is_given_up(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """After twice the time agreed on, counted from the last that came; whoever waits is told at once."""
    async with connect(protocol="stomp", heart_beat_seconds=10) as client:
        async with client.subscribe("/topic/x") as subscription:
            await trio.sleep(5)
            await servers.last.stream.send_all(b"\n")
            with pytest.raises(trio.BrokenResourceError, match="the server was silent for 20 s"):
                await subscription.receive()
            assert trio.current_time() == 25
        await trio.sleep(75)
        assert servers.last.beats == [8, 16, 24]  # nothing more is said to it
        with pytest.raises(trio.BrokenResourceError, match="the server was silent for 20 s"):
            await client.publish("/topic/x", b"")
    assert trio.current_time() == 100


async def test_bytes_of_an_unfinished_frame_are_signs_of_life(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with silent_server(servers) as server:
        for byte in b"RECEIPT\nreceipt-id:unknown\n\n\0":
            await server.stream.send_all(bytes([byte]))
            await trio.sleep(19)


# -- how an end is told ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "error", "received"),
    [
        (b"ERROR\nmessage:no\n\n\0", ServerRefused, ServerRefused),
        (b"", trio.BrokenResourceError, trio.EndOfChannel),
        (b"MESS", trio.BrokenResourceError, trio.BrokenResourceError),
        (b"NONSENSE\n\n\0", ProtocolViolation, ProtocolViolation),
    ],
)
async def test_all_who_wait_hear_of_the_end_at_once(
    autojump_clock: MockClock,
    servers: ScriptedServers,
    end: bytes,
    error: type[Exception],
    received: type[Exception],
) -> None:
    """Those who wait, and whoever comes later."""
    async with connect(protocol="stomp") as client:
        server = servers.last
        async with client.subscribe("/topic/x") as subscription:
            server.answers = False
            receipt = (await client.reserve()).send("/topic/x", b"")

            async def enter() -> None:
                async with client.subscribe("/topic/y"):
                    pass

            async def commit() -> None:
                async with client.transaction():
                    pass

            waits: dict[str, Callable[[], Awaitable[object]]] = {
                "receive": subscription.receive,
                "confirmed": receipt.confirmed,
                "subscribe": enter,
                "commit": commit,
                "confirm": lambda: client.publish("/topic/x", b"", confirm=True),
                "request": lambda: client.request("/topic/x", b""),
            }
            expected = {name: received if name == "receive" else error for name in waits}
            told: dict[str, type[Exception]] = {}

            async def tell(name: str) -> None:
                try:
                    await waits[name]()
                except Exception as caught:  # noqa: BLE001  it is looked at below
                    told[name] = type(caught)

            async with trio.open_nursery() as nursery:
                for name in waits:
                    nursery.start_soon(tell, name)
                await wait_all_tasks_blocked()
                assert told == {}
                await server.stream.send_all(end)
                await server.stream.send_eof()
            assert told == expected
            told.clear()
            for name in waits:
                await tell(name)
            assert told == expected
    assert trio.current_time() == 0


async def test_publishers_in_line_hear_of_the_end(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    told = 0
    servers.network.buffer_bytes = 100
    with pytest.raises(trio.BrokenResourceError, match="1 messages were not sent"):
        async with connect(protocol="stomp", limits=Limits(mailbox_bytes_max=1)) as client:
            servers.last.pause()
            await client.publish("/topic/x", bytes(1000))

            async def publish() -> None:
                nonlocal told
                with pytest.raises(trio.BrokenResourceError, match="the connection broke"):
                    await client.publish("/topic/x", b"waits")
                told += 1

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(publish)
                await wait_all_tasks_blocked()
                servers.last.stream.reset()
    assert told == 3
    assert trio.current_time() == 0


async def test_why_the_server_stopped_reading_is_found_out(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """A write fails before what the server said is read: the error says what it said, not that the write failed."""
    servers.network.buffer_bytes = 10
    with pytest.raises(trio.BrokenResourceError, match="1 messages were not sent: the server said: 'enough'"):
        async with connect(protocol="stomp") as client:
            server = servers.last
            server.pause()
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def publish() -> None:
                    with pytest.raises(ServerRefused, match="enough"):
                        await client.publish("/topic/x", bytes(1000), confirm=True)

                await wait_all_tasks_blocked()
                server.stream._receiving.broken = True  # its end is closed for what we send, and open for what it says
                server.stream._receiving.changed.unpark_all()
                await trio.sleep(1)
                await server.stream.send_all(b"ERROR\nmessage:enough\n\n\0")
                await server.stream.send_eof()


async def test_a_server_that_does_not_say_why_it_stopped_reading_is_not_waited_for_for_ever(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    servers.network.buffer_bytes = 10
    with pytest.raises(trio.BrokenResourceError, match="1 messages were not sent: the connection broke"):
        async with connect(protocol="stomp", limits=Limits(farewell_seconds_max=3), heart_beat_seconds=None) as client:
            servers.last.pause()
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def publish() -> None:
                    with pytest.raises(trio.BrokenResourceError, match="the connection broke"):
                        await client.publish("/topic/x", bytes(1000), confirm=True)

                await wait_all_tasks_blocked()
                servers.last.stream._receiving.broken = True
                servers.last.stream._receiving.changed.unpark_all()
    assert trio.current_time() == 3
