"""What the explorer knows of how a task goes on: with what a step begins, what is thrown into it, and threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from trio_broker.explorer.internals import threads_of_trio, throw, wakes_cancelled, wakes_with_a_result


def test_the_end_of_a_sleep_is_a_result() -> None:
    async def child(scope: trio.CancelScope) -> None:
        await trio.sleep(1)
        with trio.move_on_after(1):
            await trio.sleep(2)
        with trio.move_on_after(1):
            await trio.sleep_forever()
        with scope:
            await trio.sleep(2)

    async def main() -> None:
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, scope, name="child")
            await trio.sleep(4)
            scope.cancel()

    wakes = Wakes("child")
    trio.run(main, instruments=[wakes], clock=trio.testing.MockClock(autojump_threshold=0))
    assert wakes.seen == [FIRST, RESULT, CANCELLED, CANCELLED, CANCELLED]


class Wakes(trio.abc.Instrument):
    """With what each step of a task of this name begins."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[tuple[bool, bool]] = []

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name == self.name:
            self.seen.append((wakes_with_a_result(task), wakes_cancelled(task)))

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name == self.name and task.coro.cr_frame is not None and task.custom_sleep_data is not None:
            assert not wakes_with_a_result(task)
            assert not wakes_cancelled(task)


FIRST = (False, False)  # nothing is awaited yet
RESULT = (True, False)
CANCELLED = (False, True)


def test_how_a_task_wakes_is_known_before_its_step() -> None:
    async def child(receive: trio.MemoryReceiveChannel[int], scope: trio.CancelScope) -> None:
        assert await receive.receive() == 1  # parks: a value
        await trio.lowlevel.checkpoint()  # gives way: a value
        with scope:
            await receive.receive()  # parks: Cancelled
        with pytest.raises(trio.EndOfChannel):
            await receive.receive()  # parks: an error that is a result

    async def main() -> None:
        send, receive = trio.open_memory_channel[int](0)
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, receive, scope, name="child")
            await trio.testing.wait_all_tasks_blocked()
            await send.send(1)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            send.close()

    wakes = Wakes("child")
    trio.run(main, instruments=[wakes])
    assert wakes.seen == [FIRST, RESULT, RESULT, CANCELLED, RESULT]


def test_a_parked_task_wakes_with_nothing_yet() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            (child,) = nursery.child_tasks
            assert not wakes_with_a_result(child)
            assert not wakes_cancelled(child)
            nursery.cancel_scope.cancel()
            assert wakes_cancelled(child)

    trio.run(main)


class Stop(BaseException):
    pass


@pytest.mark.parametrize("give_way", [trio.lowlevel.checkpoint, trio.lowlevel.cancel_shielded_checkpoint])
def test_what_is_thrown_replaces_what_a_step_was_to_begin_with(give_way: Callable[[], Any]) -> None:
    class Throws(trio.abc.Instrument):
        steps = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if task.name == "child":
                self.steps += 1
                if self.steps == 10:
                    throw(task, Stop())

    async def child() -> None:
        while True:
            await give_way()

    async def main() -> None:
        with pytest.RaisesGroup(Stop):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, name="child")

    trio.run(main, instruments=[Throws()])


async def test_threads_of_trio_are_refused() -> None:
    def refuse() -> None:
        raise ZeroDivisionError

    assert await trio.to_thread.run_sync(int) == 0
    with threads_of_trio(refuse), pytest.raises(ZeroDivisionError):
        await trio.to_thread.run_sync(int)
    assert await trio.to_thread.run_sync(int) == 0
