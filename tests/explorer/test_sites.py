from __future__ import annotations

import importlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import trio

from trio_broker.explorer.sites import Site, all_sites, sites_of

# Each line that ends in ``# N`` has N sites; all others have none.
SOURCE = '''\
"""Awaits of every kind."""

from contextlib import asynccontextmanager
from types import coroutine

import trio


async def plain():
    await trio.lowlevel.checkpoint()  # 1


async def two_on_one_line():
    return [await value(1), await value(2)]  # 2


async def value(number):
    await trio.lowlevel.checkpoint()  # 1
    return number


class Context:
    async def __aenter__(self):
        await trio.lowlevel.checkpoint()  # 1
        return self

    async def __aexit__(self, *exc_info):
        await trio.lowlevel.checkpoint()  # 1


async def asynchronous_with():
    async with Context():  # 3
        pass


async def generator():
    yield 1
    await trio.lowlevel.checkpoint()  # 1
    yield 2


async def asynchronous_for():
    async for _ in generator():  # 1
        pass


async def comprehension():
    return [number async for number in generator()]  # COMPREHENSION


async def awaits_in_a_comprehension():
    return [await value(number) for number in range(2)]  # COMPREHENSION


@asynccontextmanager
async def manager():
    await trio.lowlevel.checkpoint()  # 1
    try:
        yield
    finally:
        await trio.lowlevel.checkpoint()  # 2


async def managed():
    async with manager():  # 3
        await (  # 1
            value(
                3
            )
        )


def outside():
    async def inside():
        async def innermost():
            await trio.lowlevel.checkpoint()  # 1

        await innermost()  # 1

    return inside()


def plain_generator():
    yield from range(3)


@coroutine
def old_coroutine():
    yield from trio.lowlevel.checkpoint()


async def everything():
    await plain()  # 1
    await two_on_one_line()  # 1
    await asynchronous_with()  # 1
    await asynchronous_for()  # 1
    await comprehension()  # 1
    await awaits_in_a_comprehension()  # 1
    await managed()  # 1
    await outside()  # 1
    await old_coroutine()  # 1
    list(plain_generator())
'''

# Async comprehensions are functions of their own until Python 3.12; their caller awaits them.
IN_A_COMPREHENSION = 1 if sys.version_info >= (3, 12) else 2


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package ``sampled`` with a module ``awaits``; and a package whose name begins the same."""
    for package in ("sampled", "sampled_too"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
        (tmp_path / package / "awaits.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("sampled_too.awaits")
    yield importlib.import_module("sampled.awaits")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("sampled", "sampled_too")]:
        del sys.modules[name]


def expected_lines() -> Counter[int]:
    """How many sites each line has."""
    lines: Counter[int] = Counter()
    for number, line in enumerate(SOURCE.splitlines(), 1):
        _, mark, count = line.partition("  # ")
        if mark:
            lines[number] = IN_A_COMPREHENSION if count == "COMPREHENSION" else int(count)
    return lines


class Suspensions(trio.abc.Instrument):
    """Where tasks are suspended."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.seen: set[Site] = set()
        self.stacks: list[list[str]] = []

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        sites = sites_of(task, self.package)
        self.seen.update(sites)
        self.stacks.append([site.function for site in sites])


def unreachable(site: Site) -> bool:
    """An async with has a site for each of its ways out, and so has a finally; the sample goes without an exception."""
    before, line = SOURCE.splitlines()[site.line - 2 : site.line]
    return "async with" in line or "finally" in before


@pytest.mark.usefixtures("module")
def test_all_sites_are_found_in_the_code() -> None:
    sites = all_sites("sampled.awaits")
    assert Counter(site.line for site in sites) == expected_lines()
    assert {site.module for site in sites} == {"sampled.awaits"}
    assert all_sites("sampled") == sites
    assert all_sites("sampled.await") == all_sites("sample") == set()


def test_what_is_suspended_is_one_of_them(module: ModuleType) -> None:
    suspensions = Suspensions("sampled")
    trio.run(module.everything, instruments=[suspensions])
    sites = all_sites("sampled")
    assert suspensions.seen <= sites
    missed = sites - suspensions.seen
    assert all(unreachable(site) for site in missed), missed
    assert len(missed) == 3  # one for each async with, and for the finally


def test_two_awaits_on_one_line_are_two_sites(module: ModuleType) -> None:
    suspensions = Suspensions("sampled")
    trio.run(module.two_on_one_line, instruments=[suspensions])
    in_one_line = [site for site in suspensions.seen if site.function == "two_on_one_line"]
    assert len(in_one_line) == 2
    assert len({str(site) for site in in_one_line}) == 1


def test_the_frames_of_a_task_come_from_outside(module: ModuleType) -> None:
    suspensions = Suspensions("sampled")
    trio.run(module.everything, instruments=[suspensions])
    assert ["everything", "plain"] in suspensions.stacks
    assert ["everything", "two_on_one_line", "value"] in suspensions.stacks
    assert ["everything", "outside.<locals>.inside", "outside.<locals>.inside.<locals>.innermost"] in suspensions.stacks


def test_the_sites_of_a_module_that_was_changed_are_read_again(module: ModuleType) -> None:
    before = all_sites("sampled")
    path = Path(str(module.__file__))
    path.write_text(SOURCE + "\n\nasync def added():\n    await plain()\n")
    changed = path.stat().st_mtime_ns + 1_000_000_000  # two changes may come in one tick of the file system's clock
    os.utime(path, ns=(changed, changed))
    assert {site.function for site in all_sites("sampled") - before} == {"added"}


def test_a_site_says_where_it_is() -> None:
    assert str(Site("package.module", 12, "Class.method", 34)) == "package.module:12 in Class.method"
