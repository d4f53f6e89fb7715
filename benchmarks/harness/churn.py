"""Churn: connections that live for one message, as many at a time as would be typical of a reconnecting crowd.

Each connects, subscribes to a topic of its own, publishes one message to it and is closed when that has come back: the
whole life of a subscription, proved to have worked. The load reads for the message's text in what arrives, in the same
way for every protocol.
"""

import select
import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from benchmarks.harness.audience import PROBE, Waiting
from benchmarks.harness.brokers import Address
from benchmarks.harness.load import PATIENCE_SECONDS, Outcome
from benchmarks.harness.shapes import TOPIC
from benchmarks.harness.wire import Wire

AT_ONCE = 16
# Enough that a channel's last visitor has gone before the next one comes.
CHANNELS = 1024
READ_SIZE = 1 << 12


@dataclass(slots=True)
class Visitor:
    """A connection on its way: what it has to say once connected, and what it waits for."""

    socket: socket.socket
    greeting: bytes
    waiting: Waiting


class Churn:
    """Visitors, some at a time, each followed by the next as soon as it is done."""

    def __init__(self, address: Address, wire: Wire) -> None:
        """Encode what visitors of each channel say."""
        channels = [f"{TOPIC}/{number}" for number in range(CHANNELS)]
        self._address = address
        self._greetings = [wire.subscription(channel) + wire.publication(channel, PROBE) for channel in channels]
        self._visitors: dict[int, Visitor] = {}
        self._poller = select.epoll()
        self._faults: list[str] = []

    def __enter__(self) -> Self:
        """Nothing is connected outside of a run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what a broken run left."""
        self._close_visitors()
        self._poller.close()

    def _close_visitors(self) -> None:
        """Close every connection."""
        for visitor in self._visitors.values():
            visitor.socket.close()
        self._visitors.clear()

    def run(self, count: int, *, inspect: bool) -> Outcome:
        """Let `count` visitors come and go; each is inspected anyway."""
        del inspect
        self._faults = []
        cpu = time.process_time()
        start = time.perf_counter()
        done = self._admit_all(count)
        elapsed = time.perf_counter() - start
        cpu = time.process_time() - cpu
        self._close_visitors()
        return Outcome(count, count, done, elapsed, cpu, tuple(self._faults))

    def _admit_all(self, count: int) -> int:
        """Return how many of `count` had their message back."""
        done = started = 0
        while done < count and not self._faults:
            while started < count and len(self._visitors) < AT_ONCE and not self._faults:
                self._admit(self._greetings[started % CHANNELS])
                started += 1
            events = self._poller.poll(PATIENCE_SECONDS)
            if not events:
                self._faults.append(f"nothing moved for {PATIENCE_SECONDS:g} s")
            for descriptor, event in events:
                if self._serve(descriptor, event):
                    self._visitors.pop(descriptor).socket.close()
                    done += 1
        return done

    def _admit(self, greeting: bytes) -> None:
        """Begin to connect."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect(self._address)
        except BlockingIOError:
            pass
        except OSError as error:
            self._faults.append(f"could not connect: {error}")
        self._visitors[sock.fileno()] = Visitor(sock, greeting, Waiting({PROBE}))
        self._poller.register(sock.fileno(), select.EPOLLOUT)

    def _serve(self, descriptor: int, event: int) -> bool:
        """Speak once connected, then listen; return whether the message is back."""
        visitor = self._visitors[descriptor]
        try:
            if event & select.EPOLLOUT:
                visitor.socket.send(visitor.greeting)
                self._poller.modify(descriptor, select.EPOLLIN)
                return False
            chunk = visitor.socket.recv(READ_SIZE)
        except OSError as error:
            self._faults.append(f"a connection broke: {error}")
            return False
        if not chunk:
            self._faults.append("a connection was ended by the broker")
            return False
        return visitor.waiting.hear(chunk)
