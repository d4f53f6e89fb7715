"""``trio-broker listen``: print what arrives on a channel."""

from __future__ import annotations

import base64
import functools
import json
import sys
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final

import click
import trio

from trio_broker.cli.options import CLIENT_LIMITS, check_channel, limit_options, make_limits, option
from trio_broker.cli.speaking import (
    ACK_MODES,
    ProtocolName,
    check_stomp,
    choose_protocol,
    open_channel,
    protocol_option,
)
from trio_broker.cli.terminal import cannot_connect, progress_bar, run, show_address
from trio_broker.client import RemoteSubscription, StompSubscription
from trio_broker.errors import ProtocolViolation, ServerRefused
from trio_broker.message import Message

__all__ = ["listen_command"]

_SHOWN_BYTES: Final = 20
"""How much of a payload the text format shows."""


@click.command("listen", short_help="Print what arrives on a channel.")
@option("--host", default="localhost", help="Where the broker is.")
@option("--port", type=click.IntRange(1, 65_535), default=25_000, help="Its port.")
@option("--listen", "channel", default="/topic/foo", metavar="CHANNEL", help="The channel to subscribe to.")
@option("--count", type=click.IntRange(min=1), default=None, metavar="N", help="End after N messages.")
@option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "raw"]),
    default="text",
    help="text: a line with the first 20 bytes; json: an object a line; raw: the payloads alone, nothing between them.",
)
@option(
    "--ack",
    type=click.Choice(list(ACK_MODES)),
    default="auto",
    help="client, individual: speak STOMP and acknowledge what was printed; auto: what was sent is forgotten.",
)
@protocol_option
@limit_options(*CLIENT_LIMITS)
def listen_command(
    host: str,
    port: int,
    channel: str,
    count: int | None,
    form: str,
    ack: str,
    protocol: ProtocolName | None,
    **values: Any,
) -> int:
    """Subscribe to a channel and print each message as it comes, until Ctrl-C or until the broker ends.

    \b
    Examples:
      trio-broker listen
      trio-broker listen --listen /queue/blah --count 10
      trio-broker listen --listen /queue/blah --ack individual
      trio-broker listen --format json | jq .text
      trio-broker listen --count 1 --format raw > payload

    With json, an object has the "channel", the payload's length in "bytes", and the payload itself: in "text" if it is
    UTF-8, otherwise in "base64"; and, in STOMP, its "headers" and whether it was "redelivered". With json and raw only
    payloads go to stdout; everything else goes to stderr.

    In STOMP a channel's name begins with a slash.

    Ends with status 0, but with 1 if the connection broke, or if the broker ended before the N messages of --count.
    """
    limits = make_limits(values)
    check_channel(channel, "--listen", limits)
    spoken = choose_protocol(protocol, ["--ack"] if ack != "auto" else [])
    if spoken == "stomp":
        check_stomp(host, "--listen", channel, limits)
    if sys.stdout is None:  # it was closed before Python started
        raise click.UsageError("standard output is closed, so messages cannot be printed", click.get_current_context())
    say = functools.partial(click.echo, err=form != "text")
    opening = functools.partial(open_channel, host, port, channel, spoken, ACK_MODES[ack], limits)
    try:
        return run(_listen, opening, host, port, count, form, say)
    except KeyboardInterrupt:
        say("Bye!")
        return 0


async def _listen(
    opening: Callable[[], AbstractAsyncContextManager[tuple[RemoteSubscription | StompSubscription, Any]]],
    host: str,
    port: int,
    count: int | None,
    form: str,
    say: Callable[[str], None],
) -> int:
    identity = uuid.uuid4().hex[:8]
    say(f"Starting up {identity}")
    async with AsyncExitStack() as stack:
        try:
            subscription, local_address = await stack.enter_async_context(opening())
        except ServerRefused:
            raise
        except (OSError, UnicodeError, trio.BrokenResourceError) as error:
            raise cannot_connect(host, port, error) from None
        say(f"I am {local_address}")
        with progress_bar(count, "Received", wanted=not sys.stdout.isatty()) as advance:
            received, end = await _print_messages(subscription, count, _formats(identity)[form], advance)
    if end is None:
        return 0
    say("Connection ended.")
    if not isinstance(end, trio.EndOfChannel):
        raise click.ClickException(f"the connection to {show_address(host, port)} broke: {end}")
    say("Server closed.")
    if count is not None:
        raise click.ClickException(f"the broker ended after {received:,} of {count:,} messages")
    return 0


async def _print_messages(
    subscription: RemoteSubscription | StompSubscription,
    count: int | None,
    encode: Callable[[Message], bytes],
    advance: Callable[[], object],
) -> tuple[int, Exception | None]:
    """Print messages until there are enough; returns how many, and why there were no more if there were not enough."""
    received = 0
    await trio.lowlevel.checkpoint()
    try:
        while received != count:
            message = await subscription.receive()
            # Written and flushed at once, and without a task of its own. While nobody reads it this stands still, and
            # receives nothing: the broker stops at what was prefetched where we acknowledge, and otherwise, once the
            # system's buffers are full, its stall rule decides.
            click.echo(encode(message), nl=False)
            message.ack()
            received += 1
            advance()
    except (trio.EndOfChannel, trio.BrokenResourceError, ProtocolViolation) as end:
        return received, end
    return received, None


def _formats(identity: str) -> dict[str, Callable[[Message], bytes]]:
    return {
        "text": lambda message: f"Received by {identity}: {message.body[:_SHOWN_BYTES]!r}\n".encode(),
        "json": lambda message: f"{json.dumps(_as_object(message))}\n".encode(),
        "raw": lambda message: message.body,
    }


def _as_object(message: Message) -> dict[str, Any]:
    try:
        payload = {"text": message.body.decode()}
    except UnicodeDecodeError:
        payload = {"base64": base64.b64encode(message.body).decode()}
    shown: dict[str, Any] = {"channel": message.channel, **payload, "bytes": len(message.body)}
    if message.headers:
        shown["headers"] = dict(message.headers)
    if message.redelivered:
        shown["redelivered"] = True
    return shown
