from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import trio
import trio.testing
from trio._core._wakeup_socketpair import WakeupSocketpair

from tests.explorer.helpers import failing, giving_up, holding
from trio_broker.explorer import NotExplorable, Obstacle, ScenarioFailed, Swallowed, afterwards, explore, replay
from trio_broker.explorer.faults import next_operation
from trio_broker.explorer.instrument import RunInstrument
from trio_broker.explorer.network import Network, stream_pair
from trio_broker.explorer.plan import Cancel, Phase, Plan, Schedule
from trio_broker.explorer.run import run


async def two_tasks() -> None:
    """What most tests explore: a few steps, two tasks, two scopes."""

    async def child() -> None:
        for _ in range(2):
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(child, name="child")
        await trio.lowlevel.checkpoint()


async def breaks_when_cancelled() -> None:
    is_done = False
    try:
        await two_tasks()
        is_done = True
    finally:
        if not is_done:
            raise ZeroDivisionError


# -- what cannot be explored -----------------------------------------------------------------------------------------


def test_a_scenario_that_fails_by_itself_is_refused() -> None:
    async def scenario() -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    with pytest.raises(NotExplorable, match="fails without being disturbed") as caught:
        explore(scenario)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_scenario_that_fails_by_itself_is_named_with_its_task_and_line() -> None:
    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            nursery.start_soon(fails, name="guilty")

    where = rf"in task 2 \(guilty\) at tests.explorer.test_exploration:{fails.__code__.co_firstlineno + 2} in "
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


# -- the axes --------------------------------------------------------------------------------------------------------


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


# -- replay ----------------------------------------------------------------------------------------------------------


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


# -- what the scenario does not say by itself ------------------------------------------------------------------------


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

    result = giving_up(scenario, axis="cancel", match="test_exploration:")
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
        f"task 0 (swallower) met it at tests.explorer.test_exploration:{line} in swallower, "
        "and the scenario went on to its end"
    )


def test_a_child_that_swallows_the_cancellation_of_the_outermost_scope_is_named() -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(swallower, name="guilty")
            nursery.start_soon(trio.sleep, 1, name="innocent")

    result = run(scenario, Plan.parse("spawn/t2:1:after:1"))
    assert isinstance(result.failure, Swallowed)
    assert "swallowed: task 1 (guilty) met it at tests.explorer.test_exploration:" in str(result.failure)
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


# -- afterwards ------------------------------------------------------------------------------------------------------


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


# -- coverage --------------------------------------------------------------------------------------------------------

COVERED = """\
import trio


async def work():
    await trio.sleep(1)
    await trio.lowlevel.cancel_shielded_checkpoint()


async def never():
    await trio.sleep(1)
"""


@pytest.fixture
def covered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "covered").mkdir()
    (tmp_path / "covered" / "__init__.py").write_text("")
    (tmp_path / "covered" / "work.py").write_text(COVERED)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("covered.work")
    for name in ("covered", "covered.work"):
        del sys.modules[name]


def test_the_sites_that_were_reached_are_told(covered: ModuleType) -> None:
    result = explore(covered.work, watch="covered", seeds=1)
    assert {(site.line, site.function) for site in result.sites} == {(5, "work"), (6, "work"), (10, "never")}
    assert {site.line for site in result.delivered} == {5}
    assert {site.line for site in result.woken} == {5, 6}
    assert {site.line for site in result.sites_reached} == {5}
    assert {site.line for site in result.sites_missed} == {6, 10}


def test_the_end_of_a_sleep_is_no_cancellation(covered: ModuleType) -> None:
    result = explore(covered.work, watch="covered", seeds=0, tasks=["nobody"], interrupts=False)
    assert not result.delivered


def test_without_a_package_to_watch_no_site_is_told(covered: ModuleType) -> None:
    result = explore(covered.work, seeds=1)
    assert not result.sites
    assert not result.delivered
    assert not result.woken
    assert not result.sites_missed


# -- one run ---------------------------------------------------------------------------------------------------------


def test_the_same_plan_gives_the_same_run() -> None:
    for plan in (Plan(), Plan(Schedule(seed=4)), Plan(Schedule(), Cancel(1, 1, Phase.BEFORE, 0))):
        first, second = run(two_tasks, plan), run(two_tasks, plan)
        assert first.moments == second.moments
        assert first.choices == second.choices
        assert first.steps == second.steps


def test_each_moment_is_at_its_own_line() -> None:
    async def scenario() -> None:
        await trio.sleep(1)
        await trio.lowlevel.checkpoint()
        await trio.sleep(1)

    before = inspect.getsourcelines(scenario)[1]
    expected = [
        (step, phase, f"{__name__}:{before + step} in {scenario.__qualname__}")
        for step in (1, 2, 3)
        for phase in (Phase.AFTER, Phase.BEFORE)
    ]
    assert [(moment.step, moment.phase, moment.where) for moment in run(scenario, Plan()).moments] == expected


@pytest.mark.parametrize("phase", list(Phase))
def test_a_cancellation_lands_in_its_phase(phase: Phase) -> None:
    happened: list[str] = []

    async def scenario() -> None:
        send, receive = trio.open_memory_channel[int](0)

        async def child() -> None:
            await trio.sleep(1)
            send.send_nowait(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            try:
                await receive.receive()
            except trio.Cancelled:
                happened.append("aborted")
                raise
            happened.append("received")
            await trio.lowlevel.checkpoint()
            happened.append("not reached")

    result = run(scenario, Plan(Schedule(), Cancel(0, 1, phase, 1)))
    assert result.fired
    assert result.failure is None
    assert happened == (["aborted"] if phase is Phase.AFTER else ["received"])


@pytest.mark.parametrize("second", [1, 2, 3, 4])
def test_a_second_cancellation_lands_in_what_comes_after_the_first(second: int) -> None:
    steps = 0

    async def scenario() -> None:
        nonlocal steps
        with trio.CancelScope():
            await trio.sleep(1)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            steps += 1

    result = run(scenario, Plan(Schedule(), Cancel(0, 1, Phase.AFTER, 0, second)))
    assert result.failure is None
    assert steps == second - 1


def test_the_tasks_of_trio_itself_are_not_disturbed() -> None:
    async def scenario() -> None:
        trio.lowlevel.spawn_system_task(trio.sleep, 1)
        await trio.testing.wait_all_tasks_blocked()

    assert run(scenario, Plan()).names == ["test_the_tasks_of_trio_itself_are_not_disturbed.<locals>.scenario"]
    holding(scenario)


def test_a_task_that_its_own_deadline_wakes_can_be_cancelled_in_that_moment() -> None:
    """An outer cancellation that comes together with a timeout: whoever looks at ``cancel_called`` is misled."""

    async def misled() -> None:
        with trio.CancelScope() as outer, trio.move_on_after(1) as patience:
            try:
                await trio.sleep_forever()
            finally:
                assert not (patience.cancel_called and outer.cancel_called), "taken for a timeout"

    woken = [moment for moment in run(misled, Plan()).moments if moment.phase is Phase.BEFORE and moment.step]
    assert len(woken) == 1
    failures = explore(misled, seeds=0, turns=False).failures
    assert "spawn/t0:1:before:1" in {failure.token for failure in failures}


def test_interrupts_arrive_where_sigint_was_ignored() -> None:
    """As in a process that was started in the background."""

    async def scenario() -> None:
        try:
            await trio.sleep(1)
        except KeyboardInterrupt:
            raise LookupError("interrupted") from None

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        failures = explore(scenario, seeds=0, turns=False).failures
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert [failure.token for failure in failures] == ["spawn/int:1"]
