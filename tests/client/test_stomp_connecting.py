"""How a STOMP connection begins and is kept up: what is said to whom, who is not wanted, and heart-beats."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints

from tests.client.moments import cancelled_after
from tests.client.stomp_server import ScriptedServer, ScriptedServers
from trio_broker.client import Client, StompClient, connect
from trio_broker.errors import ProtocolViolation, ServerRefused
from trio_broker.wire.stomp_commands import Connect
from trio_broker.wire.stomp_heartbeat import HeartBeat


@asynccontextmanager
async def silent_server(servers: ScriptedServers) -> AsyncIterator[ScriptedServer]:
    """A connection whose server has said CONNECTED and says nothing more of its own accord."""
    async with connect(protocol="stomp"):
        yield servers.last


# -- entering ---------------------------------------------------------------------------------------------------------


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


# -- heart-beats ------------------------------------------------------------------------------------------------------


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
