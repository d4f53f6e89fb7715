"""How all who wait hear that a STOMP connection has ended, and why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.stomp_server import ScriptedServers
from trio_broker.client import connect
from trio_broker.errors import ProtocolViolation, ServerRefused
from trio_broker.limits import Limits


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
                "over": client.raise_when_over,
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
    with pytest.raises(trio.BrokenResourceError, match="1 messages may not have been sent"):
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
    with pytest.raises(trio.BrokenResourceError, match="1 messages may not have been sent: the server said: 'enough'"):
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
    with pytest.raises(trio.BrokenResourceError, match="1 messages may not have been sent: the connection broke"):
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
