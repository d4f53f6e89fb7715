"""Await sites: the places of a program where a task can be suspended.

A site is a code object and the offset of an instruction, so two awaits on one line are two sites. All sites of a
package are read from its code; those where a task was suspended from the frames of the task.
"""

from __future__ import annotations

import dataclasses
import dis
import enum
import functools
import inspect
import itertools
import os
import sys
import types
from collections.abc import Iterator
from typing import NamedTuple, final

import trio

from trio_broker.explorer.frames import frames_of

__all__ = ["Await", "Kind", "Site", "Suspension", "all_awaits", "all_sites", "awaits_of", "sites_of", "suspensions_of"]


@final
@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Site:
    """One place where a task can be suspended.

    Attributes:
        module: the module's name.
        line: the line.
        function: the function's qualified name.
        offset: the instruction's offset in the function's code.
    """

    module: str
    line: int
    function: str
    offset: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line} in {self.function}"


class Kind(enum.IntEnum):
    """What is awaited; the argument of GET_AWAITABLE, which the documentation of the module dis explains."""

    OTHER = 0
    ENTER = 1  # __aenter__, by an ``async with``
    EXIT = 2  # __aexit__


class Await(NamedTuple):
    """One site, as its code says it.

    Attributes:
        site: the site.
        kind: what is awaited.
        statement: what all sites of one ``async with`` have in common.
    """

    site: Site
    kind: Kind
    statement: object


class Suspension(NamedTuple):
    """A frame that waits, and for whom.

    Attributes:
        site: where it waits.
        module: the module of the frame that it waits for.
        code: its code.
        manager: the type of the context manager whose ``__aenter__`` or ``__aexit__`` that is; None for others.
    """

    site: Site
    module: str
    code: types.CodeType
    manager: type | None


def sites_of(task: trio.lowlevel.Task, package: str) -> list[Site]:
    """Where a task is suspended: a site for each of its frames that belongs to the package, from outside."""
    sites = (_site(frame) for frame in frames_of(task))
    return [site for site in sites if site is not None and _belongs(site.module, package)]


def suspensions_of(task: trio.lowlevel.Task) -> set[Suspension]:
    """Whom each frame of a task waits for, whatever package it belongs to."""
    found = set()
    for frame, inner in itertools.pairwise(frames_of(task)):
        site = _site(frame)
        if site is not None:
            found.add(Suspension(site, inner.f_globals.get("__name__", ""), inner.f_code, _manager(inner)))
    return found


def all_sites(package: str) -> set[Site]:
    """All sites in the modules of a package that are imported."""
    return {found.site for found in all_awaits(package)}


def all_awaits(package: str) -> list[Await]:
    """All sites in the modules of a package that are imported, as their code says them."""
    found: list[Await] = []
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if _belongs(name, package) and path is not None and path.endswith(".py"):
            found += _awaits_in(name, path, os.stat(path).st_mtime_ns)
    return found


@functools.lru_cache(maxsize=1024)
def _awaits_in(module: str, path: str, _changed: int) -> list[Await]:
    with open(path, encoding="utf-8") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    return [found for inner in _codes(code) for found in awaits_of(module, inner)]


def awaits_of(module: str, code: types.CodeType) -> list[Await]:
    """The sites in the code of one function."""
    return [
        Await(Site(module, line, code.co_qualname, offset), kind, (module, code.co_qualname, positions))
        for offset, (line, kind, positions) in _suspensions(code).items()
    ]


def _site(frame: types.FrameType) -> Site | None:
    """Where a suspended frame is: its instruction pointer is at or just after what suspends. None for one that has
    not begun."""
    code, last = frame.f_code, frame.f_lasti
    offset = max((offset for offset in _suspensions(code) if offset <= last), default=None)
    if offset is None:
        return None
    return Site(frame.f_globals.get("__name__", ""), _suspensions(code)[offset][0], code.co_qualname, offset)


def _manager(frame: types.FrameType) -> type | None:
    """Whose ``__aenter__`` or ``__aexit__`` a frame is."""
    code = frame.f_code
    if code.co_name not in {"__aenter__", "__aexit__"} or not code.co_argcount:
        return None
    return type(frame.f_locals[code.co_varnames[0]])


def _belongs(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@functools.lru_cache(maxsize=4096)
def _suspensions(code: types.CodeType) -> dict[int, tuple[int, Kind, object]]:
    """A code's suspending awaits by their offsets, with line, kind and position. The yields of a generator are none."""
    suspensions: dict[int, tuple[int, Kind, object]] = {}
    if not code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return suspensions  # a ``yield from`` looks the same
    previous = ""
    line = code.co_firstlineno
    kind = Kind.OTHER
    for instruction in dis.get_instructions(code):
        if instruction.positions is not None and instruction.positions.lineno is not None:
            line = instruction.positions.lineno
        if instruction.opname == "GET_AWAITABLE":
            kind = Kind(instruction.arg or 0)
        elif instruction.opname == "GET_ANEXT":
            kind = Kind.OTHER
        if instruction.opname == "YIELD_VALUE" and previous == "SEND":
            suspensions[instruction.offset] = (line, kind, instruction.positions)
        previous = instruction.opname
    return suspensions
