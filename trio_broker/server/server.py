"""Listeners, one task a connection, and the order in which they end.

Two nurseries, one in the other: connections outside, the accept loop inside. So listeners can close while connections
finish::

    serve
    ├── poller, flusher ──────── for all connections, what needs no waiting
    └── connections ──────────── one task a connection, which reads, and may start a writer
        └── accepting ────────── one accept loop a listener

Ending is structure. A drain cancels the inner nursery, tells each connection to finish, and gives the outer nursery a
deadline. A cancellation ends both.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Final, final

import trio

from trio_broker.core import Broker
from trio_broker.server.accepting import Accepted, AnyListener, Guarded
from trio_broker.server.connection import Connection
from trio_broker.server.flusher import Flusher
from trio_broker.server.log import make_logger
from trio_broker.server.poller import Poller, keep_memory_of_reads, open_poller
from trio_broker.server.transport import open_transport

__all__ = ["DrainReport", "Server", "serve"]

_DEFECT: Final = "a connection failed; this is a defect of the broker"


@final
@dataclasses.dataclass(frozen=True, slots=True)
class DrainReport:
    """What a drain did.

    Attributes:
        connections: how many were open when it began, and are closed now.
        delivered: messages that the broker still delivered during the drain.
        discarded: messages that it gave up meanwhile: what topics' subscribers did not take in time.
        cut: connections that were cancelled before they had said everything: at the deadline, for most. Not those
            that the broker ended for what they did, or did not do.
        seconds: how long it took.
    """

    connections: int
    delivered: int
    discarded: int
    cut: int
    seconds: float


@final
class Server:
    """A broker's doors: what `serve` gives to ``nursery.start``. Made by `serve` alone."""

    __slots__ = (
        "_accepting",
        "_before",
        "_broker",
        "_connections",
        "_cut",
        "_ended",
        "_ended_at",
        "_flusher",
        "_log",
        "_open",
        "_poller",
        "listeners",
    )

    def __init__(self, broker: Broker, listeners: Sequence[AnyListener]) -> None:
        self._broker = broker
        self.listeners = listeners
        self._log = make_logger()
        self._open: dict[Connection, None] = {}  # in order of arrival
        self._accepting = trio.CancelScope()  # around the accept loops
        self._connections = trio.CancelScope()  # around everything; its deadline bounds a drain
        self._before: DrainReport | None = None  # the totals when a drain began; None while none has
        self._cut = 0  # connections that were cancelled from outside
        self._ended = trio.Event()
        self._ended_at = 0.0  # when
        self._flusher = Flusher()
        self._poller: Poller | None = None  # only while this runs, and where the system has what it takes

    @property
    def port(self) -> int:
        """The port of the first listener that has one. Raises ``ValueError`` if none has."""
        for listener in self.listeners:
            if isinstance(listener, trio.SocketListener):
                name = listener.socket.getsockname()
                if isinstance(name, tuple):
                    return int(name[1])
        raise ValueError("none of the listeners has a port")

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    async def drain(self) -> DrainReport:
        """End in order: stop accepting and reading, finish writing what is in the mailboxes, close.

        In one synchronous step the listeners stop accepting, all subscriptions leave their channels, and messages
        that wait for their channel are abandoned, as not accepted. Then each connection writes what is in its
        mailbox and closes. What is left after ``drain_seconds_max`` is cancelled; what was not sent to a queue's
        consumer is then back in its queue. With nothing to wait for it takes no time. Calling it again, or in several
        tasks, waits for the same drain.

        Cancellation: partial and irrevocable. Cancelling stops only the waiting; the drain goes on, for at most
        ``drain_seconds_max``. Calling this again waits for it again. Always a checkpoint.
        """
        self.begin_drain()
        await self._ended.wait()
        before, counters = self._before, self._broker.counters
        assert before is not None
        return DrainReport(
            connections=before.connections,
            delivered=counters.delivered - before.delivered,
            discarded=counters.discarded - before.discarded,
            cut=self._cut,
            seconds=max(0.0, self._ended_at - before.seconds),
        )

    @trio.lowlevel.enable_ki_protection
    def begin_drain(self) -> None:
        """The synchronous step of `drain`, without the waiting. Idempotent.

        Cancellation: never; this is synchronous.
        """
        if self._before is not None:
            return
        counters = self._broker.counters
        self._before = DrainReport(len(self._open), counters.delivered, counters.discarded, 0, trio.current_time())
        self._accepting.cancel(reason="the server drains")
        self._retire_all()
        for connection in self._open:
            connection.drain()
        self._connections.deadline = trio.current_time() + self._broker.limits.drain_seconds_max

    def _retire_all(self) -> None:
        """Take everybody out of their channels, so that nobody gets what another gives back as it ends."""
        for connection in self._open:
            connection.retire()

    async def _run(  # noqa: ASYNC128  `_accept` calls started()
        self, task_status: trio.TaskStatus[Server]
    ) -> None:
        """Accept and serve until drained or cancelled."""
        self._poller = open_poller(self._flusher)
        keep_memory_of_reads()
        try:
            with self._connections:
                async with trio.open_nursery() as pumps:
                    pumps.start_soon(self._flusher.run)
                    if self._poller is not None:
                        pumps.start_soon(self._poller.run)
                    await self._accept(task_status)
                    pumps.cancel_scope.cancel(reason="no connection is left")
        finally:
            if self._poller is not None:
                self._poller.close()
            self._ended_at = trio.current_time()
            self._ended.set()

    async def _accept(self, task_status: trio.TaskStatus[Server]) -> None:
        """Accept until drained, and serve until no connection is left."""
        async with trio.open_nursery() as connections:
            try:
                with self._accepting:
                    async with trio.open_nursery() as accepting:
                        accept = functools.partial(
                            trio.serve_listeners,
                            self._handle,
                            [Guarded(listener) for listener in self.listeners],
                            handler_nursery=connections,
                        )
                        await accepting.start(accept)
                        task_status.started(self)
            finally:
                self._retire_all()

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program's own tasks, not for a connection
    async def _handle(self, accepted: Accepted) -> None:  # noqa: ASYNC910  a task: it has parks enough
        """One connection, from accept to close. The one error boundary: what goes wrong here ends here."""
        limits, log = self._broker.limits, self._log
        try:
            transport = open_transport(accepted.stream, limits, self._poller)
            log = log.bind(peer=transport.peer)
            if self._before is not None:
                log.warning("refused", reason="the server drains")
                await transport.aclose()
            elif len(self._open) >= limits.connections_max:
                log.warning("refused", reason=f"connections_max ({limits.connections_max:,}) are open")
                await transport.aclose()
            else:
                await self._converse(Connection(transport, self._broker, self._flusher, log))
        except* Exception as failures:  # beside which there may be a cancellation, which goes on
            log.exception(_DEFECT, exc_info=failures)

    async def _converse(self, connection: Connection) -> None:
        """Run a connection that was admitted."""
        self._open[connection] = None
        try:
            await connection.run()
        finally:
            del self._open[connection]
            self._cut += not connection.has_spoken


async def serve(  # noqa: ASYNC128  `Server._run` calls started()
    broker: Broker,
    *,
    host: str | None = "127.0.0.1",
    port: int = 25_000,
    listeners: Sequence[AnyListener] | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Let a broker be reached over the network, in STOMP and the framed protocol, until drained or cancelled.

    ::

        async with trio_broker.open_broker() as broker, trio.open_nursery() as nursery:
            server = await nursery.start(functools.partial(trio_broker.serve, broker, port=0))
            print(server.port)
            ...
            await server.drain()

    Args:
        broker: whom the peers talk to. Its ``limits`` hold for this server.
        host: the address to listen on; None for all.
        port: the port; 0 for any that is free (see `Server.port`).
        listeners: listen on these instead, of any kind; they are closed at the end.
        task_status: for ``nursery.start``, which gives the `Server`.

    Resource handling: listeners, connections and sockets are closed when this ends, however it ends.

    Error handling: whatever goes wrong in one connection ends that connection and is logged, with the logger
    ``trio_broker`` of the standard library. The accept loops outlive a lack of file descriptors.

    Raises:
        OSError: the address cannot be listened on.

    Cancellation: cleanup. Before `trio.Cancelled` leaves, the listeners and all connections are closed, and what was
    not sent to consumers is back in its queues. It may leave in a group, as from every nursery. Nothing bounds the time
    of serving; `Server.drain` ends it in order. The same broker can be served again. Always a checkpoint.
    """
    if listeners is None:
        listeners = await trio.open_tcp_listeners(port, host=host)
    await Server(broker, listeners)._run(task_status)
