"""``trio-broker send``: publish to a channel."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple, final

import click
import trio

from trio_broker.cli.options import CLIENT_LIMITS, SECONDS, SIZE, check_channel, limit_options, make_limits, option
from trio_broker.cli.speaking import ProtocolName, choose_protocol, open_client, parse_headers, protocol_option
from trio_broker.cli.terminal import cannot_connect, progress_bar, run, show_address, why
from trio_broker.client import Client, StompClient
from trio_broker.errors import MessageTooLarge
from trio_broker.limits import Limits

__all__ = ["send_command"]

_READ_BYTES: Final = 65_536
_STDIN: Final = 0


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
@option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header of every message; repeatable.")
@option("--confirm", is_flag=True, help="Wait after each message until the broker has confirmed it.")
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
    as often as it takes. A line of standard input is sent without its newline, and otherwise byte for byte.

    Ctrl-C or SIGTERM stops it with status 0 once what it has handed over is sent; a second signal does not wait for
    that. The status is 1 if the broker ended before everything was sent.
    """
    limits = make_limits(values)
    check_channel(channel, "--channel", limits)
    if size > limits.frame_bytes_max:
        raise click.BadParameter(
            f"{size:,} bytes are over --frame-bytes-max ({limits.frame_bytes_max:,})",
            ctx=click.get_current_context(),
            param_hint="'--size'",
        )
    if "-" in messages and len(messages) > 1:
        raise click.UsageError("- stands alone, in the place of all MESSAGES", click.get_current_context())
    if interval is None:
        interval = 0.0 if messages else 1.0
    needs_stomp = [name for name, given in (("--header", headers), ("--confirm", confirm)) if given]
    how = _How(choose_protocol(protocol, needs_stomp), parse_headers(headers), confirm)
    identity = uuid.uuid4().hex[:8]
    source: Iterable[bytes] | _Lines
    if messages == ("-",):
        source = _Lines(limits.frame_bytes_max)
    elif messages:
        given = [os.fsencode(message) for message in messages]
        source = given if count is None else itertools.islice(itertools.cycle(given), count)
        count = count or len(given)
    else:
        source = _generate(identity, size)
    return run(_Sending(host, port, channel, interval, count, limits, identity, how).carry_out, source)


class _How(NamedTuple):
    """How messages are sent."""

    protocol: ProtocolName
    headers: Mapping[str, str]
    confirm: bool

    async def publish(self, client: Client | StompClient, channel: str, body: bytes) -> None:
        """Publish one. Cancellation: as the client's."""
        if isinstance(client, StompClient):
            await client.publish(channel, body, headers=self.headers, confirm=self.confirm)
        else:
            await client.publish(channel, body)


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

    async def carry_out(self, source: Iterable[bytes] | _Lines) -> int:
        """Send the messages; returns the exit status."""
        click.echo(f"Starting up {self.identity}")
        broken: trio.BrokenResourceError | None = None
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                stop = _Stop(nursery.cancel_scope)
                nursery.start_soon(stop.watch, signals, self.limits.farewell_seconds_max)
                broken = await self._connect_and_send(source, stop)
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

    async def _connect_and_send(self, source: Iterable[bytes] | _Lines, stop: _Stop) -> trio.BrokenResourceError | None:
        """Send the messages; returns what broke, if something did."""
        # How long the last messages may take is for the user to say, with a signal.
        limits = dataclasses.replace(self.limits, farewell_seconds_max=math.inf)
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
                with progress_bar(self.count, "Sent") as advance, stop.scope_to_send():
                    try:
                        await self._send(client, source, advance)
                    except MessageTooLarge as error:  # what went before it is still to be sent, so leave in order
                        refusal = error
        except trio.BrokenResourceError as error:
            return error
        if refusal is not None:
            raise refusal
        return None

    async def _send(
        self, client: Client | StompClient, source: Iterable[bytes] | _Lines, advance: Callable[[], object]
    ) -> None:
        await trio.lowlevel.checkpoint()
        if not isinstance(source, _Lines):
            await self._publish(client, source, 0, advance)
            return
        sent = 0
        while sent != self.count and (lines := await source.read()):
            sent = await self._publish(client, lines, sent, advance)

    async def _publish(
        self,
        client: Client | StompClient,
        messages: Iterable[bytes],
        sent: int,
        advance: Callable[[], object],
    ) -> int:
        """Publish messages at the interval, until there are as many as there should be; returns how many there are."""
        await trio.lowlevel.checkpoint()
        for message in messages:
            if sent and self.interval:
                await trio.sleep(self.interval)
            await self.how.publish(client, self.channel, message)
            sent += 1
            advance()
            if sent == self.count:
                break
        return sent


@final
class _Stop:
    """What a signal stops: first the sending, so that what was handed over still goes out; then everything."""

    def __init__(self, everything: trio.CancelScope) -> None:
        self.asked = False  # a first signal came
        self.cut = False  # the last messages were not waited for any longer
        self._everything = everything
        self._first = everything  # before the connection stands there is nothing to send

    def scope_to_send(self) -> trio.CancelScope:
        """The scope to send in."""
        self._first = trio.CancelScope()
        return self._first

    async def watch(self, signals: AsyncIterator[int], patience_seconds: float) -> None:
        """Stop at a signal; at the second, or after a while, do not wait for the last messages any longer."""
        await anext(signals)
        self.asked = True
        self._first.cancel(reason="a signal")
        with trio.move_on_after(patience_seconds):
            await anext(signals)
        self.cut = True
        self._everything.cancel(reason="a second signal, or no progress after the first")


@final
class _Lines:
    """The lines of standard input.

    They are read in a thread, straight from the file descriptor: a thread that a signal leaves behind in this read
    holds no lock that Python needs in order to end.
    """

    def __init__(self, line_bytes_max: int) -> None:
        self._line_bytes_max = line_bytes_max
        self._pieces: list[bytes] = []  # of a line whose end has not come yet
        self._pieces_bytes = 0
        self._ended = False

    async def read(self) -> list[bytes]:
        """Wait for lines and return them, without their newlines; none at the end."""
        await trio.lowlevel.checkpoint()
        while not self._ended:
            try:
                data = await trio.to_thread.run_sync(os.read, _STDIN, _READ_BYTES, abandon_on_cancel=True)
            except OSError as error:
                raise click.ClickException(f"cannot read standard input: {why(error)}") from None
            *lines, rest = data.split(b"\n")
            if lines:
                lines[0] = self._take() + lines[0]
            self._pieces.append(rest)
            self._pieces_bytes += len(rest)
            if self._pieces_bytes > self._line_bytes_max:
                raise MessageTooLarge(self._pieces_bytes, self._line_bytes_max)
            if not data:
                self._ended = True
                last = self._take()
                return [last] if last else []
            if lines:
                return lines
        return []

    def _take(self) -> bytes:
        line = b"".join(self._pieces)
        self._pieces.clear()
        self._pieces_bytes = 0
        return line


def _generate(identity: str, size_bytes: int) -> Iterable[bytes]:
    if size_bytes:
        return itertools.repeat(b"X" * size_bytes)
    return (f"Msg {number} from {identity}".encode() for number in itertools.count())
