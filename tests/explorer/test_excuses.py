"""Which await sites are excused, and which are not: said at the end of each line, for each of its sites in order."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trio_broker.explorer import Exploration, explore
from trio_broker.explorer.excuses import Excuse, excuses
from trio_broker.explorer.sites import Site, all_awaits

MARKS = {Excuse.NEVER_WAITS: "never", Excuse.NURSERY: "nursery", None: "none"}
HEAD = """
import functools
import trio
from contextlib import asynccontextmanager


class Slow:
    async def __aenter__(self):
        await trio.lowlevel.checkpoint()  # none

    async def __aexit__(self, *exc_info):
        await trio.lowlevel.checkpoint()  # none


class Quick:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc_info):
        pass


class SlowToEnter(Quick):
    async def __aenter__(self):
        await trio.lowlevel.checkpoint()  # none


class SlowToLeave(Quick):
    async def __aexit__(self, *exc_info):
        await trio.lowlevel.checkpoint()  # none


def slowly(function):
    @functools.wraps(function)
    async def do(*arguments):
        await trio.lowlevel.checkpoint()  # none
        return await function(*arguments)  # none

    return do


class Undefined:
    def __aenter__(self):
        return trio.lowlevel.checkpoint()

    def __aexit__(self, *exc_info):
        return trio.lowlevel.checkpoint()

"""
Explored = Callable[[str], Exploration]


@pytest.fixture
def explored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Explored]:
    """Explores ``scenario`` of some source, of which each line says what is excused."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def do(source: str) -> Exploration:
        (tmp_path / "excusable.py").write_text(HEAD + textwrap.dedent(source))
        importlib.invalidate_caches()
        module = importlib.import_module("excusable")
        found = explore(module.scenario, watch="excusable", seeds=0, double=False, interrupts=False)
        assert found.failures == []
        return found

    yield do
    sys.modules.pop("excusable", None)


def check(found: Exploration, source: str) -> None:
    """Each line with a mark has the excuses that it says; lines without have no sites."""
    excused = found.sites_excused
    said: dict[int, list[str]] = {}
    for site in sorted(found.sites):
        said.setdefault(site.line, []).append(MARKS[excused.get(site)])
    lines = (HEAD + textwrap.dedent(source)).splitlines()
    begin = HEAD.count("\n")
    expected = {
        number: mark.split()
        for number, line in enumerate(lines, 1)
        if number > begin and (mark := line.partition("  # ")[2])
    }
    assert {number: marks for number, marks in said.items() if number > begin} == expected


def sites_at(found: Exploration, source: str, text: str) -> list[Site]:
    """The sites of the one line with this text."""
    lines = (HEAD + textwrap.dedent(source)).splitlines()
    (number,) = [number for number, line in enumerate(lines, 1) if text in line]
    return [site for site in sorted(found.sites) if site.line == number]


NURSERY = """
async def scenario():
    async with trio.open_nursery() as nursery:  # never nursery nursery
        nursery.start_soon(trio.sleep, 1)
"""


def test_entering_a_nursery_never_waits_and_its_end_is_never_cancelled(explored: Explored) -> None:
    check(explored(NURSERY), NURSERY)


def test_the_end_of_a_nursery_must_still_be_woken(explored: Explored) -> None:
    found = explored(NURSERY)
    enter, end, raising = sites_at(found, NURSERY, "open_nursery")
    assert end in found.woken
    assert end not in found.delivered
    assert found.sites_reached == {end}
    assert found.sites_missed == {raising} | {site for site in found.sites if site.line < enter.line}
    assert enter not in found.sites_missed


def test_leaving_a_lock_never_waits(explored: Explored) -> None:
    source = """
    async def worker(lock):
        async with lock:  # none never never
            await trio.lowlevel.checkpoint()  # none

    async def scenario():
        lock = trio.Lock()
        async with trio.open_nursery() as nursery:  # never nursery nursery
            nursery.start_soon(worker, lock)
            nursery.start_soon(worker, lock)
    """
    found = explored(source)
    check(found, source)
    taking, *leaving = sites_at(found, source, "async with lock")
    assert taking in found.sites_reached
    assert not found.sites_missed & set(leaving)
    assert not found.sites_reached & set(leaving)


def test_leaving_what_waits_when_it_is_left_is_not_excused(explored: Explored) -> None:
    source = """
    async def scenario():
        async with Slow():  # none none none
            pass
        async with SlowToLeave():  # never none none
            pass
        async with SlowToEnter():  # none never never
            pass
    """
    check(explored(source), source)


def test_what_was_not_seen_waiting_is_not_excused(explored: Explored) -> None:
    """A nursery's end that no scenario comes to, and a manager that waits neither way: nobody knows what they are."""
    source = """
    async def scenario():
        async with Quick():  # none none none
            pass
        await trio.lowlevel.checkpoint()  # none

    async def elsewhere():
        async with trio.open_nursery():  # none none none
            pass
        await scenario()  # none
    """
    check(explored(source), source)


def test_methods_whose_code_does_not_tell_are_not_excused(explored: Explored) -> None:
    source = """
    class Mixed(SlowToEnter):
        def __aexit__(self, *exc_info):
            return trio.lowlevel.checkpoint()

    class Wrapped(SlowToEnter):
        @slowly
        async def __aexit__(self, *exc_info):
            pass

    async def scenario():
        async with Undefined():  # none none none
            pass
        async with Mixed():  # none none none
            pass
        async with Wrapped():  # none none none
            pass
    """
    check(explored(source), source)


def test_a_generators_context_manager_is_not_excused(explored: Explored) -> None:
    """The library's own methods await the generator, whatever it does."""
    source = """
    @asynccontextmanager
    async def manager():
        await trio.lowlevel.checkpoint()  # none
        yield

    async def scenario():
        async with manager():  # none none none
            pass
    """
    check(explored(source), source)


def test_a_place_with_managers_of_two_kinds_is_excused_only_where_both_are(explored: Explored) -> None:
    source = """
    async def visit(manager):
        async with manager:  # none none none
            pass

    async def call(manager):
        async with manager:  # none never never
            pass

    async def scenario():
        await visit(trio.Lock())  # none
        await visit(Slow())  # none
        await call(trio.Lock())  # none
        await call(SlowToEnter())  # none
    """
    check(explored(source), source)


def test_entering_is_excused_only_if_nothing_that_was_left_there_can_wait(explored: Explored) -> None:
    source = """
    async def visit(manager):
        async with manager as nursery:  # never none none
            if nursery and hasattr(nursery, "start_soon"):
                nursery.start_soon(trio.sleep, 1)

    async def scenario():
        await visit(trio.open_nursery())  # none
        await visit(SlowToLeave())  # none
    """
    check(explored(source), source)


def test_several_managers_in_one_statement(explored: Explored) -> None:
    """Where Python's code does not say which manager an exit belongs to, an excuse must hold for all of them."""
    source = """
    async def locks():
        async with trio.Lock(), trio.Lock():  # none none never never never never
            pass

    async def lock_and_nursery():
        async with trio.Lock(), trio.open_nursery() as nursery:  # LOCK_AND_NURSERY
            nursery.start_soon(trio.sleep, 1)

    async def nursery_and_slow():
        async with trio.open_nursery() as nursery, Slow():  # NURSERY_AND_SLOW
            nursery.start_soon(trio.sleep, 1)

    async def scenario():
        await locks()  # none
        await lock_and_nursery()  # none
        await nursery_and_slow()  # none
    """
    found = explored(source)
    if len({wait.statement for wait in all_awaits("excusable") if "lock_and" in wait.site.function}) == 1:  # as in 3.11
        first = second = "none none none none none none"
    else:
        first, second = "none never nursery never nursery never", "never none none nursery none nursery"
    check(found, source.replace("LOCK_AND_NURSERY", first).replace("NURSERY_AND_SLOW", second))


def test_awaiting_what_waits_only_at_the_ends_of_nurseries_is_excused(explored: Explored) -> None:
    source = """
    async def child(task_status):
        await trio.lowlevel.checkpoint()  # none
        task_status.started()
        await trio.sleep(1)  # none

    async def parent():
        async with trio.open_nursery() as nursery:  # never nursery nursery
            await nursery.start(child)  # nursery

    async def waits_elsewhere_too():
        async with trio.open_nursery() as nursery:  # never nursery nursery
            nursery.start_soon(trio.sleep, 1)
        await trio.sleep(1)  # none

    async def calls_parent():
        await parent()  # nursery

    async def scenario():
        await parent()  # nursery
        await waits_elsewhere_too()  # none
        await calls_parent()  # nursery
    """
    check(explored(source), source)


def test_awaiting_now_this_and_now_that_is_excused_only_if_both_are(explored: Explored) -> None:
    source = """
    async def quick():
        async with trio.open_nursery() as nursery:  # never nursery nursery
            nursery.start_soon(trio.sleep, 1)

    async def slow():
        await trio.sleep(1)  # none

    async def call(function):
        await function()  # none

    async def scenario():
        await call(quick)  # none
        await call(slow)  # none
    """
    check(explored(source), source)


def test_what_calls_itself(explored: Explored) -> None:
    """It is taken not to wait only at nurseries, also where it does; and nothing goes on for ever."""
    source = """
    async def again(depth):
        async with trio.open_nursery() as nursery:  # never nursery nursery
            nursery.start_soon(trio.sleep, 1)
        if depth:
            await again(depth - 1)  # none

    async def scenario():
        await again(2)  # none
    """
    check(explored(source), source)


def test_nothing_seen_nothing_excused() -> None:
    assert excuses("trio_broker.explorer", ()) == {}
    assert Exploration(Counter(), [], frozenset(), frozenset(), frozenset()).sites_excused == {}
