"""Checks afterwards: they run undisturbed however the scenario ended, and what comes of their errors."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from tests.explorer.helpers import breaks_when_cancelled, holding, two_tasks
from trio_broker.explorer import ScenarioFailed, afterwards, replay
from trio_broker.explorer.faults import next_operation
from trio_broker.explorer.network import Network
from trio_broker.explorer.plan import Plan
from trio_broker.explorer.run import run


def checked(scenario: Callable[[], Awaitable[object]], done: list[str]) -> Callable[[], Awaitable[None]]:
    async def with_check() -> None:
        async def check() -> None:
            await trio.lowlevel.checkpoint()
            await trio.sleep(1)
            done.append("checked")

        done.append("begun")
        afterwards(check)
        await scenario()

    return with_check


ALL_ENDS = ["spawn", "spawn/t0:1:after:1", "spawn/t1:1:before:0+2", "spawn/int:1", "spawn/int:3", "seed2"]


@pytest.mark.parametrize("token", ALL_ENDS)
@pytest.mark.parametrize("scenario", [two_tasks, breaks_when_cancelled])
def test_checks_run_undisturbed_however_the_scenario_ended(
    scenario: Callable[[], Awaitable[object]], token: str
) -> None:
    done: list[str] = []
    run(checked(scenario, done), Plan.parse(token))
    assert done == ["begun", "checked"]


def test_checks_run_after_a_deadlock_and_after_an_endless_run() -> None:
    async def endless() -> None:
        while True:  # noqa: ASYNC913  wrong on purpose
            with contextlib.suppress(trio.Cancelled):
                await trio.lowlevel.checkpoint()

    for scenario in (trio.sleep_forever, endless):
        done: list[str] = []
        base = run(two_tasks, Plan())  # for its number of steps
        result = run(checked(scenario, done), Plan.parse("spawn/int:99999999"), base=base)
        assert isinstance(result.failure, ScenarioFailed)
        assert done == ["begun", "checked"]


def test_checks_run_in_the_order_in_which_they_were_given() -> None:
    done: list[int] = []

    async def check(number: int) -> None:
        done.append(number)

    async def scenario() -> None:
        for number in range(3):
            afterwards(partial(check, number))

    assert run(scenario, Plan()).failure is None
    assert done == [0, 1, 2]


@pytest.mark.parametrize("token", ["spawn/t0:1:after:1", "spawn/int:2", "spawn/io:0:reset"])
def test_a_check_that_fails_is_reported(token: str) -> None:
    async def scenario() -> None:
        is_disturbed = True

        async def check() -> None:
            assert not is_disturbed, "it was"

        afterwards(check)
        is_disturbed = next_operation() is not None
        if not is_disturbed:
            is_disturbed = True
            await two_tasks()
            is_disturbed = False

    assert run(scenario, Plan()).failure is None
    with pytest.raises(AssertionError, match="it was"):
        replay(scenario, token)


def test_a_check_that_fails_tells_how_the_scenario_had_ended() -> None:
    async def check() -> None:
        raise LookupError

    async def scenario() -> None:
        afterwards(check)
        raise ZeroDivisionError("first")

    failure = run(scenario, Plan()).failure
    assert isinstance(failure, LookupError)
    assert "ZeroDivisionError('first')" in failure.__notes__[0]


def test_a_check_that_waits_for_ever_fails() -> None:
    async def scenario() -> None:
        afterwards(trio.sleep_forever)

    assert isinstance(run(scenario, Plan()).failure, trio.TooSlowError)


def test_a_check_is_not_counted_and_no_fault_happens_in_it() -> None:
    network = Network()

    async def check() -> None:
        async with network.listen(80), await network.connect(80):
            pass
        assert next_operation() is None

    async def scenario() -> None:
        afterwards(check)
        next_operation()
        await trio.lowlevel.checkpoint()

    assert run(scenario, Plan()).operations == 1
    holding(scenario)


def test_checks_do_not_pass_from_one_run_to_the_next() -> None:
    ran: list[str] = []

    async def check() -> None:
        ran.append("check")

    async def with_check() -> None:
        afterwards(check)

    run(with_check, Plan())
    run(two_tasks, Plan())
    assert ran == ["check"]


def test_afterwards_is_harmless_outside_of_an_exploration() -> None:
    async def check() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        afterwards(check)
        await trio.lowlevel.checkpoint()

    afterwards(check)
    trio.run(main)
