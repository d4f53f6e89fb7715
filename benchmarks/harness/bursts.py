"""Bursts: a few messages to one channel at a time, the next when these have come back.

Whatever the number of channels or of connections is, the broker reads one burst, has one batch to deliver and makes one
write of it. So what a delivery costs over their number is compared at one shape of batch; in a flood, messages to one
channel gather in batches of a thousand, and those to a thousand channels cannot.
"""

import random
import select
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from benchmarks.harness.audience import Audience
from benchmarks.harness.brokers import Address
from benchmarks.harness.load import PATIENCE_SECONDS, SURPLUS_SECONDS, Outcome
from benchmarks.harness.traffic import SEED
from benchmarks.harness.wire import Wire

SILENT_PREFIX = "/topic/silent/"


class Bursts:
    """Senders and topics in turn: each burst is from the next sender, to the next topic, which has one subscriber.

    Each sender is a subscriber, too, of a topic of its own on which nothing is said.
    """

    def __init__(
        self, address: Address, wire: Wire, *, prefix: str, channels: int, senders: int, size: int, burst: int
    ) -> None:
        """Encode a burst to each channel; nothing is connected yet."""
        names = [f"{prefix}/{number}" for number in range(channels)]
        source = random.Random(SEED)
        payloads = [source.randbytes(size) for _ in range(burst)]
        self._burst = burst
        self._sent = [b"".join(wire.publication(name, payload) for payload in payloads) for name in names]
        self._due = [b"".join(wire.delivery(name, payload) for payload in payloads) for name in names]
        self._audience = Audience(address, wire, names, subscribers=1, publishers=1)
        silent = [f"{SILENT_PREFIX}{number}" for number in range(senders)]
        self._senders = Audience(address, wire, silent, subscribers=1, publishers=1)
        self._stack = ExitStack()
        self._faults: list[str] = []

    def __enter__(self) -> Self:
        """Connect everybody, the senders first."""
        with ExitStack() as stack:
            stack.enter_context(self._senders)
            stack.enter_context(self._audience)
            for descriptor in self._senders.subscribers:
                self._audience.poller.register(descriptor, select.EPOLLIN)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        self._stack.close()

    def run(self, count: int, *, inspect: bool) -> Outcome:
        """Send at least `count` messages: whole bursts, and so many that every sender and every topic has its turn."""
        senders = list(self._senders.subscribers)
        listeners = sorted(self._audience.subscribers, key=lambda each: self._audience.subscribers[each].place)
        around = max(len(senders), len(listeners))
        bursts = -(-count // (self._burst * around)) * around
        self._faults = []
        done = 0
        cpu = time.process_time()
        start = time.perf_counter()
        while done < bursts and not self._faults:
            place = done % len(listeners)
            self._exchange(senders[done % len(senders)], listeners[place], place, inspect=inspect)
            done += not self._faults
        elapsed = time.perf_counter() - start
        cpu = time.process_time() - cpu
        for descriptor in senders:
            self._audience.poller.unregister(descriptor)
        if not self._faults and (surplus := self._audience.find_surplus(SURPLUS_SECONDS)):
            self._faults.append(surplus)
        for descriptor in senders:
            self._audience.poller.register(descriptor, select.EPOLLIN)
        messages = bursts * self._burst
        return Outcome(messages, messages, done * self._burst, elapsed, cpu, tuple(self._faults))

    def _exchange(self, sender: int, listener: int, place: int, *, inspect: bool) -> None:
        """Send a burst and read until it is back, noting as a fault whatever else happens."""
        subscriber, due = self._audience.subscribers[listener], self._due[place]
        label = subscriber.label
        subscriber.received = 0
        try:
            if self._senders.subscribers[sender].socket.send(self._sent[place]) < len(self._sent[place]):
                self._faults.append(f"a sender could not write a burst of {len(self._sent[place])} bytes at once")
            while subscriber.received < len(due) and not self._faults:
                events = self._audience.poller.poll(PATIENCE_SECONDS)
                if not events:
                    self._faults.append(f"nothing moved for {PATIENCE_SECONDS:g} s")
                for descriptor, _ in events:
                    if descriptor == listener:
                        self._read(listener, due, inspect=inspect)
                    elif descriptor not in self._senders.subscribers:
                        self._faults.append(f"somebody received what was due to {label}")
                    elif not self._senders.subscribers[descriptor].socket.recv_into(self._audience.buffer):
                        self._faults.append("a sender was disconnected by the broker")
        except OSError as error:
            self._faults.append(f"a connection broke: {error}")

    def _read(self, listener: int, due: bytes, *, inspect: bool) -> None:
        """Read once, and compare with what is due."""
        subscriber, buffer = self._audience.subscribers[listener], self._audience.buffer
        size = subscriber.socket.recv_into(buffer)
        end = subscriber.received + size
        if not size:
            self._faults.append(f"{subscriber.label} was disconnected by the broker")
        elif end > len(due):
            self._faults.append(f"{subscriber.label} got {end} of {len(due)} bytes")
        elif inspect and bytes(buffer[:size]) != due[subscriber.received : end]:
            self._faults.append(f"{subscriber.label} received bytes that were never sent")
        subscriber.received = end
