"""A worker that loses a job if it is cancelled at the wrong moment, and one that does not.

Explore them::

    python -m trio_broker explore examples/explore/lost_job.py:careless --watch lost_job
    python -m trio_broker explore examples/explore/lost_job.py:careful --watch lost_job
"""

from collections import deque
from collections.abc import Awaitable, Callable

import trio

from trio_broker.explorer import afterwards

JOBS = ["a", "b", "c", "d"]


class Office:
    """Jobs that wait, jobs that are done, and the book in which one worker at a time writes down what it has done."""

    def __init__(self) -> None:
        self.waiting = deque(JOBS)
        self.done: list[str] = []
        self.book = trio.Lock()

    async def check(self) -> None:
        """Each job waits or is done, and the book is free."""
        async with self.book:
            lost = set(JOBS) - {*self.waiting, *self.done}
        assert not lost, f"lost: {sorted(lost)}"


async def careless_worker(office: Office) -> None:
    """Take a job, and write it down."""
    for _ in range(2):
        job = office.waiting.popleft()
        async with office.book:
            office.done.append(job)


async def careful_worker(office: Office) -> None:
    """Open the book, take a job, and write it down: nothing waits between the two."""
    for _ in range(2):
        async with office.book:
            job = office.waiting.popleft()
            office.done.append(job)


async def work(worker: Callable[[Office], Awaitable[None]]) -> None:
    """Two workers in one office."""
    office = Office()
    afterwards(office.check)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker, office)
        nursery.start_soon(worker, office)


async def careless() -> None:
    """A scenario with the bug."""
    await work(careless_worker)


async def careful() -> None:
    """The same with its cure."""
    await work(careful_worker)
