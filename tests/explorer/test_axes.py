"""The axes of an exploration: which runs there are, for which tasks, and that each axis finds what it is for."""

from __future__ import annotations

import pytest
import trio

from tests.explorer.helpers import breaks_when_cancelled, failing, two_tasks
from trio_broker.explorer import explore, replay
from trio_broker.explorer.faults import next_operation
from trio_broker.explorer.plan import Phase, Plan
from trio_broker.explorer.run import run


def test_runs_are_counted_by_axis() -> None:
    async def scenario() -> None:
        next_operation()
        await two_tasks()

    result = explore(scenario, seeds=2)
    spawn = run(scenario, Plan())
    moments = len(spawn.moments)
    inner = sum(moment.scopes - 1 for moment in spawn.moments)
    turns = sum(size - 1 for size in spawn.choices)
    assert result.failures == []
    assert set(result.runs) == {"schedule", "cancel", "second cancel", "interrupt", "fault"}
    assert result.runs["schedule"] == 2 * (1 + 2 + turns)
    assert result.runs["second cancel"] == 4 * inner
    assert result.runs["interrupt"] == spawn.steps
    assert result.runs["fault"] == 4
    assert result.runs["cancel"] > moments + inner


def test_axes_can_be_left_out() -> None:
    result = explore(two_tasks, seeds=0, faults=False, double=False, interrupts=False)
    assert set(result.runs) == {"schedule", "cancel"}


def test_every_moment_of_every_task_is_a_moment_of_the_run() -> None:
    result = run(two_tasks, Plan())
    by_task = {
        task: [(moment.step, moment.phase, moment.scopes) for moment in result.moments if moment.task == task]
        for task in (0, 1)
    }
    after, before = Phase.AFTER, Phase.BEFORE
    assert by_task[1] == [(1, after, 2), (1, before, 2), (2, after, 2), (2, before, 2)]
    assert by_task[0] == [(1, after, 2), (1, before, 2), (2, after, 2), (2, before, 2)]
    assert result.names[1] == "child"
    assert result.steps == 6 - 1  # the last step of the scenario ends it


def test_tasks_can_be_chosen_by_their_names() -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            for name in ("red", "green", "dark green"):
                nursery.start_soon(trio.sleep, 1, name=name)

    assert set(run(scenario, Plan()).names[1:]) == {"red", "green", "dark green"}
    every = explore(scenario, seeds=0, interrupts=False)
    green = explore(scenario, seeds=0, interrupts=False, tasks=["green"])
    red = explore(scenario, seeds=0, interrupts=False, tasks=["red"])
    both = explore(scenario, seeds=0, interrupts=False, tasks=["green", "red"])
    nobody = explore(scenario, seeds=0, interrupts=False, tasks=[])
    assert green.runs["cancel"] == 2 * red.runs["cancel"] > 0
    assert both.runs["cancel"] == green.runs["cancel"] + red.runs["cancel"] < every.runs["cancel"]
    assert nobody.runs["cancel"] == 0


def test_a_failure_under_a_schedule_alone_is_found() -> None:
    async def scenario() -> None:
        order: list[int] = []

        async def child(number: int) -> None:
            order.append(number)
            await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(child, number)
        assert order[0] == 0

    result = failing(
        scenario, axis="schedule", failures_max=3, tasks=["nobody"], faults=False, double=False, interrupts=False
    )
    for failure in result.failures:
        assert "tasks ordered by" in failure.what


def test_a_single_turn_is_enough_for_what_depends_on_one_order() -> None:
    async def scenario() -> None:
        first: list[str] = []

        async def child(name: str) -> None:
            await trio.sleep(1)
            first.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, "a")
            nursery.start_soon(child, "b")
        assert first[0] == "a"

    result = explore(scenario, seeds=0, tasks=["nobody"], interrupts=False)
    assert [Plan.parse(failure.token).schedule.by for failure in result.failures] == [1]
    with pytest.raises(AssertionError):
        replay(scenario, result.failures[0].token)


def test_in_a_single_turn_each_task_goes_first_once() -> None:
    async def scenario() -> None:
        first: list[int] = []

        async def child(number: int) -> None:
            await trio.sleep(1)
            first.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(child, number)
        assert first[0] != 3

    result = explore(scenario, seeds=0, tasks=["nobody"], interrupts=False)
    assert [Plan.parse(failure.token).schedule.by for failure in result.failures] == [3]


def test_exploring_stops_at_so_many_failures() -> None:
    for failures_max in (1, 3):
        result = explore(breaks_when_cancelled, failures_max=failures_max)
        assert len(result.failures) == failures_max
    assert len(explore(breaks_when_cancelled).failures) == 20


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    result = explore(two_tasks, seeds=1, progress=lambda done, planned: told.append((done, planned)))
    done = [done for done, _ in told]
    assert done == list(range(1, len(done) + 1))
    assert done[-1] == told[-1][1] == sum(result.runs.values()) - result.runs["schedule"]
    assert all(done <= planned for done, planned in told)
    assert sorted(planned for _, planned in told) == [planned for _, planned in told]
