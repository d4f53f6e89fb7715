"""The load of a benchmark: connections that send what was encoded beforehand, and connections that count.

Without a rate all messages are the same. Publishers write blocks of them as fast as the broker reads; a subscriber
compares what it reads with the message repeated, and counts bytes. Nothing is done for a single message, so that what
is measured is the broker as far as possible.

With a rate each message carries its number, which says by whom and *when it was to be sent*. A latency is reckoned from
that moment: a message that the load could not send in time, because the broker did not read, counts with the time it
waited (no coordinated omission). Each message is known by its number, so none can stand in for another.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final, final

import trio

from trio_broker.cli.bench_encoding import READ_BYTES, Encoding
from trio_broker.cli.bench_measure import Latencies, Measured, Work
from trio_broker.cli.bench_probe import LoadFailed, Member, Probe
from trio_broker.limits import Limits
from trio_broker.wire import FramedClientSession

__all__ = ["Load"]

_SURPLUS_SECONDS: Final = 0.05
"""How long more than was due is waited for, at the end."""


@final
class Load:
    """The work, done over connections of its own.

    Args:
        work: what is to be done.
        connect: makes one connection to the broker.
        limits: what a frame may be; they must allow what the broker allows.
        idle_seconds_max: the load gives up when nothing was sent or received for so long though something was due.
        spin_seconds: how long before a message's time its publisher stops to sleep and looks at the clock again and
            again, since a sleep ends up to a millisecond late; 0 to sleep only.
    """

    def __init__(
        self,
        work: Work,
        connect: Callable[[], Awaitable[trio.abc.Stream]],
        *,
        limits: Limits,
        idle_seconds_max: float,
        spin_seconds: float = 0.002,
    ) -> None:
        self.work = work
        self.begun = False  # the clock of the run has been started
        self._encoding = Encoding(work)
        self._connect = connect
        self._limits = limits
        self._idle_seconds_max = idle_seconds_max
        self._spin_seconds = spin_seconds
        self._subscribers: list[Member] = []
        self._publishers: list[trio.abc.Stream] = []
        self._scope = trio.CancelScope()
        self._all_there = trio.Event()
        self._faults: list[str] = []
        self._start = self._end = self._cpu = 0.0
        self._published = 0
        self._published_seconds = 0.0
        self._bytes = 0  # received by all subscribers together
        self._latencies = Latencies()
        self._late_seconds = 0.0
        self._seen = bytearray()  # of a queue's messages, one bit each

    @property
    def delivered(self) -> int:
        """Whole deliveries so far, to all subscribers."""
        return sum(member.bytes // self._encoding.delivery_bytes for member in self._subscribers)

    async def run(self) -> None:
        """Connect, wait until every subscription is in place, and do the work; `measured` says what came of it.

        Raises:
            OSError: the broker cannot be reached.
            LoadFailed: the work could not even begin.

        Cancellation: partial. `measured` tells what was done until then; every connection is closed.
        """
        async with AsyncExitStack() as stack:
            probe = Probe(self.work, self._subscribers, self._limits)
            with trio.move_on_after(self._idle_seconds_max):
                await self._open(stack)
                await probe.carry_out(self._publishers[0])
            if not probe.done:
                raise LoadFailed(f"after {self._idle_seconds_max:g} s {probe.state()}")
            await self._measure()

    def measured(self, stopped: str | None = None) -> Measured:
        """What was measured so far; with the reason if it was stopped before its end."""
        seconds = (self._end or trio.current_time()) - self._start
        return Measured(
            work=self.work,
            seconds=seconds,
            published=self._published,
            published_seconds=self._published_seconds,
            received=[member.bytes // self._encoding.delivery_bytes for member in self._subscribers],
            received_seconds=[member.seconds for member in self._subscribers],
            faults=tuple(self._faults),
            stopped=stopped,
            latencies=self._latencies,
            late_seconds=self._late_seconds,
            load_busy=self._cpu / seconds if seconds > 0 else 0.0,
        )

    async def _open(self, stack: AsyncExitStack) -> None:
        """Connect everybody, the subscribers first."""
        await trio.lowlevel.checkpoint()
        try:
            for number in range(self.work.subscribers):
                stream = await stack.enter_async_context(await self._connect())
                await stream.send_all(FramedClientSession(self.work.channel, self._limits).hello())
                self._subscribers.append(Member(f"subscriber {number + 1}", stream))
            for _ in range(self.work.publishers):
                stream = await stack.enter_async_context(await self._connect())
                await stream.send_all(FramedClientSession(None, self._limits).hello())
                self._publishers.append(stream)
        except trio.BrokenResourceError as error:
            raise LoadFailed(f"the broker closed a connection at once: {error}") from error

    async def _measure(self) -> None:
        """Do the work, from the first write to the last delivery, and wait for anything beyond that."""
        work = self.work
        if work.rate is not None and work.shared:
            self._seen = bytearray(work.count // 8 + 1)
        receive = self._count if work.rate is None else self._time
        publish = self._flood if work.rate is None else self._pace
        await trio.lowlevel.checkpoint()
        cpu = time.process_time()
        self._start = trio.current_time()
        self.begun = True
        self._scope.deadline = self._start + self._idle_seconds_max
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for member in self._subscribers:
                        nursery.start_soon(receive, member)
                    for number, stream in enumerate(self._publishers):
                        nursery.start_soon(publish, number, stream)
                    await self._all_there.wait()
                    self._stop_the_clock(cpu)
                    with trio.move_on_after(_SURPLUS_SECONDS):
                        await trio.sleep_forever()
                    nursery.cancel_scope.cancel(reason="everything has arrived")
        finally:
            if not self._all_there.is_set():
                self._stop_the_clock(cpu)
        if not self._all_there.is_set() and not self._faults:
            self._faults.append(f"nothing was sent or received for {self._idle_seconds_max:g} s")

    def _stop_the_clock(self, cpu: float) -> None:
        self._end = trio.current_time()
        self._cpu = time.process_time() - cpu

    def _expect_progress(self, after: float = 0.0) -> None:
        """The load has its full time again until something must have moved, from now or from a later moment on."""
        deadline = max(trio.current_time(), after) + self._idle_seconds_max
        # Another publisher may wait for a moment that is later still.
        self._scope.deadline = max(self._scope.deadline, deadline)

    def _fail(self, fault: str) -> None:
        """Note what went wrong, and end the work."""
        self._faults.append(fault)
        self._scope.cancel(reason=fault)

    # -- publishers ----------------------------------------------------------------------------------------------------

    async def _flood(self, publisher: int, stream: trio.abc.Stream) -> None:
        """Write blocks of the same message, as fast as they are taken."""
        await trio.lowlevel.checkpoint()
        left = self.work.share(publisher)
        while left:
            count = min(left, self._encoding.block_messages)
            if not await self._send(publisher, stream, self._encoding.block(count), count):
                return
            left -= count

    async def _pace(self, publisher: int, stream: trio.abc.Stream) -> None:
        """Write each message at its time; those that are late, together and at once."""
        await trio.lowlevel.checkpoint()
        work = self.work
        numbers = range(publisher, work.count, work.publishers)
        while numbers:
            await self._wait_until(self._start + work.due(numbers[0]))
            elapsed = trio.current_time() - self._start
            due = 1
            while due < min(len(numbers), self._encoding.block_messages) and work.due(numbers[due]) <= elapsed:
                due += 1
            self._late_seconds = max(self._late_seconds, elapsed - work.due(numbers[0]))
            if not await self._send(publisher, stream, self._encoding.numbered(numbers[:due]), due):
                return
            numbers = numbers[due:]

    async def _send(self, publisher: int, stream: trio.abc.Stream, data: bytes | memoryview, count: int) -> bool:
        """Send so many messages; returns whether that was possible."""
        try:
            await stream.send_all(data)
        except trio.BrokenResourceError:
            self._fail(f"the broker disconnected publisher {publisher + 1}")
            await trio.lowlevel.checkpoint()
            return False
        self._published += count
        self._published_seconds = trio.current_time() - self._start
        self._expect_progress()
        return True

    async def _wait_until(self, moment: float) -> None:
        self._expect_progress(moment)
        await trio.sleep_until(moment - self._spin_seconds)
        while trio.current_time() < moment:  # noqa: ASYNC110  nothing but the clock tells that the moment has come
            await trio.lowlevel.checkpoint()

    # -- subscribers ---------------------------------------------------------------------------------------------------

    async def _count(self, member: Member) -> None:
        """Compare what comes with the message repeated, and count it."""
        while data := await self._receive(member):
            if not self._encoding.matches(data, member.bytes):
                self._fail(f"{member.label} received bytes that are not of this run")
                return
            self._add(member, len(data))

    async def _time(self, member: Member) -> None:
        """Tell by its number which message each is, and how long it took."""
        unit = self._encoding.delivery_bytes
        expected = list(range(self.work.publishers))  # on a topic: the next number of each publisher
        held = bytearray()
        while data := await self._receive(member):
            elapsed = trio.current_time() - self._start
            held += data
            whole = len(held) - len(held) % unit
            deliveries = bytes(held[:whole])
            del held[:whole]
            for offset in range(0, whole, unit):
                number = self._encoding.number(deliveries, offset)
                fault = "a message that is not of this run" if number is None else self._mark(number, expected)
                if number is None or fault is not None:
                    self._fail(f"{member.label} received {fault}")
                    return
                self._latencies.add(elapsed - self.work.due(number))
            self._add(member, whole)

    async def _receive(self, member: Member) -> bytes:
        """Read; the end of the stream is a fault, after which there is nothing."""
        try:
            data = await member.stream.receive_some(READ_BYTES)
        except trio.BrokenResourceError:
            await trio.lowlevel.checkpoint()
            data = b""
        if not data:
            self._fail(f"the broker disconnected {member.label}")
        return bytes(data)

    def _mark(self, number: int, expected: list[int]) -> str | None:
        """Note that a message has come; returns what is wrong with that."""
        if number >= self.work.count:
            return f"message {number}, which was never sent"
        if self.work.shared:
            place, bit = number >> 3, 1 << (number & 7)
            if self._seen[place] & bit:
                return f"message {number}, which had been delivered before"
            self._seen[place] |= bit
            return None
        publisher = number % self.work.publishers
        if number != expected[publisher]:
            return f"message {number} where {expected[publisher]} was due"
        expected[publisher] += self.work.publishers
        return None

    def _add(self, member: Member, count_bytes: int) -> None:
        member.bytes += count_bytes
        member.seconds = trio.current_time() - self._start
        self._bytes += count_bytes
        due = self.work.deliveries * self._encoding.delivery_bytes
        if self._bytes > due or (not self.work.shared and member.bytes > due // self.work.subscribers):
            self._fail(f"{member.label} received more than was sent")
        elif self._bytes == due:
            self._all_there.set()
        self._expect_progress()
