"""Give the broker one CPU and the load another, so that neither is measured together with the other.

Affinity is inherited over fork and exec, also by threads. So a broker is placed by moving this process to the broker's
CPU, starting the child there, and moving back: no code runs in the child, and there is no moment when the child or one
of its threads is somewhere else.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Placement:
    """The CPU of the broker and that of the load; the same one twice where only one is to be had."""

    broker: int
    load: int

    @property
    def apart(self) -> bool:
        """Whether broker and load have a CPU each; if not, rates say little."""
        return self.broker != self.load

    def settle_load(self) -> None:
        """Move this process to the load's CPU."""
        os.sched_setaffinity(0, {self.load})

    @contextmanager
    def on_broker_cpu(self, *, both: bool = False) -> Iterator[None]:
        """Be on the broker's CPU, or on both, while starting a broker, and on the load's afterwards."""
        os.sched_setaffinity(0, {self.broker, self.load} if both else {self.broker})
        try:
            yield
        finally:
            self.settle_load()


def choose_placement() -> Placement:
    """Take the first two CPUs this process may use: 0 and 1 on a machine that is not partitioned."""
    allowed = sorted(os.sched_getaffinity(0))
    return Placement(broker=allowed[0], load=allowed[min(1, len(allowed) - 1)])
