"""The flood: publishers that write as fast as the broker reads.

The broker is handed slices of one block of repeated messages, and what comes back is counted in bytes. Afterwards the
flood says exactly what was missing, what came too much, and which connection broke.
"""

import select
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from benchmarks.harness.audience import Audience, Subscriber
from benchmarks.harness.brokers import Address
from benchmarks.harness.load import PATIENCE_SECONDS, SURPLUS_SECONDS, LoadError, Outcome
from benchmarks.harness.traffic import Traffic
from benchmarks.harness.wire import Wire

# Small against what one read can take. With writes of 512 KiB and reads of 256 KiB, load and broker were seen to fall
# into step, each asleep for more than half of the time while waiting for the other, at half the rate.
BLOCK_SIZE = 1 << 17
SILENT_PREFIX = "/topic/silent/"


class Flood:
    """Publishers that write as fast as the broker reads, and subscribers that count what arrives.

    On a topic every subscriber is due every message of its channel. With `shared`, the channel is a queue and all
    subscribers together are due each message once. `idle` more connections are each subscribed to a topic of their
    own, on which nothing is said.
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
        idle: int = 0,
    ) -> None:
        """Encode what will be sent and what should come back; nothing is connected yet."""
        traffic = make_traffic(wire)
        if publishers > 1 and traffic.messages > 1:
            message = "what several publishers send cannot be told apart, so they all have to send the same message"
            raise LoadError(message)
        if shared and not wire.has_queues:
            message = "the protocol has no queues"
            raise LoadError(message)
        self._traffic = traffic
        self._shared = shared
        # A full block can be taken from wherever in the cycle it must begin.
        self._block = memoryview(traffic.cycle * (1 + -(-BLOCK_SIZE // len(traffic.cycle))))
        self._audience = Audience(address, wire, traffic.channels, subscribers=subscribers, publishers=publishers)
        silent = [f"{SILENT_PREFIX}{number}" for number in range(idle)]
        self._bystanders = Audience(address, wire, silent, subscribers=1, publishers=1) if idle else None
        self._stack = ExitStack()
        self._faults: list[str] = []

    def __enter__(self) -> Self:
        """Connect everybody, the idle first."""
        with ExitStack() as stack:
            if self._bystanders is not None:
                stack.enter_context(self._bystanders)
            stack.enter_context(self._audience)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        self._stack.close()

    def run(self, count: int, *, inspect: bool) -> Outcome:
        """Flood with `count` messages, rounded up to the same number of whole cycles for each publisher."""
        traffic, audience = self._traffic, self._audience
        cycles = -(-count // (traffic.messages * len(audience.publishers)))
        messages = cycles * traffic.messages * len(audience.publishers)
        if self._shared:
            expected, incoming = messages, messages * len(traffic.deliveries[0])
        else:
            due = [cycles * len(audience.publishers) * share for share in traffic.shares]
            expected = sum(due[each.place] for each in audience.subscribers.values())
            incoming = sum(self._due_bytes(each, messages) for each in audience.subscribers.values())
        self._faults = []
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
        delivered = self._count_deliveries(messages)
        return Outcome(messages, expected, delivered, elapsed, cpu, tuple(self._faults))

    def _due_bytes(self, subscriber: Subscriber, messages: int) -> int:
        """Return the bytes a subscriber of a topic is due for so many messages, which are whole cycles."""
        return messages // self._traffic.messages * len(self._traffic.deliveries[subscriber.place])

    def _pump(self, outgoing: int, incoming: int, *, inspect: bool) -> None:
        """Send `outgoing` bytes from each publisher and read until `incoming` bytes are in, or nothing moves."""
        subscribers, buffer, poller = self._audience.subscribers, self._audience.buffer, self._audience.poller
        received = 0
        while received < incoming and not self._faults:
            events = poller.poll(PATIENCE_SECONDS)
            if not events:
                self._faults.append(f"nothing moved for {PATIENCE_SECONDS:g} s")
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
                if inspect:
                    self._compare(subscriber, size)
                subscriber.received += size
                received += size

    def _serve_publisher(self, descriptor: int, event: int, outgoing: int) -> None:
        """Write as much as fits now; drop what a broker answers to a publisher."""
        publisher = self._audience.publishers[descriptor]
        try:
            if event & ~select.EPOLLOUT and not publisher.socket.recv_into(self._audience.buffer):
                self._faults.append(f"{publisher.label} was disconnected by the broker")
                return
            if event & select.EPOLLOUT:
                begin = publisher.sent % len(self._traffic.cycle)
                size = min(BLOCK_SIZE, outgoing - publisher.sent)
                publisher.sent += publisher.socket.send(self._block[begin : begin + size])
        except OSError as error:
            self._faults.append(f"{publisher.label} broke: {error}")
            return
        if publisher.sent == outgoing:
            self._audience.poller.modify(descriptor, select.EPOLLIN)

    def _compare(self, subscriber: Subscriber, size: int) -> None:
        """Note a fault where the bytes just received are not those of the channel's deliveries repeated."""
        pattern = self._traffic.deliveries[subscriber.place]
        begin = subscriber.received % len(pattern)
        repeated = memoryview(pattern * -(-(begin + size) // len(pattern)))
        if bytes(self._audience.buffer[:size]) != repeated[begin : begin + size]:
            self._faults.append(f"{subscriber.label} received bytes that were never sent")

    def _count_deliveries(self, messages: int) -> int:
        """Return the messages that arrived, in whole cycles, noting as faults what was cut short or missing."""
        if not self._faults and (surplus := self._audience.find_surplus(SURPLUS_SECONDS)):
            self._faults.append(surplus)
        delivered = 0
        for subscriber in self._audience.subscribers.values():
            unit = len(self._traffic.deliveries[subscriber.place])
            share = self._traffic.shares[subscriber.place]
            delivered += subscriber.received // unit * share
            if subscriber.received % unit:
                self._faults.append(f"{subscriber.label} ended inside a message, or a cycle of messages")
            due = self._due_bytes(subscriber, messages)
            if not self._shared and subscriber.received != due:
                self._faults.append(f"{subscriber.label} got {subscriber.received} of {due} bytes")
        return delivered
