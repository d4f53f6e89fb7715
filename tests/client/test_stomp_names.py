"""Names and headers over STOMP: what would be another channel there, or would vanish on the way, is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.client.network import Network
from tests.client.stomp_house import open_stomp_house
from tests.client.stomp_server import ScriptedServers
from trio_broker.client import StompClient, connect
from trio_broker.errors import InvalidChannel
from trio_broker.headers import OWN_HEADERS
from trio_broker.wire.stomp_commands import Subscribe

Use = Callable[[StompClient, str], Awaitable[None]]


async def publish(client: StompClient, channel: str) -> None:
    await client.publish(channel, b"")


async def ask(client: StompClient, channel: str) -> None:
    await client.request(channel, b"")


async def subscribe(client: StompClient, channel: str) -> None:
    async with client.subscribe(channel):
        pass


async def bind(client: StompClient, channel: str) -> None:
    async with client.transaction() as transaction:
        await transaction.publish(channel, b"")


async def permit(client: StompClient, channel: str) -> None:
    with await client.reserve() as room:
        room.send(channel, b"")


USES = pytest.mark.parametrize("use", [publish, ask, subscribe, bind, permit])

# -- channels ----------------------------------------------------------------------------------------------------------


@USES
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("news", "over STOMP a name begins with '/', as in '/topic/news' and '/queue/jobs'"),
        ("queue/jobs", "over STOMP a name begins with '/'"),
        ("/" + "n" * 248, "the name has 256 bytes; 1 to 255 are allowed"),
        ("/topic/" + "n" * 249, "the name has 256 bytes; 1 to 255 are allowed"),
    ],
)
async def test_names_that_are_refused(
    autojump_clock: MockClock, servers: ScriptedServers, use: Use, name: str, text: str
) -> None:
    """With words that say what is allowed, and the client is as good as before."""
    async with connect() as client:
        with pytest.raises(InvalidChannel, match=text):
            await use(client, name)
        await client.publish("/topic/x", b"", confirm=True)
    assert not servers.last.all(Subscribe)
    assert servers.last.bodies == [b""]


@pytest.mark.parametrize("name", ["/topic/" + "n" * 248, "/queue/" + "n" * 248, "/" + "n" * 247])
async def test_the_longest_names(autojump_clock: MockClock, network: Network, name: str) -> None:
    """They are as long as the broker allows, the name of the queue included that it makes of the last one."""
    async with open_stomp_house(network), connect() as client, client.subscribe(name) as messages:
        await client.publish(name, b"x", confirm=True)
        assert (await messages.receive()).channel == name


async def test_other_names_are_queues(autojump_clock: MockClock, network: Network) -> None:
    """Also the name that is nobody's elsewhere."""
    async with open_stomp_house(network) as house, connect() as client:
        await client.publish("/null", b"1", confirm=True)
        await client.publish("/jobs", b"2", confirm=True)
        assert {name: each.kind for name, each in house.broker.statistics().channels.items()} == {
            "/queue//null": "queue",
            "/queue//jobs": "queue",
        }


# -- headers -----------------------------------------------------------------------------------------------------------

BAD: list[tuple[Any, type[Exception], str]] = [
    *(({name: "x"}, ValueError, f"^headers cannot contain {name}, which STOMP uses itself$") for name in OWN_HEADERS),
    ({"ack": "x", "redelivered": "x", "type": "t"}, ValueError, "cannot contain ack, redelivered, which"),
    ({"type": None}, TypeError, "^the header 'type': None is not of strings alone; names and values are str$"),
    ({1: "x"}, TypeError, "^the header 1: 'x' is not"),
    ({"type": b"x"}, TypeError, "^the header 'type': b'x' is not"),
]


@pytest.mark.parametrize(("headers", "error", "text"), BAD, ids=[repr(case[0]) for case in BAD])
async def test_headers_that_are_refused(
    autojump_clock: MockClock, network: Network, headers: Any, error: type[Exception], text: str
) -> None:
    """Over STOMP and in process alike; nothing was published, and the client is as good as before."""
    async with open_stomp_house(network) as house, connect() as client:
        with pytest.raises(error, match=text):
            await client.publish("/queue/x", b"", headers=headers)
        with pytest.raises(error, match=text):
            await client.request("/queue/x", b"", headers=headers)
        with pytest.raises(error, match=text):
            async with client.transaction() as transaction:
                await transaction.publish("/queue/x", b"", headers=headers)
        with await client.reserve() as room, pytest.raises(error, match=text):
            room.send("/queue/x", b"", headers=headers)
        with pytest.raises(error, match=text):
            await house.broker.publish("/queue/x", b"", headers=headers)
        with pytest.raises(error, match=text):
            house.broker.publish_nowait("/queue/x", b"", headers=headers)
        await client.publish("/topic/x", b"", confirm=True)
        assert not house.broker.statistics().channels


async def test_what_was_received_can_be_published_anew(autojump_clock: MockClock, network: Network) -> None:
    """With its headers, which are those of its publisher alone: over STOMP, in process, and back."""
    async with open_stomp_house(network) as house, connect() as client:
        async with house.broker.subscribe("/queue/b") as local:
            async with client.subscribe("/queue/a", ack="client-individual") as jobs:
                await client.publish("/queue/a", b"x", headers={"type": "t", "content-type": "text/plain"})
                (await jobs.receive()).nack()
                message = await jobs.receive()
                assert message.redelivered
                await client.publish("/queue/b", message.body, headers=message.headers, confirm=True)
                message.ack()
                message = await local.receive()
                await house.broker.publish("/queue/a", message.body, headers=message.headers)
                message = await jobs.receive()
                assert dict(message.headers) == {"type": "t", "content-type": "text/plain"}
                message.ack()


async def test_headers_of_a_server_that_passes_on_more(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    """Those that STOMP uses itself are not the message's, whatever a server makes of them."""
    async with connect() as client:
        server = servers.last
        async with client.subscribe("/queue/x") as jobs:
            place = await server.next(Subscribe)
            await server.send(
                f"MESSAGE\nsubscription:{place.id}\nmessage-id:1\ndestination:/queue/x\n"
                "receipt:1\ntransaction:t\ntype:t\n\n\0".encode()
            )
            with trio.fail_after(1):
                message = await jobs.receive()
            assert dict(message.headers) == {"type": "t"}
            await client.publish("/queue/y", b"", headers=message.headers, confirm=True)
