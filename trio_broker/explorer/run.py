"""One run of a scenario under one plan.

A task runs in *steps*, from one suspension to the next. An instrument counts them, and between two steps of a task
there are two moments in which one cancellation can land: after a step, when the task is parked and what it waits for
is aborted; and before the next, when it has been woken with a result, keeps it, and meets the cancellation at its next
checkpoint. The second finds the messages that are lost between two primitives.

Everything is deterministic: the clock is virtual and jumps when nothing can run, the order of tasks is the schedule's,
and until the disturbance a run must go exactly as the run without it went.

What is set up here is told by Trio to `instrument`, and weighed by `verdict`.
"""

from __future__ import annotations

import contextlib
import contextvars
import signal
import threading
from collections.abc import Iterator
from typing import Final, final

import trio
import trio.testing

from trio_broker.explorer.census import Census
from trio_broker.explorer.checks import Checks, checks_of_this_run
from trio_broker.explorer.faults import Operations, operations_of_this_run
from trio_broker.explorer.instrument import RunInstrument
from trio_broker.explorer.internals import deterministic_scheduling
from trio_broker.explorer.plan import FaultAt, Plan
from trio_broker.explorer.reality import Reality
from trio_broker.explorer.result import Run, Scenario
from trio_broker.explorer.verdict import judge
from trio_broker.explorer.watchdog import Watchdog

__all__ = ["run"]

_STEPS_FACTOR: Final = 20
_STEPS_SPARE: Final = 10_000
"""A disturbed run may take so many times the steps of the base run, and so many more, before it is called endless."""

_STEPS_MAX: Final = 200_000
"""The same for a run without a base: more could not be explored in bearable time."""


def run(
    scenario: Scenario,
    plan: Plan,
    *,
    base: Run | None = None,
    watch: str = "",
    seconds_max: float = 3600,
    step_seconds_max: float = 10,
) -> Run:
    """Run a scenario under a plan.

    Args:
        scenario: an async function without arguments that raises when an invariant fails.
        plan: the schedule and the disturbance.
        base: the run with the same schedule and without the disturbance: this one must equal it until then.
        watch: the package whose await sites are recorded.
        seconds_max: in virtual seconds; a scenario that takes longer has failed.
        step_seconds_max: in real seconds; a step that takes longer is ended, and the run has failed. ``inf`` for
            never. It is the only thing here that depends on how fast a machine is.

    Raises:
        NotExplorable: until the disturbance the run did not go as the base run, the scenario reached for the real
            world, or an instrument died.
    """
    return _Runner(scenario, plan, base, watch, seconds_max, step_seconds_max).run()


@final
class _Runner:
    """What holds one run together."""

    def __init__(
        self,
        scenario: Scenario,
        plan: Plan,
        base: Run | None,
        watch: str,
        seconds_max: float,
        step_seconds_max: float,
    ) -> None:
        self._scenario = scenario
        self._plan = plan
        self._base = base
        self._seconds_max = seconds_max
        self._result = Run(plan)
        self._census = Census(scenario, self._result)
        self._operations = Operations()
        if isinstance(plan.disturbance, FaultAt):
            self._operations = Operations(plan.disturbance.operation, plan.disturbance.fault)
        hang = f"a step took more than {step_seconds_max:g} s of real time"
        self._checks = Checks(self._result)
        self._watchdog = Watchdog(step_seconds_max, lambda frame: self._instrument.see_hang(hang, frame))
        self._instrument = RunInstrument(
            self._result,
            self._census,
            self._operations,
            self._watchdog,
            self._checks,
            watch=watch,
            steps_max=_STEPS_MAX if base is None else base.steps * _STEPS_FACTOR + _STEPS_SPARE,
        )
        self._findings = self._instrument.findings
        self._findings.seconds_max = seconds_max
        self._reality = Reality(self._instrument.see_reality, self._instrument.see_read)

    def run(self) -> Run:
        result = self._result
        context = contextvars.copy_context()
        context.run(operations_of_this_run().set, self._operations)
        context.run(checks_of_this_run().set, self._checks)
        with _own_interrupts():
            try:
                context.run(self._trio_run)
            except BaseException as error:  # noqa: BLE001, ASYNC103  whatever it is, it is the result of this run
                result.failure = error
        result.operations = self._operations.count
        self._instrument.see_end()
        raised = result.failure
        judge(result, self._base, self._findings)
        if raised is not None and raised is result.failure and self._plan.disturbance is None:
            result.culprit = self._census.who_raised(raised)
        return result

    def _trio_run(self) -> None:
        clock = trio.testing.MockClock(autojump_threshold=0)
        order = self._plan.schedule.begin(self._result.choices)
        reads = self._base is None and self._plan.disturbance is None
        instruments = [self._watchdog, self._instrument]
        with deterministic_scheduling(order), self._watchdog.watching(), self._reality.watching(reads=reads):
            try:
                trio.run(self._all, clock=clock, instruments=instruments, strict_exception_groups=True)
            finally:
                self._instrument.end()

    async def _all(self) -> None:
        try:
            await self._scenario_and_checks()
        finally:
            _block_interrupts()  # as Trio ends, there is a moment in which its wakeup descriptor is closed and in use

    async def _scenario_and_checks(self) -> None:  # noqa: ASYNC910  called by trio.run alone
        """The scenario within the outermost scope, then the checks, which run whatever came out of it."""
        failure: BaseException | None = None
        root = self._instrument.root
        root.deadline = trio.current_time() + self._seconds_max
        try:
            with root:
                self._instrument.begin()
                try:
                    await self._scenario()
                finally:
                    self._instrument.end()
                    self._findings.late = trio.current_time() >= root.deadline
        except BaseException as error:  # noqa: BLE001, ASYNC103  raised below, when the checks have run
            failure = error
        self._instrument.leave()
        try:
            await trio.lowlevel.checkpoint()
        except KeyboardInterrupt:  # it came too late for the scenario; the checks are to be undisturbed
            failure = failure or KeyboardInterrupt()
        operations_of_this_run().set(None)  # nothing fails from here on, and nothing is counted
        try:
            for check in self._checks.afterwards:
                with trio.fail_after(self._seconds_max):
                    await check()
        except BaseException as error:
            if failure is not None:
                error.add_note(f"before this check the scenario had ended with {failure!r}")
            raise
        if failure is not None:
            raise failure


@contextlib.contextmanager
def _own_interrupts() -> Iterator[None]:
    """Have SIGINT raise `KeyboardInterrupt`, also where a process was started with it ignored, as background jobs are.

    Trio leaves any other handler alone, and then an interrupt of the plan would never arrive. One that comes while
    Trio ends, when `_block_interrupts` holds it back, is raised at the end of this block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        finally:
            if before is not signal.default_int_handler:
                signal.signal(signal.SIGINT, before)


def _block_interrupts() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
