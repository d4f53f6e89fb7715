from collections.abc import AsyncIterator

import pytest
import trio

from tests.client.network import Network, replace_network
from tests.client.stomp_server import ScriptedServers

HANG_SECONDS = 100_000.0


@pytest.fixture
async def network(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Network]:
    """A network in memory. Whatever connects afterwards, to whatever address, arrives in it.

    A test that waits for what never comes is given up, at once by the autojump clock.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_give_up)
        yield replace_network(monkeypatch)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def servers(network: Network) -> AsyncIterator[ScriptedServers]:
    """A network in memory in which every connection reaches a scripted STOMP server."""
    async with trio.open_nursery() as nursery:
        yield ScriptedServers(network, nursery)
        nursery.cancel_scope.cancel()


async def _give_up() -> None:
    await trio.sleep(HANG_SECONDS)
    raise trio.TooSlowError("it waits for what never comes")
