from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.core.line import Line


async def stand(line: Line, name: str, served: list[tuple[str, float]], seconds: float = 1.0) -> None:
    """Stand in line, then be at its head for so long."""
    with line.place(math.inf):
        async with line.head:
            await trio.sleep(seconds)
            served.append((name, trio.current_time()))


async def test_first_come_first_served(autojump_clock: MockClock) -> None:
    line = Line()
    served: list[tuple[str, float]] = []
    async with trio.open_nursery() as nursery:
        for name in "abcdefgh":
            nursery.start_soon(stand, line, name, served)
            await wait_all_tasks_blocked()
        assert len(line) == 8
    assert served == [(name, second) for second, name in enumerate("abcdefgh", 1)]
    assert line.is_empty


async def test_who_leaves_the_middle_of_the_line_changes_nothing_for_the_others(autojump_clock: MockClock) -> None:
    line = Line()
    served: list[tuple[str, float]] = []
    async with trio.open_nursery() as nursery:
        scopes = []
        for name in "abc":
            scope = trio.CancelScope()
            scopes.append(scope)

            async def within(scope: trio.CancelScope = scope, name: str = name) -> None:
                with scope:
                    await stand(line, name, served)

            nursery.start_soon(within)
            await wait_all_tasks_blocked()
        scopes[1].cancel()
        await wait_all_tasks_blocked()
        assert len(line) == 2
    assert served == [("a", 1), ("c", 2)]


async def test_it_is_not_empty_between_one_head_and_the_next(autojump_clock: MockClock) -> None:
    line = Line()
    served: list[tuple[str, float]] = []
    async with trio.open_nursery() as nursery:
        with line.place(math.inf):
            async with line.head:
                nursery.start_soon(stand, line, "next", served)
                await wait_all_tasks_blocked()
        assert not line.is_empty  # the head has gone, and the next one has not run yet
    assert line.is_empty


async def test_patience_ends_on_time(autojump_clock: MockClock) -> None:
    line = Line()
    with line.place(16.0) as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == 16.0


@pytest.mark.parametrize(
    ("moves_at", "ends_at"),
    [
        (0.5, 16.0),  # too soon after the last renewal: a share of one sixteenth may be lost
        (1.0, 17.0),
        (15.0, 31.0),
    ],
)
async def test_progress_gives_patience_back(autojump_clock: MockClock, moves_at: float, ends_at: float) -> None:
    line = Line()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def move() -> None:
            await trio.sleep(moves_at)
            line.progress()

        with line.place(16.0) as scope:
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == ends_at


async def test_steady_progress_keeps_everyone_in_line_each_with_its_own_patience(autojump_clock: MockClock) -> None:
    line = Line()
    left: dict[float, float] = {}

    async def wait(patience: float) -> None:
        with line.place(patience):
            await trio.sleep_forever()
        left[patience] = trio.current_time()

    async with trio.open_nursery() as nursery:
        for patience in (4.0, 16.0, 64.0):
            nursery.start_soon(wait, patience)
        for _ in range(100):
            await trio.sleep(1.0)
            line.progress()
        assert not left
        nursery.start_soon(wait, math.inf)
        await trio.sleep(1000)
        assert left == {4.0: 104.0, 16.0: 116.0, 64.0: 164.0}
        assert len(line) == 1
        nursery.cancel_scope.cancel()
    assert line.is_empty


async def test_close_sends_all_away_at_once_and_later_ones_at_their_first_step(autojump_clock: MockClock) -> None:
    line = Line()
    served: list[tuple[str, float]] = []
    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(stand, line, name, served)
        await wait_all_tasks_blocked()
        line.close()
        line.close()
        await wait_all_tasks_blocked()
        assert line.is_empty
        nursery.start_soon(stand, line, "late", served)
    assert not served
    assert trio.current_time() == 0.0
    assert line.closed
