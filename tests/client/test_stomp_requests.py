"""Requests with STOMP: each gets its own answer, and an answer that nobody waits for is thrown away."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.client.moments import cancelled_after
from tests.client.stomp_server import ScriptedServer, ScriptedServers
from trio_broker.client import connect
from trio_broker.message import Message
from trio_broker.wire.stomp_commands import Ack, Nack, Publish


async def answer(server: ScriptedServer, request: Message, body: bytes, more: str = "") -> None:
    """As the broker sends an answer: to a subscription that has the name that was asked for."""
    head = f"subscription:{request.headers['reply-to']}\ndestination:/temp-queue/opaque-1\nmessage-id:1\n{more}"
    correlation = f"correlation-id:{request.headers['correlation-id']}\ncontent-length:{len(body)}\n"
    await server.stream.send_all(f"MESSAGE\n{head}{correlation}\n".encode() + body + b"\0")


async def requests(server: ScriptedServer, count: int) -> list[Message]:
    """That many, when they have come."""
    while len(server.messages) < count:
        await server.next(Publish, len(server.all(Publish)))
    return server.messages


async def test_each_gets_its_own_answer(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    answers: dict[str, Message] = {}
    async with connect(protocol="stomp") as client:
        server = servers.last

        async def ask(name: str) -> None:
            with assert_checkpoints():
                answers[name] = await client.request("/queue/ask", name.encode(), headers={"type": name})

        async with trio.open_nursery() as nursery:
            for name in ("a", "b", "c"):
                nursery.start_soon(ask, name)
            for request in reversed(await requests(server, 3)):
                assert request.body.decode() == request.headers["type"]
                assert request.headers["reply-to"].startswith("/temp-queue/")
                await answer(server, request, b"re: " + request.body)
    assert {name: message.body for name, message in answers.items()} == {"a": b"re: a", "b": b"re: b", "c": b"re: c"}


async def test_a_late_answer_and_a_second_one_are_thrown_away(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with connect(protocol="stomp") as client:
        server = servers.last
        with trio.move_on_after(2) as scope:
            await client.request("/queue/ask", b"1")
        assert scope.cancelled_caught
        assert client._replies is not None
        assert not client._replies._expected  # what was given up holds nothing, answered or not
        (first,) = await requests(server, 1)
        await answer(server, first, b"late")
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def ask() -> None:
                assert (await client.request("/queue/ask", b"2")).body == b"in time"

            _, second = await requests(server, 2)
            await answer(server, second, b"in time")
            await answer(server, second, b"again")
        assert server.bodies == [b"1", b"2"]
        await client.publish("/topic/heard", b"", confirm=True)
        assert not server.all(Nack)


@pytest.mark.parametrize("moment", range(8))
async def test_cancelled_at_every_moment_it_is_published_once_or_not_at_all(
    autojump_clock: MockClock, servers: ScriptedServers, moment: int
) -> None:
    """And an answer that has come is returned, although the cancellation came in the same moment."""
    async with connect(protocol="stomp") as client:
        server = servers.last
        got: list[bytes] = []

        async def answer_if_asked() -> None:
            if server.messages:
                await answer(server, server.messages[0], b"answer")

        async with cancelled_after(moment, answer_if_asked):
            got.append((await client.request("/queue/ask", b"1")).body)
        with trio.fail_after(1):
            await client.publish("/topic/x", b"2", confirm=True)
        assert server.bodies in ([b"1", b"2"], [b"2"])
        assert got in ([], [b"answer"])


async def test_an_answer_that_is_to_be_acknowledged_is(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(protocol="stomp") as client, trio.open_nursery() as nursery:
        server = servers.last

        @nursery.start_soon
        async def reply() -> None:
            (request,) = await requests(server, 1)
            await answer(server, request, b"yes", "ack:77\n")

        message = await client.request("/queue/ask", b"1")
        message.ack()  # there is nothing to settle for the program
        await client.publish("/topic/heard", b"", confirm=True)
        assert server.all(Ack) == [Ack(None, 77)]


async def test_its_own_headers_are_not_to_be_given(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(protocol="stomp") as client:
        for name in ("reply-to", "correlation-id"):
            with pytest.raises(ValueError, match=f"headers cannot contain {name}, which a request sets itself"):
                await client.request("/queue/ask", b"1", headers={name: "x"})
        await wait_all_tasks_blocked()
    assert servers.last.messages == []
