"""How a program that only waits hears that its connection is over; how it sees what has not left."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Literal

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.moments import cancelled_after
from tests.client.network import Network
from trio_broker.client import Client, StompClient, connect
from trio_broker.errors import ServerRefused

Name = Literal["framed", "stomp"]


@pytest.fixture(params=["framed", "stomp"])
async def protocol(request: pytest.FixtureRequest, network: Network) -> AsyncIterator[Name]:
    """That of the client. From its connection nothing is read but CONNECT."""

    async def welcome() -> None:
        server = await network.next()
        await server.receive_some(65_536)
        await server.send_all(b"CONNECTED\nversion:1.2\n\n\0")

    async with trio.open_nursery() as nursery:
        if request.param == "stomp":
            nursery.start_soon(welcome)
        yield request.param
        nursery.cancel_scope.cancel()


def connected(protocol: Name) -> AbstractAsyncContextManager[Client | StompClient]:
    return connect(protocol=protocol, heart_beat_seconds=None)


async def told(client: Client | StompClient) -> tuple[float, Exception]:
    """When it is over, and why."""
    try:
        await client.raise_when_over()
    except (trio.BrokenResourceError, trio.ClosedResourceError, ServerRefused) as error:
        return trio.current_time(), error


async def test_the_servers_end_is_told_at_once_and_again(
    autojump_clock: MockClock, network: Network, protocol: Name
) -> None:
    answers: list[tuple[float, Exception]] = []
    async with connected(protocol) as client:
        server = network.reached[0]

        async def wait() -> None:
            answers.append(await told(client))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await trio.sleep(3)
            assert not answers
            await server.send_eof()
        await wait()
    assert [time for time, _ in answers] == [3, 3, 3]
    for _, error in answers:
        assert type(error) is trio.BrokenResourceError
        assert re.fullmatch("the (broker|server) closed the connection", str(error))


async def test_a_connection_that_breaks(autojump_clock: MockClock, network: Network, protocol: Name) -> None:
    async with connected(protocol) as client:
        server = network.reached[0]
        with pytest.RaisesGroup(trio.BrokenResourceError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.raise_when_over)
                await trio.sleep(3)
                server.close()
                await trio.sleep(3)
                raise AssertionError("the program has not heard of it")
    assert trio.current_time() == 3


async def test_leaving_the_block_is_told_too(autojump_clock: MockClock, network: Network, protocol: Name) -> None:
    """A task of a nursery around the block may wait on."""
    answers: list[tuple[float, Exception]] = []

    async def wait(client: Client | StompClient) -> None:
        answers.append(await told(client))

    async with trio.open_nursery() as nursery:
        async with connected(protocol) as client:
            nursery.start_soon(wait, client)  # noqa: ASYNC111  it outlives the block, that is what is tried
            await trio.sleep(3)
    assert [(time, type(error)) for time, error in answers] == [(3, trio.ClosedResourceError)]
    assert isinstance((await told(client))[1], trio.ClosedResourceError)


async def test_cancelled_only_the_waiting_ends(autojump_clock: MockClock, network: Network, protocol: Name) -> None:
    async with connected(protocol) as client:
        server = network.reached[0]
        for steps in (0, 1, 2, 3):
            async with cancelled_after(steps) as scope:
                await told(client)
            assert scope.cancelled_caught
        await server.send_eof()
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await told(client)
        assert scope.cancelled_caught  # it is a checkpoint even when there is nothing to wait for
        assert isinstance((await told(client))[1], trio.BrokenResourceError)


async def test_what_has_not_left_is_counted(autojump_clock: MockClock, network: Network, protocol: Name) -> None:
    network.buffer_bytes = 1000
    with pytest.raises(trio.BrokenResourceError, match="may not have been sent"):
        async with connected(protocol) as client:
            server = network.reached[0]
            assert client.unsent == 0
            for _ in range(3):
                await client.publish("/queue/a", bytes(600))
            assert client.unsent > 0
            await wait_all_tasks_blocked()
            left = client.unsent
            assert left > 0
            await server.receive_some(600)
            await server.receive_some(2000)
            await wait_all_tasks_blocked()
            assert client.unsent < left
            for _ in range(3):
                await client.publish("/queue/a", bytes(600))
            await server.send_eof()
            await told(client)
            assert client.unsent > 0
