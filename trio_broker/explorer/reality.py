"""What a scenario does with the real world while the clock is virtual: refused, or noted.

Sleeping, sockets that reach outside, threads and processes are refused, with an exception that hardly anything catches:
what they bring is not the same in every run, and the virtual clock does not wait for it. That goes by Python's audit
events, and where this version has none, by replacing the function for the time of the run. ``socket.socketpair`` raises
none: both its ends are in the scenario's hands.

Reading the real clock is noted only; whoever logs does so. It is seen by a profiler, however the function was imported.
A profiler is slow, so only undisturbed runs have one.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, final

from trio_broker.explorer.internals import threads_of_trio
from trio_broker.explorer.places import is_machinery

__all__ = ["Reality", "Refused", "outside"]

_NEVER: Final = {
    "socket.connect": "connects a socket",
    "socket.bind": "binds a socket",
    "socket.sendto": "sends a datagram",
    "socket.getaddrinfo": "looks an address up",
    "socket.getnameinfo": "looks an address up",
    "socket.gethostbyname": "looks an address up",
    "socket.gethostbyaddr": "looks an address up",
    "subprocess.Popen": "starts a process",
    "os.system": "starts a process",
    "os.posix_spawn": "starts a process",
    "os.fork": "starts a process",
    "os.forkpty": "starts a process",
    "os.exec": "becomes another program",
    "_thread.start_new_thread": "starts a thread",
    "_thread.start_joinable_thread": "starts a thread",
    "time.sleep": "sleeps in real time",
    "socket.sendmsg": "sends a datagram",
}
_SLEEPS: Final = _NEVER["time.sleep"]
_THREAD: Final = "runs something in a thread"

_CLOCKS: Final = frozenset(
    f"{name}{unit}" for name in ("time", "monotonic", "perf_counter", "clock_gettime") for unit in ("", "_ns")
)
_CALENDAR: Final = frozenset({"now", "utcnow", "today"})


@final
class Refused(BaseException):
    """Raised where a scenario reaches for the real world. No ``Exception``, so that little catches it."""


@final
class Reality:
    """Watches one run."""

    def __init__(self, refused: Callable[[str, FrameType], object], noted: Callable[[str, FrameType], object]) -> None:
        """Watch nothing yet.

        Args:
            refused: called with what the scenario did, and the innermost frame; then `Refused` is raised there.
            noted: the same for what it may do.
        """
        self._refused = refused
        self._noted = noted

    @contextlib.contextmanager
    def watching(self, *, reads: bool) -> Iterator[None]:
        """Watch what this thread does in this block.

        Args:
            reads: whether to see the real clock being read; not if somebody else already profiles this thread.
        """
        _install()
        thread = threading.get_ident()
        outer = _watching.get(thread)
        profiles = reads and sys.getprofile() is None
        with _sleep_replaced(self, thread), _threads_replaced(self, thread):
            _watching[thread] = self
            if profiles:
                sys.setprofile(self._profile)
            try:
                yield
            finally:
                if profiles:
                    sys.setprofile(None)
                if outer is None:
                    del _watching[thread]
                else:
                    _watching[thread] = outer

    def refuse(self, what: str, frame: FrameType) -> None:
        """Tell of it, and raise `Refused`."""
        self._refused(what, frame)
        raise Refused(f"the scenario {what}")

    def _profile(self, frame: FrameType, event: str, function: Any) -> None:
        if event != "c_call":
            return
        name: str = function.__name__
        owner: Any = getattr(function, "__self__", None)
        if owner is time:
            if name in _CLOCKS and not is_machinery(frame.f_globals) and not _is_collecting(frame):
                self._noted(f"reads the real clock (time.{name})", frame)
            elif name == "sleep":  # imported by name, so that replacing it was of no use
                sys.setprofile(None)
                self.refuse(_SLEEPS, frame)
        elif name in _CALENDAR and getattr(owner, "__module__", "") == "datetime" and not is_machinery(frame.f_globals):
            self._noted(f"reads the real clock ({owner.__qualname__}.{name})", frame)


def _is_collecting(frame: FrameType) -> bool:
    """Whether this is done for the garbage collector, which begins when it likes: no part of the scenario."""
    codes = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    outer: FrameType | None = frame
    while codes and outer is not None:
        if outer.f_code in codes:
            return True
        outer = outer.f_back
    return False


_watching: Final[dict[int, Reality]] = {}
"""The runs that go on now, by thread."""


@functools.cache
def _install() -> None:
    """Add the audit hook, once in a process: none can ever be removed. (Two would do no harm.)"""
    sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event not in _NEVER:  # first, as there are thousands of others
        return
    reality = _watching.get(threading.get_ident())
    if reality is None or (event == "socket.sendmsg" and args[1] is None):  # without an address: to its peer
        return
    frame = sys._getframe(1)  # the hook is told no frame
    if event == "socket.getaddrinfo" and frame.f_locals.get("flags", 0) & socket.AI_NUMERICHOST:
        return  # an address is taken apart, and nobody asked: so begins each look-up of Trio
    reality.refuse(_NEVER[event], frame)


@contextlib.contextmanager
def _sleep_replaced(reality: Reality, thread: int) -> Iterator[None]:
    """Refuse ``time.sleep``, which raises no audit event before Python 3.13."""
    real: Any = time.sleep

    def sleep(seconds: Any, /) -> None:
        if threading.get_ident() == thread:
            reality.refuse(_SLEEPS, sys._getframe(1))  # its caller
        real(seconds)

    time.sleep = sleep
    try:
        yield
    finally:
        time.sleep = real


@contextlib.contextmanager
def _threads_replaced(reality: Reality, thread: int) -> Iterator[None]:
    """Refuse threads: new ones, whose start raises no audit event before Python 3.12, and those that Trio keeps."""
    real: Any = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if threading.get_ident() == thread:
            reality.refuse("starts a thread", sys._getframe(1))  # its caller
        real(self)

    def refuse() -> None:
        if threading.get_ident() == thread:
            reality.refuse(_THREAD, sys._getframe(1))  # its caller

    setattr(threading.Thread, "start", start)  # noqa: B010  mypy allows no assignment to a method
    try:
        with threads_of_trio(refuse):
            yield
    finally:
        setattr(threading.Thread, "start", real)  # noqa: B010  as above


def outside(descriptor: int) -> str:
    """What a file descriptor is if its other end is not in this process, for people; empty if it is."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return ""  # closed since
    if stat.S_ISSOCK(mode):
        return "" if _is_pair(descriptor) else "a socket"
    if stat.S_ISFIFO(mode):
        return "" if _is_ours(descriptor) else "a pipe"
    return "a terminal or device" if stat.S_ISCHR(mode) else ""


def _is_pair(descriptor: int) -> bool:
    """Whether a socket is one of a pair: it is of this machine, and neither end has a name."""
    with socket.socket(fileno=os.dup(descriptor)) as found:
        if found.family != socket.AF_UNIX or found.getsockname():
            return False
        try:
            return not found.getpeername()
        except OSError:
            return True  # the other end is closed


def _is_ours(descriptor: int) -> bool:
    """Whether this process has both ends of a pipe."""
    mine = os.fstat(descriptor)
    for name in os.listdir("/proc/self/fd"):
        other = int(name)
        with contextlib.suppress(OSError):
            found = os.fstat(other)
            if other != descriptor and (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino):
                return True
    return False
