"""What a bug and its cure have to show under exploration, and what several test modules explore."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trio_broker.explorer import Exploration, ScenarioFailed, explore, replay
from trio_broker.explorer.plan import Plan
from trio_broker.explorer.result import Scenario

JOBS = [1, 2, 3]  # what the planted hazards work on


def failing(
    scenario: Scenario, *, axis: str, error: type[BaseException] = AssertionError, match: str = "", **options: Any
) -> Exploration:
    """Explore a scenario in which something does not hold: the first failure is of this axis, and can be repeated."""
    result = explore(scenario, seeds=3, **options)
    assert result.failures
    first = result.failures[0]
    assert Plan.parse(first.token).axis == axis, first
    assert isinstance(first.error, error), first
    assert match in str(first.error)
    assert first.what
    with pytest.raises(type(first.error)) as caught:
        replay(scenario, first.token)
    assert str(caught.value).splitlines()[:1] == str(first.error).splitlines()[:1]  # further down are addresses
    return result


def giving_up(scenario: Scenario, *, axis: str, match: str, **options: Any) -> Exploration:
    """The same for what the scenario does not say by itself."""
    return failing(scenario, axis=axis, error=ScenarioFailed, match=match, failures_max=2, **options)


def holding(scenario: Scenario, **options: Any) -> Exploration:
    """Explore a scenario in which everything holds."""
    result = explore(scenario, seeds=3, **options)
    assert result.failures == []
    assert result.runs["cancel"] > 0
    return result


def tokens(result: Exploration) -> list[Plan]:
    """The plans of all failures."""
    return [Plan.parse(failure.token) for failure in result.failures]


async def two_tasks() -> None:
    """What most tests explore: a few steps, two tasks, two scopes."""

    async def child() -> None:
        for _ in range(2):
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(child, name="child")
        await trio.lowlevel.checkpoint()


async def breaks_when_cancelled() -> None:
    """The same with a defect: whatever ends it early, another error comes of it."""
    is_done = False
    try:
        await two_tasks()
        is_done = True
    finally:
        if not is_done:
            raise ZeroDivisionError
