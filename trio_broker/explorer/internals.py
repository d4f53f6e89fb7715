"""The private parts of Trio that the explorer stands on, all in one place.

Trio promises nothing about them. Each has a canary in tests/explorer/test_internals_*.py that fails when a new version
of Trio changes what is relied on here; checked with 0.31 to 0.35.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, final

import trio
from trio._core import _run, _thread_cache

from trio_broker.explorer.frames import is_in

__all__ = [
    "NURSERY_MANAGER",
    "Order",
    "a_descriptor_is_ready",
    "deterministic_scheduling",
    "enclosing_scopes",
    "errors_of_children",
    "somebody_can_run",
    "somebody_waits_for_idleness",
    "threads_of_trio",
    "throw",
    "unshield_all",
    "waits_for_descriptors",
    "wakes_cancelled",
    "wakes_with_a_result",
]

_PRIVATE: Final = frozenset(
    {
        "trio._highlevel_serve_listeners._serve_one_listener",
        "trio._highlevel_open_tcp_stream.open_tcp_stream.<locals>.attempt_connect",
    }
)
"""Tasks in nurseries that Trio opens within its functions."""

_OWN: Final = frozenset({"<init>", "<TrioToken.run_sync_soon task>"})
"""The tasks of Trio itself."""

NURSERY_MANAGER: Final[type] = _run.NurseryManager
"""What ``trio.open_nursery()`` gives: the context manager of a nursery."""

Order = Callable[[list[trio.lowlevel.Task]], None]
"""Puts the tasks of one scheduling round, given in the order they were spawned, into the order they are to run in."""


@final
class _Shuffle:
    """Stands where Trio keeps its random numbers, and orders each round as it was told."""

    def __init__(self, order: Order) -> None:
        self._order = order

    def shuffle(self, batch: list[trio.lowlevel.Task]) -> None:
        """Trio gives the round sorted by the order of spawning, and runs it from the end.

        Its own tasks keep their places: where they run makes no difference to a program.
        """
        theirs = [task for task in batch if task.name not in _OWN]
        self._order(theirs)
        if len(theirs) == len(batch):
            batch[:] = theirs
        else:
            ordered = iter(theirs)
            batch[:] = [task if task.name in _OWN else next(ordered) for task in batch]
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

    Without those that ``sleep``, ``nursery.start``, ``serve_listeners`` and ``open_tcp_stream`` keep for themselves: no
    program can cancel them, and Trio does not expect it.
    """
    scopes: list[trio.CancelScope] = []
    private = _scopes_of_nurseries_of_trio(task)
    status: Any = task._cancel_status
    if _is_asleep(task):
        status = status._parent
    while status is not None:
        if status._scope not in private:
            scopes.append(status._scope)
        elif any(nursery.cancel_scope is status._scope for nursery in task.child_nurseries):
            scopes.clear()  # what the function has opened within its nursery is its own too: a delay
        if status._scope is root:
            return scopes
        status = status._parent
    return []


def _scopes_of_nurseries_of_trio(task: trio.lowlevel.Task) -> list[trio.CancelScope]:
    """Those around a task that Trio opens within its functions; they are known by the tasks in them."""
    # This runs twice in each step, so the private lists are taken: the public ones are copies.
    scopes = []
    above: Any = task
    while above is not None:
        for nursery in above._child_nurseries:
            for child in nursery._children:
                # It has not called ``started`` yet, or accepts or connects for one of those functions.
                if child._eventual_parent_nursery is not None or child.name in _PRIVATE:
                    scopes.append(nursery.cancel_scope)
                    break
        above = None if above._parent_nursery is None else above._parent_nursery._parent_task
    return scopes


def _is_asleep(task: trio.lowlevel.Task) -> bool:
    """Whether a task is in ``trio.sleep``, or one of its kin. The scope around it is the one that ends the sleep."""
    return is_in(task, trio.sleep_until.__qualname__, trio.sleep_until.__globals__)


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


def somebody_can_run() -> bool:
    """Whether a task can run. `trio.lowlevel.current_statistics` says so too, and counts much else for it."""
    runner: Any = _run.GLOBAL_RUN_CONTEXT.runner
    return bool(runner.runq)


def somebody_waits_for_idleness() -> bool:
    """Whether a task is in ``trio.testing.wait_all_tasks_blocked``: it will be woken when nothing else can run."""
    runner: Any = _run.GLOBAL_RUN_CONTEXT.runner
    return bool(runner.waiting_for_idle)


def a_descriptor_is_ready() -> bool:
    """Whether the system has something to say about a socket that a task waits for: Trio is about to hear of it."""
    manager: Any = _run.GLOBAL_RUN_CONTEXT.runner.io_manager
    return bool(select.select([manager._epoll], [], [], 0)[0]) if hasattr(manager, "_epoll") else False


def throw(task: trio.lowlevel.Task, error: BaseException) -> None:
    """Have the step that a task is about to take begin with this error, whatever it was to begin with."""
    private: Any = _run
    task._next_send = private.Error(error)


def errors_of_children(task: trio.lowlevel.Task) -> int:
    """How many errors the nursery that a task is in has collected; one more when the task has ended with one."""
    nursery: Any = task.parent_nursery
    return len(getattr(nursery, "_pending_excs", ()))


def waits_for_descriptors() -> Iterator[tuple[trio.lowlevel.Task, int]]:
    """The tasks that wait for a file descriptor of the operating system, with it; those of Trio itself too."""
    manager: Any = _run.GLOBAL_RUN_CONTEXT.runner.io_manager
    if len(manager._registered) < 2:  # Trio itself waits for one
        return
    for descriptor, waiters in manager._registered.items():
        for task in (waiters.read_task, waiters.write_task):
            if task is not None:
                yield task, descriptor


@contextmanager
def threads_of_trio(refuse: Callable[[], object]) -> Iterator[None]:
    """Within this block have Trio call ``refuse`` before it takes a thread, be it a new one or one that it has kept."""
    private: Any = _thread_cache.ThreadCache
    real = private.start_thread_soon

    def start_thread_soon(self: Any, *arguments: Any) -> None:
        refuse()
        real(self, *arguments)

    private.start_thread_soon = start_thread_soon
    try:
        yield
    finally:
        private.start_thread_soon = real


def unshield_all(task: trio.lowlevel.Task) -> None:
    """Take every shield around a task away: the last means against one that cannot be cancelled."""
    status: Any = task._cancel_status
    while status is not None:
        status._scope.shield = False
        status = status._parent


def _pending(task: trio.lowlevel.Task) -> Any:
    """What a task that can run will be given: a ``Value`` or an ``Error`` of outcome. None for one that is parked."""
    return task._next_send
