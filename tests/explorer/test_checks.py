"""Checks at rest, and whether a run was disturbed. (Checks afterwards: test_exploration.py.)"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.testing

from tests.explorer.helpers import failing, holding
from trio_broker.explorer import (
    Endless,
    NotExplorable,
    Obstacle,
    afterwards,
    at_rest,
    disturbed,
    explore,
    replay,
)
from trio_broker.explorer.network import Network
from trio_broker.explorer.plan import Plan
from trio_broker.explorer.run import run

# -- what only a check at rest finds ---------------------------------------------------------------------------------


class Shop:
    """One tool, lent to one after the other. Who waits for it looks again each minute, should nobody have told."""

    def __init__(self) -> None:
        self.lent = False
        self.line = trio.lowlevel.ParkingLot()
        self.ends: list[float] = []

    async def borrow(self, *, cured: bool) -> None:
        while self.lent:
            with trio.move_on_after(60):
                await self.line.park()
            if not cured:
                await trio.lowlevel.checkpoint()  # the hazard: whoever was told of the tool goes, and tells nobody
        self.lent = True
        try:
            await trio.sleep(1)
        finally:
            self.lent = False
            self.line.unpark()

    def check_rest(self) -> None:
        waiting = self.line.statistics().tasks_waiting
        assert self.lent or not waiting, f"{waiting} wait for a free tool at {trio.current_time():g} s"

    async def check(self) -> None:
        self.ends.append(trio.current_time())
        assert not self.lent
        assert not self.line


async def lost_wakeup(*, cured: bool, looks: bool, ends: list[float] | None = None) -> None:
    shop = Shop()
    shop.ends = [] if ends is None else ends
    afterwards(shop.check)
    if looks:
        at_rest(shop.check_rest)

    async def customer() -> None:
        with trio.CancelScope():
            await shop.borrow(cured=cured)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(customer)


def test_a_lost_wakeup_that_a_deadline_makes_up_for_shows_only_at_rest() -> None:
    holding(partial(lost_wakeup, cured=False, looks=False))
    failing(partial(lost_wakeup, cured=False, looks=True), axis="cancel", match="1 wait for a free tool at 1 s")
    holding(partial(lost_wakeup, cured=True, looks=True))


def test_a_check_at_rest_that_fails_ends_the_run_at_once() -> None:
    scenario = partial(lost_wakeup, cured=False, looks=True)
    token = explore(scenario, seeds=0, failures_max=1).failures[0].token
    for looks, end in ((False, 61), (True, 1)):
        ends: list[float] = []
        run(partial(lost_wakeup, cured=False, looks=looks, ends=ends), Plan.parse(token))
        assert ends == [end]


# -- when they run ---------------------------------------------------------------------------------------------------


def note_time(times: list[float]) -> Callable[[], object]:
    return lambda: times.append(trio.current_time())


def test_each_rest_is_seen_once_before_time_goes_on() -> None:
    times: list[float] = []

    async def scenario() -> None:
        at_rest(note_time(times))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            nursery.start_soon(trio.sleep, 1)
            await trio.sleep(3)
        await trio.lowlevel.checkpoint()

    assert run(scenario, Plan()).failure is None
    assert times == [0, 1]  # and not at 1 or 3 again, when deadlines have come and nobody was woken yet


def test_a_deadline_that_comes_is_no_rest() -> None:
    async def scenario() -> None:
        def check() -> None:
            assert not asleep or trio.current_time() < wakes_at, "it oversleeps"

        at_rest(check)
        asleep, wakes_at = True, trio.current_time() + 5
        await trio.sleep_until(wakes_at)
        asleep = False
        await trio.sleep(1)

    assert run(scenario, Plan()).failure is None


def test_a_wait_for_the_others_to_block_is_no_rest() -> None:
    times: list[float] = []

    async def scenario() -> None:
        at_rest(note_time(times))
        await trio.testing.wait_all_tasks_blocked()
        assert times == []
        await trio.sleep(1)

    assert run(scenario, Plan()).failure is None
    assert times == [0]


def test_a_descriptor_that_is_ready_is_no_rest() -> None:
    times: list[float] = []

    async def scenario() -> None:
        at_rest(note_time(times))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.send(b"x")
            await trio.lowlevel.wait_readable(theirs)
            assert times == []

    assert run(scenario, Plan()).failure is None
    assert times == []


def test_a_task_that_can_run_is_no_rest() -> None:
    times: list[float] = []

    async def scenario() -> None:
        at_rest(note_time(times))
        for _ in range(3):
            await trio.lowlevel.checkpoint()

    assert run(scenario, Plan()).failure is None
    assert times == []


@pytest.mark.parametrize("token", ["spawn", "spawn/t0:1:after:0", "spawn/int:1"])
def test_nobody_looks_while_the_checks_afterwards_run(token: str) -> None:
    times: list[float] = []

    async def check() -> None:
        at_rest(note_time(times))
        await trio.sleep(1)

    async def scenario() -> None:
        at_rest(note_time(times))
        afterwards(check)
        await trio.sleep(1)

    assert run(scenario, Plan.parse(token)).failure is None
    assert times == ([0] if token == "spawn" else [])


def test_nobody_looks_at_what_the_explorer_has_broken_up() -> None:
    """The failure is that the run did not end, not the state in which it was when it was ended from outside."""

    async def scenario() -> None:
        is_in_order = True

        def check() -> None:
            assert is_in_order

        at_rest(check)
        try:
            await trio.sleep_forever()
        finally:
            is_in_order = False
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    assert isinstance(run(scenario, Plan()).failure, Endless)


def test_checks_at_rest_do_not_pass_from_one_run_to_the_next() -> None:
    times: list[float] = []

    async def with_check() -> None:
        at_rest(note_time(times))
        await trio.sleep(1)

    run(with_check, Plan())
    run(partial(trio.sleep, 1), Plan())
    assert times == [0]


def test_at_rest_is_harmless_outside_of_an_exploration() -> None:
    def check() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        at_rest(check)
        await trio.sleep(1)

    at_rest(check)
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


# -- what comes of an error ------------------------------------------------------------------------------------------


def test_undisturbed_it_is_a_scenario_that_fails_by_itself() -> None:
    async def scenario() -> None:
        def check() -> None:
            assert trio.current_time() < 2, "late"

        at_rest(check)
        await trio.sleep(2)
        await trio.sleep(1)

    with pytest.raises(NotExplorable, match="fails without being disturbed") as caught:
        explore(scenario)
    assert caught.value.obstacle is Obstacle.FAILS
    assert isinstance(caught.value.__cause__, AssertionError)
    assert str(caught.value.__cause__).startswith("late")
    with pytest.raises(AssertionError, match="late"):
        replay(scenario, "spawn")


def test_under_a_schedule_alone_it_is_a_failure_with_the_schedule_for_its_token() -> None:
    async def scenario() -> None:
        order: list[int] = []

        async def child(number: int) -> None:
            order.append(number)

        def check() -> None:
            assert order in ([], [0, 1])

        at_rest(check)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, 0)
            nursery.start_soon(child, 1)
            await trio.sleep(1)

    failing(scenario, axis="schedule")


@pytest.mark.parametrize("token", ["spawn/t0:1:after:0", "spawn/t0:1:before:0", "spawn/int:1", "spawn/io:0:reset"])
def test_disturbed_it_is_the_failure_of_that_run(token: str) -> None:
    async def scenario() -> None:
        network = Network()

        def check() -> None:
            assert not disturbed(), "it was"

        at_rest(check)
        try:
            with suppress(OSError):
                async with network.listen(80), await network.connect(80):
                    await trio.sleep(1)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    with pytest.raises(AssertionError, match="it was"):
        replay(scenario, token)


def test_the_first_failure_is_kept_and_nobody_looks_again() -> None:
    looked: list[tuple[str, float]] = []

    def check(name: str, seconds: float) -> None:
        looked.append((name, trio.current_time()))
        assert trio.current_time() < seconds, name

    async def check_end() -> None:
        raise LookupError("at the end")

    async def scenario() -> None:
        afterwards(check_end)
        for name, seconds in (("good", 9), ("first", 2), ("second", 2)):
            at_rest(partial(check, name, seconds))
        await trio.sleep(2)
        try:
            await trio.sleep(1)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    failure = run(scenario, Plan()).failure
    assert isinstance(failure, AssertionError)
    assert str(failure).startswith("first")
    assert looked == [("good", 0), ("first", 0), ("second", 0), ("good", 2), ("first", 2)]
    assert failure.__notes__ == [
        "the scenario, or a check after it, then ended with LookupError('at the end')",
    ]


def test_it_ends_a_task_that_shields_itself_for_ever_too() -> None:
    async def scenario() -> None:
        def check() -> None:
            raise LookupError

        at_rest(check)
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    assert isinstance(run(scenario, Plan()).failure, LookupError)


class Outcome(BaseException):
    """As `pytest.fail` raises: no ``Exception``."""


def test_an_error_that_is_no_exception_is_a_failure_too() -> None:
    async def scenario() -> None:
        def check() -> None:
            raise Outcome

        at_rest(check)
        await trio.sleep(1)

    assert isinstance(run(scenario, Plan()).failure, Outcome)


@pytest.mark.parametrize("token", ["spawn", "spawn/int:99"])
def test_ctrl_c_in_a_check_ends_the_exploration(token: str) -> None:
    async def scenario() -> None:
        def check() -> None:
            raise KeyboardInterrupt

        at_rest(check)
        await trio.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        run(scenario, Plan.parse(token))


def test_an_async_check_at_rest_is_refused() -> None:
    """It would never run, and so never fail."""

    async def check() -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        at_rest(check)
        await trio.sleep(1)

    failure = run(scenario, Plan()).failure
    assert isinstance(failure, TypeError)
    assert "cannot be async" in str(failure)


def test_a_check_at_rest_that_does_not_end_is_ended() -> None:
    async def scenario() -> None:
        def check() -> None:
            while True:
                pass

        at_rest(check)
        await trio.sleep(1)

    failure = run(scenario, Plan(), step_seconds_max=0.2).failure
    assert isinstance(failure, Endless)
    assert ".check" in str(failure)


# -- disturbed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["spawn", "seed3", "turn0.1"])
def test_another_schedule_is_no_disturbance(token: str) -> None:
    told: list[bool] = []

    async def check() -> None:
        told.append(disturbed())

    async def child() -> None:
        told.append(disturbed())

    async def scenario() -> None:
        afterwards(check)
        at_rest(lambda: told.append(disturbed()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.sleep, 1)

    assert run(scenario, Plan.parse(token)).failure is None
    assert told == [False, False, False]


@pytest.mark.parametrize("token", ["spawn/t0:2:after:0", "spawn/t0:2:before:0", "spawn/t0:2:after:0+1", "spawn/int:2"])
def test_it_is_disturbed_from_the_disturbance_to_the_end(token: str) -> None:
    told: list[tuple[str, bool]] = []

    async def check() -> None:
        told.append(("afterwards", disturbed()))

    async def scenario() -> None:
        afterwards(check)
        at_rest(lambda: told.append((f"{trio.current_time():g}", disturbed())))
        await trio.sleep(1)
        told.append(("awake", disturbed()))
        try:
            await trio.sleep(1)
            await trio.lowlevel.checkpoint()
        finally:
            told.append(("after", disturbed()))

    run(scenario, Plan.parse(token))
    rest = [("1", False)] if "before" in token else []
    assert told == [("0", False), ("awake", False), *rest, ("after", True), ("afterwards", True)]


def test_a_fault_is_a_disturbance_in_the_step_in_which_it_happens() -> None:
    told: list[bool] = []

    async def scenario() -> None:
        network = Network()
        network.install()
        async with network.listen(80):
            with trio.socket.socket() as client:
                await client.connect(("127.0.0.1", 80))
                told.append(disturbed())
                try:
                    client.shutdown(socket.SHUT_WR)  # no checkpoint
                except OSError:
                    told.append(disturbed())

    run(scenario, Plan.parse("spawn/io:1:reset"))
    assert told == [False, True]


def test_outside_of_an_exploration_nothing_is_disturbed() -> None:
    async def main() -> None:
        assert not disturbed()
        await trio.lowlevel.checkpoint()

    assert not disturbed()
    trio.run(main)
