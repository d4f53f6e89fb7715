"""What a listener and a sender have in common on the wire: the protocol, and what only one of them can say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final, Literal, TypeAlias

import click

from trio_broker.cli.options import bad_value, option
from trio_broker.client import Client, RemoteSubscription, StompClient, StompSubscription, connect, open_subscription
from trio_broker.client.stomp_message import check_channel, checked_message
from trio_broker.limits import Limits
from trio_broker.message import AckMode
from trio_broker.wire.stomp_client import StompClientSession

__all__ = [
    "ACK_MODES",
    "ProtocolName",
    "check_stomp",
    "choose_protocol",
    "open_channel",
    "open_client",
    "parse_headers",
    "protocol_option",
]

ProtocolName: TypeAlias = Literal["framed", "stomp"]

ACK_MODES: Final[Mapping[str, AckMode]] = {
    "auto": AckMode.AUTO,
    "client": AckMode.CLIENT,
    "individual": AckMode.CLIENT_INDIVIDUAL,
}

protocol_option: Final = option(
    "--protocol",
    type=click.Choice(["framed", "stomp"]),
    default=None,
    show_default="framed, or stomp where another option needs it",
    help="What to speak.",
)


def choose_protocol(asked: ProtocolName | None, needs_stomp: Iterable[str]) -> ProtocolName:
    """The protocol to speak.

    Args:
        asked: what the user said, if anything.
        needs_stomp: the options, among those that were given, that the framed protocol has no words for.

    Raises:
        click.UsageError: the two contradict each other.
    """
    needed = sorted(needs_stomp)
    if asked == "framed" and needed:
        raise click.UsageError(
            f"{' and '.join(needed)} cannot be said in the framed protocol; leave out --protocol, or give stomp",
            click.get_current_context(),
        )
    return asked or ("stomp" if needed else "framed")


def parse_headers(values: Iterable[str]) -> dict[str, str]:
    """Headers from ``name:value``; the first of a name counts. Raises `click.BadParameter` for one without a colon."""
    headers: dict[str, str] = {}
    for value in values:
        name, colon, text = value.partition(":")
        if not name or not colon:
            raise bad_value("--header", f"{value!r} is not a header; write a name, a colon and a value")
        headers.setdefault(name, text)
    return headers


def check_stomp(
    host: str, channel_option: str, channel: str, limits: Limits, headers: Mapping[str, str] | None = None
) -> None:
    """Raise `click.BadParameter` for what STOMP cannot say, before anybody is connected to."""
    session = StompClientSession(limits)
    with _blamed_on("--host"):
        session.connect(host)
    with _blamed_on(channel_option):
        check_channel(channel, limits)
    with _blamed_on("--header"):
        checked_message(session, limits, channel, b"", headers)


@contextmanager
def _blamed_on(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise bad_value(name, str(error)) from None


def open_client(
    host: str, port: int, protocol: ProtocolName, limits: Limits
) -> AbstractAsyncContextManager[Client | StompClient]:
    """`connect`, whichever protocol it is."""
    return connect(host, port, protocol=protocol, limits=limits)


@asynccontextmanager
async def open_channel(
    host: str, port: int, channel: str, protocol: ProtocolName, ack: AckMode, limits: Limits
) -> AsyncIterator[tuple[RemoteSubscription | StompSubscription, Any]]:
    """A subscription for the length of a block, and the address of its socket. Raises as `connect`.

    Cancellation: as `connect` and `Client.subscribe`.
    """
    if protocol == "framed":
        async with open_subscription(host, port, channel, limits=limits) as subscription:
            yield subscription, subscription.local_address
        return
    # Whoever reads our output may pause it for as long as it likes, and printing waits for that: see `listen`. So we
    # promise no heart-beats, and ask for none, since what has come meanwhile could not be told from silence.
    async with connect(host, port, protocol="stomp", limits=limits, heart_beat_seconds=None) as client:
        assert isinstance(client, StompClient)
        async with client.subscribe(channel, ack=ack) as subscribed:
            yield subscribed, client.local_address
