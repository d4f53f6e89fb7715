"""``trio-broker send``: publish to a channel."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import signal
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, final

import click
import trio

from trio_broker.cli.options import (
    CLIENT_LIMITS,
    SECONDS,
    SIZE,
    TEXT_A_LINE,
    bad_value,
    check_channel,
    limit_options,
    make_limits,
    option,
)
from trio_broker.cli.send_lines import Lines, generate
from trio_broker.cli.send_publisher import HELD_BYTES_MAX, Publisher
from trio_broker.cli.send_stop import Stop
from trio_broker.cli.speaking import (
    ProtocolName,
    check_stomp,
    choose_protocol,
    open_client,
    parse_headers,
    protocol_option,
)
from trio_broker.cli.terminal import cannot_connect, progress_bar, run, show_address
from trio_broker.errors import MessageTooLarge
from trio_broker.limits import Limits

__all__ = ["send_command"]


@click.command("send", short_help="Publish to a channel.")
@option("--host", default="localhost", help="Where the broker is.")
@option("--port", type=click.IntRange(1, 65_535), default=25_000, help="Its port.")
@option("--channel", default="/topic/foo", metavar="CHANNEL", help="The channel to publish to.")
@option(
    "--interval",
    type=SECONDS,
    default=None,
    show_default="1 between generated messages, 0 between given ones",
    help="Seconds between messages; 0 for as fast as they go.",
)
@option("--size", type=SIZE, default=0, help="Bytes of a generated message; 0 for numbered text.")
@option("--count", type=click.IntRange(min=1), default=None, metavar="N", help="End after N messages.")
@option(
    "--header",
    "headers",
    multiple=True,
    type=TEXT_A_LINE,
    metavar="NAME:VALUE",
    help="Speak STOMP, and give every message this header; repeatable, in the environment one a line.",
)
@option("--confirm", is_flag=True, help="Speak STOMP, and wait after each message until the broker has confirmed it.")
@protocol_option
@limit_options(*CLIENT_LIMITS)
@click.argument("messages", nargs=-1)
def send_command(
    host: str,
    port: int,
    channel: str,
    interval: float | None,
    size: int,
    count: int | None,
    headers: tuple[str, ...],
    confirm: bool,
    protocol: ProtocolName | None,
    messages: tuple[str, ...],
    **values: Any,
) -> int:
    """Publish to a channel: generated messages for ever, or MESSAGES once each, or, with - in their place, the lines
    of standard input.

    \b
    Examples:
      trio-broker send
      trio-broker send --channel /queue/blah --interval 0.1 --count 100
      trio-broker send --channel /topic/news hello "good bye"
      tail -f log | trio-broker send --channel /topic/log -
      trio-broker send --size 64KiB --interval 0
      trio-broker send --channel /queue/blah --header type:greeting --confirm hello

    Generated messages are "Msg 0 from ID" and so on, or, with --size, that many X. With --count, MESSAGES are repeated
    as often as it takes. A line of standard input is sent without its newline, and otherwise byte for byte. In STOMP a
    channel's name begins with a slash.

    Ctrl-C or SIGTERM stops it with status 0 once what it has handed over is sent and, with STOMP, confirmed. It does
    not wait for that after a second signal, nor when nothing has moved for 5 seconds: then the status is 1. So it is if
    the broker ends before everything was sent and, with STOMP, confirmed.
    """
    limits = make_limits(values)
    check_channel(channel, "--channel", limits)
    if size > limits.frame_bytes_max:
        raise bad_value("--size", f"{size:,} bytes are over --frame-bytes-max ({limits.frame_bytes_max:,})")
    if "-" in messages and len(messages) > 1:
        raise click.UsageError("- stands alone, in the place of all MESSAGES", click.get_current_context())
    if interval is None:
        interval = 0.0 if messages else 1.0
    needs_stomp = [name for name, given in (("--header", headers), ("--confirm", confirm)) if given]
    how = _How(choose_protocol(protocol, needs_stomp), parse_headers(headers), confirm)
    if how.protocol == "stomp":
        check_stomp(host, "--channel", channel, limits, how.headers)
    identity = uuid.uuid4().hex[:8]
    source: Iterable[bytes] | Lines
    if messages == ("-",):
        source = Lines(limits.frame_bytes_max)
    elif messages:
        given = [os.fsencode(message) for message in messages]
        source = given if count is None else itertools.islice(itertools.cycle(given), count)
        count = count or len(given)
    else:
        source = generate(identity, size)
    return run(_Sending(host, port, channel, interval, count, limits, identity, how).carry_out, source)


class _How(NamedTuple):
    """How messages are sent."""

    protocol: ProtocolName
    headers: Mapping[str, str]
    confirm: bool


@final
@dataclasses.dataclass(frozen=True, slots=True)
class _Sending:
    """What is to be sent where, and the doing of it."""

    host: str
    port: int
    channel: str
    interval: float
    count: int | None
    limits: Limits
    identity: str
    how: _How

    async def carry_out(self, source: Iterable[bytes] | Lines) -> int:
        """Send the messages; returns the exit status."""
        click.echo(f"Starting up {self.identity}")
        broken: trio.BrokenResourceError | None = None
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                stop = Stop(nursery.cancel_scope)
                nursery.start_soon(stop.watch, signals)
                broken = await self._connect_and_send(source, stop, nursery)
                nursery.cancel_scope.cancel(reason="everything is sent")
        if stop.asked:
            click.echo("Bye!")
        elif broken is not None:
            click.echo("Connection ended.")
        if broken is not None:
            raise click.ClickException(f"{show_address(self.host, self.port)}: {broken}")
        if stop.cut:
            raise click.ClickException("stopped before all was sent that had been handed over")
        return 0

    async def _connect_and_send(
        self, source: Iterable[bytes] | Lines, stop: Stop, watchers: trio.Nursery
    ) -> trio.BrokenResourceError | None:
        """Send the messages; returns what broke, if something did."""
        # How long the last messages may take is for the user to say, with a signal.
        limits = dataclasses.replace(self.limits, farewell_seconds_max=math.inf, mailbox_bytes_max=HELD_BYTES_MAX)
        refusal: MessageTooLarge | None = None
        await trio.lowlevel.checkpoint()
        try:
            async with AsyncExitStack() as stack:
                try:
                    client = await stack.enter_async_context(
                        open_client(self.host, self.port, self.how.protocol, limits)
                    )
                except (OSError, UnicodeError) as error:
                    raise cannot_connect(self.host, self.port, error) from None
                click.echo(f"I am {client.local_address}")
                publisher = Publisher(client, self.channel, self.how.headers, confirm=self.how.confirm)
                with progress_bar(self.count, "Sent") as advance, stop.scope_to_send(publisher) as sending:
                    watchers.start_soon(stop.watch_connection, publisher)
                    try:
                        await self._send(publisher, source, advance)
                    except MessageTooLarge as error:  # what went before it is still to be sent, so leave in order
                        refusal = error
                if sending.cancelled_caught and stop.lost is not None:
                    raise stop.lost
        except trio.BrokenResourceError as error:
            return error
        if refusal is not None:
            raise refusal
        return None

    async def _send(self, publisher: Publisher, source: Iterable[bytes] | Lines, advance: Callable[[], object]) -> None:
        await trio.lowlevel.checkpoint()
        if not isinstance(source, Lines):
            await self._publish(publisher, source, 0, advance)
            return
        sent = 0
        while sent != self.count and (lines := await source.read()):
            sent = await self._publish(publisher, lines, sent, advance)

    async def _publish(
        self, publisher: Publisher, messages: Iterable[bytes], sent: int, advance: Callable[[], object]
    ) -> int:
        """Publish messages at the interval, until there are as many as there should be; returns how many there are."""
        await trio.lowlevel.checkpoint()
        for message in messages:
            if sent and self.interval:
                await trio.sleep(self.interval)
            await publisher.publish(message)
            sent += 1
            advance()
            if sent == self.count:
                break
        return sent
