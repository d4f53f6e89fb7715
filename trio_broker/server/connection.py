"""One peer: a `Reader`, the `Dialect` that it speaks, and a `Speaker`.

What needs no waiting is done in the tasks that serve all connections: the `Poller` gives the reader what a peer sent,
and the `Flusher` has the speaker write what a mailbox holds. What must wait is left to the connection's own tasks: the
reader's, which waits in line to publish, and the speaker's writer.

How a connection ends, whatever the cause: the reader stops; the outbox is closed, and what is still to be said is
written; the end of the stream is sent; the subscription leaves, which brings back to its queue what was not sent; the
socket is closed. What differs is how much is still to be said:

===========================  =================================================================
the peer has gone            nothing
the peer said goodbye        what it was to be answered, for ``farewell_seconds_max``
the peer broke the protocol  that, and a farewell where the protocol has one
the subscription is evicted  nothing
the server drains            what is in the mailbox, until the server's deadline
the server is cancelled      nothing
===========================  =================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio

from trio_broker.errors import shorten
from trio_broker.server.reader import Reader
from trio_broker.server.speaker import Speaker

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from trio_broker.core import Broker
    from trio_broker.server.dialect import Dialect
    from trio_broker.server.flusher import Flusher
    from trio_broker.server.transport import Transport

__all__ = ["Connection"]


@final
class Connection:
    """A peer's conversation with the broker.

    Args:
        transport: the peer's bytes; closed by `run`.
        broker: whom the conversation is with.
        flusher: where this connection stands in line when it has something to say.
        log: bound to this connection.
    """

    __slots__ = ("_broker", "_log", "_reader", "_speaker", "_tasks", "_transport", "has_spoken", "reason")

    def __init__(self, transport: Transport, broker: Broker, flusher: Flusher, log: FilteringBoundLogger) -> None:
        self._transport = transport
        self._broker = broker
        self._log = log
        self._speaker = Speaker(
            transport, broker.limits, flusher, broke=self._break, stalled=self._end, failed=self._fail, said=self._said
        )
        self._reader = Reader(transport, broker, self._speaker, log, end=self._end, leave=self._leave)
        self._tasks: trio.Nursery | None = None  # around the reader, and for the writer
        self.has_spoken = False  # nothing is left to be sent, or nobody to send it to
        self.reason = ""  # why this connection ends; the first cause stays

    async def run(self) -> None:
        """Serve the peer until the conversation ends.

        Raises nothing for what the peer does; an exception from here is a defect.

        Cancellation: cleanup. The subscription has left its channel, what it was not sent is back in its queue, and
        the transport is closed, before `trio.Cancelled` leaves.
        """
        try:
            async with trio.open_nursery() as tasks:
                self._tasks = tasks
                self._speaker.start(tasks)
                try:
                    await self._reader.run(tasks)
                    if self._dialect is not None:
                        self._dialect.stop()
                    await self._speaker.finish()
                finally:
                    self._speaker.mute()
            self.has_spoken = True
            self._leave()  # before lingering: its queue's work must not wait for that
            await self._transport.finish(self._broker.limits.linger_seconds_max)
        finally:
            self._leave()
            self._reader.holding.leave()
            self._log.info("closed", reason=self.reason or "cancelled")
            try:
                await self._transport.aclose()
            except Exception:  # noqa: BLE001  an odd stream's; raised here it would take the place of Cancelled
                self._log.exception("a stream could not be closed")

    def retire(self) -> None:
        """Leave the channel, so that nothing new comes; synchronous and idempotent."""
        if self._dialect is not None:
            self._dialect.retire()

    def drain(self) -> None:
        """Begin to end in order; synchronous: what follows happens in `run`. After `retire`."""
        self._give_reason("drained")
        if self._dialect is not None:
            self._dialect.drain()
        self._speaker.outbox.close()
        self._reader.scope.cancel(reason="the server drains")

    @property
    def _dialect(self) -> Dialect | None:
        """What the peer is answered in; None until its first bytes have told which."""
        return self._reader.dialect

    def _leave(self) -> None:
        """Give back what was not sent; only when nobody writes any more, who knows what was."""
        if self._dialect is not None:
            evicted = self._dialect.evicted
            if evicted is not None:
                self._give_reason(f"evicted: {evicted}")
            self._dialect.leave()

    # -- the end -----------------------------------------------------------------------------------------------------

    def _said(self) -> None:
        """Everything has been said."""
        self._give_reason("the broker ended")
        self._reader.scope.cancel(reason="everything has been said")

    def _break(self, reason: str) -> None:
        """The peer can be told nothing more. What it sent before, and what waits for its channel, is still carried out;
        then this ends."""
        if self._reader.is_waiting and not self.reason:
            self.reason = reason
            self._speaker.mute()
            self._reader.read_no_more()
        else:
            self._end(reason)

    def _fail(self, error: Exception) -> None:
        """Something of ours went wrong outside of this connection's tasks."""
        self._log.error("a connection failed; this is a defect of the broker", exc_info=error)
        self._end("a defect of the broker")

    def _give_reason(self, reason: str) -> None:
        if not self.reason:
            self.reason = reason
            self._reader.stop()

    def _end(self, reason: str, *, refused: bool = False, farewell: bytes | None = None) -> None:
        """Nothing more is to be read. With a farewell it is said after what was said before, and then nothing; without
        one this closes at once."""
        self._give_reason(reason)
        if refused:
            self._log.warning("refused", reason=reason)
        assert self._tasks is not None
        if farewell is not None:
            self.retire()
            self._speaker.part(farewell)
            self._tasks.cancel_scope.deadline = trio.current_time() + self._broker.limits.farewell_seconds_max
            self._reader.scope.cancel(reason=shorten(reason))
        else:
            self._speaker.mute()
            self._tasks.cancel_scope.cancel(reason=shorten(reason))
