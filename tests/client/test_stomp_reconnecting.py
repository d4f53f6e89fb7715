"""Work that is done again when its connection was lost: what is repeated, what is not, and when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.stomp_server import ScriptedServer, ScriptedServers
from trio_broker.client import BackOff, StompClient, run_reconnecting
from trio_broker.errors import ServerRefused
from trio_broker.limits import Limits
from trio_broker.wire.stomp_commands import Subscribe

Work = Callable[[StompClient], Awaitable[None]]


async def consume(client: StompClient) -> None:
    async with client.subscribe("/queue/x") as jobs:
        async for _ in jobs:
            pass
    raise AssertionError("an end in order ended the loop")


async def consume_in_tasks(client: StompClient) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume, client)
        nursery.start_soon(consume, client)


async def confirm(client: StompClient) -> None:
    await client.publish("/topic/x", b"", confirm=True)
    await trio.sleep_forever()


async def ends(server: ScriptedServer) -> None:
    await server.stream.send_eof()


async def breaks(server: ScriptedServer) -> None:
    server.stream.reset()
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("work", [consume, consume_in_tasks])
@pytest.mark.parametrize("how", [ends, breaks])
async def test_work_begins_again_with_a_new_connection(
    autojump_clock: MockClock, servers: ScriptedServers, work: Work, how: Callable[[ScriptedServer], Awaitable[None]]
) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def run() -> None:
            await run_reconnecting(work, heart_beat_seconds=None, back_off=BackOff(first_seconds=8, longest_seconds=60))

        for number in range(3):
            server = await servers.next(number)
            began = trio.current_time()
            await server.next(Subscribe)
            await wait_all_tasks_blocked()
            await how(server)
            await trio.sleep(2**number * 4 - 0.1)
            assert len(servers.all) == number + 1
            await trio.sleep(2**number * 4 + 0.2)
            assert len(servers.all) == number + 2
            assert trio.current_time() < began + 60
        nursery.cancel_scope.cancel()
    assert all(stream.closed for stream in servers.network.ours)


async def test_what_is_refused_at_first_is_tried_again(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    servers.network.refusing = 5

    async def work(client: StompClient) -> str:
        await client.publish("/topic/x", b"", confirm=True)
        return "done"

    assert await run_reconnecting(work, back_off=BackOff(first_seconds=1, longest_seconds=4)) == "done"
    assert (1 + 2 + 4 + 4 + 4) / 2 <= trio.current_time() <= 1 + 2 + 4 + 4 + 4
    assert len(servers.all) == 1


async def test_a_connection_that_stood_for_long_makes_a_new_beginning(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    servers.network.refusing = 3
    times: list[float] = []

    async def work(client: StompClient) -> None:
        times.append(trio.current_time())
        if len(times) == 3:
            return
        await trio.sleep(100 if len(times) == 1 else 10)
        servers.last.stream.reset()
        await client.publish("/topic/x", b"", confirm=True)

    await run_reconnecting(work, heart_beat_seconds=None, back_off=BackOff(first_seconds=2, longest_seconds=50))
    assert 1 <= times[1] - times[0] - 100 <= 2
    assert 2 <= times[2] - times[1] - 10 <= 4


async def test_enough_failures_in_a_row_are_enough(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    servers.network.refusing = 100
    with pytest.raises(ConnectionRefusedError):
        await run_reconnecting(consume, back_off=BackOff(failures_max=4))
    assert servers.network.refusing == 96


async def test_an_error_of_the_work_is_not_a_loss(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """Not even one that looks like it, while the connection stands."""

    async def fail(error: Exception) -> None:
        async def work(client: StompClient) -> None:
            raise error

        with pytest.raises(type(error)):
            await run_reconnecting(work)

    for error in (
        ZeroDivisionError(),
        FileNotFoundError(),
        trio.BrokenResourceError("of another stream"),
        ExceptionGroup("", [trio.BrokenResourceError()]),
    ):
        await fail(error)
    assert len(servers.all) == 4


async def test_an_error_of_the_work_beside_the_loss_leaves(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async def work(client: StompClient) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consume, client)
            await servers.last.next(Subscribe)
            try:
                await trio.sleep_forever()
            finally:
                raise ZeroDivisionError

    wanted = pytest.RaisesGroup(ZeroDivisionError, trio.BrokenResourceError, flatten_subgroups=True)
    with wanted:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def cut() -> None:
                await wait_all_tasks_blocked()
                servers.last.stream.reset()

            await run_reconnecting(work, back_off=BackOff(failures_max=3))
    assert len(servers.all) == 1


@pytest.mark.parametrize("when", ["connecting", "working"])
async def test_what_the_server_refuses_is_not_tried_again(
    autojump_clock: MockClock, servers: ScriptedServers, when: str
) -> None:
    async def prepare(server: ScriptedServer) -> None:
        await server.stream.send_all(b"ERROR\nmessage:wrong passcode\n\n\0")

    if when == "connecting":
        servers.prepare = prepare
    else:
        servers.limits = Limits(subscriptions_max=1)

    async def work(client: StompClient) -> None:
        async with client.subscribe("/topic/x"), client.subscribe("/topic/y"):
            pass

    with pytest.raises(ServerRefused):
        await run_reconnecting(work, back_off=BackOff(failures_max=3))
    assert len(servers.all) == 1


async def test_work_that_has_returned_is_never_repeated(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """Although what it handed over could not be sent."""
    servers.network.buffer_bytes = 100

    async def work(client: StompClient) -> None:
        servers.last.pause()
        await client.publish("/topic/x", bytes(1000))
        servers.last.stream.reset()
        await wait_all_tasks_blocked()

    with pytest.raises(trio.BrokenResourceError, match="1 messages may not have been sent"):
        await run_reconnecting(work, back_off=BackOff(failures_max=3))
    assert len(servers.all) == 1


@pytest.mark.parametrize("seconds", [0.5, 1.5])
async def test_cancelled(autojump_clock: MockClock, servers: ScriptedServers, seconds: float) -> None:
    """While it works, and while it waits for the next attempt."""

    async def work(client: StompClient) -> None:
        await trio.sleep(1)
        servers.last.stream.reset()
        await confirm(client)

    with trio.move_on_after(seconds) as scope:
        await run_reconnecting(work, back_off=BackOff(first_seconds=100, longest_seconds=100))
    assert scope.cancelled_caught
    assert trio.current_time() == seconds
    assert all(stream.closed for stream in servers.network.ours)
    assert len(servers.all) == 1


def test_how_long_to_wait() -> None:
    back_off = BackOff(first_seconds=0.5, longest_seconds=3)
    for failures, longest in ((1, 0.5), (2, 1), (3, 2), (4, 3), (5, 3), (10_000, 3)):
        delays = [back_off.delay_seconds(failures) for _ in range(200)]
        assert longest / 2 <= min(delays) < 0.6 * longest
        assert 0.9 * longest < max(delays) <= longest


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"first_seconds": 0}, "first_seconds is 0 and longest_seconds 30.0; they must be more than 0"),
        ({"first_seconds": 31}, "the first not more than the longest"),
        ({"failures_max": 0}, "failures_max is 0; at least 1 is required, or None"),
    ],
)
def test_no_such_back_off(settings: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        BackOff(**settings)
