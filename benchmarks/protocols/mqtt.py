"""MQTT 3.1.1 at QoS 0: https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html.

A client need not wait for CONNACK or SUBACK. An empty client id has the server make one up, which takes a
clean session. Shared subscriptions, MQTT's queues, came with version 5.
"""

CONNECT = 0x10
PUBLISH = 0x30
SUBSCRIBE = 0x82
CLEAN_SESSION = 0x02
VERSION_3_1_1 = 4


class Mqtt:
    """CONNECT, SUBSCRIBE and PUBLISH."""

    name = "MQTT"
    has_queues = False
    interjection = b""
    terminator = b""

    def subscription(self, channel: str) -> bytes:
        """Connect and subscribe at QoS 0."""
        return self.publisher_greeting() + _packet(SUBSCRIBE, b"\x00\x01" + _string(channel.encode()) + b"\x00")

    def publisher_greeting(self) -> bytes:
        """Connect with no keep-alive and no client id."""
        header = _string(b"MQTT") + bytes((VERSION_3_1_1, CLEAN_SESSION)) + b"\x00\x00"
        return _packet(CONNECT, header + _string(b""))

    def publication(self, channel: str, payload: bytes) -> bytes:
        """Send the topic and the payload in a packet."""
        return _packet(PUBLISH, _string(channel.encode()) + payload)

    def delivery(self, channel: str, payload: bytes) -> bytes:
        """Receive the packet that was sent."""
        return self.publication(channel, payload)

    def echo(self, channel: str, payload: bytes) -> bytes:
        """Receive a delivery like any other."""
        return self.delivery(channel, payload)


def _string(body: bytes) -> bytes:
    """Return a string with its length in two bytes before it."""
    return len(body).to_bytes(2, "big") + body


def _packet(kind: int, body: bytes) -> bytes:
    """Return a control packet: its type and flags, its length in groups of seven bits, lowest first, and the rest."""
    length = len(body)
    digits = bytearray()
    while True:
        length, digit = divmod(length, 128)
        digits.append(digit | 0x80 if length else digit)
        if not length:
            return bytes((kind,)) + bytes(digits) + body


MQTT = Mqtt()
