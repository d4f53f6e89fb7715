"""What a connection says: all its bytes go out here.

What can be written without waiting is written by `flush`, in the task that serves all connections. Where the system
takes no more in the middle of a write, a writer is started for the rest, and ends with it. Either flushes or the writer
writes, never both, so a torn frame can only be a connection's last bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, final

import trio

from trio_broker.core import Outbox, Subscription, stall_reason
from trio_broker.server.stall import StallClock

if TYPE_CHECKING:
    from trio_broker.limits import Limits
    from trio_broker.message import Delivery
    from trio_broker.server.flusher import Flusher
    from trio_broker.server.transport import Transport

__all__ = ["Speaker"]


@final
class Speaker:
    """One connection's outgoing side.

    Args:
        transport: where the bytes go.
        limits: ``write_bytes_max`` and those of the stall rule are used.
        flusher: where to stand in line when there is something to write.
        broke: called with the reason when the connection can say nothing more.
        stalled: called with the reason when the peer takes nothing, if there is no subscription to evict for it.
        failed: called with what went wrong in our own code.
        said: called when the outbox was closed and everything has been said.

    Attributes:
        outbox: where what is to be said is announced. The `note` of each subscription that it names is a `Place`.
        writes: how often something was handed to the system.
    """

    __slots__ = (
        "_after_writing",
        "_broke",
        "_failed",
        "_flusher",
        "_has_finished",
        "_is_mute",
        "_is_parting",
        "_limits",
        "_progress",
        "_said",
        "_serving",
        "_stall",
        "_stalled",
        "_tasks",
        "_transport",
        "is_writing",
        "outbox",
        "writes",
    )

    def __init__(
        self,
        transport: Transport,
        limits: Limits,
        flusher: Flusher,
        *,
        broke: Callable[[str], None],
        stalled: Callable[[str], None],
        failed: Callable[[Exception], None],
        said: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._limits = limits
        self._flusher = flusher
        self._broke = broke
        self._stalled = stalled
        self._failed = failed
        self._said = said
        self._stall = StallClock(limits, transport.unsent_bytes, transport.slack_bytes)
        self._tasks: trio.Nursery | None = None  # the writer's
        self.is_writing = False  # there is a writer, and nobody else writes
        self.writes = 0
        self._serving: Subscription | None = None  # whose turn was taken and is not over
        self._is_mute = False  # nothing more is to be said
        self._is_parting = False  # no message is to be sent any more
        self._has_finished = False  # everything has been said
        self._after_writing: Callable[[], None] | None = None
        self._progress = trio.lowlevel.ParkingLot()  # where `finish` and `room` wait
        self.outbox = Outbox(self._stand_in_line)

    def start(self, tasks: trio.Nursery) -> None:
        """Writers may be started in this nursery from now on, until `mute` is called."""
        self._tasks = tasks

    async def finish(self) -> None:
        """Accept nothing more, and wait until everything has been said, or nothing more can be.

        Cancellation: partial. Of the message under way a part may have left, and the stream is of no use afterwards.
        """
        self.outbox.close()
        while not (self._has_finished or self._is_mute):
            await self._progress.park()

    def mute(self) -> None:
        """Say nothing more; what is under way, and who waits for it, is for the caller to cancel."""
        self._is_mute = True

    def when_nothing_is_written(self, act: Callable[[], None]) -> None:
        """Call ``act``, at once or when the write that is under way has ended; of several the last."""
        if self.is_writing:
            self._after_writing = act
        else:
            act()

    def part(self, farewell: bytes) -> None:
        """Say this after what is under way and what was said before, and then no message more."""
        self._is_parting = True
        if farewell:
            self.outbox.put_control(farewell)

    async def room(self) -> None:  # noqa: ASYNC910  waits only if it must
        """Wait while more than ``control_bytes_max`` of replies wait to be taken by the peer.

        Cancellation: atomic. Nothing is changed by waiting.
        """
        while self.outbox.control_bytes > self._limits.control_bytes_max and not self._is_mute:
            await self._progress.park()

    def _stand_in_line(self) -> None:
        """There is something to write, or the end to be seen to."""
        self._flusher.add(self)

    def flush(self) -> None:
        """Write something without waiting; what must wait is left to a writer. For the `Flusher`."""
        if self.is_writing or self._is_mute:
            return
        try:
            subscription = self._next()
        except trio.WouldBlock:
            self._stall.stop()  # nothing waits, in no mailbox
            return
        except trio.EndOfChannel:
            self._is_mute = True
            self._has_finished = True
            self._progress.unpark_all()
            self._said()
            return
        try:
            self._take_turn(subscription)
        except trio.BrokenResourceError as error:
            self._broke(f"the connection broke: {error}")
        except Exception as error:  # noqa: BLE001  an error boundary: this is a task that serves all connections
            self._failed(error)

    def _next(self) -> Subscription | None:
        """Whose turn it is: somebody who has something, or None for what overtakes deliveries alone. Turns of those who
        have nothing any more, as they have ended, are over at once: they must not wait in line for one write each.

        Raises: as `Outbox.turn_nowait`.
        """
        subscription = self._serving
        while subscription is None or not subscription.mailbox.messages:
            if subscription is not None:
                subscription.announced = False
            self._serving = None
            subscription = self.outbox.turn_nowait()
            if subscription is None and self.outbox.control_bytes:
                break
        return subscription

    def _take_turn(self, subscription: Subscription | None) -> None:
        """One write: of what overtakes deliveries, or of what waits in the mailbox whose turn it is."""
        if self.outbox.control_bytes:
            control = self.outbox.take_control()
            self._progress.unpark_all()
            self._serving = subscription
            self.writes += 1
            sent = self._transport.send_nowait(control)
            if sent < len(control):
                self._leave_to_a_writer(self._send_control, control[sent:])
                return
        elif subscription is None or subscription.evicted is not None or self._is_parting:
            self._serving = None
        else:
            deliveries = subscription.take(self._limits.write_bytes_max)
            # A closed outbox gives no second turn, so whoever has something left keeps this one.
            self._serving = subscription if self.outbox.closed and subscription.mailbox.messages else None
            # There are none where what waited went back, or is of no use any more.
            if deliveries and not self._send_now(subscription, deliveries):
                return
        if self._serving or not self.outbox.is_quiet:
            self._stand_in_line()
        elif self._stall.runs:
            self._stall.stop()

    def _send_now(self, subscription: Subscription, deliveries: list[Delivery]) -> bool:
        """Send deliveries; False if a writer must see to the rest."""
        data: bytes | list[bytes | memoryview] = subscription.note.encode(deliveries, subscription.first_number)
        self.writes += 1
        if isinstance(data, list):
            sent, size = self._transport.gather_nowait(data), sum(map(len, data))
        else:
            sent, size = self._transport.send_nowait(data), len(data)
        if self._stall.runs:
            self._stall.move(sent)
        if sent < size:
            rest = b"".join(data) if isinstance(data, list) else data
            self._leave_to_a_writer(self._send_rest, subscription, deliveries, rest, sent)
            return False
        subscription.settle()
        return True

    def _leave_to_a_writer(self, write: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Write in a task of its own; nobody else writes until it has ended."""
        assert self._tasks is not None
        self.is_writing = True
        self._tasks.start_soon(self._write, write, *arguments)

    @trio.lowlevel.enable_ki_protection  # as the reader, whose task is the server's
    async def _write(self, write: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """One write that must wait; then flushing goes on."""
        broken = ""
        try:
            await write(*arguments)
        except trio.BrokenResourceError as error:
            broken = f"the connection broke: {error}"
        self.is_writing = False
        if broken:
            self._broke(broken)
        act, self._after_writing = self._after_writing, None
        if act is not None:
            act()
        self._stand_in_line()

    async def _send_rest(self, subscription: Subscription, deliveries: list[Delivery], data: bytes, sent: int) -> None:
        """Send what did not leave at once; evict the subscription if the peer stalls.

        Cancellation: messages whose last byte had left are settled, the others stay with the subscription, which
        gives them back when it ends. The stream is of no use afterwards: a frame may be torn.
        """
        self._stall.start()
        view = memoryview(data)
        try:
            while sent < len(data):
                count = await self._send_some(view[sent:])
                if not count:
                    self.mute()  # at once: a frame is torn, and who is to end this has not heard of it yet
                    if subscription.ended:  # by its peer, meanwhile
                        self._stalled(stall_reason(self._limits))
                    subscription.evict(stall_reason(self._limits))
                    return
                sent += count
                subscription.moves()
        finally:
            if sent < len(data):
                subscription.settle_first(subscription.note.messages_within(deliveries, data, sent))
        subscription.settle()

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
        """Send what overtakes deliveries; the stall rule holds for it too.

        Cancellation: partial. The stream is of no use afterwards: a frame may be torn.
        """
        self._stall.start()
        view = memoryview(data)
        while view:
            count = await self._send_some(view)
            if not count:
                self._stalled(stall_reason(self._limits))
                return
            view = view[count:]
