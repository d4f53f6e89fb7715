"""One task waits for all sockets of a server, and acts for those that can be read.

Waiting for a socket the usual way costs a system call, two steps of the scheduler and a handful of objects for each
read, which is most of what a message that comes alone costs. Here a socket is registered once, with an epoll of our
own; one task waits until that has something, and then reads for everybody in one step. Who watches a socket is woken
only when there is something to do that may have to wait. A fifth of a broker's time with many small talkers: see
docs/performance.md.

Linux only. Elsewhere there is no poller, and each connection waits for its own socket (`TcpTransport.feed`).
"""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias, final

import outcome
import trio

if TYPE_CHECKING:
    from trio_broker.server.flusher import Flusher

__all__ = ["Poller", "open_poller"]

_EVENTS_MAX: Final = 256
"""How many sockets are read in one step: then others have their turn."""

_Act: TypeAlias = Callable[[], bool]
_RaiseCancel: TypeAlias = Callable[[], NoReturn]


@final
class Poller:
    """Watches sockets for those who read from them. Made by `open_poller`; `run` must run while anything is watched.

    Args:
        flusher: called after each step in which something was read, so that it is written in the same step.
    """

    __slots__ = ("_acting", "_cancelled", "_epoll", "_flusher", "_watched")

    def __init__(self, flusher: Flusher) -> None:
        self._flusher = flusher
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[trio.lowlevel.Task, _Act]] = {}  # by descriptor
        self._acting = -1  # for which descriptor
        self._cancelled: _RaiseCancel | None = None  # the act under way has cancelled its own watch, by this

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program's own tasks
    async def run(self) -> None:
        """Act for whoever watches, until cancelled.

        Cancellation: atomic. Nothing is between two places when this waits.
        """
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            self._flusher.announce()
            for descriptor, _ in self._epoll.poll(0, _EVENTS_MAX):
                watch = self._watched.get(descriptor)
                if watch is not None:  # one that acted before it may have ended it
                    self._act(descriptor, *watch)
            self._flusher.flush()

    async def watch(self, sock: socket.socket, act: _Act) -> None:
        """Have ``act`` called each time something can be read, until it returns False.

        It is called in another task, in which nothing may be raised: what it raises is raised here.

        Args:
            sock: the socket, which nobody else watches; it must stay open meanwhile.
            act: synchronous, and quick.

        Cancellation: atomic. ``act`` is not called any more. Always a checkpoint.
        """
        descriptor = sock.fileno()

        def abort(raise_cancel: _RaiseCancel) -> trio.lowlevel.Abort:
            if descriptor == self._acting:  # what it raises, if it does, must not be lost
                self._cancelled = raise_cancel
                return trio.lowlevel.Abort.FAILED
            self._forget(descriptor)
            return trio.lowlevel.Abort.SUCCEEDED

        self._watched[descriptor] = trio.lowlevel.current_task(), act
        self._epoll.register(descriptor, select.EPOLLIN)
        await trio.lowlevel.wait_task_rescheduled(abort)

    def close(self) -> None:
        """Let go of the epoll; nobody may be watching any more. Idempotent."""
        self._epoll.close()

    def _act(self, descriptor: int, task: trio.lowlevel.Task, act: _Act) -> None:
        """Act for one, and wake it if it has something to do itself."""
        goes_on = False
        error: Exception | None = None
        self._acting, self._cancelled = descriptor, None
        try:
            goes_on = act()
        except Exception as raised:  # noqa: BLE001  raised in the task whose it is
            error = raised
        self._acting = -1
        if error is not None:
            result: outcome.Outcome[None] = outcome.Error(error)
        elif self._cancelled is not None:
            result = outcome.capture(self._cancelled)
        elif goes_on:
            return
        else:
            result = outcome.Value(None)
        self._forget(descriptor)
        trio.lowlevel.reschedule(task, result)

    def _forget(self, descriptor: int) -> None:
        del self._watched[descriptor]
        self._epoll.unregister(descriptor)


def open_poller(flusher: Flusher) -> Poller | None:
    """A poller, where the system has what it takes."""
    return Poller(flusher) if sys.platform == "linux" else None
