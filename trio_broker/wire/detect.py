"""Which protocol do these first bytes speak?

Used to choose among ours, and to name what knocked at the wrong door: a reason such as "this looks like an HTTP
request" saves its reader an hour with a packet sniffer.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["HTTP", "PREFIX_BYTES", "Protocol", "name_of_protocol", "protocol_of"]


class Protocol(enum.Enum):
    """What a peer may speak."""

    FRAMED = "framed"
    STOMP = "stomp"


_STOMP: Final = (b"CONNECT\n", b"CONNECT\r\n", b"STOMP\n", b"STOMP\r\n")

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


def protocol_of(first_bytes: bytes) -> Protocol | None:
    """Which of our protocols a peer speaks that begins with these bytes; None where more are needed to tell.

    A peer of STOMP begins with CONNECT or STOMP, perhaps after line ends. Everything else is for the framed protocol to
    accept or to name; a frame of it begins with the length of a channel's name, whose first byte is 0.

    Args:
        first_bytes: what the peer sent first, at least one byte.
    """
    if first_bytes[0] in b"\r\n":
        return Protocol.STOMP
    beginnings = [line for line in _STOMP if line.startswith(first_bytes[: len(line)])]
    if not beginnings:
        return Protocol.FRAMED
    return Protocol.STOMP if any(len(line) <= len(first_bytes) for line in beginnings) else None
