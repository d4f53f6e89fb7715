"""To connect, to plan a fault, to cancel at a chosen step, and to ask whether something would wait for ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import final

import pytest
import trio

from trio_broker.explorer.faults import Fault, Operations, operations_of_this_run
from trio_broker.explorer.network import Network, NetworkListener, NetworkStream

BOTH_MOMENTS = pytest.mark.parametrize("before", [False, True], ids=["after", "before"])


@contextmanager
def fault(kind: Fault, at: int = 0) -> Iterator[Operations]:
    """The fault happens at this operation from here, counted from 0; it must have happened when the block ends."""
    operations = Operations(fault_at=at, fault=kind)
    token = operations_of_this_run().set(operations)
    try:
        yield operations
    finally:
        operations_of_this_run().reset(token)
    assert operations.fired


@contextmanager
def counting() -> Iterator[Operations]:
    """Count operations; no fault happens."""
    operations = Operations()
    token = operations_of_this_run().set(operations)
    try:
        yield operations
    finally:
        operations_of_this_run().reset(token)


async def read_all(stream: NetworkStream) -> bytes:
    """Everything up to the end."""
    received = b""
    while data := await stream.receive_some():
        received += data
    return received


async def waits_for_ever(operation: Callable[[], Awaitable[object]]) -> bool:
    """Whether it still waits after a long while (in virtual time); then it is cancelled."""
    with trio.move_on_after(1e6) as scope:
        await operation()
    return scope.cancelled_caught


@final
class CancelAtStep(trio.abc.Instrument):
    """Cancel a scope after, or before, a step of a task, counted from 0 with the first that begins after this."""

    def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope, step: int, *, before: bool) -> None:
        self._task = task
        self._scope = scope
        self._step = step
        self._before = before
        self._steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            if self._before and self._steps == self._step:
                self._scope.cancel()
            self._steps += 1

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task and not self._before and self._steps == self._step + 1:
            self._scope.cancel()


async def cancelled_at(step: int, operation: Callable[[], Awaitable[object]], *, before: bool) -> bool:
    """Do it, cancelled at this step of it; return whether `trio.Cancelled` came out of it."""
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(trio.lowlevel.current_task(), scope, step, before=before)
        trio.lowlevel.add_instrument(instrument)
        try:
            await trio.lowlevel.cancel_shielded_checkpoint()
            await operation()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancelled_caught


@final
class _Steps(trio.abc.Instrument):
    def __init__(self, task: trio.lowlevel.Task) -> None:
        self._task = task
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self.count += 1


async def steps_of(operation: Callable[[], Awaitable[object]]) -> int:
    """How often this task gives way while it does it."""
    instrument = _Steps(trio.lowlevel.current_task())
    trio.lowlevel.add_instrument(instrument)
    try:
        await operation()
    finally:
        trio.lowlevel.remove_instrument(instrument)
    return instrument.count


async def expect(error: type[Exception], operation: Callable[[], Awaitable[object]]) -> None:
    """It raises this."""
    with pytest.raises(error):
        await operation()


async def connect_and_accept(network: Network, listener: NetworkListener) -> tuple[NetworkStream, NetworkStream]:
    """Both ends of a new connection."""
    ours = await network.connect(listener.port)
    return ours, await listener.accept()
