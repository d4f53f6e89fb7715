from collections.abc import AsyncIterator

import pytest
import trio

from tests.client.network import Network, replace_network


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """A network in memory. Whatever connects afterwards, to whatever address, arrives in it."""
    return replace_network(monkeypatch)


@pytest.fixture(autouse=True)
async def watchdog(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Give a test up that waits for what never comes. An autojump clock gets there at once, a frozen one never."""
    virtual = {"autojump_clock", "mock_clock"} & set(request.fixturenames)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_give_up, 100_000 if virtual else 60)
        yield
        nursery.cancel_scope.cancel()


async def _give_up(seconds: float) -> None:
    await trio.sleep(seconds)
    raise trio.TooSlowError(f"it waits for what never comes ({seconds} s)")
