from collections.abc import Iterator

import pytest

from tests.server.house import Logs


@pytest.fixture(autouse=True)
def logs(caplog: pytest.LogCaptureFixture) -> Iterator[Logs]:
    """What the server logs. No test may make it log a traceback unless it says so."""
    caplog.set_level("INFO", logger="trio_broker")
    logs = Logs(caplog)
    yield logs
    assert len(logs.defects) == logs.defects_expected, [str(record.exc_info) for record in logs.defects]
