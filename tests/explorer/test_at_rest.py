"""Checks at rest: what only they find, and when they run. (Checks afterwards: test_afterwards.py.)"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial

import pytest
import trio
import trio.testing

from tests.explorer.helpers import failing, holding
from trio_broker.explorer import Endless, afterwards, at_rest, explore
from trio_broker.explorer.plan import Plan
from trio_broker.explorer.run import run

# -- what only a check at rest finds ----------------------------------------------------------------------------------


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


# -- when they run ----------------------------------------------------------------------------------------------------


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
