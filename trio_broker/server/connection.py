"""One peer: a `Dialect`, a reader, and a `Speaker`.

The first bytes tell which protocol a peer speaks, and so which dialect it is answered in. What needs no waiting is
done in the tasks that serve all connections: the `Poller` gives what a peer sent to `_digest`, which turns bytes into
commands and carries them out; the `Flusher` has the speaker write what a mailbox holds. Both are synchronous, so no
cancellation can come between their lines. What must wait is left to the connection's own tasks: the reader, which waits
in line to publish, and the speaker's writer.

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

import logging
import math
from typing import TYPE_CHECKING, Any, final

import trio

from trio_broker.core import Broker
from trio_broker.errors import BrokerError, LimitReached, shorten
from trio_broker.server.dialect import Conversation, FramedDialect
from trio_broker.server.speaker import Speaker
from trio_broker.server.stomp import StompDialect
from trio_broker.wire import Protocol, protocol_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from structlog.typing import FilteringBoundLogger

    from trio_broker.message import Batch
    from trio_broker.server.dialect import Dialect
    from trio_broker.server.flusher import Flusher
    from trio_broker.server.transport import Transport

__all__ = ["Connection"]

_DEBUG_BYTES = 19
"""How much of a payload a debug line shows."""

_MANY = 4
"""With more batches in one read than these, longer reads are worth their memory: 16 topics interleaved message by
message cost 0.75 of the CPU time then."""


@final
class Connection:
    """A peer's conversation with the broker.

    Args:
        transport: the peer's bytes; closed by `run`.
        broker: whom the conversation is with.
        flusher: where this connection stands in line when it has something to say.
        log: bound to this connection.
    """

    __slots__ = (
        "_blocked",
        "_broker",
        "_debug",
        "_dialect",
        "_expecting",
        "_first_bytes",
        "_held_bytes",
        "_is_feeding",
        "_log",
        "_overdue",
        "_reading",
        "_speaker",
        "_tasks",
        "_transport",
        "has_spoken",
        "reason",
    )

    def __init__(self, transport: Transport, broker: Broker, flusher: Flusher, log: FilteringBoundLogger) -> None:
        self._transport = transport
        self._broker = broker
        self._log = log
        self._debug = logging.getLogger("trio_broker").isEnabledFor(logging.DEBUG)
        self._speaker = Speaker(transport, broker.limits, flusher, broke=self._end, failed=self._fail, said=self._said)
        self._dialect: Dialect | None = None  # None until the first bytes have told which
        self._first_bytes = b""  # what has come until then
        self._held_bytes = 0  # what the broker's account knows of what the dialect holds
        # Commands that the reader must see to, because the first must wait; that one last. An empty deque has 0.6 KiB.
        self._blocked: list[Any] = []
        self._is_feeding = False  # what the peer sends is read
        self._expecting = False  # the reader has a deadline
        self._overdue = ""  # what is to be said when it passes
        self._reading = trio.CancelScope()  # around the reader: its deadline, and how a drain stops it
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
                    await self._read()
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
            self._broker.memory.add(-self._held_bytes)
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
        self._reading.cancel(reason="the server drains")

    def _leave(self) -> None:
        """Give back what was not sent; only when nobody writes any more, who knows what was."""
        if self._dialect is not None:
            evicted = self._dialect.evicted
            if evicted is not None:
                self._give_reason(f"evicted: {evicted}")
            self._dialect.leave()

    # -- reading -----------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """See to what the peer asks until there is nothing more to read from it."""
        with self._reading as reading:
            try:
                await self._converse()
            except trio.BrokenResourceError as error:
                self._end(f"the connection broke: {error}")
            finally:
                self._abandon()
        if reading.cancelled_caught and not self.reason:
            self._refuse(self._overdue, None)

    async def _converse(self) -> None:
        """Have what comes digested, and wait where that must wait. The deadline is for what is unfinished, never for a
        message that waits for its channel."""
        limits = self._broker.limits
        if not self.reason:  # a drain may have come before this task's first step
            self._expect(limits.handshake_seconds_max, "no whole frame within handshake_seconds_max")
        while not self.reason:
            self._is_feeding = True
            try:
                await self._transport.feed(self._digest)
            finally:
                self._is_feeding = False
            while self._blocked and not self.reason:
                command = self._blocked[-1]
                if not self._carry_out(command):
                    await self._wait(command)
                self._blocked.pop()
            if self._speaker.outbox.control_bytes > limits.control_bytes_max:
                self._expect_nothing()  # nothing is read meanwhile, so no frame can be finished
                await self._speaker.room()
            if self._is_unfinished:
                self._expect_the_rest()
                await self._broker.memory.room()

    def _digest(self, data: bytes) -> bool:
        """Parse, and carry out what need not wait; False if the reader must see to the rest. For `Transport.feed`."""
        if self.reason:  # a drain came while these bytes were on their way: they are not accepted
            return False
        if not data:
            self._end_of_stream()
            return False
        dialect = self._dialect
        if dialect is None:
            data = self._first_bytes = self._first_bytes + data
            dialect = self._choose(data)
            if dialect is None:
                return True
        unfinished_bytes = dialect.unfinished_bytes if self._expecting else 0
        commands = dialect.receive_data(data)
        if commands:
            self._expect_nothing()
            if len(commands) > _MANY:
                self._transport.read_more(len(data))
            if self._debug:
                self._log_messages(commands)
            command = None
            try:
                for index, command in enumerate(commands):
                    if not dialect.carry_out(command):
                        self._blocked = [*reversed(commands[index:])]
                        break
                    if self.reason:
                        return False
            except BrokerError as error:
                self._refuse(str(error), command)
                return False
        elif unfinished_bytes and dialect.unfinished_bytes < unfinished_bytes + len(data):
            self._expect_nothing()  # a frame was finished that asks for nothing yet: a transaction's
        held_bytes = dialect.held_bytes
        if held_bytes != self._held_bytes:
            self._hold(dialect, held_bytes)
        if self._blocked:
            return False
        if held_bytes and self._is_unfinished and not self._may_go_on():
            return False
        return self._speaker.outbox.control_bytes <= self._broker.limits.control_bytes_max

    def _choose(self, first_bytes: bytes) -> Dialect | None:
        """The dialect of a peer that begins with these bytes; None where more are needed to tell."""
        protocol = protocol_of(first_bytes)
        if protocol is None:
            return None
        self._first_bytes = b""
        assert self._tasks is not None
        conversation = Conversation(
            self._broker, self._speaker, self._log, self._tasks, self._end, lambda: self._is_feeding
        )
        self._dialect = StompDialect(conversation) if protocol is Protocol.STOMP else FramedDialect(conversation)
        return self._dialect

    def _end_of_stream(self) -> None:
        """The peer has said all that it will."""
        if self._dialect is None:
            cut_off: str | None = "the stream ended before the first frame"
        else:
            cut_off = self._dialect.receive_eof()
        if cut_off is not None:
            self._log.info("disconnected", reason=cut_off)
        self._end(cut_off or "the peer closed its side")

    @property
    def _is_unfinished(self) -> bool:
        """A frame has begun that must be whole in time; the first one is the handshake's."""
        return self._dialect is not None and self._dialect.greeted and self._dialect.unfinished_bytes > 0

    def _hold(self, dialect: Dialect, held_bytes: int) -> None:
        """Enter what is held for the peer in the broker's account. An open transaction may not grow beyond the mark:
        it cannot be made to wait, since its COMMIT would wait too."""
        memory = self._broker.memory
        grows = held_bytes - dialect.unfinished_bytes > self._held_bytes
        memory.add(held_bytes - self._held_bytes)
        self._held_bytes = held_bytes
        if grows and memory.is_full:
            self._refuse(str(LimitReached("memory_bytes_max", self._broker.limits.memory_bytes_max)), None)

    def _expect(self, seconds: float, otherwise: str) -> None:
        """Set the reader's deadline, and what is to be said when it passes."""
        self._reading.deadline = trio.current_time() + seconds
        self._expecting = True
        self._overdue = f"{otherwise} ({seconds:g} s)"

    def _expect_the_rest(self) -> None:
        """A frame has begun, and must be whole in time."""
        if not self._expecting:
            self._expect(self._broker.limits.frame_seconds_max, "a frame took longer than frame_seconds_max")

    def _may_go_on(self) -> bool:
        """A frame has begun, and there is memory for the rest."""
        self._expect_the_rest()
        return not self._broker.memory.is_full

    def _expect_nothing(self) -> None:
        """What was expected has come."""
        if self._expecting:  # setting a deadline costs more than this question
            self._expecting = False
            self._reading.deadline = math.inf

    def _carry_out(self, command: Any) -> bool:
        """Carry out one command; False if it must wait. What breaks a rule ends the connection."""
        assert self._dialect is not None
        try:
            return self._dialect.carry_out(command)
        except BrokerError as error:
            self._refuse(str(error), command)
        return True

    async def _wait(self, command: Any) -> None:
        """Carry out one command that must wait."""
        assert self._dialect is not None
        try:
            with self._transport.watch_for_hang_up(self._hang_up):
                await self._dialect.wait(command)
        except BrokerError as error:
            self._refuse(str(error), command)

    def _hang_up(self) -> None:
        """The peer has gone while something that it sent waits, which is still carried out. What it will not settle any
        more is for others at once."""
        assert self._dialect is not None
        self._dialect.retire()
        if not self._speaker.is_writing:  # a write to a peer that has gone breaks, and that ends everything
            self._leave()

    def _abandon(self) -> None:
        """What has waited for its channel, or behind what did, is not accepted any more, and the log says so."""
        for batch in _batches(reversed(self._blocked)):
            self._log.info("abandoned", channel=batch.channel, messages=len(batch))

    def _log_messages(self, commands: Sequence[Any]) -> None:
        for batch in _batches(commands):
            for message in batch:
                self._log.debug("sending", channel=message.channel, body=repr(message.body[:_DEBUG_BYTES]))

    # -- the end -----------------------------------------------------------------------------------------------------

    def _said(self) -> None:
        """Everything has been said."""
        self._give_reason("the broker ended")
        self._reading.cancel(reason="everything has been said")

    def _fail(self, error: Exception) -> None:
        """Something of ours went wrong outside of this connection's tasks."""
        self._log.error("a connection failed; this is a defect of the broker", exc_info=error)
        self._end("a defect of the broker")

    def _give_reason(self, reason: str) -> None:
        if not self.reason:
            self.reason = reason

    def _refuse(self, reason: str, command: Any) -> None:
        """The peer did what it may not; it is told, where its protocol has words for it."""
        farewell = None if self._dialect is None else self._dialect.refusal(reason, command)
        self._end(reason, refused=True, farewell=farewell)

    def _end(self, reason: str, *, refused: bool = False, farewell: bytes | None = None) -> None:
        """Nothing more is to be read. With a farewell it is said after what was said before, and then nothing; without
        one this closes at once."""
        self._give_reason(reason)
        if refused:
            self._log.warning("refused", reason=reason)
        assert self._tasks is not None
        if farewell is not None:
            self._speaker.part(farewell)
            self._tasks.cancel_scope.deadline = trio.current_time() + self._broker.limits.farewell_seconds_max
            self._reading.cancel(reason=shorten(reason))
        else:
            self._speaker.mute()
            self._tasks.cancel_scope.cancel(reason=shorten(reason))


def _batches(commands: Iterable[Any]) -> Iterator[Batch]:
    """What these commands would publish, in whichever dialect."""
    for command in commands:
        for bound in getattr(command, "commands", (command,)):
            batch = getattr(bound, "batch", None)
            if batch is not None:
                yield batch
