"""What one run does differently from a plain one, as a value and as a token that people can copy.

A token names the schedule and at most one disturbance::

    spawn                       nothing but the schedule: tasks run in the order in which they were spawned
    seed7                       each round shuffled by a generator with this seed
    turn3.1                     as spawn, but in the 3rd round that leaves a choice the 1st of the others goes first
    spawn/t2:14:after:0         task 2 (in order of spawning), parked after its 14th step: its innermost scope cancelled
    spawn/t2:14:before:1        the same, when it has been woken for its next step; the second scope from inside
    spawn/t2:14:after:0+3       and three steps (of anybody) later the outermost scope is cancelled too
    spawn/int:20                SIGINT after the 20th step of all
    spawn/io:4:reset            the network's 4th operation meets a fault
"""

from __future__ import annotations

import dataclasses
import enum
import random
import re
from typing import Final, TypeVar, final

from trio_broker.explorer.faults import Fault
from trio_broker.explorer.internals import Order

__all__ = ["Cancel", "FaultAt", "Interrupt", "Phase", "Plan", "Schedule"]

Item = TypeVar("Item")


class Phase(enum.StrEnum):
    """When, between two steps of a task, a cancellation lands."""

    AFTER = "after"
    """The task is parked: what it waits for is aborted."""
    BEFORE = "before"
    """It has already been woken with a result: that succeeds, and the cancellation lands at its next checkpoint."""


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """In which order the tasks of a round run.

    Attributes:
        seed: shuffle each round with this seed; None for the order of spawning.
        turn: in which round that leaves a choice (counted from 0) the order is turned; None for none.
        by: by how many places.
    """

    seed: int | None = None
    turn: int | None = None
    by: int = 0

    def __str__(self) -> str:
        if self.seed is not None:
            return f"seed{self.seed}"
        return "spawn" if self.turn is None else f"turn{self.turn}.{self.by}"

    def begin(self, choices: list[int]) -> Order:
        """The order for one run. The size of each round that left a choice is appended to ``choices``."""
        generator = None if self.seed is None else random.Random(self.seed)

        def order(batch: list[Item]) -> None:
            if len(batch) < 2:
                return
            if generator is not None:
                generator.shuffle(batch)
            elif len(choices) == self.turn:
                batch[:] = [*batch[self.by :], *batch[: self.by]]
            choices.append(len(batch))

        return order


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel a scope around a task.

    Attributes:
        task: which task, in order of spawning; the scenario's own is 0.
        step: after how many of its steps.
        phase: when.
        scope: which scope around it, from the inside: 0 is the innermost.
        second: cancel the outermost scope too, so many steps later; None for not.
    """

    task: int
    step: int
    phase: Phase
    scope: int
    second: int | None = None

    def __str__(self) -> str:
        text = f"t{self.task}:{self.step}:{self.phase}:{self.scope}"
        return text if self.second is None else f"{text}+{self.second}"


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Interrupt:
    """SIGINT.

    Attributes:
        step: after how many steps of all tasks together.
    """

    step: int

    def __str__(self) -> str:
        return f"int:{self.step}"


@final
@dataclasses.dataclass(frozen=True, slots=True)
class FaultAt:
    """A fault of the network.

    Attributes:
        operation: at which operation, counted from 0.
        fault: which.
    """

    operation: int
    fault: Fault

    def __str__(self) -> str:
        return f"io:{self.operation}:{self.fault}"


_SCHEDULE: Final = re.compile(r"spawn|seed(?P<seed>\d+)|turn(?P<turn>\d+)\.(?P<by>\d+)")
_CANCEL: Final = re.compile(
    r"t(?P<task>\d+):(?P<step>\d+):(?P<phase>after|before):(?P<scope>\d+)(?:\+(?P<second>\d+))?"
)
_INTERRUPT: Final = re.compile(r"int:(?P<step>\d+)")
_FAULT: Final = re.compile(r"io:(?P<operation>\d+):(?P<fault>eof|reset|short|stall)")


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """One run: a schedule and at most one disturbance."""

    schedule: Schedule = Schedule()
    disturbance: Cancel | Interrupt | FaultAt | None = None

    def __str__(self) -> str:
        return str(self.schedule) if self.disturbance is None else f"{self.schedule}/{self.disturbance}"

    @property
    def axis(self) -> str:
        """Which kind of run this is, for counting."""
        match self.disturbance:
            case Cancel(second=None):
                return "cancel"
            case Cancel():
                return "second cancel"
            case Interrupt():
                return "interrupt"
            case FaultAt():
                return "fault"
            case None:
                return "schedule"

    @staticmethod
    def parse(token: str) -> Plan:
        """The plan that a token stands for. Raises ``ValueError`` for what is no token."""
        head, slash, tail = token.partition("/")
        schedule = _SCHEDULE.fullmatch(head)
        if schedule is None:
            raise ValueError(f"{token!r} is not a replay token: it starts with spawn, seedN or turnN.N")
        numbers = {name: int(value) for name, value in schedule.groupdict().items() if value is not None}
        return Plan(Schedule(**numbers), _parse_disturbance(token, tail) if slash else None)


def _parse_disturbance(token: str, text: str) -> Cancel | Interrupt | FaultAt:
    if match := _CANCEL.fullmatch(text):
        second = match["second"]
        phase = Phase(match["phase"])
        where = int(match["task"]), int(match["step"]), phase, int(match["scope"])
        return Cancel(*where, None if second is None else int(second))
    if match := _INTERRUPT.fullmatch(text):
        return Interrupt(int(match["step"]))
    if match := _FAULT.fullmatch(text):
        return FaultAt(int(match["operation"]), Fault(match["fault"]))
    raise ValueError(f"{token!r} is not a replay token: after the slash comes tN:N:after:N, int:N or io:N:reset")
