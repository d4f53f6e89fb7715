"""Our own server in memory for the STOMP client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.client.network import Network
from tests.server.house import House, open_house
from trio_broker.limits import Limits

__all__ = ["ENDS", "Planned", "end_so", "fill", "open_stomp_house", "take_all"]

ENDS = ["committed", "error", "cancelled"]
"""How a transaction ends."""


class Planned(Exception):
    """What a block raises."""


@asynccontextmanager
async def open_stomp_house(network: Network, limits: Limits | None = None) -> AsyncIterator[House]:
    """A broker and its server; whoever connects afterwards, to whatever address, is its peer."""
    async with open_house(limits) as house:
        network.on_arrival = house.listener.offer
        yield house


async def take_all(house: House, queue: str) -> list[tuple[bytes, bool]]:
    """What is in a queue, which is empty then: bodies, and whether somebody may have had them."""
    taken = []
    async with house.broker.subscribe(queue) as left:
        with trio.move_on_after(1):
            async for message in left:
                taken.append((message.body, message.redelivered))  # noqa: PERF401  it ends by being cancelled
    return taken


async def fill(house: House, count: int) -> None:
    """Publish so many messages to ``/queue/x``: 1, 2, 3 and so on."""
    for number in range(1, count + 1):
        await house.broker.publish("/queue/x", b"%d" % number)


async def end_so(how: str, scope: trio.CancelScope) -> None:
    """The end of a block that is cancelled with this scope."""
    if how == "error":
        raise Planned
    if how == "cancelled":
        scope.cancel()
        await trio.lowlevel.checkpoint()
