"""``trio-broker serve``: the broker as a process that ends in order."""

from __future__ import annotations

import functools
import signal
from collections.abc import AsyncIterator
from typing import Any, Final

import click
import trio

import trio_broker
from trio_broker.cli.logs import LOG_FORMATS, LOG_LEVELS, set_up_logging
from trio_broker.cli.options import limit_options, make_limits, option
from trio_broker.cli.terminal import raise_file_limit, run, say_last, show_address, why
from trio_broker.limits import Limits

__all__ = ["serve_command"]

_STOP: Final = (signal.SIGINT, signal.SIGTERM)


@click.command("serve", short_help="Run the broker.")
@option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 for all of IPv4, :: for all of IPv6.")
@option("--port", type=click.IntRange(0, 65_535), default=25_000, help="Port to listen on; 0 for any that is free.")
@option("--log-level", type=click.Choice(LOG_LEVELS), default="info", help="The least that is logged, to stderr.")
@option("--log-format", type=click.Choice(LOG_FORMATS), default="console", help="For people, or for machines.")
@limit_options()
def serve_command(host: str, port: int, log_level: str, log_format: str, **values: Any) -> int:
    """Run the broker until Ctrl-C or SIGTERM, which drain it: it stops accepting and reading, sends what its
    subscribers are still to get, reports, and ends with status 0. A second signal ends it at once, with status 1.

    \b
    Examples:
      trio-broker serve
      trio-broker serve --host 0.0.0.0 --port 25001 --log-format json
      trio-broker serve --port 0 --frame-bytes-max 64KiB --overflow drop_oldest
      TRIO_BROKER_SERVE_CONNECTIONS_MAX=100 trio-broker serve

    Once it listens it prints "Serving on ADDRESS:PORT", with the real port. Sizes are bytes, or have a unit: 64KiB,
    16MiB, 1GiB.
    """
    limits = make_limits(values)
    set_up_logging(log_level, log_format)
    raise_file_limit()
    return run(_serve, host, port, limits)


async def _serve(host: str, port: int, limits: Limits) -> int:
    """Serve until told to stop; returns the exit status."""
    with trio.open_signal_receiver(*_STOP) as signals:
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except (OSError, UnicodeError) as error:
            raise click.ClickException(f"cannot listen on {show_address(host, port)}: {why(error)}") from None
        async with trio_broker.open_broker(limits) as broker:
            hurried = trio.Event()
            async with trio.open_nursery() as nursery:
                server = await nursery.start(functools.partial(trio_broker.serve, broker, listeners=listeners))
                for listener in listeners:
                    click.echo(f"Serving on {show_address(*listener.socket.getsockname()[:2])}")
                await anext(signals)
                nursery.start_soon(_hurry, signals, hurried, nursery.cancel_scope)
                await server.drain()
                nursery.cancel_scope.cancel(reason="the server has drained")
            report = await server.drain()  # it has ended, so this only asks
            left_in_queues = sum(channel.backlog_messages for channel in broker.statistics().channels.values())
    say_last(_report_line(report, report.discarded + left_in_queues))
    say_last("Bye!")
    return 1 if hurried.is_set() else 0


async def _hurry(signals: AsyncIterator[int], hurried: trio.Event, everything: trio.CancelScope) -> None:
    """At the second signal, end at once."""
    await anext(signals)
    hurried.set()
    everything.cancel(reason="a second signal")


def _report_line(report: trio_broker.DrainReport, discarded: int) -> str:
    connections = f"{report.connections:,} connection{'' if report.connections == 1 else 's'} closed"
    delivered = f"{report.delivered:,} message{'' if report.delivered == 1 else 's'} delivered"
    cut = f", {report.cut:,} cut" if report.cut else ""
    return f"Drained: {connections}, {delivered}, {discarded:,} discarded, {report.seconds:.2f} s{cut}"
