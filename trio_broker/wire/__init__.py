"""Bytes <-> commands and replies. No Trio, no socket, no clock, no log.

- `framed`: the seed's length-prefixed protocol, both sides.
- `detect`: which protocol some first bytes speak.
"""

from trio_broker.wire.detect import PREFIX_BYTES, name_of_protocol
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
    "Publish",
    "Subscribe",
    "frame",
    "name_of_protocol",
]
