"""What comes of an error in a check at rest."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest
import trio

from tests.explorer.helpers import failing
from trio_broker.explorer import Endless, NotExplorable, Obstacle, afterwards, at_rest, disturbed, explore, replay
from trio_broker.explorer.network import Network
from trio_broker.explorer.plan import Plan
from trio_broker.explorer.run import run


def test_undisturbed_it_is_a_scenario_that_fails_by_itself() -> None:
    async def scenario() -> None:
        def check() -> None:
            assert trio.current_time() < 2, "late"

        at_rest(check)
        await trio.sleep(2)
        await trio.sleep(1)

    with pytest.raises(NotExplorable, match="fails without being disturbed") as caught:
        explore(scenario)
    assert caught.value.obstacle is Obstacle.FAILS
    assert isinstance(caught.value.__cause__, AssertionError)
    assert str(caught.value.__cause__).startswith("late")
    with pytest.raises(AssertionError, match="late"):
        replay(scenario, "spawn")


def test_under_a_schedule_alone_it_is_a_failure_with_the_schedule_for_its_token() -> None:
    async def scenario() -> None:
        order: list[int] = []

        async def child(number: int) -> None:
            order.append(number)

        def check() -> None:
            assert order in ([], [0, 1])

        at_rest(check)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, 0)
            nursery.start_soon(child, 1)
            await trio.sleep(1)

    failing(scenario, axis="schedule")


@pytest.mark.parametrize("token", ["spawn/t0:1:after:0", "spawn/t0:1:before:0", "spawn/int:1", "spawn/io:0:reset"])
def test_disturbed_it_is_the_failure_of_that_run(token: str) -> None:
    async def scenario() -> None:
        network = Network()

        def check() -> None:
            assert not disturbed(), "it was"

        at_rest(check)
        try:
            with suppress(OSError):
                async with network.listen(80), await network.connect(80):
                    await trio.sleep(1)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    with pytest.raises(AssertionError, match="it was"):
        replay(scenario, token)


def test_the_first_failure_is_kept_and_nobody_looks_again() -> None:
    looked: list[tuple[str, float]] = []

    def check(name: str, seconds: float) -> None:
        looked.append((name, trio.current_time()))
        assert trio.current_time() < seconds, name

    async def check_end() -> None:
        raise LookupError("at the end")

    async def scenario() -> None:
        afterwards(check_end)
        for name, seconds in (("good", 9), ("first", 2), ("second", 2)):
            at_rest(partial(check, name, seconds))
        await trio.sleep(2)
        try:
            await trio.sleep(1)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    failure = run(scenario, Plan()).failure
    assert isinstance(failure, AssertionError)
    assert str(failure).startswith("first")
    assert looked == [("good", 0), ("first", 0), ("second", 0), ("good", 2), ("first", 2)]
    assert failure.__notes__ == [
        "the scenario, or a check after it, then ended with LookupError('at the end')",
    ]


def test_it_ends_a_task_that_shields_itself_for_ever_too() -> None:
    async def scenario() -> None:
        def check() -> None:
            raise LookupError

        at_rest(check)
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    assert isinstance(run(scenario, Plan()).failure, LookupError)


class Outcome(BaseException):
    """As `pytest.fail` raises: no ``Exception``."""


def test_an_error_that_is_no_exception_is_a_failure_too() -> None:
    async def scenario() -> None:
        def check() -> None:
            raise Outcome

        at_rest(check)
        await trio.sleep(1)

    assert isinstance(run(scenario, Plan()).failure, Outcome)


@pytest.mark.parametrize("token", ["spawn", "spawn/int:99"])
def test_ctrl_c_in_a_check_ends_the_exploration(token: str) -> None:
    async def scenario() -> None:
        def check() -> None:
            raise KeyboardInterrupt

        at_rest(check)
        await trio.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        run(scenario, Plan.parse(token))


def test_an_async_check_at_rest_is_refused() -> None:
    """It would never run, and so never fail."""

    async def check() -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        at_rest(check)
        await trio.sleep(1)

    failure = run(scenario, Plan()).failure
    assert isinstance(failure, TypeError)
    assert "cannot be async" in str(failure)


def test_a_check_at_rest_that_does_not_end_is_ended() -> None:
    async def scenario() -> None:
        def check() -> None:
            while True:
                pass

        at_rest(check)
        await trio.sleep(1)

    failure = run(scenario, Plan(), step_seconds_max=0.2).failure
    assert isinstance(failure, Endless)
    assert ".check" in str(failure)
