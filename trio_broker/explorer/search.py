"""All runs of a scenario: which there are, and running them; and running one of them again."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Final, final

from trio_broker.explorer.exploration import Exploration, Failure
from trio_broker.explorer.faults import Fault
from trio_broker.explorer.plan import Cancel, FaultAt, Interrupt, Phase, Plan, Schedule
from trio_broker.explorer.result import Endless, Moment, NotExplorable, Obstacle, Run, Scenario
from trio_broker.explorer.run import run
from trio_broker.explorer.sites import Site, Suspension, all_sites

__all__ = ["explore", "replay"]

_LATER_MAX: Final = 4
"""In how many of the steps after a first cancellation the outermost scope is cancelled too."""


def explore(
    scenario: Scenario,
    *,
    watch: str = "",
    tasks: Collection[str] | None = None,
    seeds: int = 20,
    turns: bool = True,
    faults: bool = True,
    double: bool = True,
    interrupts: bool = True,
    failures_max: int = 20,
    step_seconds_max: float = 10,
    progress: Callable[[int, int], object] | None = None,
) -> Exploration:
    """Run a scenario again and again, each time disturbed at another moment, and collect what does not hold.

    Every task, between any two of its steps, parked or woken, for every cancel scope around it up to the scenario's
    outermost; with ``double`` a second cancellation of the outermost scope in the steps after the first; SIGINT after
    each step; a fault at each operation of the in-memory network. All that in the order in which tasks were spawned;
    with the schedules (``seeds`` shuffled ones, and every single turn of one round) the scenario runs undisturbed, and
    its outermost scope is cancelled at every moment.

    Args:
        scenario: an async function without arguments that raises when an invariant fails. It is run in ``trio.run``
            with a virtual clock, and must not touch real time or real sockets. See `afterwards` for what is to be
            checked at the end.
        watch: a package whose await sites are recorded.
        tasks: disturb only tasks whose name contains one of these.
        seeds: how many shuffled schedules.
        turns: whether to turn the order of each round that leaves a choice, one at a time.
        faults: whether to try the network's faults.
        double: whether to cancel twice.
        interrupts: whether to try SIGINT; only in the main thread.
        failures_max: stop when there are so many failures.
        step_seconds_max: in real seconds; a step that takes longer is ended, and the run has failed. ``inf`` for never.
        progress: called with the number of runs that are done and that are planned so far.

    Raises:
        NotExplorable: the scenario fails or does not end without any disturbance, is not deterministic, reaches for
            the real world, or the explorer itself failed; its ``obstacle`` says which.
    """
    if interrupts and threading.current_thread() is not threading.main_thread():
        text = "interrupts=True needs the main thread: nowhere else does Python deliver signals"
        raise NotExplorable(Obstacle.WRONG_THREAD, text)
    return _Explorer(scenario, watch, tasks, failures_max, step_seconds_max, progress).explore(
        seeds, turns=turns, faults=faults, double=double, interrupts=interrupts
    )


def replay(scenario: Scenario, token: str, *, step_seconds_max: float = 10) -> None:
    """Run the one run that a token stands for, and raise what it raised. Returns if it does not fail.

    To know what the disturbance changes, the scenario first runs without it. Of that nothing is seen: ``sys.stdout``
    and ``sys.stderr`` lead nowhere until it is over, and ``breakpoint()`` does nothing.

    Args:
        scenario: as for `explore`.
        token: a failure's.
        step_seconds_max: as for `explore`.

    Raises:
        ValueError: for what is no token.
        NotExplorable: the disturbance never happened, since the scenario has changed; or one of the reasons for which
            `explore` raises it.
    """
    plan = Plan.parse(token)
    if plan.disturbance is None:
        result = run(scenario, plan, step_seconds_max=step_seconds_max)
    else:
        with _unseen():
            base = run(scenario, Plan(plan.schedule), step_seconds_max=step_seconds_max)
        result = run(scenario, plan, base=base, step_seconds_max=step_seconds_max)
        if not result.fired:
            text = f"{token}: the run never came there; has the scenario changed?"
            raise NotExplorable(Obstacle.NEVER_FIRED, text)
    if result.failure is not None:
        raise result.failure


@contextlib.contextmanager
def _unseen() -> Iterator[None]:
    """Have nothing printed in this block, and nobody asked anything."""
    before = sys.breakpointhook
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        sys.breakpointhook = lambda *_arguments, **_keywords: None
        try:
            yield
        finally:
            sys.breakpointhook = before


@final
class _Explorer:
    """The state of one exploration."""

    def __init__(
        self,
        scenario: Scenario,
        watch: str,
        tasks: Collection[str] | None,
        failures_max: int,
        step_seconds_max: float,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self._scenario = scenario
        self._watch = watch
        self._tasks = tasks
        self._failures_max = failures_max
        self._step_seconds_max = step_seconds_max
        self._progress = progress
        self._notes: dict[str, str] = {}
        self._runs: Counter[str] = Counter()
        self._planned = 0
        self._failures: list[Failure] = []
        self._delivered: set[Site] = set()
        self._woken: set[Site] = set()
        self._suspensions: set[Suspension] = set()

    def explore(self, seeds: int, *, turns: bool, faults: bool, double: bool, interrupts: bool) -> Exploration:
        spawn = Schedule()
        base = self._base(spawn)
        plans = list(self._cancels(spawn, base, double=double))
        if interrupts:
            plans += [Plan(spawn, Interrupt(step)) for step in range(1, base.steps + 1)]
        if faults:
            plans += [Plan(spawn, FaultAt(index, fault)) for index in range(base.operations) for fault in Fault]
        self._do_all(plans, base)
        for schedule in self._schedules(seeds, base if turns else None):
            if self._is_enough:
                break
            other = self._base(schedule)
            if isinstance(other.failure, Endless):
                continue
            outermost = [Plan(schedule, _cancel(moment, moment.scopes - 1)) for moment in self._moments(other)]
            self._do_all(outermost, other)
        sites = frozenset(all_sites(self._watch)) if self._watch else frozenset()
        return Exploration(
            self._runs,
            self._failures,
            frozenset(self._delivered),
            frozenset(self._woken),
            sites,
            frozenset(self._suspensions),
            self._watch,
            tuple(self._notes.values()),
        )

    @property
    def _is_enough(self) -> bool:
        return len(self._failures) >= self._failures_max

    def _base(self, schedule: Schedule) -> Run:
        """The undisturbed run of a schedule, twice: it must go the same way, and well."""
        first = self._run(Plan(schedule))
        is_endless = isinstance(first.failure, Endless)
        if first.failure is not None:
            if schedule == Schedule():
                obstacle = Obstacle.NEVER_ENDS if is_endless else Obstacle.FAILS
                culprit = f", in {first.culprit}" if first.culprit else ""
                text = f"the scenario fails without being disturbed{culprit}"
                raise NotExplorable(obstacle, text) from first.failure
            self._failures.append(Failure(str(first.plan), first.failure, f"tasks ordered by {schedule}"))
        self._runs["schedule"] += 1
        if is_endless:  # a second time it would take as long
            return first
        second = self._run(Plan(schedule), first)
        if isinstance(second.failure, Endless):
            text = f"the scenario is not deterministic: {schedule} did not end the second time"
            raise NotExplorable(Obstacle.NEVER_ENDS, text) from second.failure
        if (first.steps, first.operations, len(first.moments)) != (
            second.steps,
            second.operations,
            len(second.moments),
        ):
            text = f"the scenario is not deterministic: {schedule} took another way the second time"
            raise NotExplorable(Obstacle.NOT_DETERMINISTIC, text)
        if (first.failure is None) != (second.failure is None):
            text = f"the scenario is not deterministic: of two runs under {schedule} one failed"
            raise NotExplorable(Obstacle.NOT_DETERMINISTIC, text) from first.failure or second.failure
        self._runs["schedule"] += 1
        return first

    def _run(self, plan: Plan, base: Run | None = None) -> Run:
        result = run(self._scenario, plan, base=base, watch=self._watch, step_seconds_max=self._step_seconds_max)
        for key, note in result.notes.items():
            self._notes.setdefault(key, note)
        return result

    def _schedules(self, seeds: int, base: Run | None) -> Iterator[Schedule]:
        """Shuffled ones, and all that differ from the order of spawning in one round."""
        yield from (Schedule(seed=seed) for seed in range(seeds))
        for turn, size in enumerate(base.choices if base is not None else ()):
            yield from (Schedule(turn=turn, by=by) for by in range(1, size))

    def _moments(self, base: Run) -> Iterator[Moment]:
        """The moments of the tasks that are to be disturbed."""
        for moment in base.moments:
            name = base.names[moment.task]
            if self._tasks is None or any(part in name for part in self._tasks):
                yield moment

    def _cancels(self, schedule: Schedule, base: Run, *, double: bool) -> Iterator[Plan]:
        """Every moment, every scope; and for all but the outermost a second cancellation soon after."""
        for moment in self._moments(base):
            for scope in range(moment.scopes):
                yield Plan(schedule, _cancel(moment, scope))
                if double and scope < moment.scopes - 1:
                    yield from (Plan(schedule, _cancel(moment, scope, later)) for later in range(1, _LATER_MAX + 1))

    def _do_all(self, plans: list[Plan], base: Run) -> None:
        self._planned += len(plans)
        for plan in plans:
            if self._is_enough:
                return
            self._do(plan, base)

    def _do(self, plan: Plan, base: Run) -> None:
        result = self._run(plan, base)
        if not result.fired:
            raise NotExplorable(Obstacle.NEVER_FIRED, f"{plan}: the disturbance never happened")
        self._runs[plan.axis] += 1
        self._delivered |= result.delivered
        self._woken |= result.woken
        self._suspensions |= result.suspensions
        if result.failure is not None:
            self._failures.append(Failure(str(plan), result.failure, _describe(plan, result)))
        if self._progress is not None:
            self._progress(sum(self._runs.values()) - self._runs["schedule"], self._planned)


def _cancel(moment: Moment, scope: int, second: int | None = None) -> Cancel:
    return Cancel(moment.task, moment.step, moment.phase, scope, second)


def _describe(plan: Plan, result: Run) -> str:
    """What was done to the scenario, and where."""
    match plan.disturbance:
        case Cancel() as cancel:
            moment = result.moments[result.moments_before - 1]
            how = "parked at" if cancel.phase is Phase.AFTER else "woken at"
            inside = "the innermost scope" if cancel.scope == 0 else f"scope {cancel.scope} from inside"
            later = f"{cancel.second} step{'' if cancel.second == 1 else 's'} later"
            second = f", and the outermost {later}" if cancel.second is not None else ""
            name = result.names[cancel.task]
            return f"task {cancel.task} ({name}), step {cancel.step}, {how} {moment.where}: {inside} cancelled{second}"
        case Interrupt() as interrupt:
            return f"SIGINT after step {interrupt.step}"
        case FaultAt() as fault:
            return f"{fault.fault} at the network's operation {fault.operation}"
        case None:
            return f"tasks ordered by {plan.schedule}"
