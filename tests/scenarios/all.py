"""All scenarios for our own house, and how much of each the tests explore."""

from __future__ import annotations

import functools
from typing import Final

from tests.scenarios import (
    client,
    core,
    ending,
    goodbye,
    server,
    settling,
    stomp,
    stomp_client,
    stomp_client_connecting,
    stomp_client_ends,
    stomp_client_transactions,
    stomp_client_waits,
    stomp_ends,
    stomp_waiting,
    tcp,
    tcp_ends,
)
from trio_broker.explorer import Exploration, explore
from trio_broker.explorer.result import Scenario

SCENARIOS: Final = (
    *core.SCENARIOS,
    *settling.SCENARIOS,
    *server.SCENARIOS,
    *ending.SCENARIOS,
    *goodbye.SCENARIOS,
    *tcp.SCENARIOS,
    *tcp_ends.SCENARIOS,
    *stomp.SCENARIOS,
    *stomp_ends.SCENARIOS,
    *stomp_waiting.SCENARIOS,
    *client.SCENARIOS,
    *stomp_client.SCENARIOS,
    *stomp_client_transactions.SCENARIOS,
    *stomp_client_waits.SCENARIOS,
    *stomp_client_connecting.SCENARIOS,
    *stomp_client_ends.SCENARIOS,
)

WATCH: Final = "trio_broker"
ROOMS: Final = ("trio_broker.core", "trio_broker.server", "trio_broker.client")
"""The rooms whose await sites must all be reached."""

SMALL: Final = {
    *core.SCENARIOS,
    *settling.SCENARIOS,
    *tcp.SCENARIOS,
    *tcp_ends.SCENARIOS,
    ending.a_connection_that_comes_with_the_drain,
    ending.drain_stuck,
}
"""For these the tests take second cancels and another schedule too; `scripts/explore --all` does it for all."""


def name_of(scenario: Scenario) -> str:
    """Where a scenario is, as the command line wants it."""
    return f"{scenario.__module__}:{scenario.__name__}"


@functools.cache
def share(scenario: Scenario) -> Exploration:
    """The share of a scenario's runs that the tests do."""
    small = scenario in SMALL
    return explore(scenario, watch=WATCH, seeds=1 if small else 0, turns=False, double=small)


def in_full(scenario: Scenario, seeds: int) -> Exploration:
    """All of a scenario's runs."""
    return explore(scenario, watch=WATCH, seeds=seeds)
