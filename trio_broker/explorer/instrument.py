"""The instrument of one run: Trio tells it of each step, and it notes, compares and disturbs.

An instrument that raises is removed by Trio, which goes on without it; `Findings.alive` says that this one was not.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import signal
from types import FrameType
from typing import Final, final

import trio

from trio_broker.explorer.census import Census
from trio_broker.explorer.checks import Checks
from trio_broker.explorer.faults import Operations
from trio_broker.explorer.internals import (
    a_descriptor_is_ready,
    enclosing_scopes,
    errors_of_children,
    somebody_can_run,
    somebody_waits_for_idleness,
    throw,
    unshield_all,
    waits_for_descriptors,
    wakes_cancelled,
    wakes_with_a_result,
)
from trio_broker.explorer.places import place_of_frame, place_of_task
from trio_broker.explorer.plan import Cancel, Interrupt, Phase
from trio_broker.explorer.reality import outside
from trio_broker.explorer.result import Moment, Run
from trio_broker.explorer.sites import sites_of, suspensions_of
from trio_broker.explorer.verdict import Findings
from trio_broker.explorer.watchdog import Watchdog

__all__ = ["RunInstrument"]

_IDLE_ROUNDS_MAX: Final = 5
"""So often nothing happens, with nothing left to wait for, before a run is called deadlocked."""


@final
class _Ended(BaseException):
    """Thrown into a task that even a cancellation does not end, at each of its steps."""


@final
class RunInstrument(trio.abc.Instrument):
    """Counts the steps of one run, and disturbs it as planned.

    Attributes:
        root: the outermost scope, to be entered around the scenario.
        findings: what it saw. ``late`` and ``alive`` are set as the scenario ends.
    """

    def __init__(
        self,
        result: Run,
        census: Census,
        operations: Operations,
        watchdog: Watchdog,
        checks: Checks,
        *,
        watch: str,
        steps_max: int,
    ) -> None:
        """Made for one run.

        Args:
            result: where moments, steps and sites are noted; it has the plan.
            census: the tasks.
            operations: of the network.
            watchdog: it knows whose step it is.
            checks: what the scenario wants to be checked at rest.
            watch: the package whose await sites are recorded.
            steps_max: after so many steps the run is called endless.
        """
        self.root: Final = trio.CancelScope()
        self.findings: Final = Findings()
        self._result = result
        self._disturbance = result.plan.disturbance
        self._census = census
        self._operations = operations
        self._watchdog = watchdog
        self._checks = checks
        self._watch = watch
        self._steps_max = steps_max
        self._over = False  # the scenario has ended; nothing is counted or disturbed any more
        self._cancelled: trio.CancelScope | None = None  # the scope that the plan cancelled last
        self._second_at = math.inf  # after how many steps of all tasks the outermost scope is cancelled too
        self._met: dict[trio.lowlevel.Task, str] = {}  # the tasks that it reaches and that met Cancelled, and where
        self._errors: tuple[object, int] = (None, 0)  # the nursery of the task whose step it is, and what was in it
        self._places: dict[int, tuple[int, str]] = {}  # after which step each task was last asked for its place, and it
        self._idle = 0  # rounds in which nothing happened, with nothing left to wait for

    def begin(self) -> None:
        """The scenario begins, in the current task."""
        self._census.begin(trio.lowlevel.current_task())

    def end(self) -> None:
        """The scenario is over: from here on nothing is counted and nothing disturbed. Can be called again."""
        self._over = True

    def leave(self) -> None:
        """The run goes on without this instrument."""
        self.end()
        self._see_fault()
        with contextlib.suppress(KeyError):  # Trio has removed an instrument that raised, and gone on without it
            trio.lowlevel.remove_instrument(self)
            self.findings.alive = True

    # -- what Trio tells ---------------------------------------------------------------------------------------------

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        if self._census.main is not None and not self._over:
            self._census.see_spawned(task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._idle = 0
        number = self._census.number_of(task)
        if number is None or self._over:
            return
        if self._cancelled is self.root:
            self._errors = (task.parent_nursery, errors_of_children(task))
        if self._result.steps > self._steps_max:
            throw(task, _Ended(self.findings.given_up))
        elif wakes_cancelled(task):
            if self._watch:
                self._result.delivered.update(sites_of(task, self._watch))
                self._result.suspensions |= suspensions_of(task)
            if self._cancelled is not None and _reaches(self._cancelled, enclosing_scopes(task, self.root)):
                self._met[task] = place_of_task(task)
            if not self._result.fired:  # a deadline of the scenario's own has woken it
                self._moment(task, number, Phase.BEFORE)
        elif wakes_with_a_result(task):
            self._moment(task, number, Phase.BEFORE)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        number = self._census.number_of(task)
        if number is None or self._over:
            return
        self._see_fault()
        self._census.steps[number] += 1
        self._result.steps += 1
        if task.coro.cr_frame is not None:
            self._moment(task, number, Phase.AFTER)
        elif task in self._met and self._errors == (task.parent_nursery, errors_of_children(task)):
            swallowed = f"{self._census.who(task)} met it at {self._met[task]}, and"
            self.findings.swallowed = self.findings.swallowed or swallowed
        steps = self._result.steps
        if isinstance(self._disturbance, Interrupt) and steps == self._disturbance.step:
            self._fire()
            signal.raise_signal(signal.SIGINT)
        if steps == self._second_at:
            self._cancelled, self._met = self.root, {}
            self._note_woken(self.root)
            self.root.cancel(reason="explorer: second")
        if steps > self._steps_max:
            self._give_up(f"it took more than {steps - 1:,} steps and did not end")

    def before_io_wait(self, timeout: float) -> None:
        if somebody_can_run() or self._over or somebody_waits_for_idleness() or a_descriptor_is_ready():
            return
        self._see_descriptors()
        remaining = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if remaining > 0:  # else somebody's deadline has come, and Trio is about to wake them
            self._see_rest()
            remaining = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if remaining == math.inf:
            self._idle += 1
            if self._idle > _IDLE_ROUNDS_MAX:
                self._give_up("it cannot be cancelled")
                for task in self._census:
                    unshield_all(task)
        elif trio.current_time() + remaining >= self.root.deadline:
            # Time is about to jump there. Most often nothing but the explorer's own patience is left to wait for.
            self._give_up(f"a deadlock, or no end within {self.findings.seconds_max:,g} virtual seconds")

    # -- what the explorer does --------------------------------------------------------------------------------------

    def _moment(self, task: trio.lowlevel.Task, number: int, phase: Phase) -> None:
        """A moment in which a cancellation can land: note it, and cancel if it is the one."""
        if self._result.fired:
            return  # nothing is compared or disturbed any more
        scopes = enclosing_scopes(task, self.root)
        if not scopes:
            return
        step = self._census.steps[number]
        if self._places.get(number, (-1, ""))[0] != step:  # between two steps a task is where it was
            self._places[number] = step, place_of_task(task)
        moment = Moment(number, step, phase, len(scopes), self._places[number][1])
        self._result.moments.append(moment)
        plan = self._disturbance
        if (
            isinstance(plan, Cancel)
            and (plan.task, plan.step, plan.phase) == (number, moment.step, phase)
            and plan.scope < len(scopes)
        ):
            self._fire()
            if plan.second is not None:
                self._second_at = self._result.steps + plan.second
            self._cancelled = scopes[plan.scope]
            self._note_woken(self._cancelled, task if phase is Phase.BEFORE else None)
            self._cancelled.cancel(reason=f"explorer: {plan}")

    def _note_woken(self, cancelled: trio.CancelScope, about_to_run: trio.lowlevel.Task | None = None) -> None:
        """A scope is about to be cancelled: note where the tasks in it that have already been woken were waiting."""
        if not self._watch:
            return
        for task in self._census:
            if task is about_to_run or (
                wakes_with_a_result(task) and _reaches(cancelled, enclosing_scopes(task, self.root))
            ):
                self._result.woken.update(sites_of(task, self._watch))
                self._result.suspensions |= suspensions_of(task)

    def _fire(self) -> None:
        self._result.fired = True
        self._result.moments_before = len(self._result.moments)

    def _give_up(self, reason: str) -> None:
        if not self.findings.given_up:
            self.findings.given_up = f"{reason}: {self._census.where_all_are()}"
        self.root.cancel(reason=f"explorer: {reason}")

    # -- what it sees ------------------------------------------------------------------------------------------------

    def see_hang(self, what: str, frame: FrameType | None) -> None:
        """A step does not end."""
        self.findings.hang = f"{what}: {self._census.who_and_where(self._watchdog.task, frame)}"

    def see_reality(self, what: str, frame: FrameType) -> None:
        """The step that runs reaches for the real world."""
        if not self.findings.touched:
            self.findings.touched = f"{what}: {self._census.who_and_where(self._watchdog.task, frame)}"

    def see_read(self, what: str, frame: FrameType) -> None:
        """The step that runs reads something that need not be the same in every run."""
        where, _ = place_of_frame(frame)
        note = f"{self._census.who(self._watchdog.task)} {what} at {where}"
        self._result.notes.setdefault(f"{what} {where}", note)

    def _see_fault(self) -> None:
        """The network fires by itself, within a step: what came before that step is to be as in the base run."""
        if self._operations.fired and not self._result.fired:
            self._fire()

    def _see_descriptors(self) -> None:
        """Nothing can run: a task that waits for the outside would wait in real time, and here time only jumps."""
        for task, descriptor in waits_for_descriptors():
            if self._census.number_of(task) is not None and (kind := outside(descriptor)):
                what = f"waits for {kind} (file descriptor {descriptor}) whose other end is not the scenario's"
                touched = f"{what}: {self._census.who(task)} at {place_of_task(task)}"
                self.findings.touched = self.findings.touched or touched
                self._give_up("the real world")

    def _see_rest(self) -> None:
        """Nothing can run: does whoever waits have a reason to?"""
        if self.findings.unrest is not None or self.findings.given_up:
            return
        for check in self._checks.at_rest:
            try:
                if inspect.iscoroutine(result := check()):
                    result.close()
                    raise TypeError(f"a check at rest cannot be async: {check!r}")
            except BaseException as error:  # noqa: BLE001, ASYNC103  whatever it is, it is the result of this run
                self.findings.unrest = error
                self.root.cancel(reason="explorer: a check at rest failed")
                return  # noqa: ASYNC104  nobody is cancelled here: no task runs

    def see_end(self) -> None:
        """The run is over: if the outermost scope was cancelled, whether that went all the way up to it."""
        findings = self.findings
        if self._cancelled is not self.root:
            findings.swallowed = ""
        elif not findings.swallowed and self._met and not self.root.cancelled_caught:
            # The scenario's own task let it go no further; it may have met it in a child's error only.
            main = self._census.main
            task = main if main is not None and main in self._met else next(iter(self._met))
            findings.swallowed = f"{self._census.who(task)} met it at {self._met[task]}, and the scenario"


def _reaches(cancelled: trio.CancelScope, scopes: list[trio.CancelScope]) -> bool:
    """Whether the cancellation of a scope is felt inside of these: no shield is between."""
    for scope in scopes:
        if scope is cancelled:
            return True
        if scope.shield:
            return False
    return False
