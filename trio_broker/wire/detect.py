"""Which protocol do these first bytes speak?

Used to name what knocked at the wrong door: a reason such as "this looks like an HTTP request" saves its reader an
hour with a packet sniffer.
"""

from __future__ import annotations

from typing import Final

__all__ = ["HTTP", "PREFIX_BYTES", "name_of_protocol"]

PREFIX_BYTES: Final = 8
"""How many bytes are enough to recognise any of the protocols below."""

_PREFIX_BYTES_MIN: Final = 4

HTTP: Final = "an HTTP request"

_PREFIXES: Final = (
    (b"PRI * HT", "an HTTP/2 connection"),
    (b"GET ", HTTP),
    (b"HEAD ", HTTP),
    (b"POST ", HTTP),
    (b"PUT ", HTTP),
    (b"DELETE ", HTTP),
    (b"OPTIONS ", HTTP),
    (b"PATCH ", HTTP),
    (b"CONNECT ", "an HTTP proxy request or a NATS client"),
    (b"CONNECT\n", "a STOMP client"),
    (b"CONNECT\r", "a STOMP client"),
    (b"STOMP\n", "a STOMP client"),
    (b"STOMP\r", "a STOMP client"),
    (b"SSH-", "an SSH client"),
    (b"AMQP", "an AMQP client"),
    (b"*1\r\n", "a Redis client"),
    (b"*2\r\n", "a Redis client"),
    (b"*3\r\n", "a Redis client"),
    (b"PING\r\n", "a Redis or NATS client"),
    (b"\x16\x03", "a TLS handshake"),
)


def name_of_protocol(first_bytes: bytes) -> str | None:
    """Name the protocol that these first bytes belong to, or return None for bytes of no protocol known here.

    Args:
        first_bytes: what the peer sent first. Four bytes are enough for most, `PREFIX_BYTES` for all; where fewer
            leave a choice, all that it may be are named.
    """
    if len(first_bytes) < _PREFIX_BYTES_MIN:
        return None
    names = {name: None for prefix, name in _PREFIXES if prefix.startswith(first_bytes[: len(prefix)])}
    if names:
        return " or ".join(names)
    if first_bytes[:1] == b"\x10" and first_bytes[2:8] in (b"\x00\x04MQTT", b"\x00\x06MQIs"):
        return "an MQTT client"
    return None
