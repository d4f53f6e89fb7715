"""What a scenario has to say about itself: checks for its end and for every rest, and whether it was disturbed."""

from __future__ import annotations

import contextvars
import dataclasses
from collections.abc import Awaitable, Callable
from typing import TypeAlias, final

from trio_broker.explorer.faults import operations_of_this_run
from trio_broker.explorer.result import Run

__all__ = ["Check", "Checks", "afterwards", "at_rest", "checks_of_this_run", "disturbed"]

Check: TypeAlias = Callable[[], Awaitable[object]]
"""An async function without arguments that raises when an invariant does not hold."""


@final
@dataclasses.dataclass(slots=True)
class Checks:
    """What the scenario of one run wants to be checked.

    Attributes:
        run: the run.
        afterwards: when the scenario is over, in order.
        at_rest: whenever all tasks wait.
    """

    run: Run
    afterwards: list[Check] = dataclasses.field(default_factory=list)
    at_rest: list[Callable[[], object]] = dataclasses.field(default_factory=list)


_checks: contextvars.ContextVar[Checks | None] = contextvars.ContextVar("checks", default=None)


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
        checks.afterwards.append(check)


def at_rest(check: Callable[[], object]) -> None:
    """Have a check run whenever the scenario rests: every task waits, and time is about to go on.

    The place to see that nobody was forgotten: whoever waits has a reason to. A wakeup that is lost, but made up for
    by a later deadline, shows here and not at the end.

    It is no rest while a deadline has come, a file descriptor is ready, or a task waits in
    ``trio.testing.wait_all_tasks_blocked``.

    Args:
        check: a function without arguments, not async, that raises when an invariant does not hold. It looks, and
            changes nothing. It runs in no task, between two steps. The first failure cancels the outermost scope, and
            is what the run has failed with, whatever comes after it. Outside of an exploration nothing happens.
    """
    checks = _checks.get()
    if checks is not None:
        checks.at_rest.append(check)


def disturbed() -> bool:
    """Whether this run was disturbed so far. While it was not, a scenario may demand more than its invariants: who
    received what, and when. Another schedule is no disturbance. Outside of an exploration nothing is disturbed."""
    checks, operations = _checks.get(), operations_of_this_run().get()
    # The run hears of the network's fault only when the step is over in which it happened.
    return checks is not None and (checks.run.fired or (operations is not None and operations.fired))


def checks_of_this_run() -> contextvars.ContextVar[Checks | None]:
    """Where a run puts its `Checks`, before it starts its first task."""
    return _checks
