"""Await sites: the places of a program where a task can be suspended.

A site is a code object and the offset of an instruction, so two awaits on one line are two sites. All sites of a
package are read from its code; those where a task was suspended from the frames of the task.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import inspect
import sys
import types
from collections.abc import Iterator
from typing import final

import trio

__all__ = ["Site", "all_sites", "sites_of"]


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


def sites_of(task: trio.lowlevel.Task, package: str) -> list[Site]:
    """Where a task is suspended: a site for each of its frames that belongs to the package, from outside."""
    sites = []
    for frame, _ in task.iter_await_frames():
        module, code = frame.f_globals.get("__name__", ""), frame.f_code
        if _belongs(module, package) and (suspension := _suspension(code, frame.f_lasti)) is not None:
            offset, line = suspension
            sites.append(Site(module, line, code.co_qualname, offset))
    return sites


def all_sites(package: str) -> set[Site]:
    """All sites in the modules of a package that are imported."""
    found: set[Site] = set()
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if _belongs(name, package) and path is not None and path.endswith(".py"):
            with open(path, encoding="utf-8") as file:
                code = compile(file.read(), path, "exec", dont_inherit=True)
            for inner in _codes(code):
                found.update(
                    Site(name, line, inner.co_qualname, offset) for offset, line in _suspensions(inner).items()
                )
    return found


def _belongs(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@functools.lru_cache(maxsize=4096)
def _suspensions(code: types.CodeType) -> dict[int, int]:
    """The offsets of a code's suspending awaits, with their lines. The yields of a generator are none."""
    suspensions: dict[int, int] = {}
    if not code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return suspensions  # a ``yield from`` looks the same
    previous = ""
    line = code.co_firstlineno
    for instruction in dis.get_instructions(code):
        if instruction.positions is not None and instruction.positions.lineno is not None:
            line = instruction.positions.lineno
        if instruction.opname == "YIELD_VALUE" and previous == "SEND":
            suspensions[instruction.offset] = line
        previous = instruction.opname
    return suspensions


def _suspension(code: types.CodeType, last: int) -> tuple[int, int] | None:
    """The offset and line of the instruction that suspends, for the instruction pointer of a suspended frame, which is
    at or just after it. None for a frame that has not begun."""
    return max((item for item in _suspensions(code).items() if item[0] <= last), default=None)
