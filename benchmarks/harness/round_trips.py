"""Round trips: peers that never write more than one message, so that nobody can batch.

This is what a broker pays for a wake-up, a read and a write, rather than for a message.
"""

import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from benchmarks.harness.audience import PROBE, QUIET_SECONDS, Waiting
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

LARGEST_MESSAGE = 1 << 14


@dataclass(slots=True)
class Peer:
    """A connection on a topic of its own, what it sends, and how much of its message has not come back yet."""

    socket: socket.socket
    label: str
    message: bytes
    echo: bytes
    missing: int = 0


class RoundTrips:
    """Peers that each publish one message to their own topic and wait for it, over and over."""

    def __init__(self, address: Address, wire: Wire, *, prefix: str, peers: int, size: int) -> None:
        """Keep what to do; nothing is connected yet."""
        if size > LARGEST_MESSAGE:
            message = f"round trips are for messages of at most {LARGEST_MESSAGE} bytes, which one write takes whole"
            raise LoadError(message)
        self._address = address
        self._wire = wire
        self._channels = [f"{prefix}{number}" for number in range(peers)]
        self._payload = b"X" * size
        self._buffer = memoryview(bytearray(BUFFER_SIZE))
        self._poller = select.epoll()
        self._peers: dict[int, Peer] = {}
        self._faults: list[str] = []

    def __enter__(self) -> Self:
        """Connect everybody; return when each has had a message of its own back, and it is quiet."""
        waiting = {}
        needed = {PROBE, self._wire.interjection} - {b""}
        try:
            for channel in self._channels:
                probe = self._wire.publication(channel, PROBE)
                sock = connect(self._address, self._wire.subscription(channel) + probe)
                message = self._wire.publication(channel, self._payload)
                echo = self._wire.echo(channel, self._payload)
                self._peers[sock.fileno()] = Peer(sock, f"peer on {channel}", message, echo)
                self._poller.register(sock.fileno(), select.EPOLLIN)
                waiting[sock.fileno()] = Waiting(set(needed))
            self._await(waiting)
        except BaseException:
            self._close()
            raise
        return self

    def _await(self, waiting: dict[int, Waiting]) -> None:
        """Read until nobody waits for its first message, and then what else arrives."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while events := self._poller.poll(PATIENCE_SECONDS if waiting else QUIET_SECONDS):
            for peer, size in self._receive(events):
                descriptor = peer.socket.fileno()
                if descriptor in waiting and waiting[descriptor].hear(bytes(self._buffer[:size])):
                    del waiting[descriptor]
            if self._faults or time.monotonic() > deadline:
                break
        if waiting or self._faults:
            message = f"{len(waiting)} peers got no message before the start; {'; '.join(self._faults)}"
            raise LoadError(message)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        self._close()

    def _close(self) -> None:
        """Let go of every descriptor."""
        self._poller.close()
        close_all(peer.socket for peer in self._peers.values())

    def run(self, count: int, *, inspect: bool) -> Outcome:
        """Make `count` trips in all; whoever's message is back starts the next one that is left."""
        self._faults = []
        cpu = time.process_time()
        start = time.perf_counter()
        done = self._make_trips(count, inspect=inspect)
        elapsed = time.perf_counter() - start
        cpu = time.process_time() - cpu
        if not self._faults and self._poller.poll(SURPLUS_SECONDS):
            self._faults.append("more came back than was sent, or a connection ended")
        return Outcome(count, count, done, elapsed, cpu, tuple(self._faults))

    def _make_trips(self, count: int, *, inspect: bool) -> int:
        """Return how many of `count` trips were completed."""
        peers, buffer = self._peers, self._buffer
        done = 0
        started = 0
        for peer in peers.values():
            peer.missing = 0
            if started < count and self._start(peer):
                started += 1
        while done < count and not self._faults:
            events = self._poller.poll(PATIENCE_SECONDS)
            if not events:
                self._faults.append(f"nothing moved for {PATIENCE_SECONDS:g} s")
            for peer, size in self._receive(events):
                if inspect and buffer[:size] != peer.echo[-peer.missing :][:size]:
                    self._faults.append(f"{peer.label} received bytes that were never sent")
                peer.missing -= size
                if peer.missing < 0:
                    self._faults.append(f"{peer.label} got {-peer.missing} bytes more than were due")
                elif peer.missing == 0:
                    done += 1
                    if started < count and self._start(peer):
                        started += 1
        return done

    def _start(self, peer: Peer) -> bool:
        """Send a peer's message and await it; report whether that worked."""
        try:
            sent = peer.socket.send(peer.message)
        except OSError as error:
            self._faults.append(f"{peer.label} broke: {error}")
            return False
        if sent < len(peer.message):
            self._faults.append(f"{peer.label} could send only {sent} of {len(peer.message)} bytes")
            return False
        peer.missing = len(peer.echo)
        return True

    def _receive(self, events: list[tuple[int, int]]) -> Iterator[tuple[Peer, int]]:
        """Read once from each peer that has something, into the one buffer; stop at the first fault."""
        for descriptor, _ in events:
            peer = self._peers[descriptor]
            try:
                size = peer.socket.recv_into(self._buffer)
            except OSError:
                size = 0
            if not size:
                self._faults.append(f"{peer.label} was disconnected by the broker")
                return
            yield peer, size
