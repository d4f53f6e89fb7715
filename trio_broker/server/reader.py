"""What a connection hears: all that its peer sends is read here.

The first bytes tell which protocol a peer speaks, and so which dialect it is answered in. What needs no waiting is done
in the task that reads for all connections: the `Poller` gives what a peer sent to `_digest`, which turns bytes into
commands and carries them out. It is synchronous, so no cancellation can come between its lines. What must wait is left
to the connection's own task, the reader, which waits in line to publish.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, final

import trio

from trio_broker.errors import BrokerError, LimitReached
from trio_broker.server.deadline import Deadline
from trio_broker.server.dialect import Conversation, FramedDialect
from trio_broker.server.holding import Holding
from trio_broker.server.stomp import StompDialect
from trio_broker.wire import Protocol, protocol_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from structlog.typing import FilteringBoundLogger

    from trio_broker.core import Broker
    from trio_broker.message import Batch
    from trio_broker.server.dialect import Dialect, End
    from trio_broker.server.speaker import Speaker
    from trio_broker.server.transport import Transport

__all__ = ["Reader"]

_DEBUG_BYTES = 19
"""How much of a payload a debug line shows."""

_MANY = 4
"""With more batches in one read than these, longer reads are worth their memory: 16 topics interleaved message by
message cost 0.75 of the CPU time then."""


@final
class Reader:
    """One connection's incoming side.

    Args:
        transport: where the bytes come from.
        broker: whom the peer talks to.
        speaker: whose replies are waited for when there are too many.
        log: bound to the connection.
        end: ends the conversation.
        leave: gives back what was not sent; only when nobody writes any more.

    Attributes:
        dialect: what the peer is answered in; None until its first bytes have told which.
        holding: what the dialect holds, as the broker's account knows it.
        is_waiting: a command of the peer's must wait, and it is waited for.
        scope: around the reader: its deadline, and how a drain stops it.
    """

    __slots__ = (
        "_blocked",
        "_broker",
        "_deadline",
        "_debug",
        "_end",
        "_first_bytes",
        "_has_stopped",
        "_is_feeding",
        "_is_last",
        "_leave",
        "_log",
        "_speaker",
        "_tasks",
        "_transport",
        "dialect",
        "holding",
        "is_waiting",
        "scope",
    )

    def __init__(
        self,
        transport: Transport,
        broker: Broker,
        speaker: Speaker,
        log: FilteringBoundLogger,
        *,
        end: End,
        leave: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._broker = broker
        self._speaker = speaker
        self._log = log
        self._end = end
        self._leave = leave
        self._debug = logging.getLogger("trio_broker").isEnabledFor(logging.DEBUG)
        self.dialect: Dialect | None = None
        self._first_bytes = b""  # what has come until the dialect was known
        self.holding = Holding(broker)
        # Commands that the reader must see to, because the first must wait; that one last. An empty deque has 0.6 KiB.
        self._blocked: list[Any] = []
        self._is_feeding = False  # what the peer sends is read
        self._has_stopped = False  # nothing more is accepted
        self._is_last = False  # what was read and waits is carried out, and nothing more is read
        self.is_waiting = False
        self.scope = trio.CancelScope()
        self._deadline = Deadline(self.scope, broker.limits)
        self._tasks: trio.Nursery | None = None  # the connection's, for the dialect

    async def run(self, tasks: trio.Nursery) -> None:
        """See to what the peer asks until there is nothing more to read from it.

        Args:
            tasks: where the dialect starts its own.

        Cancellation: atomic. What waits for its channel, or behind what does, is not accepted, and the log says so.
        """
        self._tasks = tasks
        with self.scope as scope:
            try:
                await self._converse()
            except trio.BrokenResourceError as error:
                self._end(f"the connection broke: {error}")
            finally:
                self._abandon()
        if scope.cancelled_caught and not self._has_stopped:
            self._refuse(self._deadline.overdue, None)

    def stop(self) -> None:
        """Accept nothing more of what comes; to cancel `scope` is for the caller. Idempotent."""
        self._has_stopped = True

    def read_no_more(self) -> None:
        """What was read and waits is still carried out. To be called while `is_waiting`."""
        self._is_last = True
        self._hang_up()

    async def _converse(self) -> None:
        """Have what comes digested, and wait where that must wait. The deadline is for what is unfinished, never for a
        message that waits for its channel."""
        limits = self._broker.limits
        if not self._has_stopped:  # a drain may have come before this task's first step
            self._deadline.expect_handshake()
        while not (self._has_stopped or self._is_last):
            self._is_feeding = True
            try:
                await self._transport.feed(self._digest)
            finally:
                self._is_feeding = False
            while self._blocked and not self._has_stopped:
                command = self._blocked[-1]
                if not self._carry_out(command):
                    await self._wait(command)
                self._blocked.pop()
            if self._speaker.outbox.control_bytes > limits.control_bytes_max:
                self._deadline.stop()  # nothing is read meanwhile, so no frame can be finished
                await self._speaker.room()
            if self.dialect is not None and self.dialect.greeted and self.holding.must_not_grow(self.dialect):
                self._deadline.expect_room()
                await self._broker.memory.room()
                self._deadline.stop()
            if self._is_unfinished:
                self._deadline.expect_the_rest()

    def _digest(self, data: bytes) -> bool:
        """Parse, and carry out what need not wait; False if the reader must see to the rest. For `Transport.feed`."""
        if self._has_stopped:  # a drain came while these bytes were on their way: they are not accepted
            return False
        if not data:
            self._end_of_stream()
            return False
        dialect = self.dialect
        if dialect is None:
            data = self._first_bytes = self._first_bytes + data
            dialect = self._choose(data)
            if dialect is None:
                return True
        deadline = self._deadline
        unfinished_bytes = dialect.unfinished_bytes if deadline.runs else 0
        commands = dialect.receive_data(data)
        if commands:
            deadline.stop()
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
                    if self._has_stopped:
                        return False
            except BrokerError as error:
                self._refuse(str(error), command)
                return False
        elif unfinished_bytes and dialect.unfinished_bytes < unfinished_bytes + len(data):
            deadline.stop()  # a frame was finished that asks for nothing yet: a transaction's
        held_bytes = dialect.held_bytes
        if held_bytes != self.holding.held_bytes and not self.holding.enter(dialect, held_bytes):
            self._refuse(str(LimitReached("memory_bytes_max", self._broker.limits.memory_bytes_max)), None)
        return not self._blocked and self._may_go_on()

    def _may_go_on(self) -> bool:
        """Whether more is read: the peer takes its replies, and there is memory for the rest of what it has begun."""
        if self.holding.held_bytes and self._is_unfinished:
            self._deadline.expect_the_rest()
            assert self.dialect is not None
            if self.holding.must_not_grow(self.dialect):
                return False
        return self._speaker.outbox.control_bytes <= self._broker.limits.control_bytes_max

    def _choose(self, first_bytes: bytes) -> Dialect | None:
        """The dialect of a peer that begins with these bytes; None where more are needed to tell."""
        protocol = protocol_of(first_bytes)
        if protocol is None:
            return None
        self._first_bytes = b""
        assert self._tasks is not None
        conversation = Conversation(self._broker, self._speaker, self._log, self._tasks, self._end, self._reads)
        self.dialect = StompDialect(conversation) if protocol is Protocol.STOMP else FramedDialect(conversation)
        return self.dialect

    def _reads(self) -> bool:
        """Whether what the peer sends is read now. Not a closure, which would cost each connection 0.17 KiB more."""
        return self._is_feeding

    def _end_of_stream(self) -> None:
        """The peer has said all that it will."""
        if self.dialect is None:
            cut_off: str | None = "the stream ended before the first frame"
        else:
            cut_off = self.dialect.receive_eof()
        if cut_off is not None:
            self._log.info("disconnected", reason=cut_off)
        self._end(cut_off or "the peer closed its side")

    @property
    def _is_unfinished(self) -> bool:
        """A frame has begun that must be whole in time; the first one is the handshake's."""
        return self.dialect is not None and self.dialect.greeted and self.dialect.unfinished_bytes > 0

    def _carry_out(self, command: Any) -> bool:
        """Carry out one command; False if it must wait. What breaks a rule ends the connection."""
        assert self.dialect is not None
        try:
            return self.dialect.carry_out(command)
        except BrokerError as error:
            self._refuse(str(error), command)
        return True

    async def _wait(self, command: Any) -> None:
        """Carry out one command that must wait."""
        assert self.dialect is not None
        self.is_waiting = True
        try:
            with self._transport.watch_for_hang_up(self._hang_up):
                await self.dialect.wait(command)
        except BrokerError as error:
            self._refuse(str(error), command)
        self.is_waiting = False

    def _hang_up(self) -> None:
        """The peer has gone while something that it sent waits, which is still carried out. What it will not settle any
        more is for others at once; but not apart from a transaction that waits, which is all or nothing. And whoever
        writes knows what of that has left."""
        assert self.dialect is not None
        self.dialect.retire()
        if not any(map(self.dialect.is_transaction, self._blocked)):
            self._speaker.when_nothing_is_written(self._leave)

    def _refuse(self, reason: str, command: Any) -> None:
        """The peer did what it may not; it is told, where its protocol has words for it."""
        farewell = None if self.dialect is None else self.dialect.refusal(reason, command)
        self._end(reason, refused=True, farewell=farewell)

    def _abandon(self) -> None:
        """What has waited for its channel, or behind what did, is not accepted any more, and the log says so."""
        for batch in self._batches(reversed(self._blocked)):
            self._log.info("abandoned", channel=batch.channel, messages=len(batch))

    def _log_messages(self, commands: Sequence[Any]) -> None:
        for batch in self._batches(commands):
            for message in batch:
                self._log.debug("sending", channel=message.channel, body=repr(message.body[:_DEBUG_BYTES]))

    def _batches(self, commands: Iterable[Any]) -> Iterator[Batch]:
        """What these commands would publish."""
        for command in commands:
            assert self.dialect is not None
            yield from self.dialect.batches(command)
