"""One task waits for all sockets of a server, and acts for those that can be read.

Waiting for a socket the usual way costs a system call, two steps of the scheduler and a handful of objects for each
read, which is most of what a message that comes alone costs. Here a socket is registered once, with an epoll of our
own; one task waits until that has something, and then reads for everybody in one step. Who watches a socket is woken
only when there is something to do that may have to wait. What that bought: docs/performance.md.

Linux only. Elsewhere there is no poller, and each connection waits for its own socket (`TcpTransport.feed`).
"""

from __future__ import annotations

import math
import select
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias, final

import outcome
import trio

from trio_broker.limits import MIB

if TYPE_CHECKING:
    from trio_broker.server.flusher import Flusher

__all__ = ["Poller", "keep_memory_of_reads", "open_poller"]

_EVENTS_MAX: Final = 256
"""How many sockets are asked for at once."""

_STEP_SECONDS: Final = 0.005
"""How long one step reads: then timers, cancellations and other tasks have their turn."""

_LOOKS: Final = 24
_SOON_SECONDS: Final = 50e-6
_STAY_SECONDS: Final = 500e-6
"""A step that begins so soon after the last one looks so often for more, in vain, before it ends; it stays so long.

A look takes about 1 us. Waiting takes 17 us, even for what comes a moment later: two system calls and a turn of the
scheduler, a third of a lone message's time in the broker. So looking costs at most about what it may save, and nothing
where bytes are rare. It brought the median latency of one message at a time to 0.65 of what it was.
"""

_KEPT_BYTES: Final = 16 * MIB

_NOBODY: Final = -1

_Act: TypeAlias = Callable[[], bool]
_RaiseCancel: TypeAlias = Callable[[], NoReturn]


@final
class Poller:
    """Watches sockets for those who read from them. Made by `open_poller`; `run` must run while anything is watched.

    Args:
        flusher: called after each step in which something was read, so that it is written in the same step.
    """

    __slots__ = ("_acting", "_cancelled", "_epoll", "_flusher", "_left", "_ready", "_watched")

    def __init__(self, flusher: Flusher) -> None:
        self._flusher = flusher
        self._epoll = select.epoll()
        # By descriptor; without a task, nobody waits.
        self._watched: dict[int, tuple[trio.lowlevel.Task | None, _Act]] = {}
        self._ready: list[tuple[int, int]] = []  # what can be read, the next one last
        self._left = -math.inf  # when the last step ended
        self._acting = _NOBODY  # for whom an act is under way
        self._cancelled: _RaiseCancel | None = None  # that act has cancelled its own watch, by this

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program's own tasks
    async def run(self) -> None:
        """Act for whoever watches, until cancelled.

        Cancellation: atomic. Nothing is between two places when this waits.
        """
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())  # at once, if the last step left something
                self._step()
        finally:
            self._break_off()

    async def watch(self, sock: socket.socket, act: _Act) -> None:
        """Have ``act`` called each time something can be read, until it returns False or raises.

        It is called in the poller's task. What it raises is raised here.

        Args:
            sock: the socket, which nobody else watches; it must stay open meanwhile.
            act: synchronous, and quick.

        Raises:
            trio.BrokenResourceError: the system cannot watch one more.

        Cancellation: atomic. An act that is under way ends first; then it is not called any more. A checkpoint
            unless the system cannot watch it.
        """
        descriptor = sock.fileno()

        def abort(raise_cancel: _RaiseCancel) -> trio.lowlevel.Abort:
            if descriptor == self._acting:  # what it raises, if it does, must not be lost
                self._cancelled = raise_cancel
                return trio.lowlevel.Abort.FAILED
            self._forget(descriptor)
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            self._epoll.register(descriptor, select.EPOLLIN)
        except OSError as error:
            raise trio.BrokenResourceError(f"the system cannot watch one more socket: {error}") from error
        self._watched[descriptor] = trio.lowlevel.current_task(), act
        await trio.lowlevel.wait_task_rescheduled(abort)

    @contextmanager
    def watch_for_hang_up(self, sock: socket.socket, act: Callable[[], None]) -> Iterator[None]:
        """For the length of a block, have ``act`` called once when the peer has closed its side, or is gone.

        What it sent before need not have been read. It is called in the poller's task. Where the system cannot watch
        one more socket it is not called.

        Args:
            sock: the socket, which nobody else watches; it must stay open meanwhile.
            act: synchronous, and quick. What it raises is raised here, and cancels the block.
        """
        descriptor = sock.fileno()
        failure: Exception | None = None

        def tell() -> bool:
            nonlocal failure
            try:
                act()
            except Exception as error:  # noqa: BLE001  raised below, in the task whose it is
                failure = error
                block.cancel(reason="what was to be done on a hang-up failed")
            return True

        with trio.CancelScope() as block:
            with suppress(OSError):
                self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLONESHOT)
                self._watched[descriptor] = None, tell
            try:
                yield
            finally:
                self._forget(descriptor)
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Let go of the epoll; nobody may be watching any more. Idempotent."""
        self._epoll.close()

    def _step(self) -> None:
        """Read for everybody; and while bytes come one soon after the other, look for more before waiting."""
        begin = trio.current_time()
        looks = _LOOKS if begin - self._left < _SOON_SECONDS else 0
        self._read(begin + _STEP_SECONDS)
        while looks and trio.current_time() < begin + _STAY_SECONDS:
            looks = _LOOKS if self._read(begin + _STEP_SECONDS) else looks - 1
        self._left = trio.current_time()

    def _read(self, end: float) -> bool:
        """Act for those whose sockets can be read now, until a time, and flush; False if there is nobody."""
        if not self._ready:
            self._ready = self._epoll.poll(0, _EVENTS_MAX)
            if not self._ready:
                return False
        self._flusher.announce()
        while self._ready and trio.current_time() <= end:
            descriptor, _ = self._ready.pop()
            if descriptor in self._watched:  # one that acted before it may have ended it
                self._act(descriptor)
        self._flusher.flush()
        return True

    def _act(self, descriptor: int) -> None:
        """Act for one, and wake it if it has something to do itself."""
        goes_on = False
        error: Exception | None = None
        self._acting = descriptor
        try:
            goes_on = self._watched[descriptor][1]()
        except Exception as raised:  # noqa: BLE001  raised in the task whose it is
            error = raised
        cancelled, self._cancelled, self._acting = self._cancelled, None, _NOBODY
        if error is not None:
            self._wake(descriptor, outcome.Error(error))
        elif cancelled is not None:
            self._wake(descriptor, outcome.capture(cancelled))
        elif not goes_on:
            self._wake(descriptor, outcome.Value(None))

    def _wake(self, descriptor: int, result: outcome.Outcome[None]) -> None:
        """End a watch."""
        task, _ = self._watched[descriptor]
        self._forget(descriptor)
        if task is not None:
            trio.lowlevel.reschedule(task, result)

    def _forget(self, descriptor: int) -> None:
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def _break_off(self) -> None:
        """What a signal's handler raised in the middle of an act ends this task; whoever watched can be cancelled."""
        acting, self._acting = self._acting, _NOBODY
        if self._cancelled is not None and acting in self._watched:
            self._wake(acting, outcome.capture(self._cancelled))


def open_poller(flusher: Flusher) -> Poller | None:
    """A poller, where the system has what it takes: Linux, and a descriptor to spare."""
    if sys.platform != "linux":
        return None
    try:
        return Poller(flusher)
    except OSError:
        return None


def keep_memory_of_reads() -> None:
    """Have the C library keep the memory of large reads for the next ones.

    glibc gives free memory at the end of its heap back to the system as soon as it is twice the largest block that was
    ever mapped on its own. Whether that comes true after each read depends on what lies behind it; where it does, each
    read has all its pages mapped anew, and bulk ran at 0.6 of its rate. Freeing one larger block raises that mark. As
    nobody writes to it, it takes no memory. Other C libraries do not mind.
    """
    bytes(_KEPT_BYTES)
