"""Scenarios that cannot be explored: refused, with the reason and the place."""

from __future__ import annotations

import contextlib
import itertools
import pickle
import threading

import pytest
import trio

from tests.explorer.helpers import two_tasks
from trio_broker.explorer import NotExplorable, Obstacle, explore, replay
from trio_broker.explorer.instrument import RunInstrument
from trio_broker.explorer.network import stream_pair


def test_a_scenario_that_fails_by_itself_is_refused() -> None:
    async def scenario() -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    with pytest.raises(NotExplorable, match="fails without being disturbed") as caught:
        explore(scenario)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_refusal_can_be_sent_to_another_process() -> None:
    refusal = pickle.loads(pickle.dumps(NotExplorable(Obstacle.FAILS, "it fails")))
    assert (refusal.obstacle, str(refusal)) == (Obstacle.FAILS, "it fails")


def test_a_scenario_that_fails_by_itself_is_named_with_its_task_and_line() -> None:
    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            nursery.start_soon(fails, name="guilty")

    where = rf"in task 2 \(guilty\) at tests.explorer.test_not_explorable:{fails.__code__.co_firstlineno + 2} in "
    with pytest.raises(NotExplorable, match=where) as caught:
        explore(scenario)
    assert caught.value.obstacle is Obstacle.FAILS


def test_programs_can_tell_why_a_scenario_cannot_be_explored() -> None:
    runs = itertools.count()

    async def moody() -> None:
        for _ in range(next(runs)):
            await trio.lowlevel.checkpoint()

    async def breaks_the_instrument() -> None:
        trio.lowlevel.remove_instrument(next(i for i in instruments() if isinstance(i, RunInstrument)))

    def instruments() -> list[trio.abc.Instrument]:
        return list(trio._core._run.GLOBAL_RUN_CONTEXT.runner.instruments["_all"])

    obstacles = {}
    for scenario in (trio.sleep_forever, moody, breaks_the_instrument):
        with pytest.raises(NotExplorable) as caught:
            explore(scenario)
        obstacles[scenario.__name__] = caught.value.obstacle
    assert obstacles == {
        "sleep_forever": Obstacle.NEVER_ENDS,
        "moody": Obstacle.NOT_DETERMINISTIC,
        "breaks_the_instrument": Obstacle.INSTRUMENT_DIED,
    }
    with pytest.raises(NotExplorable) as caught:
        replay(two_tasks, "spawn/t9:1:after:0")
    assert caught.value.obstacle is Obstacle.NEVER_FIRED


def test_one_of_two_undisturbed_runs_that_fails_is_refused() -> None:
    runs = itertools.count()

    async def scenario() -> None:
        await trio.lowlevel.checkpoint()
        assert next(runs) != 1

    with pytest.raises(NotExplorable, match="of two runs under spawn one failed") as caught:
        explore(scenario)
    assert caught.value.obstacle is Obstacle.NOT_DETERMINISTIC


def test_a_scenario_that_deadlocks_by_itself_is_refused() -> None:
    with pytest.raises(NotExplorable, match="fails without being disturbed") as caught:
        explore(trio.sleep_forever)
    assert "deadlock" in str(caught.value.__cause__)


def test_nobody_is_blamed_for_what_the_explorer_found_itself() -> None:
    """What such a scenario raises when it is given up says nothing of why."""

    async def scenario() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise ValueError from None

    with pytest.raises(NotExplorable) as caught:
        explore(scenario)
    assert str(caught.value) == "the scenario fails without being disturbed"
    assert "deadlock" in str(caught.value.__cause__)


def test_a_scenario_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr("trio_broker.explorer.run._STEPS_MAX", 100)
    with pytest.raises(NotExplorable, match="fails without being disturbed") as caught:
        explore(scenario)
    assert str(caught.value.__cause__).startswith("it took more than 100 steps and did not end: ")


def test_a_scenario_that_takes_other_steps_is_refused() -> None:
    runs = itertools.count()

    async def scenario() -> None:
        for _ in range(next(runs) + 1):
            await trio.lowlevel.checkpoint()

    with pytest.raises(NotExplorable, match="not deterministic"):
        explore(scenario)


def test_a_scenario_with_other_scopes_is_refused() -> None:
    runs = itertools.count()

    async def scenario() -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(next(runs)):
                stack.enter_context(trio.CancelScope())
            await trio.lowlevel.checkpoint()

    with pytest.raises(NotExplorable, match="not deterministic"):
        explore(scenario)


def test_a_scenario_that_goes_another_way_only_later_is_refused_too() -> None:
    runs = itertools.count()

    async def scenario() -> None:
        for _ in range(5 if next(runs) < 4 else 3):
            await trio.lowlevel.checkpoint()
            await trio.sleep(1)

    with pytest.raises(NotExplorable, match=r"not deterministic|never happened"):
        explore(scenario)


def test_before_a_fault_too_the_scenario_must_go_as_without_it() -> None:
    runs = itertools.count()

    async def scenario() -> None:
        number = next(runs)
        ours, theirs = stream_pair()
        if number >= 2:
            await trio.lowlevel.checkpoint()
        async with ours, theirs:
            with contextlib.suppress(trio.BrokenResourceError):
                await ours.send_all(b"1")

    with pytest.raises(NotExplorable, match="not deterministic"):
        explore(scenario, tasks=["nobody"], interrupts=False, seeds=0)


def test_interrupts_are_refused_outside_of_the_main_thread() -> None:
    outcomes: list[object] = []

    def in_a_thread() -> None:
        with pytest.raises(NotExplorable, match="main thread"):
            explore(two_tasks)
        outcomes.append(explore(two_tasks, interrupts=False, seeds=1).failures)

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert outcomes == [[]]
