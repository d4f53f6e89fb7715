"""A step that never ends in real time. These tests take real time, and little of it: that is what they are about."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest
import trio

from trio_broker.explorer import Endless, NotExplorable, Obstacle, afterwards, explore, replay
from trio_broker.explorer.plan import Plan
from trio_broker.explorer.run import run
from trio_broker.explorer.watchdog import Hang

BRIEFLY = 0.2
"""How long a step may take here, in real seconds."""


def spin() -> None:
    while True:
        pass


def lines_of(function: Callable[..., object]) -> range:
    source, first = inspect.getsourcelines(function)
    return range(first, first + len(source))


def line_of(text: str, name: str) -> int:
    """The line that a message names before the name of a function."""
    before, _, _ = text.partition(f" in {name}")
    return int(before.rpartition(":")[2])


async def child_hangs() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1, name="innocent")
        nursery.start_soon(hanging, name="guilty")


async def hanging() -> None:
    await trio.sleep(1)
    spin()


async def hangs_when_cancelled() -> None:
    try:
        await trio.sleep(1)
    except trio.Cancelled:
        spin()
        raise


def test_a_step_that_never_ends_is_named_with_its_task_and_line() -> None:
    with pytest.raises(NotExplorable, match="fails without being disturbed") as caught:
        explore(child_hangs, step_seconds_max=BRIEFLY)
    assert caught.value.obstacle is Obstacle.NEVER_ENDS
    text = str(caught.value.__cause__)
    assert text.startswith("a step took more than 0.2 s of real time: task 2 (guilty) at tests.explorer.test_watchdog:")
    assert line_of(text, "spin") in lines_of(spin)


def test_it_takes_the_time_that_it_is_given_and_not_much_more() -> None:
    began = time.monotonic()
    failure = run(hanging, Plan(), step_seconds_max=BRIEFLY).failure
    took = time.monotonic() - began
    assert isinstance(failure, Endless)
    assert BRIEFLY <= took < 20 * BRIEFLY


def test_a_disturbed_run_that_hangs_is_a_failure_with_a_token() -> None:
    result = explore(hangs_when_cancelled, step_seconds_max=BRIEFLY, seeds=0, turns=False, interrupts=False)
    assert [failure.token for failure in result.failures] == ["spawn/t0:1:after:0", "spawn/t0:1:before:0"]
    assert isinstance(result.failures[0].error, Endless)
    with pytest.raises(Endless, match=r"task 0 \(hangs_when_cancelled\) at") as caught:
        replay(hangs_when_cancelled, "spawn/t0:1:after:0", step_seconds_max=BRIEFLY)
    assert str(caught.value) == str(result.failures[0].error)


def test_a_schedule_that_hangs_is_a_failure_and_is_not_disturbed_as_well() -> None:
    async def scenario() -> None:
        order: list[int] = []

        async def child(number: int) -> None:
            order.append(number)
            await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, 0)
            nursery.start_soon(child, 1)
        if order[0] == 1:
            spin()

    result = explore(scenario, step_seconds_max=BRIEFLY, seeds=0, tasks=["scenario"], interrupts=False)
    assert [failure.token for failure in result.failures] == ["turn0.1"]
    assert isinstance(result.failures[0].error, Endless)


def test_one_that_hangs_only_the_second_time_is_refused() -> None:
    runs = itertools.count()

    async def scenario() -> None:
        await trio.lowlevel.checkpoint()
        if next(runs) == 1:
            spin()

    with pytest.raises(NotExplorable, match="did not end the second time") as caught:
        explore(scenario, step_seconds_max=BRIEFLY)
    assert caught.value.obstacle is Obstacle.NEVER_ENDS


def test_one_that_hangs_before_it_is_disturbed_is_refused() -> None:
    runs = itertools.count()

    async def scenario() -> None:
        if next(runs) == 2:
            spin()
        await trio.lowlevel.checkpoint()

    with pytest.raises(NotExplorable, match="under spawn/t0:1:after:0 before it happened") as caught:
        explore(scenario, step_seconds_max=BRIEFLY)
    assert caught.value.obstacle is Obstacle.NEVER_ENDS


@pytest.mark.parametrize("swallowed", [Exception, BaseException])
def test_a_scenario_cannot_hide_it(swallowed: type[BaseException]) -> None:
    async def goes_on() -> None:
        with contextlib.suppress(swallowed):
            spin()
        await trio.lowlevel.checkpoint()

    assert isinstance(run(goes_on, Plan(), step_seconds_max=BRIEFLY).failure, Endless)


def test_a_loop_that_catches_everything_is_ended_too() -> None:
    def work() -> None:
        pass

    async def stubborn() -> None:
        while True:
            try:
                work()
            except BaseException:  # noqa: BLE001  wrong on purpose
                pass

    failure = run(stubborn, Plan(), step_seconds_max=BRIEFLY).failure
    assert isinstance(failure, Endless)


def test_a_check_that_hangs() -> None:
    async def check() -> None:
        spin()

    async def scenario() -> None:
        afterwards(check)
        await trio.lowlevel.checkpoint()

    failure = run(scenario, Plan(), step_seconds_max=BRIEFLY).failure
    assert isinstance(failure, Endless)
    assert line_of(str(failure), "spin") in lines_of(spin)


def test_a_lock_that_is_never_released() -> None:
    lock = threading.Lock()

    async def scenario() -> None:
        with lock, lock:
            await trio.lowlevel.checkpoint()

    failure = run(scenario, Plan(), step_seconds_max=BRIEFLY).failure
    assert isinstance(failure, Endless)
    assert line_of(str(failure), "test_a_lock") in lines_of(scenario)


def test_outside_of_the_main_thread() -> None:
    failures: list[BaseException | None] = []
    thread = threading.Thread(
        target=lambda: failures.extend(
            run(scenario, Plan(), step_seconds_max=BRIEFLY).failure for scenario in (hanging, partial(trio.sleep, 1))
        )
    )
    thread.start()
    thread.join()
    first, second = failures
    assert isinstance(first, Endless)
    assert line_of(str(first), "spin") in lines_of(spin)
    assert second is None


def test_many_short_steps_are_no_long_one() -> None:
    async def scenario() -> None:
        end = time.monotonic() + 3 * BRIEFLY
        while time.monotonic() < end:  # noqa: ASYNC110  it does not wait for anything
            await trio.lowlevel.checkpoint()

    assert run(scenario, Plan(), step_seconds_max=BRIEFLY).failure is None


def test_it_can_be_left_out() -> None:
    async def scenario() -> None:
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        await trio.lowlevel.checkpoint()

    assert run(scenario, Plan(), step_seconds_max=float("inf")).failure is None


def test_an_alarm_that_somebody_else_has_set_comes_after_the_run() -> None:
    rang: list[int] = []

    async def scenario() -> None:
        assert signal.getsignal(signal.SIGALRM) is not handler
        await trio.lowlevel.checkpoint()

    def handler(number: int, _frame: object) -> None:
        rang.append(number)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1000, 7)
        assert run(scenario, Plan()).failure is None
        remaining, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 900 < remaining <= 1000
        assert interval == pytest.approx(7)
        assert signal.getsignal(signal.SIGALRM) is handler
        signal.setitimer(signal.ITIMER_REAL, 1e-6)
        assert isinstance(run(hanging, Plan(), step_seconds_max=BRIEFLY).failure, Endless)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rang == [signal.SIGALRM]


def test_what_is_raised_is_no_exception_that_programs_catch() -> None:
    assert not issubclass(Hang, Exception)
