"""STOMP's door: what the other rooms use of it. See `trio_broker.wire` for a map of its modules."""

from trio_broker.wire.stomp_client import Connected, Receipt, Received, ServerError, StompClientSession, StompEvent
from trio_broker.wire.stomp_commands import (
    Ack,
    Commit,
    Connect,
    Disconnect,
    Fail,
    Nack,
    Publish,
    Reply,
    StompCommand,
    Subscribe,
    Unsubscribe,
)
from trio_broker.wire.stomp_heartbeat import HEART_BEAT, HeartBeat, offer_of
from trio_broker.wire.stomp_messages import MessageEncoder, messages_within, with_reply_to
from trio_broker.wire.stomp_server import StompServerSession
from trio_broker.wire.stomp_versions import VERSIONS

__all__ = [
    "HEART_BEAT",
    "VERSIONS",
    "Ack",
    "Commit",
    "Connect",
    "Connected",
    "Disconnect",
    "Fail",
    "HeartBeat",
    "MessageEncoder",
    "Nack",
    "Publish",
    "Receipt",
    "Received",
    "Reply",
    "ServerError",
    "StompClientSession",
    "StompCommand",
    "StompEvent",
    "StompServerSession",
    "Subscribe",
    "Unsubscribe",
    "messages_within",
    "offer_of",
    "with_reply_to",
]
