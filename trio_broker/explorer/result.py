"""What a run is about and what comes of it: the scenario, its moments, its checks, its result."""

from __future__ import annotations

import contextvars
import dataclasses
from collections.abc import Awaitable, Callable
from typing import TypeAlias, final

from trio_broker.explorer.plan import Phase, Plan
from trio_broker.explorer.sites import Site

__all__ = ["Check", "Moment", "NotExplorable", "Run", "Scenario", "ScenarioFailed", "afterwards", "checks_of_this_run"]

Scenario: TypeAlias = Callable[[], Awaitable[object]]
"""An async function without arguments that raises when an invariant fails."""


class NotExplorable(Exception):
    """The scenario cannot be explored: it is not deterministic, or the explorer itself failed. Never a green result."""


class ScenarioFailed(Exception):
    """The explorer saw what the scenario itself does not say: a deadlock, an endless run, a swallowed cancellation."""


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """A moment between two steps of a task, in which a cancellation can land.

    Attributes:
        task: the task, in order of spawning.
        step: how many steps it has taken.
        phase: parked, or woken.
        scopes: how many scopes are around it, the outermost included.
        where: the line where it is suspended, for people.
    """

    task: int
    step: int
    phase: Phase
    scopes: int
    where: str


@final
@dataclasses.dataclass(slots=True)
class Run:
    """What happened in one run.

    Attributes:
        plan: what was planned.
        failure: what the scenario, or the explorer, complained of; None if all is well.
        fired: whether the planned disturbance happened.
        moments: all moments in order; only those before the disturbance are to be compared with another run's.
        moments_before: how many of them came before the disturbance.
        steps: how many steps all tasks took together.
        choices: the sizes of the rounds that left the schedule a choice.
        operations: how many operations the network saw.
        delivered: sites where a task met `trio.Cancelled`.
        woken: sites where a task had been woken with a result when the cancellation fired.
        names: the tasks' names, in order of spawning.
    """

    plan: Plan
    failure: BaseException | None = None
    fired: bool = False
    moments: list[Moment] = dataclasses.field(default_factory=list)
    moments_before: int = -1
    steps: int = 0
    choices: list[int] = dataclasses.field(default_factory=list)
    operations: int = 0
    delivered: set[Site] = dataclasses.field(default_factory=set)
    woken: set[Site] = dataclasses.field(default_factory=set)
    names: list[str] = dataclasses.field(default_factory=list)


Check: TypeAlias = Callable[[], Awaitable[object]]
_checks: contextvars.ContextVar[list[Check] | None] = contextvars.ContextVar("checks", default=None)


def afterwards(check: Check) -> None:
    """Have a check run when the scenario is over, however it ended, and undisturbed.

    It runs in the same ``trio.run``, after the outermost cancel scope was left: the place to see that nothing was lost,
    that every stream is closed, and that the same broker still serves a fresh client.

    Args:
        check: an async function without arguments that raises when an invariant does not hold. Checks run in the order
            in which they were given. Outside of an exploration nothing happens.
    """
    checks = _checks.get()
    if checks is not None:
        checks.append(check)


def checks_of_this_run() -> contextvars.ContextVar[list[Check] | None]:
    """Where a run puts the list that `afterwards` appends to, before it starts its first task."""
    return _checks
