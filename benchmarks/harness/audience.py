"""Connected subscribers and publishers, of whom every one has proved that messages get through to it.

A clock that starts before the last subscription is in place measures less work than was asked for, and what a server
says of its own accord after connecting must not be counted as deliveries. So a publisher sends a small message to each
channel, at growing intervals, until every subscriber has had one; then the wait for quiet begins.
"""

import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from benchmarks.harness.brokers import Address
from benchmarks.harness.load import BUFFER_SIZE, PATIENCE_SECONDS, LoadError, close_all, connect
from benchmarks.harness.wire import Wire

PROBE = b"probe-b1f7"
PROBE_SECONDS = 0.02
LARGEST_PROBE_SECONDS = 0.1
PROBE_SECONDS_EACH = 0.001  # so that probing many leaves the broker time to accept them
QUIET_SECONDS = 0.15
TAIL_SIZE = 64
# Fewer than a listening socket queues: connecting goes on only when the broker has accepted these.
CONNECTING_AT_ONCE = 500


@dataclass(slots=True)
class Subscriber:
    """A receiving connection, the place of its channel, and the bytes it has received in this run."""

    socket: socket.socket
    label: str
    place: int
    received: int = 0


@dataclass(slots=True)
class Publisher:
    """A sending connection and the bytes it has sent in this run."""

    socket: socket.socket
    label: str
    sent: int = 0


@dataclass(slots=True)
class Waiting:
    """What a subscriber has yet to hear before the clock may start, and the end of what it has heard."""

    pending: set[bytes]
    tail: bytes = field(default=b"")

    def hear(self, chunk: bytes) -> bool:
        """Take in some bytes; return whether nothing is pending any more."""
        heard = self.tail + chunk
        self.pending = {each for each in self.pending if each not in heard}
        self.tail = heard[-TAIL_SIZE:]
        return not self.pending


class Audience:
    """Subscribers of some channels, so many of each, and publishers."""

    def __init__(
        self, address: Address, wire: Wire, channels: Sequence[str], *, subscribers: int, publishers: int
    ) -> None:
        """Keep whom to connect; nothing is connected yet."""
        self._address = address
        self._wire = wire
        self._channels = channels
        self._counts = subscribers, publishers
        self.subscribers: dict[int, Subscriber] = {}
        self.publishers: dict[int, Publisher] = {}
        self._waiting: dict[int, Waiting] = {}
        self.poller = select.epoll()
        self.memory = bytearray(BUFFER_SIZE)
        self.buffer = memoryview(self.memory)

    def __enter__(self) -> Self:
        """Connect everybody and probe until every subscription is in place."""
        subscribers, publishers = self._counts
        try:
            for number in range(publishers):
                sock = connect(self._address, self._wire.publisher_greeting())
                self.publishers[sock.fileno()] = Publisher(sock, f"publisher {number}")
            for begin in range(0, subscribers * len(self._channels), CONNECTING_AT_ONCE):
                self._connect_some(begin, min(begin + CONNECTING_AT_ONCE, subscribers * len(self._channels)))
            self._await(self._wire.interjection, set(self._waiting))
            self.settle()
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
        self.poller.close()
        close_all(subscriber.socket for subscriber in self.subscribers.values())
        close_all(publisher.socket for publisher in self.publishers.values())

    def _connect_some(self, begin: int, end: int) -> None:
        """Connect the subscribers with these numbers and wait until a message has come through to each."""
        fresh = set()
        for number in range(begin, end):
            place = number % len(self._channels)
            sock = connect(self._address, self._wire.subscription(self._channels[place]))
            self.subscribers[sock.fileno()] = Subscriber(sock, f"subscriber {number}", place)
            self.poller.register(sock.fileno(), select.EPOLLIN)
            self._waiting[sock.fileno()] = Waiting({PROBE, self._wire.interjection} - {b""})
            fresh.add(sock.fileno())
        self._await(PROBE, fresh)

    def _await(self, text: bytes, missing: set[int]) -> None:
        """Wait until each of these subscribers has heard the text; if it is the small message, publish it meanwhile."""
        interval = PROBE_SECONDS
        deadline = time.monotonic() + PATIENCE_SECONDS
        while missing:
            if time.monotonic() > deadline:
                message = f"{len(missing)} of {len(self.subscribers)} subscribers did not get {text!r} before the start"
                raise LoadError(message)
            if text == PROBE:
                self._send_probes({self.subscribers[each].place for each in missing})
            next_probe = time.monotonic() + interval
            interval = min(2 * interval, max(LARGEST_PROBE_SECONDS, len(missing) * PROBE_SECONDS_EACH))
            while missing and (pause := next_probe - time.monotonic()) > 0:
                for descriptor, chunk in self.receive_idle(pause):
                    waiting = self._waiting.get(descriptor)
                    if waiting is None:
                        continue
                    if waiting.hear(chunk):
                        del self._waiting[descriptor]
                    if text not in waiting.pending and descriptor in missing:
                        missing.discard(descriptor)
                        deadline = time.monotonic() + PATIENCE_SECONDS

    def _send_probes(self, places: set[int]) -> None:
        """Publish the small message to these channels."""
        probing = next(iter(self.publishers.values())).socket
        probes = b"".join(self._wire.publication(self._channels[place], PROBE) for place in sorted(places))
        try:
            probing.settimeout(PATIENCE_SECONDS)
            probing.sendall(probes)
            probing.setblocking(False)
        except OSError as error:
            message = f"the publisher broke before the start: {error}"
            raise LoadError(message) from error

    def receive_idle(self, seconds: float) -> list[tuple[int, bytes]]:
        """Return what arrives while the clock is stopped, or nothing when it stays quiet that long."""
        chunks = []
        for descriptor, _ in self.poller.poll(seconds):
            subscriber = self.subscribers[descriptor]
            try:
                size = subscriber.socket.recv_into(self.buffer)
            except OSError:
                size = 0
            if not size:
                message = f"{subscriber.label} was disconnected by the broker while nothing was measured"
                raise LoadError(message)
            chunks.append((descriptor, bytes(self.buffer[:size])))
        return chunks

    def settle(self) -> None:
        """Wait until nothing has arrived for a while."""
        while self.receive_idle(QUIET_SECONDS):
            pass

    def find_surplus(
        self, seconds: float, count: Callable[[bytes, int], int] = lambda _, size: size, unit: str = "bytes"
    ) -> str | None:
        """Return what is wrong if something that counts still arrives after everything that was due."""
        try:
            surplus = sum(count(chunk, len(chunk)) for _, chunk in self.receive_idle(seconds))
        except LoadError as error:
            return str(error)
        return f"{surplus} {unit} more than were due" if surplus else None
