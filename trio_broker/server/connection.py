"""One peer: one wire session, a reader, and a `Speaker`.

What needs no waiting is done in the tasks that serve all connections: the `Poller` gives what a peer sent to `_digest`,
which turns bytes into commands and carries them out; the `Flusher` has the speaker write what a mailbox holds. Both are
synchronous, so no cancellation can come between their lines. What must wait is left to the connection's own tasks: the
reader, which waits in line to publish, and the speaker's writer.

How a connection ends, whatever the cause: the reader stops; the outbox is closed, and what is still to be said is
written; the end of the stream is sent; the subscription leaves, which brings back to its queue what was not sent; the
socket is closed. What differs is how much is still to be said:

===========================  =================================================================
the peer has gone            nothing
the peer broke the protocol  a farewell where the protocol has one, for ``farewell_seconds_max``
the subscription is evicted  nothing
the server drains            what is in the mailbox, until the server's deadline
the server is cancelled      nothing
===========================  =================================================================
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import TYPE_CHECKING, assert_never, final

import trio

from trio_broker.core import Broker, Subscription
from trio_broker.errors import BrokerError, shorten
from trio_broker.server.speaker import Speaker
from trio_broker.wire import Command, Fail, FramedServerSession, Publish, Subscribe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import FilteringBoundLogger

    from trio_broker.server.flusher import Flusher
    from trio_broker.server.transport import Transport

__all__ = ["Connection"]

_DEBUG_BYTES = 19
"""How much of a payload a debug line shows."""


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
        "_expecting",
        "_held_bytes",
        "_log",
        "_overdue",
        "_reading",
        "_session",
        "_speaker",
        "_subscription",
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
        self._session = FramedServerSession(broker.limits)
        self._speaker = Speaker(
            transport, self._session, broker.limits, flusher, broke=self._end, failed=self._fail, said=self._said
        )
        self._subscription: Subscription | None = None  # None before the first frame, and for a peer that only sends
        self._held_bytes = 0  # what the broker's account knows of the session's unfinished frame
        self._blocked: deque[Command] = deque()  # commands that the reader must see to, because the first must wait
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
        if self._subscription is not None:
            self._subscription.retire()

    def drain(self) -> None:
        """Begin to end in order; synchronous: what follows happens in `run`. After `retire`."""
        self._give_reason("drained")
        self._speaker.outbox.close()
        self._reading.cancel(reason="the server drains")

    def _leave(self) -> None:
        """Give back what was not sent; only when nobody writes any more, who knows what was."""
        if self._subscription is not None:
            if self._subscription.evicted is not None:
                self._give_reason(f"evicted: {self._subscription.evicted}")
            self._subscription.leave()

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
            self._end(self._overdue, refused=True)

    async def _converse(self) -> None:
        """Have what comes digested, and wait where that must wait. The deadline is for what is unfinished, never for a
        message that waits for its channel."""
        limits, memory = self._broker.limits, self._broker.memory
        if not self.reason:  # a drain may have come before this task's first step
            self._expect(limits.handshake_seconds_max, "no whole frame within handshake_seconds_max")
        while not self.reason:
            await self._transport.feed(self._digest)
            while self._blocked and not self.reason:
                command = self._blocked[0]
                if not self._carry_out(command):
                    await self._wait_to_publish(command)
                self._blocked.popleft()
            if self._held_bytes and self._session.greeted:
                self._expect_the_rest()
                await memory.room()

    def _digest(self, data: bytes) -> bool:
        """Parse, and carry out what need not wait; False if the reader must see to the rest. For `Transport.feed`."""
        if self.reason:  # a drain came while these bytes were on their way: they are not accepted
            return False
        session = self._session
        if not data:
            cut_off = session.receive_eof()
            if cut_off is not None:
                self._log.info("disconnected", reason=cut_off)
            self._end(cut_off or "the peer closed its side")
            return False
        commands = session.receive_data(data)
        if commands:
            self._expect_nothing()
            if self._debug:
                self._log_messages(commands)
            for index, command in enumerate(commands):
                if not self._carry_out(command):
                    self._blocked.extend(commands[index:])
                    break
                if self.reason:
                    return False
        held_bytes = session.held_bytes
        if held_bytes != self._held_bytes:
            self._broker.memory.add(held_bytes - self._held_bytes)
            self._held_bytes = held_bytes
        if self._blocked:
            return False
        if held_bytes and session.greeted:
            self._expect_the_rest()
            return not self._broker.memory.is_full
        return True

    def _expect(self, seconds: float, otherwise: str) -> None:
        """Set the reader's deadline, and what is to be said when it passes."""
        self._reading.deadline = trio.current_time() + seconds
        self._expecting = True
        self._overdue = f"{otherwise} ({seconds:g} s)"

    def _expect_the_rest(self) -> None:
        """A frame has begun, and must be whole in time."""
        if not self._expecting:
            self._expect(self._broker.limits.frame_seconds_max, "a frame took longer than frame_seconds_max")

    def _expect_nothing(self) -> None:
        """What was expected has come."""
        if self._expecting:  # setting a deadline costs more than this question
            self._expecting = False
            self._reading.deadline = math.inf

    def _carry_out(self, command: Command) -> bool:
        """Carry out one command; False if it must wait. What breaks a rule ends the connection."""
        try:
            match command:
                case Publish(batch=batch):
                    return self._broker.offer(batch)
                case Subscribe(channel=channel):
                    if channel is not None:
                        assert self._tasks is not None
                        owner = self._tasks.cancel_scope
                        self._subscription = self._broker.attach(channel, self._speaker.outbox, owner=owner)
                    self._log.info("subscribed", channel=channel or "/null")
                case Fail(reason=reason, farewell=farewell):
                    self._end(reason, refused=True, farewell=farewell)
                case _:
                    assert_never(command)
        except BrokerError as error:
            self._end(str(error), refused=True)
        return True

    async def _wait_to_publish(self, command: Command) -> None:
        """Wait in the channel's line."""
        assert isinstance(command, Publish)
        try:
            await self._broker.publish_batch(command.batch, self._broker.limits.publish_seconds_max)
        except BrokerError as error:
            self._end(str(error), refused=True)

    def _abandon(self) -> None:
        """What has waited for its channel, or behind what did, is not accepted any more, and the log says so."""
        for command in self._blocked:
            if isinstance(command, Publish):
                self._log.info("abandoned", channel=command.batch.channel, messages=len(command.batch))

    def _log_messages(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Publish):
                for message in command.batch:
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

    def _end(self, reason: str, *, refused: bool = False, farewell: bytes = b"") -> None:
        """Nothing more is to be read; say farewell if there is one, and nothing else."""
        self._give_reason(reason)
        if refused:
            self._log.warning("refused", reason=reason)
        assert self._tasks is not None
        if farewell:
            self._speaker.outbox.put_control(farewell)
            self._tasks.cancel_scope.deadline = trio.current_time() + self._broker.limits.farewell_seconds_max
        else:
            self._speaker.mute()
            self._tasks.cancel_scope.cancel(reason=shorten(reason))
