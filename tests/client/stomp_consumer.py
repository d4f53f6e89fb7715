"""A client with one subscription over STOMP, and what its server has heard of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.client.stomp_server import ScriptedServer, ScriptedServers
from trio_broker.client import StompClient, StompSubscription, connect
from trio_broker.limits import Limits
from trio_broker.message import Message
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
    """The next so many messages."""
    return [await subscription.receive() for _ in range(count)]


def settled(server: ScriptedServer) -> list[StompCommand]:
    """What the client said since it subscribed."""
    return [command for command in server.commands if isinstance(command, Ack | Nack | Unsubscribe | Publish)]


async def heard(client: StompClient) -> None:
    """The server has dealt with all that was said."""
    await client.publish("/topic/heard", b"", confirm=True)
