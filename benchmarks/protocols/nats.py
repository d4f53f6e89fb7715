"""The text protocol of NATS: https://docs.nats.io/reference/reference-protocols/nats-protocol.

A client need not wait for the server's INFO before its CONNECT. With `verbose` off the server answers nothing but
errors. A channel's name is used as a subject of one token; a queue is a subject whose subscribers share a queue group.
"""

from benchmarks.harness.wire import QUEUE_PREFIX

CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"protocol":1,"lang":"python","version":"0"}\r\n'
GROUP = "workers"
SUBSCRIPTION = "1"


class Nats:
    """CONNECT, SUB, PUB and MSG."""

    name = "NATS"
    has_queues = True
    # About two seconds after a client connected the server measures its round trip, whatever its ping_interval is.
    interjection = b"PING\r\n"
    terminator = b""

    def subscription(self, channel: str) -> bytes:
        """Connect and subscribe, to a queue as one of a group."""
        group = f" {GROUP}" if channel.startswith(QUEUE_PREFIX) else ""
        return CONNECT + f"SUB {channel}{group} {SUBSCRIPTION}\r\n".encode()

    def publisher_greeting(self) -> bytes:
        """Connect."""
        return CONNECT

    def publication(self, channel: str, payload: bytes) -> bytes:
        """Send subject and length in a line, then the payload."""
        return f"PUB {channel} {len(payload)}\r\n".encode() + payload + b"\r\n"

    def delivery(self, channel: str, payload: bytes) -> bytes:
        """Receive subject, subscription and length in a line, then the payload."""
        return f"MSG {channel} {SUBSCRIPTION} {len(payload)}\r\n".encode() + payload + b"\r\n"

    def echo(self, channel: str, payload: bytes) -> bytes:
        """Receive a delivery like any other: echo is on unless CONNECT turns it off."""
        return self.delivery(channel, payload)


NATS = Nats()
