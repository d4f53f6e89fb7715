"""What a program wants to send over STOMP, judged before anything of it is handed over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trio_broker.errors import InvalidChannel
from trio_broker.headers import check_headers
from trio_broker.limits import Limits
from trio_broker.message import Message, as_body, validate_channel
from trio_broker.wire.stomp_client import StompClientSession
from trio_broker.wire.stomp_messages import channel_of

__all__ = ["check_channel", "checked_message"]

_OWN_HEADERS_MAX: Final = 4
"""Destination, content-length, receipt, transaction ..."""

_OWN_HEADER_BYTES_MAX: Final = 256
"""... and what the last three amount to, with room to spare."""


def check_channel(channel: str, limits: Limits) -> None:
    """Raise `InvalidChannel` if this cannot be a destination, or would be another channel than in process."""
    validate_channel(channel, limits.channel_bytes_max)
    if not channel.startswith("/"):
        raise InvalidChannel(channel, "over STOMP a name begins with '/', as in '/topic/news' and '/queue/jobs'")
    if "\0" in channel:
        raise InvalidChannel(channel, "STOMP cannot write a name with a NUL in it")
    if (mapped := channel_of(channel)) is not channel:
        validate_channel(mapped, limits.channel_bytes_max)


def checked_message(
    session: StompClientSession, limits: Limits, channel: str, body: bytes, headers: Mapping[str, str] | None
) -> Message:
    """A message that may be sent, or an error that says why not: see `StompClient.publish`."""
    check_channel(channel, limits)
    body = as_body(body, limits.frame_bytes_max)
    if not headers:
        return Message(channel, body)
    message = Message(channel, body, dict(headers))
    check_headers(message.headers)
    allowed = limits.headers_max - _OWN_HEADERS_MAX
    if len(message.headers) > allowed:
        raise ValueError(f"{len(message.headers)} headers; at most {allowed} are allowed")
    head_bytes = len(session.send(Message(channel, b"", message.headers)))  # raises if it cannot be written
    allowed = limits.header_bytes_max - _OWN_HEADER_BYTES_MAX
    if head_bytes > allowed:
        raise ValueError(f"headers of {head_bytes:,} bytes; at most {allowed:,} are allowed")
    return message
