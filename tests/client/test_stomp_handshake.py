"""A connection that is not made in time, over STOMP: it ends as one that broke, which another attempt may mend."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from tests.client.moments import cancelled_after
from tests.client.stomp_server import ScriptedServer, ScriptedServers
from trio_broker.client import BackOff, StompClient, connect, run_reconnecting
from trio_broker.errors import ServerRefused
from trio_broker.limits import Limits

LIMITS = Limits(handshake_seconds_max=7)
LATE = "the server did not answer CONNECT within 7 s"


async def says_nothing(server: ScriptedServer) -> None:
    await trio.sleep_forever()


async def says_it_piece_by_piece(server: ScriptedServer) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        for byte in b"CONNECTED\nversion:1.2\n\n\0":
            await trio.sleep(0.5)
            await server.stream.send_all(bytes([byte]))


@pytest.mark.parametrize("prepare", [says_nothing, says_it_piece_by_piece])
@pytest.mark.parametrize("buffer_bytes", [10, 65_536])
async def test_a_server_that_does_not_answer_in_time(
    autojump_clock: MockClock,
    servers: ScriptedServers,
    prepare: Callable[[ScriptedServer], Awaitable[None]],
    buffer_bytes: int,
) -> None:
    """Not even if it takes nothing of what is said to it."""
    servers.prepare = prepare
    servers.network.buffer_bytes = buffer_bytes
    with pytest.raises(trio.BrokenResourceError, match=LATE) as caught:
        async with connect(limits=LIMITS, heart_beat_seconds=None):
            raise AssertionError("entered")
    assert not isinstance(caught.value, ServerRefused)
    assert trio.current_time() == 7
    assert servers.network.ours[0].closed


async def test_an_answer_in_time_is_enough(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """The limit is for the greeting alone."""

    async def prepare(server: ScriptedServer) -> None:
        await trio.sleep(6.9)

    servers.prepare = prepare
    async with connect(limits=LIMITS, heart_beat_seconds=None) as client:
        await trio.sleep(100)
        await client.publish("/topic/x", b"", confirm=True)
    assert trio.current_time() == 106.9


async def test_silence_is_a_loss(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """Another attempt is made, until there were enough of them."""

    async def work(client: StompClient) -> str:
        await client.publish("/topic/x", b"", confirm=True)
        return "done"

    async def prepare(server: ScriptedServer) -> None:
        if len(servers.all) < 3:
            await trio.sleep_forever()

    back_off = BackOff(first_seconds=1, longest_seconds=1, failures_max=3)
    servers.prepare = prepare
    assert await run_reconnecting(work, limits=LIMITS, back_off=back_off) == "done"
    assert len(servers.all) == 3
    assert 15 <= trio.current_time() <= 16
    servers.prepare = says_nothing
    with pytest.raises(trio.BrokenResourceError, match=LATE):
        await run_reconnecting(work, limits=LIMITS, back_off=back_off)
    assert len(servers.all) == 6
    assert all(stream.closed for stream in servers.network.ours)


async def test_waiting_for_the_answer_is_cancelled(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    servers.prepare = says_nothing
    for steps in range(10):
        async with cancelled_after(steps) as scope, connect(limits=LIMITS):
            raise AssertionError("entered")
        assert scope.cancelled_caught
    assert trio.current_time() == 0
    assert all(stream.closed for stream in servers.network.ours)
