"""What every load has in common: how it is run, what it reports, and how it connects.

A load is one loop over non-blocking sockets and epoll, for one connection as well as for hundreds. It reads into one
large buffer that is used again and again and sends what was encoded beforehand, so that nothing is allocated for a
message and the load costs the same for every broker. Linux only: epoll itself costs about half of what `selectors`
costs for an event.
"""

import resource
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from benchmarks.harness.brokers import Address
from benchmarks.harness.wire import Wire

BUFFER_SIZE = 1 << 20
PATIENCE_SECONDS = 10.0
SURPLUS_SECONDS = 0.05


class LoadError(Exception):
    """The broker could not be put under load at all."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of a load sent, got back and took."""

    messages: int
    expected: int
    delivered: int
    elapsed: float
    load_cpu: float
    faults: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether exactly what was due arrived; only then does a rate mean anything."""
        return not self.faults and self.delivered == self.expected


class Load(Protocol):
    """Work for a broker that can be run any number of times over the same connections."""

    def __enter__(self) -> Self:
        """Connect, and return once every subscription is known to be in place."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        ...

    def run(self, count: int, *, inspect: bool) -> Outcome:
        """Have at least `count` messages delivered; `inspect` also compares every byte that comes back."""
        ...


LoadFactory = Callable[[Address, Wire], Load]


def connect(address: Address, greeting: bytes) -> socket.socket:
    """Connect, send the protocol's beginning, and switch to non-blocking."""
    try:
        sock = socket.create_connection(address, PATIENCE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(greeting)
    except OSError as error:
        message = f"cannot connect to {address[0]}:{address[1]}: {error}"
        raise LoadError(message) from error
    sock.setblocking(False)
    return sock


def allow_descriptors() -> None:
    """Raise the limit of open files as far as allowed, here and in the broker, which inherits it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def close_all(sockets: Iterable[socket.socket]) -> None:
    """Close every connection of a load."""
    for sock in sockets:
        sock.close()
