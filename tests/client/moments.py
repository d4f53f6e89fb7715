"""A block that is cancelled at a certain moment, for tests that try one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def cancelled_after(
    steps: int | None, at_last: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[trio.CancelScope]:
    """Cancel the block after so many steps of the scheduler, unless it has ended by then; gives its scope.

    Args:
        steps: how many; None never cancels.
        at_last: what is done in the step in which it is cancelled, before that.
    """
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as race:

            async def cancel(steps: int) -> None:
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                if at_last is not None:
                    await at_last()
                scope.cancel()

            if steps is not None:
                race.start_soon(cancel, steps)
            yield scope
            race.cancel_scope.cancel()
