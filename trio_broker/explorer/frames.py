"""The frames that a suspended task waits in.

Every step of every run asks for them, so this is `trio.lowlevel.Task.iter_await_frames` without what makes that slow:
to ask a coroutine for its frame is an audit event, which calls each audit hook, and a line is looked for in a table.
"""

from __future__ import annotations

import gc
import types
from typing import Any

import trio

__all__ = ["frames_of", "is_in"]


def frames_of(task: trio.lowlevel.Task) -> list[types.FrameType]:
    """The frames of a task, from outside; none for one that has ended."""
    frames: list[types.FrameType] = []
    coro: Any = task.coro
    while coro is not None:
        frame, coro = _look(coro)
        if frame is not None:
            frames.append(frame)
    return frames


def is_in(task: trio.lowlevel.Task, name: str, names: dict[str, Any]) -> bool:
    """Whether one of the coroutines that a task waits in is of a certain async function.

    Args:
        task: the task.
        name: the function's qualified name.
        names: its global names.
    """
    coro: Any = task.coro
    while type(coro) is types.CoroutineType:
        if coro.__qualname__ == name and coro.cr_frame is not None and coro.cr_frame.f_globals is names:
            return True
        coro = coro.cr_await
    while coro is not None:  # behind a generator
        frame, coro = _look(coro)
        if frame is not None and frame.f_globals is names and frame.f_code.co_qualname == name:
            return True
    return False


def _look(coro: Any) -> tuple[types.FrameType | None, Any]:
    """The frame of something that is awaited, and what that awaits in turn. None for what is written in C."""
    if type(coro) is types.CoroutineType:
        return coro.cr_frame, coro.cr_await
    if type(coro) is types.GeneratorType:
        return coro.gi_frame, coro.gi_yieldfrom
    if type(coro).__name__ in {"async_generator_asend", "async_generator_athrow"}:
        for generator in gc.get_referents(coro):  # nothing else leads there
            if type(generator) is types.AsyncGeneratorType:
                return generator.ag_frame, generator.ag_await
    return None, None
