"""``trio-broker bench``: how fast is a broker, here and now?"""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Final, final

import click
import trio

from trio_broker.cli.bench_broker import own_broker
from trio_broker.cli.bench_load import Load
from trio_broker.cli.bench_measure import STAMP_BYTES, Measured, Work
from trio_broker.cli.bench_report import as_json as measured_as_json
from trio_broker.cli.bench_report import headline, print_report, shortfall, show_progress
from trio_broker.cli.options import (
    CLIENT_LIMITS,
    POSITIVE_SECONDS,
    SIZE,
    check_channel,
    limit_options,
    make_limits,
    option,
)
from trio_broker.cli.terminal import cannot_connect, raise_file_limit, run, show_address
from trio_broker.limits import Limits
from trio_broker.message import NULL_CHANNEL

__all__ = ["bench_command"]

_FLOOD_COUNT: Final = 1_000_000
_PACED_SECONDS: Final = 10
_PROGRESS_SECONDS: Final = 0.1
_LAST_WORDS_SECONDS: Final = 1.0


@click.command("bench", short_help="Measure a broker: rates and latencies.")
@option(
    "--host",
    default=None,
    show_default="a broker is started for this; localhost with --port",
    help="Where the broker is.",
)
@option(
    "--port",
    type=click.IntRange(1, 65_535),
    default=None,
    show_default="as for --host; 25000 with it",
    help="Its port.",
)
@option("--pub", "publishers", type=click.IntRange(1, 10_000), default=1, metavar="N", help="Publishers.")
@option("--sub", "subscribers", type=click.IntRange(1, 10_000), default=1, metavar="N", help="Subscribers.")
@option("--size", type=SIZE, default=128, help="Bytes of a message.")
@option(
    "--count",
    type=click.IntRange(1, 1_000_000_000),
    default=None,
    metavar="N",
    show_default="1000000; with --rate what takes 10 s",
    help="Messages of all publishers together.",
)
@option(
    "--channel",
    default=None,
    metavar="CHANNEL",
    show_default="a topic of its own",
    help="The channel. Nobody else may use it meanwhile.",
)
@option(
    "--rate",
    type=click.FloatRange(0.001, 10_000_000),
    default=None,
    metavar="N",
    show_default="as fast as they go",
    help="Messages a second of all publishers together; latencies are measured then.",
)
@option("--idle-seconds-max", type=POSITIVE_SECONDS, default=10.0, help="Give up when nothing moves for so long.")
@option("--json", "as_json", is_flag=True, envvar="TRIO_BROKER_BENCH_JSON", help="Print one JSON object.")
@limit_options(*CLIENT_LIMITS)
def bench_command(
    host: str | None,
    port: int | None,
    publishers: int,
    subscribers: int,
    size: int,
    count: int | None,
    channel: str | None,
    rate: float | None,
    idle_seconds_max: float,
    as_json: bool,
    **values: Any,
) -> int:
    """Measure a running broker, or one that is started for it on a free port: publishers send, subscribers receive.

    \b
    Examples:
      trio-broker bench
      trio-broker bench --sub 10 --size 16
      trio-broker bench --pub 10 --sub 10 --channel /queue/bench
      trio-broker bench --rate 1000 --count 10000 --json
      trio-broker bench --host 127.0.0.1 --port 25000

    Without --rate the publishers write as fast as the broker reads. With it each message has a time at which it is to
    be sent, and its latency counts from then, also if it could not be sent so early.

    What is measured is the broker: the load writes what was encoded beforehand and counts bytes. It runs in this
    process, on the same machine's CPUs; a program that uses the client is slower. "Published" is what the system has
    taken from the load. The clock starts when each subscriber has received a first message. MB are 1,000,000 bytes of
    payload.

    There are rates only if everything was delivered, once. Otherwise, or after Ctrl-C, there are counts, and the status
    is 1.
    """
    limits = make_limits(values)
    if channel is None:
        channel = f"/topic/bench-{uuid.uuid4().hex[:8]}"
    check_channel(channel, "--channel", limits)
    if channel == NULL_CHANNEL:
        raise _bad("--channel", f"nothing is ever delivered from {NULL_CHANNEL}")
    if size > limits.frame_bytes_max:
        raise _bad("--size", f"{size:,} bytes are over --frame-bytes-max ({limits.frame_bytes_max:,})")
    if limits.frame_bytes_max < STAMP_BYTES:
        raise _bad("--frame-bytes-max", f"{STAMP_BYTES} bytes are needed to see whether subscriptions are in place")
    if rate is not None and math.isnan(rate):
        raise _bad("--rate", "nan is not a number of messages a second")
    if rate is not None and size < STAMP_BYTES:
        raise _bad("--size", f"with --rate a message has at least {STAMP_BYTES} bytes: it carries its number")
    if count is None:
        count = _FLOOD_COUNT if rate is None else max(1, round(rate * _PACED_SECONDS))
    raise_file_limit()
    address = None if host is None and port is None else (host or "localhost", port or 25_000)
    work = Work(channel, publishers, subscribers, size, count, rate)
    if not as_json:
        click.echo(headline(work))
    measured = run(_Benchmark(work, address, limits, idle_seconds_max, as_json).carry_out)
    if as_json:
        click.echo(json.dumps(measured_as_json(measured), indent=2))
    else:
        print_report(measured)
    if (missing := shortfall(measured)) is not None:
        raise click.ClickException(missing)
    return 0


@final
@dataclasses.dataclass(frozen=True, slots=True)
class _Benchmark:
    """What is to be measured where, and the doing of it."""

    work: Work
    address: tuple[str, int] | None
    limits: Limits
    idle_seconds_max: float
    quiet: bool

    async def carry_out(self) -> Measured:
        """Measure; returns what was measured, however it ended."""
        stop = _Stop()
        load: Load | None = None
        measured: Measured | None = None
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop.watch, signals)
                with stop.scope:
                    async with AsyncExitStack() as stack:
                        address, process = self.address, None
                        if address is None:
                            port, process = await stack.enter_async_context(own_broker(self.limits))
                            address = "127.0.0.1", port
                            if not self.quiet:
                                click.echo(f"A broker was started for this on {show_address(*address)}")
                        load = self._load(*address)
                        nursery.start_soon(_follow, load)
                        await load.run()
                        measured = await _explain(load.measured(), process)
                nursery.cancel_scope.cancel(reason="everything is measured")
        if measured is not None:
            return measured
        if load is None or not load.begun:
            raise click.ClickException(f"stopped by {stop.name} before anything was measured")
        return load.measured(stop.name)

    def _load(self, host: str, port: int) -> Load:
        async def connect() -> trio.SocketStream:
            try:
                return await trio.open_tcp_stream(host, port)
            except (OSError, UnicodeError) as error:
                raise cannot_connect(host, port, error) from None

        return Load(self.work, connect, limits=self.limits, idle_seconds_max=self.idle_seconds_max)


@final
class _Stop:
    """What a signal stops: everything; what was measured until then is reported."""

    def __init__(self) -> None:
        self.name: str | None = None  # of the signal, once it has come
        self.scope = trio.CancelScope()

    async def watch(self, signals: AsyncIterator[int]) -> None:
        """Stop at a signal."""
        self.name = signal.Signals(await anext(signals)).name
        self.scope.cancel(reason="a signal")


async def _follow(load: Load) -> None:
    """Show how far the load is, again and again."""
    await trio.lowlevel.checkpoint()
    with show_progress(load.work) as update:
        while update is not None:
            try:
                await trio.sleep(_PROGRESS_SECONDS)
            finally:
                update(load.delivered)


async def _explain(measured: Measured, process: trio.Process | None) -> Measured:
    """Add, where something went wrong, whether the broker that was started for this has ended."""
    await trio.lowlevel.checkpoint()
    if process is not None and measured.faults:
        with trio.move_on_after(_LAST_WORDS_SECONDS):
            status = await process.wait()
            fault = f"the broker that was started for this ended with status {status}"
            return dataclasses.replace(measured, faults=(*measured.faults, fault))
    return measured


def _bad(option_name: str, reason: str) -> click.BadParameter:
    return click.BadParameter(reason, ctx=click.get_current_context(), param_hint=f"'{option_name}'")
