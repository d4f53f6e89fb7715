"""What all tests share: how Hypothesis searches, and a bench to put a broker on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.core.helpers import Bench

# A background job is started with SIGINT ignored, and hands that on to its children: many a test here interrupts one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A test that fails must fail again: the same examples each time. `pytest --hypothesis-profile=explore` looks further.
settings.register_profile(
    "same", derandomize=True, deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore", deadline=None, max_examples=5000, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("same")


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    """Make a `Bench` with ``bench(mailbox_bytes_max=..., ...)``; at the end its account must be at 0."""
    with ExitStack() as stack:

        def make(**limits: Any) -> Bench:
            return stack.enter_context(Bench(**limits))

        yield make
