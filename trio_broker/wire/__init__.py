"""Bytes <-> commands and replies. No Trio, no socket, no clock, no log.

- `framed`, `framed_client`: the seed's length-prefixed protocol, one side each; `framed_frames`: what both need.
- `stomp_server`, `stomp_client`: STOMP 1.0 to 1.2, one side each. Below them `stomp_versions` (what differs),
  `stomp_heads` and `stomp_frames` (grammar), `stomp_heartbeat`, `stomp_messages` (SEND to MESSAGE), `stomp_commands`,
  `stomp_requests` (frames to commands) and `stomp_transactions`.
- `detect`: which protocol some first bytes speak.
"""

from trio_broker.wire.detect import PREFIX_BYTES, Protocol, name_of_protocol, protocol_of
from trio_broker.wire.framed import Command, Fail, FramedServerSession, Publish, Subscribe
from trio_broker.wire.framed_client import FramedClientSession
from trio_broker.wire.framed_frames import FRAMED, encode, frame, gather, messages_within

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
    "encode",
    "frame",
    "gather",
    "messages_within",
    "name_of_protocol",
    "protocol_of",
]
