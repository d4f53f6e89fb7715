"""What the explorer knows of Trio's scopes and nurseries: what is around a task, and what is Trio's own."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from trio_broker.explorer.internals import (
    NURSERY_MANAGER,
    enclosing_scopes,
    errors_of_children,
    unshield_all,
    wakes_cancelled,
)
from trio_broker.explorer.network import Network


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


async def test_the_manager_of_a_nursery_is_known() -> None:
    manager = trio.open_nursery()
    assert type(manager) is NURSERY_MANAGER
    async with manager:
        await trio.lowlevel.checkpoint()
