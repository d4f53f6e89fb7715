"""The tasks of one run: which are the scenario's, how far each has come, and what they are called for people."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import final

import trio

from trio_broker.explorer.places import place_of_error, place_of_frame, place_of_task
from trio_broker.explorer.result import Run, Scenario

__all__ = ["Census"]


@final
class Census:
    """The scenario's tasks, numbered in order of spawning.

    Attributes:
        main: the scenario's own task, which is number 0; None until it has begun.
        steps: how many steps each task has taken, by its number.
    """

    def __init__(self, scenario: Scenario, result: Run) -> None:
        """No tasks yet.

        Args:
            scenario: the scenario, for the name of its own task.
            result: the run; the tasks' names are put down there.
        """
        self.main: trio.lowlevel.Task | None = None
        self.steps: list[int] = []
        self._scenario = scenario
        self._names = result.names
        self._numbers: dict[trio.lowlevel.Task, int] = {}
        self._frames: dict[int, int] = {}  # the tasks' numbers by the identity of their outermost frames

    def __iter__(self) -> Iterator[trio.lowlevel.Task]:
        """The tasks in order of spawning, those that have ended too."""
        return iter(self._numbers)

    def number_of(self, task: trio.lowlevel.Task) -> int | None:
        """A task's number; None for one that is not the scenario's."""
        return self._numbers.get(task)

    def begin(self, main: trio.lowlevel.Task) -> None:
        """The scenario begins, in this task."""
        self.main = main
        self._adopt(main, getattr(self._scenario, "__qualname__", "the scenario"))

    def see_spawned(self, task: trio.lowlevel.Task) -> None:
        """Give a new task a number if it is one of the scenario's, not one of Trio's own."""
        nursery = task.parent_nursery
        while nursery is not None:
            if nursery.parent_task in self._numbers:
                self._adopt(task, task.name)
                return
            nursery = nursery.parent_task.parent_nursery

    def _adopt(self, task: trio.lowlevel.Task, name: str) -> None:
        number = self._numbers[task] = len(self._numbers)
        self.steps.append(0)
        self._names.append(name)
        self._frames[id(task.coro.cr_frame)] = number

    # -- for people --------------------------------------------------------------------------------------------------

    def who(self, task: trio.lowlevel.Task | None) -> str:
        """A task, by its number and name."""
        if task is None:
            return "between two steps,"
        number = self._numbers.get(task)
        return task.name if number is None else self._called(number)

    def who_and_where(self, task: trio.lowlevel.Task | None, frame: FrameType | None) -> str:
        """The task that runs now and its line; if that is Trio's own, the line that had it started too.

        Args:
            task: the task; None between two steps.
            frame: the innermost frame that runs.
        """
        place, is_theirs = place_of_frame(frame)
        text = f"{self.who(task)} at {place}"
        if is_theirs or task is None or task is self.main or task.parent_nursery is None:
            return text
        parent = task.parent_nursery.parent_task
        return f"{text}, for {self.who(parent)} at {place_of_task(parent)}"

    def where_all_are(self) -> str:
        """Where each task is parked."""
        parked = [task for task in self._numbers if task.coro.cr_frame is not None]
        return "; ".join(f"{self.who(task)} at {place_of_task(task)}" for task in parked)

    def who_raised(self, error: BaseException) -> str:
        """The task and the line that raised an error; empty if that is no line of the scenario."""
        number, where = place_of_error(error, self._frames)
        who = "" if number is None else self._called(number)
        return f"{who} at {where}" if where else who

    def _called(self, number: int) -> str:
        return f"task {number} ({self._names[number]})"
