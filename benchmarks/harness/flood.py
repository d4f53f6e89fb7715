"""The flood: publishers that write as fast as the broker reads, on one topic or one queue.

The broker is handed slices of one block of repeated messages, and what comes back is counted in bytes. The clock starts
only when every subscription has proved to be in place. Afterwards the flood says exactly what was missing, what came
too much, and which connection broke.
"""

import select
import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from benchmarks.harness.brokers import Address
from benchmarks.harness.load import (
    BUFFER_SIZE,
    PATIENCE_SECONDS,
    SURPLUS_SECONDS,
    LoadError,
    Outcome,
    close_all,
    connect,
)
from benchmarks.harness.wire import Wire

# Small against what one read can take. With writes of 512 KiB and reads of 256 KiB, load and broker were seen to fall
# into step, each asleep for more than half of the time while waiting for the other, at half the rate.
BLOCK_SIZE = 1 << 17
PROBE = b"probe-b1f7"
PROBE_SECONDS = 0.02
QUIET_SECONDS = 0.15


@dataclass(slots=True)
class Subscriber:
    """A receiving connection and the bytes it has received in this run."""

    socket: socket.socket
    label: str
    received: int = 0


@dataclass(slots=True)
class Publisher:
    """A sending connection and the bytes it has sent in this run."""

    socket: socket.socket
    label: str
    sent: int = 0


class Flood:
    """Publishers that write as fast as the broker reads, and subscribers that count what arrives.

    On a topic every subscriber is due every message. With `shared`, the channel is a queue and all subscribers together
    are due each message once.
    """

    def __init__(
        self, address: Address, wire: Wire, *, channel: str, publishers: int, subscribers: int, size: int, shared: bool
    ) -> None:
        """Encode what will be sent and what should come back; nothing is connected yet."""
        payload = b"X" * size
        self._address = address
        self._shared = shared
        self._counts = publishers, subscribers
        self._greeting = wire.publisher_greeting()
        self._subscription = wire.subscription(channel)
        self._message = wire.publication(channel, payload)
        self._delivery = wire.delivery(channel, payload)
        self._probe = wire.publication(channel, PROBE)
        # One message more than a block, so that a full block can be taken from wherever in a message it must begin.
        self._block = memoryview(self._message * (BLOCK_SIZE // len(self._message) + 2))
        self._pattern = memoryview(self._delivery * (BUFFER_SIZE // len(self._delivery) + 2))
        self._buffer = memoryview(bytearray(BUFFER_SIZE))
        self._subscribers: dict[int, Subscriber] = {}
        self._publishers: dict[int, Publisher] = {}
        self._poller = select.epoll()
        self._faults: list[str] = []

    def __enter__(self) -> Self:
        """Connect everybody and probe until every subscription is in place."""
        publishers, subscribers = self._counts
        try:
            for number in range(subscribers):
                sock = connect(self._address, self._subscription)
                self._subscribers[sock.fileno()] = Subscriber(sock, f"subscriber {number}")
                self._poller.register(sock.fileno(), select.EPOLLIN)
            for number in range(publishers):
                sock = connect(self._address, self._greeting)
                self._publishers[sock.fileno()] = Publisher(sock, f"publisher {number}")
            self._await_subscriptions()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        self._close()

    def _close(self) -> None:
        """Let go of every descriptor."""
        self._poller.close()
        close_all(subscriber.socket for subscriber in self._subscribers.values())
        close_all(publisher.socket for publisher in self._publishers.values())

    def _await_subscriptions(self) -> None:
        """Publish a small message at an interval until every subscriber has had one, then let the rest arrive.

        Neither subscribing nor publishing is acknowledged in the framed protocol, and a message sent before the
        subscription vanishes: only a message that has come through tells that the way is open.
        """
        probing = next(iter(self._publishers.values())).socket
        waiting = dict.fromkeys(self._subscribers, b"")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while waiting:
            if time.monotonic() > deadline:
                message = f"{len(waiting)} of {len(self._subscribers)} subscribers got no message before the flood"
                raise LoadError(message)
            self._send_probe(probing)
            next_probe = time.monotonic() + PROBE_SECONDS
            while waiting and (pause := next_probe - time.monotonic()) > 0:
                for descriptor, chunk in self._receive_idle(pause):
                    if descriptor in waiting:
                        waiting[descriptor] += chunk
                        if PROBE in waiting[descriptor]:
                            del waiting[descriptor]
        while self._receive_idle(QUIET_SECONDS):
            pass

    def _send_probe(self, sock: socket.socket) -> None:
        """Send the small message that announces that the way is open."""
        try:
            sock.send(self._probe)
        except OSError as error:
            message = f"the publisher broke before the flood: {error}"
            raise LoadError(message) from error

    def _receive_idle(self, seconds: float) -> list[tuple[int, bytes]]:
        """Return what arrives while the clock is stopped, or nothing when it stays quiet that long."""
        chunks = []
        for descriptor, _ in self._poller.poll(seconds):
            subscriber = self._subscribers[descriptor]
            try:
                size = subscriber.socket.recv_into(self._buffer)
            except OSError:
                size = 0
            if not size:
                message = f"{subscriber.label} was disconnected by the broker while no flood ran"
                raise LoadError(message)
            chunks.append((descriptor, bytes(self._buffer[:size])))
        return chunks

    def run(self, count: int, *, inspect: bool) -> Outcome:
        """Flood with `count` messages, rounded up to the same number for each publisher."""
        share = -(-count // len(self._publishers))
        messages = share * len(self._publishers)
        expected = messages if self._shared else messages * len(self._subscribers)
        self._faults = []
        for subscriber in self._subscribers.values():
            subscriber.received = 0
        for descriptor, publisher in self._publishers.items():
            publisher.sent = 0
            self._poller.register(descriptor, select.EPOLLIN | select.EPOLLOUT)
        cpu = time.process_time()
        start = time.perf_counter()
        self._pump(share * len(self._message), expected * len(self._delivery), inspect=inspect)
        elapsed = time.perf_counter() - start
        cpu = time.process_time() - cpu
        for descriptor in self._publishers:
            self._poller.unregister(descriptor)
        delivered = self._count_deliveries(messages)
        return Outcome(messages, expected, delivered, elapsed, cpu, tuple(self._faults))

    def _pump(self, outgoing: int, incoming: int, *, inspect: bool) -> None:
        """Send `outgoing` bytes from each publisher and read until `incoming` bytes are in, or nothing moves."""
        subscribers, buffer = self._subscribers, self._buffer
        received = 0
        while received < incoming and not self._faults:
            events = self._poller.poll(PATIENCE_SECONDS)
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
        publisher = self._publishers[descriptor]
        try:
            if event & ~select.EPOLLOUT and not publisher.socket.recv_into(self._buffer):
                self._faults.append(f"{publisher.label} was disconnected by the broker")
                return
            if event & select.EPOLLOUT:
                begin = publisher.sent % len(self._message)
                size = min(BLOCK_SIZE, outgoing - publisher.sent)
                publisher.sent += publisher.socket.send(self._block[begin : begin + size])
        except OSError as error:
            self._faults.append(f"{publisher.label} broke: {error}")
            return
        if publisher.sent == outgoing:
            self._poller.modify(descriptor, select.EPOLLIN)

    def _compare(self, subscriber: Subscriber, size: int) -> None:
        """Note a fault where the bytes just received are not those of the message repeated."""
        begin = subscriber.received % len(self._delivery)
        if bytes(self._buffer[:size]) != bytes(self._pattern[begin : begin + size]):
            self._faults.append(f"{subscriber.label} received bytes that were never sent")

    def _note_surplus(self) -> None:
        """Note a fault where something still arrives after everything that was due."""
        try:
            surplus = sum(len(chunk) for _, chunk in self._receive_idle(SURPLUS_SECONDS))
        except LoadError as error:
            self._faults.append(str(error))
            return
        if surplus:
            self._faults.append(f"{surplus} bytes more than were due")

    def _count_deliveries(self, messages: int) -> int:
        """Return the whole messages that arrived, noting as faults what was cut short or missing."""
        if not self._faults:
            self._note_surplus()
        unit = len(self._delivery)
        for subscriber in self._subscribers.values():
            if subscriber.received % unit:
                self._faults.append(f"{subscriber.label} ended inside a message")
            if not self._shared and subscriber.received != messages * unit:
                self._faults.append(f"{subscriber.label} got {subscriber.received // unit} of {messages}")
        return sum(subscriber.received // unit for subscriber in self._subscribers.values())
