"""Ends that the scenario does not tell by itself: too much time, deadlocks, swallowed cancellations, Ctrl-C."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import time
from functools import partial

import pytest
import trio
from trio._core._wakeup_socketpair import WakeupSocketpair

from tests.explorer.helpers import giving_up, holding, two_tasks
from trio_broker.explorer import NotExplorable, ScenarioFailed, Swallowed, explore
from trio_broker.explorer.plan import Plan
from trio_broker.explorer.run import run


def test_a_long_sleep_takes_no_time() -> None:
    async def scenario() -> None:
        await trio.sleep(3000)

    before = time.monotonic()
    holding(scenario)
    assert time.monotonic() - before < 30


def test_virtual_time_is_limited() -> None:
    async def scenario() -> None:
        for _ in range(20):
            await trio.sleep(1)

    assert run(scenario, Plan(), seconds_max=21).failure is None
    failure = run(scenario, Plan(), seconds_max=10).failure
    assert isinstance(failure, ScenarioFailed)
    assert "no end within 10 virtual seconds" in str(failure)
    with pytest.raises(NotExplorable):
        explore(partial(trio.sleep, 10_000))


def test_a_loop_in_virtual_time_behind_a_shield_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_broker.explorer.run._STEPS_SPARE", 4000)  # a step a second, and 3600 seconds

    async def scenario() -> None:
        try:
            await trio.sleep(1)
        except trio.Cancelled:  # noqa: ASYNC103  wrong on purpose
            with trio.CancelScope(shield=True):
                while True:  # noqa: ASYNC110  wrong on purpose
                    await trio.sleep(1)

    giving_up(scenario, axis="cancel", match="no end within")


def test_a_deadlock_says_where() -> None:
    async def scenario() -> None:
        event = trio.Event()

        async def child() -> None:
            with trio.CancelScope():
                await trio.lowlevel.checkpoint()
                event.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            await event.wait()

    result = giving_up(scenario, axis="cancel", match="test_endings:")
    assert "a_deadlock_says_where" in str(result.failures[0].error)


async def swallower() -> None:
    with contextlib.suppress(trio.Cancelled):
        await trio.sleep(1)


def test_a_swallowed_cancellation_is_named_with_its_task_and_line() -> None:
    result = run(swallower, Plan.parse("spawn/t0:1:after:0"))
    line = swallower.__code__.co_firstlineno + 2
    assert isinstance(result.failure, Swallowed)
    assert str(result.failure) == (
        "a cancellation was swallowed: "
        f"task 0 (swallower) met it at tests.explorer.test_endings:{line} in swallower, "
        "and the scenario went on to its end"
    )


def test_a_child_that_swallows_the_cancellation_of_the_outermost_scope_is_named() -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(swallower, name="guilty")
            nursery.start_soon(trio.sleep, 1, name="innocent")

    result = run(scenario, Plan.parse("spawn/t2:1:after:1"))
    assert isinstance(result.failure, Swallowed)
    assert "swallowed: task 1 (guilty) met it at tests.explorer.test_endings:" in str(result.failure)
    # That of an inner scope may end there: it is a matter between the scenario and its scope.
    assert run(scenario, Plan.parse("spawn/t2:1:after:0")).failure is None


def test_a_child_that_ends_well_before_the_second_cancellation_has_swallowed_nothing() -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(swallower)
            await trio.sleep(1)

    result = run(scenario, Plan.parse("spawn/t1:1:after:0+2"))
    assert result.fired
    assert result.failure is None


def test_what_is_caught_within_a_shield_is_not_swallowed() -> None:
    """The cancellation of the outermost scope was not felt yet when the scenario came to its end."""

    async def scenario() -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        await trio.lowlevel.cancel_shielded_checkpoint()
        with trio.move_on_after(1, shield=True):
            await trio.sleep_forever()

    result = run(scenario, Plan.parse("spawn/t0:1:before:0"))
    assert result.fired
    assert result.failure is None
    holding(scenario)


def test_ctrl_c_as_a_run_ends_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Trio closes it, the descriptor that signals wake it with is in use for a moment longer."""
    original = WakeupSocketpair.close
    runs = itertools.count()

    def close(self: WakeupSocketpair) -> None:
        if next(runs) == 1:
            self.wakeup_sock.close()
            self.write_sock.close()
            signal.raise_signal(signal.SIGINT)
        original(self)

    monkeypatch.setattr(WakeupSocketpair, "close", close)
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    with pytest.raises(KeyboardInterrupt):
        explore(two_tasks)
    assert next(runs) == 2
    assert complaints == []
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_the_real_ctrl_c_ends_the_exploration() -> None:
    runs = itertools.count()

    async def scenario() -> None:
        if next(runs) == 3:
            signal.raise_signal(signal.SIGINT)
        await trio.lowlevel.checkpoint()

    with pytest.raises(KeyboardInterrupt):
        explore(scenario, interrupts=False)
    assert next(runs) == 4
