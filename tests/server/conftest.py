from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from tests.server.house import Logs


@pytest.fixture(autouse=True)
def logs(caplog: pytest.LogCaptureFixture) -> Iterator[Logs]:
    """What the server logs. No test may make it log a traceback unless it says so."""
    caplog.set_level("INFO", logger="trio_broker")
    logs = Logs(caplog)
    yield logs
    assert len(logs.defects) == logs.defects_expected, [str(record.exc_info) for record in logs.defects]


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
