"""What a run is about and what comes of it: the scenario, its moments, its checks, its result."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Awaitable, Callable
from typing import TypeAlias, final

from trio_broker.explorer.plan import Phase, Plan
from trio_broker.explorer.sites import Site, Suspension

__all__ = [
    "Endless",
    "Moment",
    "NotExplorable",
    "Obstacle",
    "Run",
    "Scenario",
    "ScenarioFailed",
    "Swallowed",
]

Scenario: TypeAlias = Callable[[], Awaitable[object]]
"""An async function without arguments that raises when an invariant fails."""


class Obstacle(enum.StrEnum):
    """Why a scenario cannot be explored."""

    FAILS = "fails undisturbed"
    """It raises, or a check of its does, without any disturbance."""
    NEVER_ENDS = "never ends"
    """Without any disturbance, or before it, there is a deadlock, or no end within the limits of steps and time."""
    NOT_DETERMINISTIC = "not deterministic"
    """It went another way than before, with nothing that would explain it."""
    REALITY = "touches reality"
    """It sleeps in real time, or reaches for real sockets, threads or processes."""
    NEVER_FIRED = "never fired"
    """The disturbance did not happen, so the run says nothing."""
    INSTRUMENT_DIED = "instrument died"
    """The explorer itself failed."""
    WRONG_THREAD = "wrong thread"
    """It was to be interrupted, and this is not the main thread."""


class NotExplorable(Exception):
    """The scenario cannot be explored. Never a green result.

    Attributes:
        obstacle: why.
    """

    def __init__(self, obstacle: Obstacle, text: str) -> None:
        super().__init__(text)
        self.obstacle = obstacle

    def __reduce__(self) -> tuple[type[NotExplorable], tuple[Obstacle, str]]:
        return NotExplorable, (self.obstacle, str(self))


class ScenarioFailed(Exception):
    """The explorer saw what the scenario itself does not say."""


@final
class Endless(ScenarioFailed):
    """The run did not come to its end by itself: a deadlock, too many steps, too much virtual time, or a step that
    took too long in real time."""


@final
class Swallowed(ScenarioFailed):
    """A task met `trio.Cancelled` for the scenario's outermost scope, and went on as if it had not."""


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
        suspensions: what tasks were waiting for, at such sites and deeper.
        names: the tasks' names, in order of spawning.
        notes: what the scenario did that may not be the same in every run, for
            people; each once, whichever task did it first.
        culprit: the task and the line that raised `failure`, for people; empty if the explorer found it itself.
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
    suspensions: set[Suspension] = dataclasses.field(default_factory=set)
    names: list[str] = dataclasses.field(default_factory=list)
    notes: dict[str, str] = dataclasses.field(default_factory=dict)
    culprit: str = ""
