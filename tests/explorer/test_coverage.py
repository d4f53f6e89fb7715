"""What is told of the await sites: which were woken when a cancellation came, and what explorations reach together."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import trio

from trio_broker.explorer import Exploration, Failure, explore
from trio_broker.explorer.excuses import Excuse
from trio_broker.explorer.plan import Cancel, Phase, Plan, Schedule
from trio_broker.explorer.result import Scenario
from trio_broker.explorer.run import run
from trio_broker.explorer.sites import Site


def functions(sites: set[Site] | frozenset[Site]) -> set[str]:
    """The names of the functions that sites are in."""
    return {site.function.rpartition(".")[2] for site in sites}


# -- woken -------------------------------------------------------------------------------------------------------------


async def first(event: trio.Event) -> None:
    with trio.CancelScope():
        await event.wait()


async def second(event: trio.Event) -> None:
    await event.wait()


async def shielded(event: trio.Event) -> None:
    with trio.move_on_after(5, shield=True):
        await event.wait()


async def parked(_event: trio.Event) -> None:
    await trio.sleep_forever()


async def all_are_woken() -> None:
    """Tasks 1 to 3 are woken in the same step of task 0, which then waits for something else."""
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        for waits in (first, second, shielded, parked):
            nursery.start_soon(waits, event)
        await trio.sleep(1)
        event.set()
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


def woken(scenario: Scenario, cancel: Cancel) -> set[str]:
    """In which functions a task was woken with a result when this cancellation came."""
    base = run(scenario, Plan())
    result = run(scenario, Plan(Schedule(), cancel), base=base, watch=__name__)
    assert result.fired
    assert result.failure is None
    return functions(result.woken)


@pytest.mark.parametrize(
    ("cancel", "expected"),
    [
        (Cancel(1, 1, Phase.BEFORE, 0), {"first"}),  # its own scope
        (Cancel(1, 1, Phase.BEFORE, 1), {"first", "second"}),  # the nursery's
        (Cancel(1, 1, Phase.BEFORE, 2), {"first", "second"}),  # the outermost
        (Cancel(3, 1, Phase.BEFORE, 0), {"shielded"}),
        (Cancel(3, 1, Phase.BEFORE, 1), {"shielded"}),  # whose moment it is counts, though a shield is between
        (Cancel(0, 2, Phase.AFTER, 0), {"first", "second", "all_are_woken"}),  # who is parked at a checkpoint is woken
        (Cancel(4, 1, Phase.AFTER, 1), set()),  # all are parked
    ],
    ids=str,
)
def test_all_tasks_in_the_cancelled_scope_that_had_been_woken_are_told(cancel: Cancel, expected: set[str]) -> None:
    assert woken(all_are_woken, cancel) == expected


async def victim() -> None:
    with trio.CancelScope():
        await trio.sleep_forever()


async def sets(event: trio.Event) -> None:
    await trio.lowlevel.checkpoint()
    event.set()
    await trio.sleep(1)


async def woken_later() -> None:
    """When `victim` is cancelled in its first step, `sets` wakes `second` in the fourth step after that."""
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(victim)
        nursery.start_soon(second, event)
        nursery.start_soon(sets, event)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("later", "expected"), [(None, set()), (1, set()), (2, {"sets"}), (3, {"sets"}), (4, {"second"}), (5, set())]
)
def test_so_are_those_that_had_been_woken_when_the_second_cancellation_came(
    later: int | None, expected: set[str]
) -> None:
    assert woken(woken_later, Cancel(1, 1, Phase.AFTER, 0, later)) == expected


# -- several scenarios together ------------------------------------------------------------------------------------


class Slow:
    async def __aenter__(self) -> None:
        await trio.lowlevel.checkpoint()

    async def __aexit__(self, *exc_info: object) -> None:
        await trio.lowlevel.checkpoint()


async def visit(manager: trio.Lock | Slow) -> None:
    async with manager:
        pass


async def visit_a_lock() -> None:
    await visit(trio.Lock())


async def visit_what_is_slow() -> None:
    await visit(Slow())


def exits_of_visit(result: Exploration) -> list[Site]:
    _, *exits = sorted(site for site in result.sites if site.function == "visit")
    return exits


def test_explorations_of_the_same_package_can_be_added() -> None:
    lock = explore(visit_a_lock, watch=__name__, seeds=0)
    slow = explore(visit_what_is_slow, watch=__name__, seeds=1, interrupts=False)
    both = lock + slow
    assert both.watch == __name__
    assert both.sites == lock.sites == slow.sites
    assert both.runs == Counter({axis: lock.runs[axis] + slow.runs[axis] for axis in (*lock.runs, *slow.runs)})
    assert both.delivered == lock.delivered | slow.delivered
    assert both.woken == lock.woken | slow.woken
    assert functions(lock.woken - slow.woken) == {"visit_a_lock"}
    assert functions(slow.woken - lock.woken) == {"visit", "visit_what_is_slow", "__aenter__", "__aexit__"}


def test_what_one_of_them_saw_waiting_is_excused_in_none() -> None:
    lock = explore(visit_a_lock, watch=__name__, seeds=0)
    slow = explore(visit_what_is_slow, watch=__name__, seeds=0)
    exits = exits_of_visit(lock)
    assert {lock.sites_excused[site] for site in exits} == {Excuse.NEVER_WAITS}
    assert not lock.sites_missed & set(exits)
    assert not (lock + slow).sites_excused.keys() & set(exits)
    assert (lock + slow).sites_missed & set(exits)


def test_what_only_one_of_them_saw_is_excused_in_both() -> None:
    lock = explore(visit_a_lock, watch=__name__, seeds=0)
    other = explore(woken_later, watch=__name__, seeds=0, double=False)
    excused = (lock + other).sites_excused
    assert excused == {**lock.sites_excused, **other.sites_excused}
    assert lock.sites_excused
    assert other.sites_excused


def test_failures_and_notes_are_added_in_order_and_notes_once() -> None:
    def found(*words: str) -> Exploration:
        failures = [Failure(word, ValueError(word), word) for word in words]
        return Exploration(Counter(), failures, frozenset(), frozenset(), frozenset(), notes=words)

    both = found("a", "b") + found("b", "c")
    assert [failure.token for failure in both.failures] == ["a", "b", "b", "c"]
    assert both.notes == ("a", "b", "c")


def test_explorations_of_different_packages_cannot_be_added() -> None:
    watched = explore(visit_a_lock, watch=__name__, seeds=0)
    with pytest.raises(ValueError, match=r"they watched '.*test_coverage' and ''"):
        watched + explore(visit_a_lock, seeds=0)


# -- the sites of a package -------------------------------------------------------------------------------------------


COVERED = """\
import trio


async def work():
    await trio.sleep(1)
    await trio.lowlevel.cancel_shielded_checkpoint()


async def never():
    await trio.sleep(1)
"""


@pytest.fixture
def covered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "covered").mkdir()
    (tmp_path / "covered" / "__init__.py").write_text("")
    (tmp_path / "covered" / "work.py").write_text(COVERED)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("covered.work")
    for name in ("covered", "covered.work"):
        del sys.modules[name]


def test_the_sites_that_were_reached_are_told(covered: ModuleType) -> None:
    result = explore(covered.work, watch="covered", seeds=1)
    assert {(site.line, site.function) for site in result.sites} == {(5, "work"), (6, "work"), (10, "never")}
    assert {site.line for site in result.delivered} == {5}
    assert {site.line for site in result.woken} == {5, 6}
    assert {site.line for site in result.sites_reached} == {5}
    assert {site.line for site in result.sites_missed} == {6, 10}


def test_the_end_of_a_sleep_is_no_cancellation(covered: ModuleType) -> None:
    result = explore(covered.work, watch="covered", seeds=0, tasks=["nobody"], interrupts=False)
    assert not result.delivered


def test_without_a_package_to_watch_no_site_is_told(covered: ModuleType) -> None:
    result = explore(covered.work, seeds=1)
    assert not result.sites
    assert not result.delivered
    assert not result.woken
    assert not result.sites_missed
