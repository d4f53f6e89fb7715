"""Redis publish and subscribe in RESP 3: https://redis.io/docs/latest/develop/reference/protocol-spec/.

In RESP 2 a connection that has subscribed may not publish, so a peer that waits for its own message needs version 3. A
delivery has as many bytes in either. Publish and subscribe knows no queue.
"""

HELLO = b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"


class Resp:
    """SUBSCRIBE, PUBLISH and the message push."""

    name = "RESP"
    has_queues = False
    interjection = b""
    terminator = b""

    def subscription(self, channel: str) -> bytes:
        """Change to RESP 3 and subscribe."""
        return HELLO + b"*2" + _strings(b"SUBSCRIBE", channel.encode())

    def publisher_greeting(self) -> bytes:
        """Change to RESP 3."""
        return HELLO

    def publication(self, channel: str, payload: bytes) -> bytes:
        """Send the command; its answer, the number of receivers, comes back to the publisher."""
        return b"*3" + _strings(b"PUBLISH", channel.encode(), payload)

    def delivery(self, channel: str, payload: bytes) -> bytes:
        """Receive a push of three strings."""
        return b">3" + _strings(b"message", channel.encode(), payload)

    def echo(self, channel: str, payload: bytes) -> bytes:
        """Receive the message and the command's answer: one receiver, oneself."""
        return self.delivery(channel, payload) + b":1\r\n"


def _strings(*strings: bytes) -> bytes:
    """Return the rest of an array or push, after its type and length, whose elements are bulk strings."""
    return b"\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(string), string) for string in strings)


RESP = Resp()
