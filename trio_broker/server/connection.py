"""One peer: a reader task and a writer task around one wire session.

The reader owns the receiving side: it turns bytes into commands and carries them out. The writer is the only task that
ever writes, so a torn frame can only be a connection's last bytes. They share the session, whose methods are
synchronous, and meet in the outbox.

How a connection ends, whatever the cause: the reader stops; the outbox is closed, so the writer ends after what is
still to be said; the end of the stream is sent; the subscription leaves, which brings back to its queue what was not
sent; the socket is closed. What differs is how much is still to be said:

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
from typing import TYPE_CHECKING, assert_never, final

import trio

from trio_broker.core import Broker, Outbox, Subscription, stall_reason
from trio_broker.errors import BrokerError, shorten
from trio_broker.server.stall import StallClock
from trio_broker.wire import Command, Fail, FramedServerSession, Publish, Subscribe

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from trio_broker.message import Batch, Delivery
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
        log: bound to this connection.
    """

    __slots__ = (
        "_broker",
        "_debug",
        "_expecting",
        "_held_bytes",
        "_log",
        "_outbox",
        "_overdue",
        "_reading",
        "_session",
        "_stall",
        "_subscription",
        "_tasks",
        "_transport",
        "has_spoken",
        "reason",
    )

    def __init__(self, transport: Transport, broker: Broker, log: FilteringBoundLogger) -> None:
        self._transport = transport
        self._broker = broker
        self._log = log
        self._debug = logging.getLogger("trio_broker").isEnabledFor(logging.DEBUG)
        self._session = FramedServerSession(broker.limits)
        self._outbox = Outbox()
        self._stall = StallClock(broker.limits, transport.unsent_bytes, transport.slack_bytes)
        self._subscription: Subscription | None = None  # None before the first frame, and for a peer that only sends
        self._held_bytes = 0  # what the broker's account knows of the session's unfinished frame
        self._expecting = False  # the reader has a deadline
        self._overdue = ""  # what is to be said when it passes
        self._reading = trio.CancelScope()  # around the reader: its deadline, and how a drain stops it
        self._tasks: trio.CancelScope | None = None  # around both tasks
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
                self._tasks = tasks.cancel_scope
                tasks.start_soon(self._write)
                await self._read()
                self._outbox.close()
            self.has_spoken = True
            self._leave()  # before lingering: its queue's work must not wait for that
            await self._transport.finish(self._broker.limits.linger_seconds_max)
        finally:
            self._leave()
            self._broker.memory.add(-self._held_bytes)
            self._log.info("closed", reason=self.reason or "cancelled")
            await self._transport.aclose()

    def retire(self) -> None:
        """Leave the channel, so that nothing new comes; synchronous and idempotent."""
        if self._subscription is not None:
            self._subscription.retire()

    def drain(self) -> None:
        """Stop reading, finish writing, leave; synchronous: what follows happens in `run`. After `retire`."""
        self._give_reason("drained")
        self._outbox.close()
        self._reading.cancel(reason="the server drains")

    def _leave(self) -> None:
        """Give back what was not sent; only when the writer has ended, which knows what was."""
        if self._subscription is not None:
            if self._subscription.evicted is not None:
                self._give_reason(f"evicted: {self._subscription.evicted}")
            self._subscription.leave()

    # -- the reader --------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Carry out what the peer asks until there is nothing more to read from it."""
        with self._reading as reading:
            try:
                await self._converse()
            except trio.BrokenResourceError as error:
                self._end(f"the connection broke: {error}")
        if reading.cancelled_caught and not self.reason:
            self._end(self._overdue, refused=True)

    async def _converse(self) -> None:
        """Read, parse, act. The deadline is for what is unfinished, never for a message that waits for its channel."""
        session, memory, limits = self._session, self._broker.memory, self._broker.limits
        if not self.reason:  # a drain may have come before this task's first step
            self._expect(limits.handshake_seconds_max, "no whole frame within handshake_seconds_max")
        greeted = False
        while True:
            data = await self._transport.receive()
            if self.reason:  # a drain came while these bytes were on their way: they are not accepted
                return
            if not data:
                cut_off = session.receive_eof()
                if cut_off is not None:
                    self._log.info("disconnected", reason=cut_off)
                self._end(cut_off or "the peer closed its side")
                return
            commands = session.receive_data(data)
            if commands:
                greeted = True
                self._expect_nothing()
                for command in commands:
                    if not await self._obey(command):
                        return
            held_bytes = session.held_bytes
            if held_bytes != self._held_bytes:
                memory.add(held_bytes - self._held_bytes)
                self._held_bytes = held_bytes
            if held_bytes and greeted:
                if not self._expecting:
                    self._expect(limits.frame_seconds_max, "a frame took longer than frame_seconds_max")
                if memory.is_full:
                    await memory.room()

    def _expect(self, seconds: float, otherwise: str) -> None:
        """Set the reader's deadline, and what is to be said when it passes."""
        self._reading.deadline = trio.current_time() + seconds
        self._expecting = True
        self._overdue = f"{otherwise} ({seconds:g} s)"

    def _expect_nothing(self) -> None:
        """What was expected has come."""
        if self._expecting:  # setting a deadline costs more than this question
            self._expecting = False
            self._reading.deadline = math.inf

    async def _obey(self, command: Command) -> bool:
        """Carry out one command; False if it was the last."""
        try:
            match command:
                case Publish(batch=batch):
                    if self._debug:
                        self._log_messages(batch)
                    if not self._broker.offer(batch):
                        await self._publish(batch)
                case Subscribe(channel=channel):
                    if channel is not None:
                        self._subscription = self._broker.attach(channel, self._outbox, owner=self._tasks)
                    self._log.info("subscribed", channel=channel or "/null")
                case Fail(reason=reason, farewell=farewell):
                    self._end(reason, refused=True, farewell=farewell)
                    return False
                case _:
                    assert_never(command)
        except BrokerError as error:
            self._end(str(error), refused=True)
            return False
        return True

    async def _publish(self, batch: Batch) -> None:
        """Wait in the channel's line; what a drain sends away from there was not accepted, and the log says so."""
        try:
            await self._broker.publish_batch(batch, self._broker.limits.publish_seconds_max)
        except trio.Cancelled:
            self._log.info("abandoned", channel=batch.channel, messages=len(batch))
            raise

    def _log_messages(self, batch: Batch) -> None:
        for message in batch:
            self._log.debug("sending", channel=batch.channel, body=repr(message.body[:_DEBUG_BYTES]))

    # -- the writer --------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection  # as the reader, whose task is the server's
    async def _write(self) -> None:
        """Send what the outbox names until it is closed and everything has been sent."""
        try:
            while True:
                try:
                    subscription = await self._outbox.turn()
                except trio.EndOfChannel:
                    break
                control = self._outbox.take_control()
                if control:
                    await self._send_control(control)
                if subscription is not None:
                    await self._serve(subscription)
        except trio.BrokenResourceError as error:
            self._end(f"the connection broke: {error}")
        else:
            self._give_reason("the broker ended")
            self._reading.cancel(reason="everything has been said")

    async def _serve(self, subscription: Subscription) -> None:
        """Give one subscription its turn: one write; after the outbox was closed, all that is left."""
        stall = self._stall
        while deliveries := subscription.take(self._broker.limits.write_bytes_max):
            data = self._session.encode(deliveries)
            sent = self._transport.send_nowait(data)
            if stall.runs:
                stall.move(sent)
            if sent < len(data) and not await self._send_rest(subscription, deliveries, data, sent):
                subscription.evict(stall_reason(self._broker.limits))
                return
            subscription.settle()
            if stall.runs and not subscription.mailbox.messages:
                stall.stop()
            if not self._outbox.closed:
                return

    async def _send_rest(self, subscription: Subscription, deliveries: list[Delivery], data: bytes, sent: int) -> bool:
        """Send what did not leave at once; False if the peer stalled.

        Cancellation: messages whose last byte had left are settled, the others stay with the subscription, which
        gives them back when it ends. The stream is of no use afterwards: a frame may be torn.
        """
        self._stall.start()
        view = memoryview(data)
        try:
            while sent < len(data):
                count = await self._send_some(view[sent:])
                if not count:
                    return False
                sent += count
                subscription.moves()
            return True
        finally:
            if sent < len(data):
                subscription.settle_first(self._session.messages_within(deliveries, sent))

    async def _send_some(self, view: memoryview) -> int:
        """Send some bytes and return how many left: none if the peer stalled."""
        while True:
            with trio.CancelScope(deadline=self._stall.deadline):
                count = await self._transport.send(view)
                self._stall.move(count)
                return count
            if self._stall.expire():
                return 0

    async def _send_control(self, data: bytes) -> None:
        """Send what overtakes deliveries. It is short; a deadline of its own bounds it where it is a farewell."""
        view = memoryview(data)
        while view:
            view = view[await self._transport.send(view) :]

    # -- the end -----------------------------------------------------------------------------------------------------

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
            self._outbox.put_control(farewell)
            self._tasks.deadline = trio.current_time() + self._broker.limits.farewell_seconds_max
        else:
            self._tasks.cancel(reason=shorten(reason))
