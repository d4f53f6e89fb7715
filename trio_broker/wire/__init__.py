"""Bytes <-> commands and replies. No Trio, no socket, no clock, no log.

- `framed`: the seed's length-prefixed protocol, both sides.
- `stomp_server`, `stomp_client`: STOMP 1.0 to 1.2, one side each. Below them `stomp_versions` (what differs),
  `stomp_heads` and `stomp_frames` (grammar), `stomp_heartbeat`, `stomp_messages` (SEND to MESSAGE), `stomp_commands`,
  `stomp_requests` (frames to commands) and `stomp_transactions`.
- `detect`: which protocol some first bytes speak.
"""

from trio_broker.wire.detect import PREFIX_BYTES, Protocol, name_of_protocol, protocol_of
from trio_broker.wire.framed import (
    FRAMED,
    Command,
    Fail,
    FramedClientSession,
    FramedServerSession,
    Publish,
    Subscribe,
    frame,
)

__all__ = [
    "FRAMED",
    "PREFIX_BYTES",
    "Command",
    "Fail",
    "FramedClientSession",
    "FramedServerSession",
    "Protocol",
    "Publish",
    "Subscribe",
    "frame",
    "name_of_protocol",
    "protocol_of",
]
