"""`frames_of` is `trio.lowlevel.Task.iter_await_frames`, faster; so it must find the same."""

from __future__ import annotations

import types
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from trio_broker.explorer.frames import frames_of, is_in


async def plain() -> None:
    await trio.sleep(1)


async def numbers() -> AsyncGenerator[int, None]:
    try:
        await trio.sleep(1)
        yield 1
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)


async def iterates() -> None:
    async for _ in numbers():
        pass


async def closes() -> None:
    async with aclosing(numbers()) as generator:
        await anext(generator)


@asynccontextmanager
async def manager() -> AsyncIterator[None]:
    await trio.sleep(1)
    yield
    await trio.sleep(1)


async def enters() -> None:
    async with manager():
        pass


@types.coroutine
def old() -> Generator[Any, Any, None]:
    yield from trio.sleep(1)


class Instrument(trio.abc.Instrument):
    """Both at the end of each step."""

    def __init__(self) -> None:
        self.asleep: list[bool] = []

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name.startswith("<"):
            return
        expected = [frame for frame, _ in task.iter_await_frames()]
        assert frames_of(task) == expected
        names = [frame.f_code.co_qualname for frame in expected]
        asleep = is_in(task, "sleep_until", trio.sleep_until.__globals__)
        assert asleep == ("sleep_until" in names)
        self.asleep.append(asleep)


@pytest.mark.parametrize("function", [plain, iterates, closes, enters, old])
def test_the_frames_are_those_that_trio_finds(
    function: Callable[[], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    instrument = Instrument()

    async def main() -> None:
        await function()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0), instruments=[instrument])
    assert True in instrument.asleep
    assert False in instrument.asleep  # it has ended
    assert not caplog.records  # else the instrument has raised, and Trio has removed it


async def test_a_function_is_known_by_its_name_and_its_module() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plain)
        await trio.testing.wait_all_tasks_blocked()
        (task,) = nursery.child_tasks
        assert is_in(task, "plain", globals())
        assert not is_in(task, "plain", {})
        assert not is_in(task, "iterates", globals())
        nursery.cancel_scope.cancel()


async def test_a_task_that_has_ended_has_no_frames() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plain)
        (task,) = nursery.child_tasks
        nursery.cancel_scope.cancel()
    assert frames_of(task) == []
    assert not is_in(task, "plain", globals())
