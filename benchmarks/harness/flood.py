"""The flood: publishers that write as fast as the broker reads.

The broker is handed slices of one block of repeated messages, and what comes back is counted. Afterwards the flood says
exactly what was missing, what came too much, and which connection broke.
"""

import select
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from benchmarks.harness.audience import Audience
from benchmarks.harness.brokers import Address
from benchmarks.harness.counting import choose_meter
from benchmarks.harness.load import PATIENCE_SECONDS, SURPLUS_SECONDS, LoadError, Outcome
from benchmarks.harness.traffic import Traffic
from benchmarks.harness.wire import Wire

# Small against what one read can take. With writes of 512 KiB and reads of 256 KiB, load and broker were seen to fall
# into step, each asleep for more than half of the time while waiting for the other, at half the rate.
BLOCK_SIZE = 1 << 17


class Flood:
    """Publishers that write as fast as the broker reads, and subscribers that count what arrives.

    On a topic every subscriber is due every message of its channel. With `shared`, the channel is a queue and all
    subscribers together are due each message once. Nothing moving for `patience` seconds ends a run.
    """

    def __init__(
        self,
        address: Address,
        wire: Wire,
        make_traffic: Callable[[Wire], Traffic],
        *,
        publishers: int,
        subscribers: int,
        shared: bool = False,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """Encode what will be sent and what should come back; nothing is connected yet."""
        traffic = make_traffic(wire)
        if publishers > 1 and traffic.messages > 1 and (wire.terminator or not shared):
            message = "what several publishers send to a topic has no order, so they all have to send the same message"
            raise LoadError(message)
        if shared and not wire.has_queues:
            message = "the protocol has no queues"
            raise LoadError(message)
        self.traffic = traffic
        self._shared = shared
        self.patience = patience
        self._meter = choose_meter(wire, traffic, shared=shared)
        # A full block can be taken from wherever in the cycle it must begin.
        self._block = memoryview(traffic.cycle * (1 + -(-BLOCK_SIZE // len(traffic.cycle))))
        self._audience = Audience(address, wire, traffic.channels, subscribers=subscribers, publishers=publishers)
        self._faults: list[str] = []

    def __enter__(self) -> Self:
        """Connect everybody."""
        self._audience.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        self._audience.__exit__(kind, error, trace)

    def run(self, count: int, *, inspect: bool) -> Outcome:
        """Flood with `count` messages, rounded up to the same number of whole cycles for each publisher."""
        traffic, audience = self.traffic, self._audience
        cycles = -(-count // (traffic.messages * len(audience.publishers)))
        times = cycles * len(audience.publishers)
        messages = times * traffic.messages
        if self._shared:
            expected, incoming = messages, self._meter.due(0, times)
        else:
            expected = sum(times * traffic.shares[each.place] for each in audience.subscribers.values())
            incoming = sum(self._meter.due(each.place, times) for each in audience.subscribers.values())
        self._faults = []
        self._meter.begin()
        for subscriber in audience.subscribers.values():
            subscriber.received = 0
        for descriptor, publisher in audience.publishers.items():
            publisher.sent = 0
            audience.poller.register(descriptor, select.EPOLLIN | select.EPOLLOUT)
        cpu = time.process_time()
        start = time.perf_counter()
        self._pump(cycles * len(traffic.cycle), incoming, inspect=inspect)
        elapsed = time.perf_counter() - start
        cpu = time.process_time() - cpu
        for descriptor in audience.publishers:
            audience.poller.unregister(descriptor)
        delivered = self._count_deliveries(times)
        return Outcome(messages, expected, delivered, elapsed, cpu, tuple(self._faults))

    def settle(self) -> None:
        """Let what is no part of a run arrive."""
        self._audience.settle()

    def _pump(self, outgoing: int, incoming: int, *, inspect: bool) -> None:
        """Send `outgoing` bytes from each publisher and read until `incoming` units are in, or nothing moves."""
        subscribers, buffer, poller = self._audience.subscribers, self._audience.buffer, self._audience.poller
        memory, count = self._audience.memory, self._meter.count
        received = 0
        while received < incoming and not self._faults:
            events = poller.poll(self.patience)
            if not events:
                self._faults.append(f"nothing moved for {self.patience:g} s")
            for descriptor, event in events:
                subscriber = subscribers.get(descriptor)
                if subscriber is None:
                    self._serve_publisher(descriptor, event, outgoing)
                    continue
                try:
                    size = subscriber.socket.recv_into(buffer)
                except OSError:
                    size = 0
                if not size:
                    self._faults.append(f"{subscriber.label} was disconnected by the broker")
                    break
                if inspect and not self._meter.inspect(
                    descriptor, subscriber.place, subscriber.received, bytes(buffer[:size])
                ):
                    self._faults.append(f"{subscriber.label} received bytes that were never sent")
                units = count(memory, size)
                subscriber.received += units
                received += units

    def _serve_publisher(self, descriptor: int, event: int, outgoing: int) -> None:
        """Write as much as fits now; drop what a broker answers to a publisher."""
        publisher = self._audience.publishers[descriptor]
        try:
            if event & ~select.EPOLLOUT and not publisher.socket.recv_into(self._audience.buffer):
                self._faults.append(f"{publisher.label} was disconnected by the broker")
                return
            if event & select.EPOLLOUT:
                begin = publisher.sent % len(self.traffic.cycle)
                size = min(BLOCK_SIZE, outgoing - publisher.sent)
                publisher.sent += publisher.socket.send(self._block[begin : begin + size])
        except OSError as error:
            self._faults.append(f"{publisher.label} broke: {error}")
            return
        if publisher.sent == outgoing:
            self._audience.poller.modify(descriptor, select.EPOLLIN)

    def _count_deliveries(self, times: int) -> int:
        """Return the messages that arrived of so many cycles, noting as faults what was cut short or missing."""
        meter, subscribers = self._meter, self._audience.subscribers.values()
        if not self._faults and (surplus := self._audience.find_surplus(SURPLUS_SECONDS, meter.count, meter.unit)):
            self._faults.append(surplus)
        if not self._faults and (fault := meter.find_fault(times)):
            self._faults.append(fault)
        if self._shared and self.traffic.messages > 1:
            # Who got which of them is not known, only how much there was in all.
            received, due = sum(each.received for each in subscribers), meter.due(0, times)
            if received != due:
                self._faults.append(f"the subscribers together got {received} of {due} {meter.unit}")
            return meter.messages(0, received)
        for subscriber in subscribers:
            due = meter.due(subscriber.place, times)
            if not self._shared and subscriber.received != due:
                self._faults.append(f"{subscriber.label} got {subscriber.received} of {due} {meter.unit}")
            if subscriber.received % meter.due(subscriber.place, 1):
                self._faults.append(f"{subscriber.label} ended inside a message, or a cycle of messages")
        return sum(meter.messages(each.place, each.received) for each in subscribers)
