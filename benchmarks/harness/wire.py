"""What a protocol puts on the wire, encoded once before the clock starts.

A load needs no more of a protocol than the bytes of a few things. It sends the same publications over and over and
knows the bytes each delivery comes back as, so that during a measurement it counts bytes and parses nothing: it costs
the same for every broker. Other protocols than the framed one are in `benchmarks/protocols`.
"""

from typing import Protocol

QUEUE_PREFIX = "/queue"


class Wire(Protocol):
    """The byte strings a load is made of, in one protocol.

    `name` is the protocol's. A channel whose name starts with `/queue` is a queue; where the protocol has none,
    `has_queues` says so. `terminator` is one byte that ends each delivery and is nowhere else in it, and it is empty
    where the length of a delivery is known beforehand: where it is not, such bytes are counted.
    `interjection` is what the server sends each client of its own accord, once, some time after it connected; counting
    must not begin before. It is empty where there is none.
    """

    name: str
    has_queues: bool
    interjection: bytes
    terminator: bytes

    def subscription(self, channel: str) -> bytes:
        """Return what a fresh connection sends to subscribe to a channel; afterwards it may publish as well."""
        ...

    def publisher_greeting(self) -> bytes:
        """Return what a fresh connection sends before it only publishes."""
        ...

    def publication(self, channel: str, payload: bytes) -> bytes:
        """Return what publishes one message."""
        ...

    def delivery(self, channel: str, payload: bytes) -> bytes:
        """Return what a subscriber receives for one message; with a terminator, the body and that."""
        ...

    def echo(self, channel: str, payload: bytes) -> bytes:
        """Return what a subscriber receives for one message that it published itself."""
        ...


class Framed:
    """The seed's protocol: a 4-byte big-endian length and a body; channel and payload are a frame each."""

    name = "framed"
    has_queues = True
    interjection = b""
    terminator = b""

    def subscription(self, channel: str) -> bytes:
        """Name the channel in the first frame."""
        return _frame(channel.encode())

    def publisher_greeting(self) -> bytes:
        """Subscribe to the channel nobody is ever sent anything on."""
        return self.subscription("/null")

    def publication(self, channel: str, payload: bytes) -> bytes:
        """Send the channel's frame, then the payload's."""
        return _frame(channel.encode()) + _frame(payload)

    def delivery(self, channel: str, payload: bytes) -> bytes:
        """Receive the payload's frame."""
        return _frame(payload)

    def echo(self, channel: str, payload: bytes) -> bytes:
        """Receive a delivery like any other."""
        return self.delivery(channel, payload)


def _frame(body: bytes) -> bytes:
    """Return a body with its length before it."""
    return len(body).to_bytes(4, "big") + body


FRAMED = Framed()
