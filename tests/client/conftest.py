from collections.abc import AsyncIterator

import pytest
import trio

from tests.client.network import Network, replace_network

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


async def _give_up() -> None:
    await trio.sleep(HANG_SECONDS)
    raise trio.TooSlowError("it waits for what never comes")
