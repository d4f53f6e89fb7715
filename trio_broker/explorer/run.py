"""One run of a scenario under one plan.

A task runs in *steps*, from one suspension to the next. An instrument counts them, and between two steps of a task
there are two moments in which one cancellation can land: after a step, when the task is parked and what it waits for
is aborted; and before the next, when it has been woken with a result, keeps it, and meets the cancellation at its next
checkpoint. The second finds the messages that are lost between two primitives.

Everything is deterministic: the clock is virtual and jumps when nothing can run, the order of tasks is the schedule's,
and until the disturbance a run must go exactly as the run without it went.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import signal
import threading
from collections.abc import Iterator
from typing import Final, final

import trio
import trio.testing

from trio_broker.explorer.faults import Operations, operations_of_this_run
from trio_broker.explorer.internals import (
    deterministic_scheduling,
    enclosing_scopes,
    somebody_waits_for_idleness,
    throw,
    unshield_all,
    wakes_cancelled,
    wakes_with_a_result,
)
from trio_broker.explorer.plan import Cancel, FaultAt, Interrupt, Phase, Plan
from trio_broker.explorer.result import (
    Check,
    Moment,
    NotExplorable,
    Run,
    Scenario,
    ScenarioFailed,
    checks_of_this_run,
)
from trio_broker.explorer.sites import sites_of

__all__ = ["run"]

_IDLE_ROUNDS_MAX: Final = 5
"""So often nothing happens, with nothing left to wait for, before a run is called deadlocked."""

_STEPS_FACTOR: Final = 20
_STEPS_SPARE: Final = 10_000
"""A disturbed run may take so many times the steps of the base run, and so many more, before it is called endless."""

_STEPS_MAX: Final = 200_000
"""The same for a run without a base: more could not be explored in bearable time."""


@final
class _Ended(BaseException):
    """Thrown into a task that even a cancellation does not end, at each of its steps."""


def run(scenario: Scenario, plan: Plan, *, base: Run | None = None, watch: str = "", seconds_max: float = 3600) -> Run:
    """Run a scenario under a plan.

    Args:
        scenario: an async function without arguments that raises when an invariant fails.
        plan: the schedule and the disturbance.
        base: the run with the same schedule and without the disturbance: this one must equal it until then.
        watch: the package whose await sites are recorded.
        seconds_max: in virtual seconds; a scenario that takes longer has failed.

    Raises:
        NotExplorable: until the disturbance the run did not go as the base run, or an instrument died.
    """
    return _Runner(scenario, plan, base, watch, seconds_max).run()


@final
class _Runner(trio.abc.Instrument):
    """The instrument of one run, and what holds it together."""

    def __init__(self, scenario: Scenario, plan: Plan, base: Run | None, watch: str, seconds_max: float) -> None:
        self._scenario = scenario
        self._plan = plan
        self._base = base
        self._watch = watch
        self._seconds_max = seconds_max
        self._result = Run(plan)
        self._root = trio.CancelScope()
        self._operations = Operations()
        if isinstance(plan.disturbance, FaultAt):
            self._operations = Operations(plan.disturbance.operation, plan.disturbance.fault)
        self._main: trio.lowlevel.Task | None = None
        self._numbers: dict[trio.lowlevel.Task, int] = {}  # our tasks, in order of spawning
        self._steps: list[int] = []  # how many steps each has taken
        self._over = False  # the scenario has ended; nothing is counted or disturbed any more
        self._cancelled: trio.CancelScope | None = None  # the scope that the plan cancelled last
        self._second_at = math.inf  # after how many steps of all tasks the outermost scope is cancelled too
        self._met = False  # a task that this scope reaches met Cancelled
        self._idle = 0  # rounds in which nothing happened, with nothing left to wait for
        self._given_up = ""  # why the explorer ended the run
        self._late = False  # the scenario took all its virtual time
        self._alive = False  # this instrument has seen the run to its end
        self._steps_max = _STEPS_MAX if base is None else base.steps * _STEPS_FACTOR + _STEPS_SPARE

    def run(self) -> Run:
        result = self._result
        context = contextvars.copy_context()
        context.run(operations_of_this_run().set, self._operations)
        checks: list[Check] = []
        context.run(checks_of_this_run().set, checks)
        clock = trio.testing.MockClock(autojump_threshold=0)
        try:
            with _own_interrupts(), deterministic_scheduling(self._plan.schedule.begin(result.choices)):
                context.run(self._trio_run, clock, checks)
        except BaseException as error:  # noqa: BLE001, ASYNC103  whatever it is, it is the result of this run
            result.failure = error
        result.operations = self._operations.count
        self._judge()
        return result

    def _trio_run(self, clock: trio.testing.MockClock, checks: list[Check]) -> None:
        trio.run(self._all, checks, clock=clock, instruments=[self], strict_exception_groups=True)

    async def _all(self, checks: list[Check]) -> None:  # noqa: ASYNC910  called by trio.run alone
        """The scenario within the outermost scope, then the checks, which run whatever came out of it."""
        failure: BaseException | None = None
        self._root.deadline = trio.current_time() + self._seconds_max
        try:
            with self._root:
                self._main = trio.lowlevel.current_task()
                self._adopt(self._main)
                try:
                    await self._scenario()
                finally:
                    self._over = True
                    self._late = trio.current_time() >= self._root.deadline
        except BaseException as error:  # noqa: BLE001, ASYNC103  raised below, when the checks have run
            failure = error
        self._leave()
        try:
            await trio.lowlevel.checkpoint()
        except KeyboardInterrupt:  # it came too late for the scenario; the checks are to be undisturbed
            failure = failure or KeyboardInterrupt()
        operations_of_this_run().set(None)  # nothing fails from here on, and nothing is counted
        try:
            for check in checks:
                with trio.fail_after(self._seconds_max):
                    await check()
        except BaseException as error:
            if failure is not None:
                error.add_note(f"before this check the scenario had ended with {failure!r}")
            raise
        if failure is not None:
            raise failure

    def _leave(self) -> None:
        """The scenario is over: from here on nothing is counted and nothing disturbed."""
        self._over = True
        self._see_fault()
        with contextlib.suppress(KeyError):  # Trio has removed an instrument that raised, and gone on without it
            trio.lowlevel.remove_instrument(self)
            self._alive = True

    # -- what Trio tells ---------------------------------------------------------------------------------------------

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        if self._main is not None and not self._over and self._is_ours(task):
            self._adopt(task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._idle = 0
        number = self._numbers.get(task)
        if number is None or self._over:
            return
        if self._result.steps > self._steps_max:
            throw(task, _Ended(self._given_up))
        elif wakes_cancelled(task):
            if self._watch:
                self._result.delivered.update(sites_of(task, self._watch))
            if self._cancelled is not None and _reaches(self._cancelled, enclosing_scopes(task, self._root)):
                self._met = True
            if not self._result.fired:  # a deadline of the scenario's own has woken it
                self._moment(task, number, Phase.BEFORE)
        elif wakes_with_a_result(task):
            self._moment(task, number, Phase.BEFORE)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        number = self._numbers.get(task)
        if number is None or self._over:
            return
        self._see_fault()
        self._steps[number] += 1
        self._result.steps += 1
        if task.coro.cr_frame is not None:
            self._moment(task, number, Phase.AFTER)
        steps = self._result.steps
        if isinstance(self._plan.disturbance, Interrupt) and steps == self._plan.disturbance.step:
            self._fire()
            signal.raise_signal(signal.SIGINT)
        if steps == self._second_at:
            self._cancelled, self._met = self._root, False
            self._root.cancel(reason="explorer: second")
        if steps > self._steps_max:
            self._give_up(f"it took more than {steps - 1:,} steps and did not end")

    def before_io_wait(self, timeout: float) -> None:
        statistics = trio.lowlevel.current_statistics()
        if statistics.tasks_runnable or self._over or somebody_waits_for_idleness():
            return
        remaining = statistics.seconds_to_next_deadline
        if remaining == math.inf:
            self._idle += 1
            if self._idle > _IDLE_ROUNDS_MAX:
                self._give_up("it cannot be cancelled")
                for task in self._numbers:
                    unshield_all(task)
        elif trio.current_time() + remaining >= self._root.deadline:
            # Time is about to jump there. Most often nothing but the explorer's own patience is left to wait for.
            self._give_up(f"a deadlock, or no end within {self._seconds_max:,g} virtual seconds")

    # -- what the explorer does --------------------------------------------------------------------------------------

    def _is_ours(self, task: trio.lowlevel.Task) -> bool:
        """Whether this is a task of the scenario, not one of Trio's own."""
        nursery = task.parent_nursery
        while nursery is not None:
            if nursery.parent_task in self._numbers:
                return True
            nursery = nursery.parent_task.parent_nursery
        return False

    def _adopt(self, task: trio.lowlevel.Task) -> None:
        name = task.name if self._numbers else getattr(self._scenario, "__qualname__", "the scenario")
        self._numbers[task] = len(self._numbers)
        self._steps.append(0)
        self._result.names.append(name)

    def _moment(self, task: trio.lowlevel.Task, number: int, phase: Phase) -> None:
        """A moment in which a cancellation can land: note it, and cancel if it is the one."""
        scopes = enclosing_scopes(task, self._root)
        if not scopes:
            return
        moment = Moment(number, self._steps[number], phase, len(scopes), _where(task))
        self._result.moments.append(moment)
        plan = self._plan.disturbance
        if (
            isinstance(plan, Cancel)
            and not self._result.fired
            and (plan.task, plan.step, plan.phase) == (number, moment.step, phase)
            and plan.scope < len(scopes)
        ):
            self._fire()
            if phase is Phase.BEFORE and self._watch:
                self._result.woken.update(sites_of(task, self._watch))
            if plan.second is not None:
                self._second_at = self._result.steps + plan.second
            self._cancelled = scopes[plan.scope]
            self._cancelled.cancel(reason=f"explorer: {plan}")

    def _see_fault(self) -> None:
        """The network fires by itself, within a step: what came before that step is to be as in the base run."""
        if self._operations.fired and not self._result.fired:
            self._fire()

    def _fire(self) -> None:
        self._result.fired = True
        self._result.moments_before = len(self._result.moments)

    def _give_up(self, reason: str) -> None:
        if not self._given_up:
            self._given_up = f"{reason}: {self._where_all_are()}"
        self._root.cancel(reason=f"explorer: {reason}")

    def _where_all_are(self) -> str:
        """Where each task is parked, for people."""
        names = self._result.names
        parked = [(number, task) for task, number in self._numbers.items() if task.coro.cr_frame is not None]
        return "; ".join(f"{names[number]} at {_where(task)}" for number, task in parked)

    def _judge(self) -> None:
        """What the scenario does not say by itself."""
        result, plan = self._result, self._plan.disturbance
        if not isinstance(plan, Interrupt) and _is_interrupt(result.failure):
            raise KeyboardInterrupt  # not ours: somebody wants to end the exploration
        if not self._alive:
            raise NotExplorable("the explorer's instrument died; Trio's log says why") from result.failure
        if self._base is not None:
            self._compare(self._base)
        if self._given_up:
            result.failure = ScenarioFailed(self._given_up)
        elif isinstance(plan, Interrupt) and _is_interrupt(result.failure):
            result.failure = None
        elif result.failure is None:
            if self._late:
                result.failure = ScenarioFailed(f"it did not end within {self._seconds_max:,g} virtual seconds")
            elif self._cancelled is self._root and self._met and not self._root.cancelled_caught:
                result.failure = ScenarioFailed("a cancellation was swallowed: the scenario went on to its end")

    def _compare(self, base: Run) -> None:
        """Until the disturbance, this run must have gone as the one without it."""
        result = self._result
        count = result.moments_before
        if count < 0:
            count = len(result.moments) if self._plan.disturbance is None else 0
        for index in range(count):
            expected = base.moments[index] if index < len(base.moments) else None
            if result.moments[index] != expected:
                raise NotExplorable(
                    f"the scenario is not deterministic: under {self._plan} moment {index} "
                    f"was {result.moments[index]}, and without the disturbance {expected}"
                )


@contextlib.contextmanager
def _own_interrupts() -> Iterator[None]:
    """Have SIGINT raise `KeyboardInterrupt`, also where a process was started with it ignored, as background jobs are.

    Trio leaves any other handler alone, and then an interrupt of the plan would never arrive.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _where(task: trio.lowlevel.Task) -> str:
    """The innermost line outside of Trio where a task is suspended."""
    where = ""
    for frame, line in task.iter_await_frames():
        module = frame.f_globals.get("__name__", "")
        if not where or not module.startswith("trio."):
            where = f"{module}:{line} in {frame.f_code.co_qualname}"
    return where or "its first step"


def _reaches(cancelled: trio.CancelScope, scopes: list[trio.CancelScope]) -> bool:
    """Whether the cancellation of a scope is felt inside of these: no shield is between."""
    for scope in scopes:
        if scope is cancelled:
            return True
        if scope.shield:
            return False
    return False


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether this is nothing but a KeyboardInterrupt, alone or in groups."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_interrupt(inner) for inner in error.exceptions)
    return isinstance(error, KeyboardInterrupt)
