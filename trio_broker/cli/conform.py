"""``trio-broker conform``: what a STOMP broker does, beside what the specification expects of it."""

from __future__ import annotations

import functools
import json
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import click
import trio

from trio_broker.cli.conform_report import as_json as report_as_json
from trio_broker.cli.conform_report import print_report
from trio_broker.cli.options import POSITIVE_SECONDS, TEXT_A_LINE, bad_value, option
from trio_broker.cli.terminal import cannot_connect, growing_progress, run
from trio_broker.conform import VERSIONS, Check, Report, Target, run_checks, select

__all__ = ["conform_command"]

_STOMP_PORT: Final = 61613


class _Address(NamedTuple):
    host: str
    port: int


@click.command("conform", short_help="Check a STOMP broker against the specification.")
@option(
    "--version",
    "versions",
    multiple=True,
    type=click.Choice(VERSIONS),
    envvar="TRIO_BROKER_CONFORM_VERSION",
    help="Check this version, which must be spoken; can be repeated. Without, all that the broker speaks.",
)
@option(
    "--only",
    multiple=True,
    type=TEXT_A_LINE,
    metavar="PATTERN",
    envvar="TRIO_BROKER_CONFORM_ONLY",
    help="Only checks with this number (C-7, C-1?) or this text in them; repeatable, in the environment one a line.",
)
@option("--login", default=None, metavar="NAME", help="Sent with CONNECT.")
@option("--passcode", default=None, metavar="TEXT", help="Sent with CONNECT.")
@option("--vhost", default=None, show_default="the address's host", metavar="NAME", help="Sent as the header host.")
@option("--queue-prefix", default="/queue/", metavar="TEXT", help="What the destinations of queues begin with.")
@option("--topic-prefix", default="/topic/", metavar="TEXT", help="What the destinations of topics begin with.")
@option(
    "--seconds-max",
    type=POSITIVE_SECONDS,
    default="10",
    metavar="SECONDS",
    help="A check that takes longer has failed.",
)
@option(
    "--quiet-seconds",
    type=POSITIVE_SECONDS,
    default="0.5",
    metavar="SECONDS",
    help="When nothing came for so long, nothing comes.",
)
@option("--at-once", type=click.IntRange(1, 64), default=8, metavar="N", help="How many checks run at the same time.")
@option("--json", "as_json", is_flag=True, envvar="TRIO_BROKER_CONFORM_JSON", help="Print one JSON object.")
@click.argument("address", metavar="stomp://HOST:PORT")
def conform_command(
    versions: tuple[str, ...],
    only: tuple[str, ...],
    login: str | None,
    passcode: str | None,
    vhost: str | None,
    queue_prefix: str,
    topic_prefix: str,
    seconds_max: float,
    quiet_seconds: float,
    at_once: int,
    as_json: bool,
    address: str,
) -> int:
    """Do what the specification of STOMP 1.0, 1.1 and 1.2 says a client may do, and what it may not, and print what the
    broker was expected to do beside what it did. The broker can be any; it should be one where a few hundred new
    queues and topics do no harm.

    \b
    Examples:
      trio-broker conform stomp://127.0.0.1:25000
      trio-broker conform stomp://127.0.0.1:61613 --login guest --passcode guest --vhost /
      trio-broker conform stomp://127.0.0.1:61613 --version 1.2 --only ack

    docs/conformance.md lists the checks, and what some brokers do.

    The status is 0 if everything was as the specification demands, 1 if something that it demands was not, and 2 for
    wrong use.
    """
    host, port = _parse_address(address)
    checks = select(only)
    if not checks:
        raise bad_value("--only", f"no check has {' or '.join(map(repr, only))} in it")
    for name, text in (("--vhost", vhost), ("--login", login), ("--passcode", passcode)):
        _check_text(name, text or "", "CONNECT has no escapes")
    for name, text in (("--queue-prefix", queue_prefix), ("--topic-prefix", topic_prefix)):
        _check_text(name, text, "STOMP 1.0 has no escapes")
    target = Target(
        functools.partial(_open, host, port),
        vhost=host if vhost is None else vhost,
        login=login,
        passcode=passcode,
        queue_prefix=queue_prefix,
        topic_prefix=topic_prefix,
        check_seconds_max=seconds_max,
        quiet_seconds=quiet_seconds,
    )
    try:
        report = run(_check, target, checks, versions or VERSIONS, at_once)
    except OSError as error:
        raise cannot_connect(host, port, error) from None
    if as_json:
        click.echo(json.dumps(report_as_json(report, address), indent=2))
    else:
        print_report(report, address)
    return _status(report, versions, len(checks))


async def _open(host: str, port: int) -> trio.SocketStream:
    """A connection. Raises OSError, for a name that cannot be looked up too."""
    try:
        return await trio.open_tcp_stream(host, port)
    except UnicodeError as error:
        raise OSError(str(error)) from None


async def _check(target: Target, checks: tuple[Check, ...], versions: tuple[str, ...], at_once: int) -> Report:
    with growing_progress("Checks") as progress:
        return await run_checks(target, checks, versions, at_once=at_once, progress=progress)


def _status(report: Report, wanted: tuple[str, ...], checks: int) -> int:
    """The exit status; where the table does not say why it is not 0, a line on stderr does."""
    missing = [version for version in (wanted or report.unspoken) if version in report.unspoken]
    if missing and (wanted or not report.results):
        reasons = "; ".join(f"{version}: {report.unspoken[version]}" for version in missing)
        click.echo(f"Error: the broker does not speak what is to be checked: {reasons}", err=True)
        return 1
    if not report.results:
        click.echo(f"Error: none of these {checks} checks is for a version that is to be checked", err=True)
        return 1
    return 0 if report.conforms else 1


def _parse_address(address: str) -> _Address:
    """The host and the port of a ``stomp://`` address. Raises `click.BadParameter`."""
    if not address.isprintable():  # `urlsplit` would leave some of it out
        raise _bad_address(f"{address!r} has a character in it that cannot be printed; no host's name has one")
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise _bad_address(f"{address!r}: {error}") from None
    if parts.scheme != "stomp" or not parts.hostname:
        raise _bad_address(f"{address!r} is no address; write stomp://HOST or stomp://HOST:PORT")
    if "@" in parts.netloc:
        raise _bad_address("a name or a password in the address; use --login and --passcode")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise _bad_address(f"{address!r} has more than a host and a port; use --vhost for a virtual host")
    if port == 0:
        raise _bad_address(f"{address!r}: a port is 1 to 65535")
    return _Address(parts.hostname, _STOMP_PORT if port is None else port)


def _bad_address(text: str) -> click.BadParameter:
    return bad_value("stomp://HOST:PORT", text)


def _check_text(name: str, text: str, because: str) -> None:
    """Raise `click.BadParameter` for what cannot be a header's value in every version."""
    if not {"\n", "\r", "\0"}.isdisjoint(text):
        raise bad_value(name, f"{because}, so a line end or a NUL cannot be sent")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise bad_value(name, f"{text!r} cannot be written in UTF-8, as headers are") from None
