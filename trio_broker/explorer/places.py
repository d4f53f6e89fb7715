"""Where in a scenario something happened: the innermost line that belongs neither to Python nor to Trio nor to us."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final

import trio

from trio_broker.explorer.frames import frames_of

__all__ = ["is_machinery", "place_of_error", "place_of_frame", "place_of_task"]

_MACHINERY: Final = frozenset({"trio", "outcome"}) | sys.stdlib_module_names
_EXPLORER: Final = f"{__name__.rpartition('.')[0]}."
_OUTSIDE: Final = f"{_EXPLORER}run"
"""Whatever is further out than the call of ``trio.run`` there is not part of the scenario."""
_CALLS_TRIO: Final = "_trio_run"


def is_machinery(names: Mapping[str, Any]) -> bool:
    """Whether a module, given by its global names, is Python's, Trio's or the explorer's."""
    return _is_machinery(names.get("__name__", ""))


@functools.lru_cache(maxsize=1024)
def _is_machinery(module: str) -> bool:
    return module.partition(".")[0] in _MACHINERY or module.startswith(_EXPLORER)


def place_of_frame(frame: FrameType | None) -> tuple[str, bool]:
    """The innermost line of the scenario, or if there is none, the innermost line at all, of a frame that runs; and
    whether it is one of the scenario."""
    innermost = "" if frame is None else _place(frame, frame.f_lineno)
    while frame is not None:
        if not is_machinery(frame.f_globals):
            return _place(frame, frame.f_lineno), True
        if frame.f_code.co_name == _CALLS_TRIO and frame.f_globals.get("__name__") == _OUTSIDE:
            break
        frame = frame.f_back
    return innermost, False


def place_of_task(task: trio.lowlevel.Task) -> str:
    """The innermost line of the scenario where a task is suspended; if there is none, the outermost line at all."""
    found: FrameType | None = None
    for frame in frames_of(task):
        if found is None or not is_machinery(frame.f_globals):
            found = frame
    return "its first step" if found is None else _place(found, found.f_lineno)


def place_of_error(error: BaseException, tasks: Mapping[int, int]) -> tuple[int | None, str]:
    """Which task raised an error, and the line of the scenario; of a group those of its first error.

    Args:
        error: with its traceback.
        tasks: the numbers of tasks by the identity of their outermost frames. A frame that an error's traceback holds
            is alive, so its identity is nobody else's.
    """
    task, where = None, ""
    inner: BaseException | None = error
    while inner is not None:
        for frame, line in traceback.walk_tb(inner.__traceback__):
            task = tasks.get(id(frame), task)
            if not is_machinery(frame.f_globals):
                where = _place(frame, line)
        inner = inner.exceptions[0] if isinstance(inner, BaseExceptionGroup) else None
    return task, where


def _place(frame: FrameType, line: int) -> str:
    return f"{frame.f_globals.get('__name__', '')}:{line} in {frame.f_code.co_qualname}"
