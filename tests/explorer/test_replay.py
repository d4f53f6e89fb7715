"""A token repeats its run, and a run that cannot be repeated is no success."""

from __future__ import annotations

import sys

import pytest
import trio

from tests.explorer.helpers import breaks_when_cancelled, two_tasks
from trio_broker.explorer import NotExplorable, ScenarioFailed, explore, replay
from trio_broker.explorer.plan import Cancel, Phase, Plan, Schedule
from trio_broker.explorer.run import run

# -- replay -----------------------------------------------------------------------------------------------------------


def test_each_failure_can_be_repeated() -> None:
    result = explore(breaks_when_cancelled, seeds=2, failures_max=1000)
    assert {Plan.parse(failure.token).axis for failure in result.failures} == {"cancel", "second cancel", "interrupt"}
    for failure in result.failures:
        with pytest.raises(type(failure.error)):
            replay(breaks_when_cancelled, failure.token)
    assert len({failure.token for failure in result.failures}) == len(result.failures)


@pytest.mark.parametrize("token", ["spawn", "seed3", "turn0.1", "spawn/t0:1:after:0", "spawn/int:1"])
def test_a_run_that_does_not_fail_can_be_repeated_too(token: str) -> None:
    replay(two_tasks, token)


@pytest.mark.parametrize(
    "token",
    [
        "spawn/t9:1:after:0",
        "spawn/t0:99:after:0",
        "spawn/t0:1:after:9",
        "seed1/t0:99:before:0+1",
        "spawn/int:99",
        "spawn/io:0:reset",
    ],
)
def test_a_disturbance_that_never_happens_is_no_success(token: str) -> None:
    with pytest.raises(NotExplorable, match="never came there"):
        replay(two_tasks, token)


def test_of_the_run_before_the_disturbed_one_nothing_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        sys.stdout.write("out\n")
        sys.stderr.write("err\n")
        await trio.lowlevel.checkpoint()

    replay(scenario, "spawn/t0:1:after:0")
    assert capsys.readouterr() == ("out\n", "err\n")
    replay(scenario, "spawn")
    assert capsys.readouterr() == ("out\n", "err\n")


def test_a_second_cancellation_is_told_in_words() -> None:
    failures = explore(breaks_when_cancelled, failures_max=1000, seeds=0, turns=False).failures
    told = {failure.token.rpartition("+")[2]: failure.what for failure in failures if "+" in failure.token}
    assert told["1"].endswith(", and the outermost 1 step later")
    assert told["2"].endswith(", and the outermost 2 steps later")


def test_a_bad_token_is_refused() -> None:
    with pytest.raises(ValueError, match="not a replay token"):
        replay(two_tasks, "spawn/now")


def test_an_endless_run_ends_when_it_is_repeated_too() -> None:
    async def scenario() -> None:
        try:
            await trio.sleep(1)
        except trio.Cancelled:  # noqa: ASYNC103  wrong on purpose
            while True:
                await trio.lowlevel.cancel_shielded_checkpoint()

    result = explore(scenario, failures_max=1)
    with pytest.raises(ScenarioFailed, match="steps and did not end"):
        replay(scenario, result.failures[0].token)


# -- one run ----------------------------------------------------------------------------------------------------------


def test_the_same_plan_gives_the_same_run() -> None:
    for plan in (Plan(), Plan(Schedule(seed=4)), Plan(Schedule(), Cancel(1, 1, Phase.BEFORE, 0))):
        first, second = run(two_tasks, plan), run(two_tasks, plan)
        assert first.moments == second.moments
        assert first.choices == second.choices
        assert first.steps == second.steps
