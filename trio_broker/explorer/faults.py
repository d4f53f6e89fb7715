"""Faults of the network, one at one operation of one run.

The in-memory network counts its operations here, in order, over a whole run; a run that explores faults says at which
operation which fault happens. Outside of such a run everything is well.
"""

from __future__ import annotations

import contextvars
import dataclasses
import enum
from typing import final

__all__ = ["Fault", "Operations", "next_operation", "operations_of_this_run"]


class Fault(enum.StrEnum):
    """What can go wrong at one operation."""

    EOF = "eof"
    """The peer has closed its side: nothing more comes. A send goes nowhere."""
    RESET = "reset"
    """The connection is broken, for both ends, at once; what was on the way is lost."""
    SHORT = "short"
    """One byte moves, and the operation takes its time for the rest."""
    STALL = "stall"
    """The connection moves nothing any more, and nobody says so."""


@final
@dataclasses.dataclass(slots=True)
class Operations:
    """The operations of one run.

    Attributes:
        fault_at: at which operation the fault happens, counted from 0; None for never.
        fault: which.
        count: how many operations there were so far.
        fired: whether the fault has happened.
    """

    fault_at: int | None = None
    fault: Fault = Fault.RESET
    count: int = 0
    fired: bool = False


_operations: contextvars.ContextVar[Operations | None] = contextvars.ContextVar("operations", default=None)


def operations_of_this_run() -> contextvars.ContextVar[Operations | None]:
    """Where a run puts its `Operations`, before it starts its first task."""
    return _operations


def next_operation() -> Fault | None:
    """Count one operation of the network; return the fault that is to happen at it, if one is."""
    operations = _operations.get()
    if operations is None:
        return None
    index = operations.count
    operations.count += 1
    if index != operations.fault_at:
        return None
    operations.fired = True
    return operations.fault
