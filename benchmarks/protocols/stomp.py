"""STOMP 1.2: https://stomp.github.io/stomp-specification-1.2.html.

A client need not wait for CONNECTED. Without a `heart-beat` header there are none, and without `ack` a delivery counts
as taken when it was sent. A MESSAGE has headers that the server chooses, among them a number that grows by a digit now
and then, so a delivery is known by its body and by the NUL that ends it, and payloads have none.
"""

NUL = b"\0"


class Stomp:
    """CONNECT, SUBSCRIBE and SEND."""

    name = "STOMP"
    has_queues = True
    interjection = b""
    terminator = NUL

    def subscription(self, channel: str) -> bytes:
        """Connect and subscribe, with messages acknowledged automatically."""
        return self.publisher_greeting() + _frame("SUBSCRIBE", "id:0", f"destination:{channel}", "ack:auto")

    def publisher_greeting(self) -> bytes:
        """Connect to the host that RabbitMQ has from the start; others take any."""
        return _frame("CONNECT", "accept-version:1.2", "host:/")

    def publication(self, channel: str, payload: bytes) -> bytes:
        """Send destination, length and body; raise `ValueError` for a body with a NUL, which could not be counted."""
        return _frame("SEND", f"destination:{channel}", f"content-length:{len(payload)}", body=_checked(payload))

    def delivery(self, channel: str, payload: bytes) -> bytes:
        """Receive a MESSAGE that ends so."""
        return _checked(payload) + NUL

    def echo(self, channel: str, payload: bytes) -> bytes:
        """Receive a delivery like any other."""
        return self.delivery(channel, payload)


def _frame(command: str, *headers: str, body: bytes = b"") -> bytes:
    """Return a frame."""
    return "\n".join((command, *headers, "", "")).encode() + body + NUL


def _checked(payload: bytes) -> bytes:
    """Return a payload that can be counted."""
    if NUL in payload:
        message = "a payload with a NUL cannot be told from two deliveries"
        raise ValueError(message)
    return payload


STOMP = Stomp()
