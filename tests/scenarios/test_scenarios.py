"""Our own house under the explorer: a bounded share of all runs, which `scripts/explore --all` does in full."""

from __future__ import annotations

import pytest

from tests.scenarios import core, server
from trio_broker.explorer import Exploration, explore
from trio_broker.explorer.result import Scenario


def name_of(scenario: Scenario) -> str:
    return scenario.__name__


def assert_kept(exploration: Exploration) -> None:
    report = "\n".join(f"{failure.token}: {failure.what}: {failure.error!r}" for failure in exploration.failures)
    assert not exploration.failures, report


@pytest.mark.parametrize("scenario", core.SCENARIOS, ids=name_of)
def test_the_contract_of_the_core_holds_at_every_checkpoint(scenario: Scenario) -> None:
    exploration = explore(scenario, seeds=1, turns=False)
    assert_kept(exploration)
    assert exploration.runs["cancel"] > 50
    assert exploration.runs["interrupt"] > 5


@pytest.mark.parametrize("scenario", server.SCENARIOS, ids=name_of)
def test_the_contract_of_the_server_holds_at_every_checkpoint(scenario: Scenario) -> None:
    exploration = explore(scenario, seeds=1, turns=False, double=False)
    assert_kept(exploration)
    assert exploration.runs["cancel"] > 300
    assert exploration.runs["fault"] >= 40
