"""One run: its moments, and where in them a cancellation or an interrupt lands."""

from __future__ import annotations

import inspect
import signal

import pytest
import trio
import trio.testing

from tests.explorer.helpers import holding
from trio_broker.explorer import explore
from trio_broker.explorer.plan import Cancel, Phase, Plan, Schedule
from trio_broker.explorer.run import run


def test_each_moment_is_at_its_own_line() -> None:
    async def scenario() -> None:
        await trio.sleep(1)
        await trio.lowlevel.checkpoint()
        await trio.sleep(1)

    before = inspect.getsourcelines(scenario)[1]
    expected = [
        (step, phase, f"{__name__}:{before + step} in {scenario.__qualname__}")
        for step in (1, 2, 3)
        for phase in (Phase.AFTER, Phase.BEFORE)
    ]
    assert [(moment.step, moment.phase, moment.where) for moment in run(scenario, Plan()).moments] == expected


@pytest.mark.parametrize("phase", list(Phase))
def test_a_cancellation_lands_in_its_phase(phase: Phase) -> None:
    happened: list[str] = []

    async def scenario() -> None:
        send, receive = trio.open_memory_channel[int](0)

        async def child() -> None:
            await trio.sleep(1)
            send.send_nowait(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            try:
                await receive.receive()
            except trio.Cancelled:
                happened.append("aborted")
                raise
            happened.append("received")
            await trio.lowlevel.checkpoint()
            happened.append("not reached")

    result = run(scenario, Plan(Schedule(), Cancel(0, 1, phase, 1)))
    assert result.fired
    assert result.failure is None
    assert happened == (["aborted"] if phase is Phase.AFTER else ["received"])


@pytest.mark.parametrize("second", [1, 2, 3, 4])
def test_a_second_cancellation_lands_in_what_comes_after_the_first(second: int) -> None:
    steps = 0

    async def scenario() -> None:
        nonlocal steps
        with trio.CancelScope():
            await trio.sleep(1)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            steps += 1

    result = run(scenario, Plan(Schedule(), Cancel(0, 1, Phase.AFTER, 0, second)))
    assert result.failure is None
    assert steps == second - 1


def test_the_tasks_of_trio_itself_are_not_disturbed() -> None:
    async def scenario() -> None:
        trio.lowlevel.spawn_system_task(trio.sleep, 1)
        await trio.testing.wait_all_tasks_blocked()

    assert run(scenario, Plan()).names == ["test_the_tasks_of_trio_itself_are_not_disturbed.<locals>.scenario"]
    holding(scenario)


def test_a_task_that_its_own_deadline_wakes_can_be_cancelled_in_that_moment() -> None:
    """An outer cancellation that comes together with a timeout: whoever looks at ``cancel_called`` is misled."""

    async def misled() -> None:
        with trio.CancelScope() as outer, trio.move_on_after(1) as patience:
            try:
                await trio.sleep_forever()
            finally:
                assert not (patience.cancel_called and outer.cancel_called), "taken for a timeout"

    woken = [moment for moment in run(misled, Plan()).moments if moment.phase is Phase.BEFORE and moment.step]
    assert len(woken) == 1
    failures = explore(misled, seeds=0, turns=False).failures
    assert "spawn/t0:1:before:1" in {failure.token for failure in failures}


def test_interrupts_arrive_where_sigint_was_ignored() -> None:
    """As in a process that was started in the background."""

    async def scenario() -> None:
        try:
            await trio.sleep(1)
        except KeyboardInterrupt:
            raise LookupError("interrupted") from None

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        failures = explore(scenario, seeds=0, turns=False).failures
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert [failure.token for failure in failures] == ["spawn/int:1"]
