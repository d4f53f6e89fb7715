"""The private parts of Trio that the explorer stands on, all in one place.

Trio promises nothing about them. Each has a canary in tests/explorer/test_internals.py that fails when a new version
of Trio changes what is relied on here; checked with 0.31 to 0.35.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, final

import trio
from trio._core import _run

__all__ = [
    "Order",
    "deterministic_scheduling",
    "enclosing_scopes",
    "somebody_waits_for_idleness",
    "throw",
    "unshield_all",
    "wakes_cancelled",
    "wakes_with_a_result",
]

_SERVES: Final = "trio._highlevel_serve_listeners._serve_one_listener"

Order = Callable[[list[trio.lowlevel.Task]], None]
"""Puts the tasks of one scheduling round, given in the order they were spawned, into the order they are to run in."""


@final
class _Shuffle:
    """Stands where Trio keeps its random numbers, and orders each round as it was told."""

    def __init__(self, order: Order) -> None:
        self._order = order

    def shuffle(self, batch: list[trio.lowlevel.Task]) -> None:
        """Trio gives the round sorted by the order of spawning, and runs it from the end."""
        self._order(batch)
        batch.reverse()

    def random(self) -> float:
        return 0.5


@contextmanager
def deterministic_scheduling(order: Order) -> Iterator[None]:
    """Within this block ``trio.run`` orders the tasks of each round by ``order`` instead of by chance."""
    private: Any = _run
    before = (private._ALLOW_DETERMINISTIC_SCHEDULING, private._r)
    private._ALLOW_DETERMINISTIC_SCHEDULING, private._r = True, _Shuffle(order)
    try:
        yield
    finally:
        private._ALLOW_DETERMINISTIC_SCHEDULING, private._r = before


def enclosing_scopes(task: trio.lowlevel.Task, root: trio.CancelScope) -> list[trio.CancelScope]:
    """The cancel scopes around where a task is, from the innermost to ``root``; none if ``root`` is not around it.

    Without those that ``sleep``, ``nursery.start`` and ``serve_listeners`` keep for themselves: no program can cancel
    them, and Trio does not expect it.
    """
    scopes: list[trio.CancelScope] = []
    private = _scopes_of_nurseries_of_trio(task)
    status: Any = task._cancel_status
    if _is_asleep(task):
        status = status._parent
    while status is not None:
        if status._scope not in private:
            scopes.append(status._scope)
        if status._scope is root:
            return scopes
        status = status._parent
    return []


def _scopes_of_nurseries_of_trio(task: trio.lowlevel.Task) -> list[trio.CancelScope]:
    """Those around a task that Trio opens within its functions; they are known by the tasks in them."""
    scopes = []
    above: trio.lowlevel.Task | None = task
    while above is not None:
        for nursery in above.child_nurseries:
            if any(_is_private(child) for child in nursery.child_tasks):
                scopes.append(nursery.cancel_scope)  # noqa: PERF401  this runs twice in each step
        above = None if above.parent_nursery is None else above.parent_nursery.parent_task
    return scopes


def _is_private(child: trio.lowlevel.Task) -> bool:
    """Whether a task is one that has not called ``started`` yet, or one that accepts for ``serve_listeners``."""
    return child.eventual_parent_nursery is not None or child.name == _SERVES


def _is_asleep(task: trio.lowlevel.Task) -> bool:
    """Whether a task is in ``trio.sleep``, or one of its kin. The scope around it is the one that ends the sleep."""
    return any(frame.f_code is trio.sleep_until.__code__ for frame, _ in task.iter_await_frames())


def wakes_cancelled(task: trio.lowlevel.Task) -> bool:
    """Whether the step that a task is about to take begins with `trio.Cancelled`, which is not merely how Trio ends a
    sleep."""
    if not isinstance(getattr(_pending(task), "error", None), trio.Cancelled):
        return False
    status: Any = task._cancel_status
    return not _is_asleep(task) or bool(status._parent.effectively_cancelled)


def wakes_with_a_result(task: trio.lowlevel.Task) -> bool:
    """Whether the step that a task is about to take begins with what it waited for, be it a value or an error."""
    pending = _pending(task)
    return pending is not None and not wakes_cancelled(task)


def somebody_waits_for_idleness() -> bool:
    """Whether a task is in ``trio.testing.wait_all_tasks_blocked``: it will be woken when nothing else can run."""
    runner: Any = _run.GLOBAL_RUN_CONTEXT.runner
    return bool(runner.waiting_for_idle)


def throw(task: trio.lowlevel.Task, error: BaseException) -> None:
    """Have the step that a task is about to take begin with this error, whatever it was to begin with."""
    private: Any = _run
    task._next_send = private.Error(error)


def unshield_all(task: trio.lowlevel.Task) -> None:
    """Take every shield around a task away: the last means against one that cannot be cancelled."""
    status: Any = task._cancel_status
    while status is not None:
        status._scope.shield = False
        status = status._parent


def _pending(task: trio.lowlevel.Task) -> Any:
    """What a task that can run will be given: a ``Value`` or an ``Error`` of outcome. None for one that is parked."""
    return task._next_send
