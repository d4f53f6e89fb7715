"""A step that never ends in real time: it is seen, and it is ended.

The virtual clock cannot see it, nor can Trio: nothing else runs while a step does. In the main thread an alarm signal
interrupts it. In other threads, where Python handles no signals, a second thread looks on, and its exception arrives as
soon as Python code runs again.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final, final

import trio

__all__ = ["Hang", "Watchdog"]

_TICKS: Final = 4
"""Ticks without a step before a step is said to hang. They are counted, not measured: while a process is stopped
(Ctrl-Z) its ticks are not delivered, or at most one."""

_AGAIN_SECONDS: Final = 0.05
"""The time between two exceptions, for a step that has swallowed the first."""

_DEBUGGERS: Final = frozenset({"bdb", "pdb"})
"""While these wait for a person, nothing hangs."""


@final
class Hang(BaseException):
    """Raised in a step that does not end. No ``Exception``, so that little catches it."""


@final
class Watchdog(trio.abc.Instrument):
    """Watches one run.

    Attributes:
        task: whose step it is now; None between two. Whoever is the run's instrument sets it.
        hung: whether a step was found that did not end.
    """

    def __init__(self, seconds_max: float, report: Callable[[FrameType | None], object]) -> None:
        """Watch nothing yet.

        Args:
            seconds_max: in real seconds, how long a step may take; ``inf`` for as long as it likes.
            report: called once, with the innermost frame of the step that hangs, before it is ended.
        """
        self.task: trio.lowlevel.Task | None = None
        self.hung = False
        self._seconds_max = seconds_max
        self._report = report
        self._beats = 0  # steps so far
        self._seen = 0  # those at the last tick
        self._still = 0  # ticks since then

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.task = task
        self._beats += 1

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.task = None
        self._beats += 1

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what happens in this block, and raise `Hang` in it. What used the alarm before can use it again."""
        if self._seconds_max == float("inf"):
            with contextlib.nullcontext():
                yield
        elif threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGALRM) is not None:
            with self._by_alarm():
                yield
        else:
            with self._by_thread():
                yield

    @contextlib.contextmanager
    def _by_alarm(self) -> Iterator[None]:
        interval = self._seconds_max / _TICKS
        before = signal.signal(signal.SIGALRM, self._alarm)
        began = time.monotonic()
        remaining, repeat = signal.setitimer(signal.ITIMER_REAL, interval, interval)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            if remaining:
                signal.setitimer(signal.ITIMER_REAL, max(remaining - (time.monotonic() - began), 1e-6), repeat)

    def _alarm(self, _number: int, frame: FrameType | None) -> None:
        if self._is_hanging(frame):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS, _AGAIN_SECONDS)
            raise Hang

    @contextlib.contextmanager
    def _by_thread(self) -> Iterator[None]:
        watched, over, ending = threading.get_ident(), threading.Event(), threading.Lock()

        def look_on() -> None:
            interval = self._seconds_max / _TICKS
            while not over.wait(interval):
                with ending:
                    if not over.is_set() and self._is_hanging(sys._current_frames().get(watched)):
                        interval = _AGAIN_SECONDS
                        _raise_in(watched, Hang)

        threading.Thread(target=look_on, name="trio_broker.explorer watchdog", daemon=True).start()
        try:
            yield
        finally:
            for _ in range(2):  # an exception that was on its way to the step arrives here the first time, if at all
                with contextlib.suppress(Hang), ending:
                    over.set()

    def _is_hanging(self, frame: FrameType | None) -> bool:
        """One tick: whether the step that runs, or whatever runs, is to be ended."""
        if self._beats != self._seen or _is_debugged(frame):
            self._seen, self._still = self._beats, 0
            return False
        self._still += 1
        if self._still < _TICKS and not self.hung:
            return False
        if not self.hung:
            self.hung = True
            self._report(frame)
        return True


def _is_debugged(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False


def _raise_in(thread: int, error: type[BaseException]) -> None:
    """Have a thread raise this as soon as it runs Python code."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))
