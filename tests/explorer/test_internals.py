from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from trio._core import _run

import trio_broker.explorer.instrument as instrument_module
from trio_broker.explorer.internals import (
    NURSERY_MANAGER,
    a_descriptor_is_ready,
    deterministic_scheduling,
    enclosing_scopes,
    errors_of_children,
    somebody_can_run,
    somebody_waits_for_idleness,
    threads_of_trio,
    throw,
    unshield_all,
    waits_for_descriptors,
    wakes_cancelled,
    wakes_with_a_result,
)
from trio_broker.explorer.network import Network
from trio_broker.explorer.plan import Plan
from trio_broker.explorer.result import NotExplorable
from trio_broker.explorer.run import run


def in_spawn_order(batch: list[trio.lowlevel.Task]) -> None:
    """Leave a round as it is."""


def backwards(batch: list[trio.lowlevel.Task]) -> None:
    batch.reverse()


async def rounds(tasks: int, count: int) -> list[int]:
    """Which task ran when, in so many rounds."""
    ran: list[int] = []

    async def task(number: int) -> None:
        for _ in range(count):
            ran.append(number)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for number in range(tasks):
            nursery.start_soon(task, number)
    return ran


@pytest.mark.parametrize(("order", "expected"), [(in_spawn_order, [0, 1, 2, 3, 4]), (backwards, [4, 3, 2, 1, 0])])
def test_a_round_runs_in_the_order_given(
    order: Callable[[list[trio.lowlevel.Task]], None], expected: list[int]
) -> None:
    with deterministic_scheduling(order):
        assert trio.run(rounds, 5, 20, clock=trio.testing.MockClock()) == expected * 20


def test_a_round_is_given_in_the_order_of_spawning() -> None:
    given: list[list[str]] = []

    async def wait(event: trio.Event) -> None:
        await event.wait()

    async def main() -> None:
        events = [trio.Event() for _ in range(5)]
        async with trio.open_nursery() as nursery:
            for number, event in enumerate(events):
                nursery.start_soon(wait, event, name=f"task {number}")
            await trio.testing.wait_all_tasks_blocked()
            given.clear()
            for number in (3, 0, 4, 1, 2):
                events[number].set()

    with deterministic_scheduling(lambda batch: given.append([task.name for task in batch])):
        trio.run(main, clock=trio.testing.MockClock())
    assert [f"task {number}" for number in range(5)] in given


def test_what_was_replaced_in_trio_is_restored() -> None:
    private: Any = _run
    before = (private._ALLOW_DETERMINISTIC_SCHEDULING, private._r)
    with deterministic_scheduling(in_spawn_order):
        assert private._ALLOW_DETERMINISTIC_SCHEDULING
        assert private._r is not before[1]
    assert (private._ALLOW_DETERMINISTIC_SCHEDULING, private._r) == before
    with pytest.raises(ZeroDivisionError), deterministic_scheduling(in_spawn_order):
        raise ZeroDivisionError
    assert (private._ALLOW_DETERMINISTIC_SCHEDULING, private._r) == before


def test_scopes_are_listed_from_the_innermost_to_the_root() -> None:
    async def main() -> None:
        task = trio.lowlevel.current_task()
        with trio.CancelScope() as outside, trio.CancelScope() as root:  # noqa: ASYNC100  nothing waits
            assert enclosing_scopes(task, root) == [root]
            with trio.CancelScope(shield=True) as shielded:  # noqa: ASYNC100  nothing waits
                async with trio.open_nursery() as nursery:
                    with trio.CancelScope() as inner:  # noqa: ASYNC100  nothing waits
                        assert enclosing_scopes(task, root) == [inner, nursery.cancel_scope, shielded, root]
                        assert enclosing_scopes(task, nursery.cancel_scope) == [inner, nursery.cancel_scope]
                    assert enclosing_scopes(task, root) == [nursery.cancel_scope, shielded, root]
            assert enclosing_scopes(task, outside) == [root, outside]
        assert enclosing_scopes(task, root) == []

    trio.run(main)


def test_a_child_is_within_its_starter_until_it_has_started() -> None:
    seen: list[list[trio.CancelScope]] = []

    async def child(  # noqa: ASYNC114  ASYNC113 need not look for it
        root: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        seen.append(enclosing_scopes(trio.lowlevel.current_task(), root))
        task_status.started()
        seen.append(enclosing_scopes(trio.lowlevel.current_task(), root))

    async def main() -> None:
        with trio.CancelScope() as root:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, root)
                await trio.testing.wait_all_tasks_blocked()
                assert seen == [[nursery.cancel_scope, root]] * 2
                seen.clear()
                with trio.CancelScope() as around_start:
                    await nursery.start(child, root)
            assert seen[0] == [around_start, nursery.cancel_scope, root]
            assert seen[1] == [nursery.cancel_scope, root]

    trio.run(main)


def test_the_nursery_within_start_is_left_out() -> None:
    async def grandchild() -> None:
        await trio.sleep_forever()

    async def child(task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114, ASYNC128  it never starts
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112  a task more
            nursery.start_soon(grandchild)

    async def starter(target: trio.Nursery) -> None:
        with pytest.raises(RuntimeError, match="without calling"):
            await target.start(child)

    async def main() -> None:
        async with trio.open_nursery() as target, trio.open_nursery() as nursery:
            nursery.start_soon(starter, target)
            await trio.testing.wait_all_tasks_blocked()
            (starting,) = nursery.child_tasks
            root = nursery.cancel_scope
            (private,) = starting.child_nurseries
            (started,) = private.child_tasks
            (inner,) = started.child_nurseries
            (deepest,) = inner.child_tasks
            assert enclosing_scopes(starting, root) == [root]
            assert enclosing_scopes(started, root) == [inner.cancel_scope, root]
            assert enclosing_scopes(deepest, root) == [inner.cancel_scope, root]
            inner.cancel_scope.cancel()

    trio.run(main)


def test_the_nursery_within_serve_listeners_is_left_out() -> None:
    async def main() -> None:
        async with trio.open_nursery() as handlers, trio.open_nursery() as nursery:
            root = handlers.cancel_scope
            network = Network()
            serve = partial(trio.serve_listeners, trio.aclose_forcefully, [network.listen(80)])
            nursery.start_soon(partial(serve, handler_nursery=handlers))
            await trio.testing.wait_all_tasks_blocked()
            (serving,) = nursery.child_tasks
            (private,) = serving.child_nurseries
            (accepting,) = private.child_tasks
            assert enclosing_scopes(serving, root) == [nursery.cancel_scope, root]
            assert enclosing_scopes(accepting, root) == [nursery.cancel_scope, root]
            root.cancel()

    trio.run(main)


def test_the_scope_that_ends_a_sleep_is_left_out() -> None:
    async def sleeper(scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(1)

    async def main() -> None:
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            root = nursery.cancel_scope
            nursery.start_soon(sleeper, scope)
            nursery.start_soon(trio.sleep_until, trio.current_time() + 1)
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(len(enclosing_scopes(child, root)) for child in nursery.child_tasks) == [1, 2]
            assert all(enclosing_scopes(child, root)[0] in (scope, root) for child in nursery.child_tasks)
            root.cancel()

    trio.run(main)


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


def test_it_is_known_whether_a_task_can_run() -> None:
    seen: list[tuple[bool, bool]] = []

    class Compare(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            seen.append((somebody_can_run(), trio.lowlevel.current_statistics().tasks_runnable > 0))

    async def main() -> None:
        await trio.lowlevel.checkpoint()
        await trio.sleep(1)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0), instruments=[Compare()])
    assert set(seen) == {(True, True), (False, False)}


def test_who_waits_for_idleness_is_seen() -> None:
    seen: list[bool] = []

    class Idle(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            seen.append(somebody_waits_for_idleness())

    async def main() -> None:
        seen.clear()
        await trio.lowlevel.checkpoint()
        assert not any(seen)
        await trio.testing.wait_all_tasks_blocked()
        assert seen.pop()

    trio.run(main, instruments=[Idle()])


def test_waiting_for_idleness_is_no_deadlock() -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    result = run(scenario, Plan())
    assert result.failure is None


def test_all_shields_around_a_task_are_taken_away() -> None:
    async def shielded() -> None:
        with trio.CancelScope(shield=True), trio.CancelScope(), trio.CancelScope(shield=True):
            await trio.sleep_forever()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shielded)
            await trio.testing.wait_all_tasks_blocked()
            (child,) = nursery.child_tasks
            nursery.cancel_scope.cancel()
            assert not wakes_cancelled(child)
            unshield_all(child)
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


def test_trio_goes_on_without_an_instrument_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    class Raises(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        with pytest.raises(KeyError):
            trio.lowlevel.remove_instrument(raises)

    raises = Raises()
    with caplog.at_level(logging.CRITICAL, logger="trio.abc.Instrument"):
        trio.run(main, instruments=[raises])


@pytest.mark.parametrize("crash_at", [1, 2, 7])
def test_a_crash_of_the_explorers_own_instrument_is_never_green(
    crash_at: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    def crash(task: trio.lowlevel.Task) -> bool:
        nonlocal asked
        asked += 1
        if asked == crash_at:
            raise ZeroDivisionError
        return wakes_cancelled(task)

    async def scenario() -> None:
        for _ in range(10):
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(instrument_module, "wakes_cancelled", crash)
    with pytest.raises(NotExplorable, match="instrument died"):
        run(scenario, Plan())
    assert "Exception raised when calling" in caplog.text
    assert asked == crash_at


def test_trios_own_tasks_are_no_choice() -> None:
    """Two tasks of Trio's run in the first round of every run; after that they only run with others."""
    given: list[list[str]] = []

    async def main() -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(int)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    seen: set[str] = set()

    class See(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            seen.add(task.name)

    with deterministic_scheduling(lambda batch: given.append([task.name for task in batch])):
        trio.run(main, clock=trio.testing.MockClock(), instruments=[See()])
    assert {"<init>", "<TrioToken.run_sync_soon task>"} < seen
    assert {name for batch in given for name in batch} == seen - {"<init>", "<TrioToken.run_sync_soon task>"}


def test_a_child_that_ended_with_an_error_is_told_from_one_that_ended_well() -> None:
    counts: dict[str, tuple[int, int]] = {}

    class See(trio.abc.Instrument):
        before = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.before = errors_of_children(task)

        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            if task.name in ("well", "badly") and task.coro.cr_frame is None:
                counts[task.name] = (self.before, errors_of_children(task))

    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    async def main() -> None:
        with pytest.raises(ExceptionGroup):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.checkpoint, name="well")
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(fails, name="badly")

    trio.run(main, clock=trio.testing.MockClock(), instruments=[See()])
    assert counts == {"well": (0, 0), "badly": (0, 1)}


async def test_waits_for_descriptors_are_told() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.wait_readable, ours, name="reads")
            await trio.testing.wait_all_tasks_blocked()
            found = {task.name: descriptor for task, descriptor in waits_for_descriptors()}
            nursery.cancel_scope.cancel()
        assert found["reads"] == ours.fileno()
    assert len(found) == 2  # Trio's own


async def test_what_a_descriptor_has_to_say_is_known_before_trio_hears_of_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.wait_readable, ours)
            await trio.testing.wait_all_tasks_blocked()
            assert not a_descriptor_is_ready()
            theirs.send(b"1")
            assert a_descriptor_is_ready()


@pytest.mark.parametrize("asks", [True, False])
def test_a_message_in_a_pair_of_sockets_is_no_deadlock(asks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can run, and no deadline is left but the explorer's own: only the descriptor tells that it goes on."""

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.wait_readable, ours)
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                theirs.send(b"1")

    if not asks:
        monkeypatch.setattr(instrument_module, "a_descriptor_is_ready", lambda: False)
    failure = run(scenario, Plan()).failure
    assert (failure is None) if asks else ("a deadlock" in str(failure))


async def test_the_manager_of_a_nursery_is_known() -> None:
    manager = trio.open_nursery()
    assert type(manager) is NURSERY_MANAGER
    async with manager:
        await trio.lowlevel.checkpoint()


async def test_threads_of_trio_are_refused() -> None:
    def refuse() -> None:
        raise ZeroDivisionError

    assert await trio.to_thread.run_sync(int) == 0
    with threads_of_trio(refuse), pytest.raises(ZeroDivisionError):
        await trio.to_thread.run_sync(int)
    assert await trio.to_thread.run_sync(int) == 0
