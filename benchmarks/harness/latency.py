"""One-way latency: from the moment a message should be sent until the read that completed it returned.

Messages of one publisher arrive in their order, so the load still counts bytes: the message that ends at byte n is the
(n / length)th. At a fixed rate a message's time is the one at which it was due, not the one at which the load came to
send it. Otherwise a broker that stops for a second would delay the load as well and be charged for one message instead
of for all that were due in that second (coordinated omission). Publisher and subscriber are one process with one clock,
which spins instead of sleeping: a sleep would add the time of its own waking to every figure.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from benchmarks.harness.audience import Audience, Publisher, Subscriber
from benchmarks.harness.brokers import Address
from benchmarks.harness.load import PATIENCE_SECONDS, SURPLUS_SECONDS, Outcome
from benchmarks.harness.percentiles import percentiles_of_sorted
from benchmarks.harness.shapes import TOPIC
from benchmarks.harness.traffic import Traffic, uniform_traffic
from benchmarks.harness.wire import Wire

PERCENTILES = (50.0, 99.0, 99.9)
BLOCK_SIZE = 1 << 16


@dataclass(slots=True)
class Log:
    """What happened when: how many bytes had arrived by a time, and in a closed loop when each message was sent."""

    start: float
    arrivals: list[tuple[float, int]]
    departures: list[float]

    def latencies(self, length: int, rate: float | None) -> list[float]:
        """Return the seconds each message took, in order; `rate` is that of the schedule, if there was one."""
        found: list[float] = []
        for moment, received in self.arrivals:
            for number in range(len(found), received // length):
                due = self.departures[number] if rate is None else self.start + number / rate
                found.append(moment - due)
        return found


class Latency:
    """One publisher and one subscriber of a topic.

    Without a rate, one message at a time: each is sent when the one before it has arrived. With a rate in messages a
    second, each is due at its time; those that are due when the load comes to it leave in one write.
    """

    def __init__(self, address: Address, wire: Wire, *, size: int, rate: float | None) -> None:
        """Encode what will be sent; nothing is connected yet."""
        self.rate = rate
        self.seconds: list[float] = []
        self._traffic: Traffic = uniform_traffic(wire, TOPIC, size)
        self._block = memoryview(self._traffic.cycle * (1 + -(-BLOCK_SIZE // len(self._traffic.cycle))))
        self._audience = Audience(address, wire, [TOPIC], subscribers=1, publishers=1)

    def __enter__(self) -> Self:
        """Connect both."""
        self._audience.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect both."""
        self._audience.__exit__(kind, error, trace)

    def percentiles(self) -> Sequence[float]:
        """Return the percentiles of the last run, in seconds."""
        return percentiles_of_sorted(sorted(self.seconds), PERCENTILES)

    def run(self, count: int, *, inspect: bool) -> Outcome:
        """Send `count` messages and wait for all of them; `inspect` makes no difference, since bytes are counted."""
        del inspect
        (subscriber,) = self._audience.subscribers.values()
        (publisher,) = self._audience.publishers.values()
        subscriber.received = publisher.sent = 0
        log = Log(0.0, [], [])
        cpu = time.process_time()
        start = log.start = time.perf_counter()
        fault = self._exchange(count, subscriber, publisher, log)
        elapsed = time.perf_counter() - start
        cpu = time.process_time() - cpu
        fault = fault or self._audience.find_surplus(SURPLUS_SECONDS)
        length = len(self._traffic.deliveries[0])
        self.seconds = log.latencies(length, self.rate)
        faults = () if fault is None else (fault,)
        return Outcome(count, count, subscriber.received // length, elapsed, cpu, faults)

    def _exchange(self, count: int, subscriber: Subscriber, publisher: Publisher, log: Log) -> str | None:
        """Send what is due and read what is there, over and over; return what went wrong, if anything."""
        length, size = len(self._traffic.cycle), len(self._traffic.deliveries[0])
        incoming = count * size
        moved = log.start
        while subscriber.received < incoming:
            now = time.perf_counter()
            if self.rate is None:
                due = min(count, subscriber.received // size + 1)
            else:
                due = min(count, int((now - log.start) * self.rate) + 1)
            if publisher.sent < due * length:
                if self.rate is None and len(log.departures) < due:
                    log.departures.append(now)
                if not self._send(publisher, due * length):
                    return f"{publisher.label} was disconnected by the broker"
            arrived = self._read(subscriber)
            if arrived:
                moved = time.perf_counter()
                subscriber.received += arrived
                log.arrivals.append((moved, subscriber.received))
            elif arrived is None:
                return f"{subscriber.label} was disconnected by the broker"
            elif now - moved > PATIENCE_SECONDS:
                return f"nothing arrived for {PATIENCE_SECONDS:g} s"
        return None

    def _send(self, publisher: Publisher, end: int) -> bool:
        """Write what fits of what is due, drop what a broker answers; return whether the connection still stands."""
        begin = publisher.sent % len(self._traffic.cycle)
        try:
            publisher.sent += publisher.socket.send(self._block[begin : begin + min(BLOCK_SIZE, end - publisher.sent)])
        except BlockingIOError:
            pass
        except OSError:
            return False
        return self._read(publisher) is not None

    def _read(self, peer: Subscriber | Publisher) -> int | None:
        """Read once; return how much, or nothing when the connection ended."""
        try:
            return peer.socket.recv_into(self._audience.buffer) or None
        except BlockingIOError:
            return 0
        except OSError:
            return None
