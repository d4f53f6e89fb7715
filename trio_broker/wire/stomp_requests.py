"""What the frames of a STOMP client mean, each by itself: heads -> commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from trio_broker.errors import ProtocolViolation, shorten
from trio_broker.limits import Limits
from trio_broker.message import AckMode
from trio_broker.wire.stomp_commands import Ack, Connect, Nack, Subscribe, Unsubscribe
from trio_broker.wire.stomp_heads import Head, parse_decimal, required
from trio_broker.wire.stomp_heartbeat import HeartBeat, parse_heart_beat
from trio_broker.wire.stomp_messages import TEMPORARY_QUEUE, MessageEncoder, MessageHeaders, channel_of
from trio_broker.wire.stomp_versions import V10, V11, V12, Version

__all__ = ["Send", "parse_connect", "parse_send", "parse_settlement", "parse_subscribe", "parse_unsubscribe"]

_UNNAMED: Final = "\n"
_PREFETCH_HEADERS: Final = ("prefetch-count", "activemq.prefetchSize")


class Send(NamedTuple):
    """What a SEND's head means."""

    channel: str
    headers: MessageHeaders
    transaction_id: str | None


def parse_connect(head: Head, version: Version, offer: HeartBeat) -> Connect:
    """CONNECT or STOMP (S-13, S-15).

    Args:
        head: the frame's.
        version: what will be spoken. 1.0 pads, and has no heart-beats.
        offer: the server's.
    """
    headers = head.headers
    theirs = parse_heart_beat(None if version is V10 else headers.get("heart-beat"))
    if version.padded:
        headers = {name.strip(" "): value.strip(" ") for name, value in headers.items()}
    agreed = offer.agree(theirs)
    return Connect(version.name, headers.get("host"), headers.get("login"), headers.get("passcode"), agreed)


def parse_send(head: Head, limits: Limits) -> Send:
    """SEND (S-19, S-20, S-39)."""
    headers = MessageHeaders(head.headers, len(head.raw), _decimal(head, "expiration", "milliseconds", 1))
    return Send(_channel(head, limits), headers, head.headers.get("transaction"))


def parse_subscribe(head: Head, version: Version, limits: Limits) -> Subscribe:
    """SUBSCRIBE (S-22, S-23, S-37)."""
    headers = head.headers
    channel, destination = _channel(head, limits), headers["destination"]
    subscription_id = headers.get("id") if version is V10 else required(head, "id")
    modes = [mode for mode in AckMode if version is not V10 or mode is not AckMode.CLIENT_INDIVIDUAL]
    ack = next((mode for mode in modes if mode == headers.get("ack", AckMode.AUTO)), None)
    if ack is None:
        raise ProtocolViolation(f"ack is {shorten(headers['ack'])}; allowed are {', '.join(modes)}")
    prefetch = next((_decimal(head, name, "messages") for name in _PREFETCH_HEADERS if name in headers), None)
    encoder = MessageEncoder(version, destination, subscription_id, ack is not AckMode.AUTO)
    key = _key(subscription_id, destination)
    return Subscribe(key, channel, ack, prefetch or None, headers.get("receipt"), encoder)


def parse_unsubscribe(head: Head, version: Version, subscriptions: Mapping[str, str]) -> Unsubscribe:
    """UNSUBSCRIBE: by identifier; in 1.0 also by destination (S-24).

    Args:
        head: the frame's.
        version: what is spoken.
        subscriptions: what exists, the oldest first: names, as in `Subscribe`, and destinations.
    """
    subscription_id = head.headers.get("id") if version is V10 else required(head, "id")
    if subscription_id is not None:
        key = subscription_id
    else:
        destination = required(head, "destination")
        key = _key(None, destination)
        if key not in subscriptions:
            key = next((name for name, known in subscriptions.items() if known == destination), key)
    if key not in subscriptions:
        raise ProtocolViolation(
            f"subscription {shorten(key.removeprefix(_UNNAMED))} does not exist; SUBSCRIBE makes one"
        )
    return Unsubscribe(key, head.headers.get("receipt"))


def parse_settlement(head: Head, version: Version) -> Ack | Nack:
    """ACK and NACK (S-34, S-41)."""
    headers = head.headers
    name = "id" if version is V12 else "message-id"
    written = required(head, name)
    subscription_id = required(head, "subscription") if version is V11 else None
    number = parse_decimal(written)
    if number is None:
        expected = "the ack header" if version is V12 else "the message-id"
        raise ProtocolViolation(
            f"{name} is {shorten(written)}; allowed is {expected} of a message that its subscription has to settle"
        )
    receipt_id = headers.get("receipt")
    if head.command == "ACK":
        return Ack(subscription_id, number, receipt_id)
    requeue = headers.get("requeue", "true")
    if requeue not in {"true", "false"}:
        raise ProtocolViolation(f"requeue is {shorten(requeue)}; allowed are true and false")
    return Nack(subscription_id, number, requeue == "true", receipt_id)


def _key(subscription_id: str | None, destination: str) -> str:
    """What a subscription is called. An identifier of 1.0 has no line feed, so none can be taken for a destination."""
    return f"{_UNNAMED}{destination}" if subscription_id is None else subscription_id


def _channel(head: Head, limits: Limits) -> str:
    """The channel that a frame's destination names (S-18, S-36)."""
    destination = required(head, "destination")
    if destination.startswith(TEMPORARY_QUEUE):
        raise ProtocolViolation(
            f"destination is {shorten(destination)}; a name like this is allowed in reply-to alone, and an answer goes "
            "to the reply-to of the message that came"
        )
    channel = channel_of(destination)
    size_bytes = len(channel.encode()) if destination else 0
    if not 0 < size_bytes <= limits.channel_bytes_max:
        raise ProtocolViolation(f"a destination of {size_bytes} bytes; 1 to {limits.channel_bytes_max} are allowed")
    return channel


def _decimal(head: Head, name: str, unit: str, least: int = 0) -> int | None:
    """A header that is a number, at least so large, if the frame has it."""
    value = head.headers.get(name)
    number = None if value is None else parse_decimal(value)
    if value is not None and number is None:
        raise ProtocolViolation(f"{name} is {shorten(value)}; a decimal number of {unit} is required")
    if value is not None and number is not None and number < least:
        raise ProtocolViolation(f"{name} is {shorten(value)}; at least {least} is allowed")
    return number
