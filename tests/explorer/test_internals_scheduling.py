"""What the explorer knows of Trio's scheduler: the order of a round, idleness, descriptors, instruments."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from trio._core import _run

import trio_broker.explorer.instrument as instrument_module
from trio_broker.explorer.internals import (
    a_descriptor_is_ready,
    deterministic_scheduling,
    somebody_can_run,
    somebody_waits_for_idleness,
    waits_for_descriptors,
    wakes_cancelled,
)
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
