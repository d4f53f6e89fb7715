"""`connect`: a client of either protocol, by name."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Literal, overload

from trio_broker.client import framed
from trio_broker.client.checking import check_heart_beat
from trio_broker.client.framed import Client
from trio_broker.client.stomp import StompClient
from trio_broker.client.stomp_opening import open_stomp
from trio_broker.errors import shorten
from trio_broker.limits import Limits

__all__ = ["connect"]

_HOST = "127.0.0.1"
_PORT = 25_000


@overload
def connect(
    host: str = ..., port: int = ..., *, protocol: Literal["framed"], limits: Limits | None = ...
) -> AbstractAsyncContextManager[Client]: ...


@overload
def connect(
    host: str = ...,
    port: int = ...,
    *,
    protocol: Literal["stomp"] = ...,
    limits: Limits | None = ...,
    login: str | None = ...,
    passcode: str | None = ...,
    heart_beat_seconds: float | None = ...,
) -> AbstractAsyncContextManager[StompClient]: ...


@overload
def connect(
    host: str = ...,
    port: int = ...,
    *,
    protocol: Literal["framed", "stomp"],
    limits: Limits | None = ...,
    login: str | None = ...,
    passcode: str | None = ...,
    heart_beat_seconds: float | None = ...,
) -> AbstractAsyncContextManager[Client] | AbstractAsyncContextManager[StompClient]: ...


def connect(
    host: str = _HOST,
    port: int = _PORT,
    *,
    protocol: Literal["framed", "stomp"] = "stomp",
    limits: Limits | None = None,
    login: str | None = None,
    passcode: str | None = None,
    heart_beat_seconds: float | None = 10.0,
) -> AbstractAsyncContextManager[Client] | AbstractAsyncContextManager[StompClient]:
    """Connect to a broker for the length of a block.

    ::

        async with trio_broker.connect("127.0.0.1", 25000) as client:
            await client.publish("/queue/jobs", b"...")
            async with client.subscribe("/queue/jobs", ack="client-individual") as jobs:
                async for message in jobs:
                    async with message.process():  # acknowledged on leaving in order, else back in the queue
                        ...

    Args:
        host: the broker's name or address.
        port: its port.
        protocol: ``stomp`` for STOMP 1.2, which gives a `StompClient`, or ``framed``, which gives a `Client`. Names of
            channels that begin with ``/queue`` or ``/topic`` are the same in both; of others `StompClient.publish`
            tells.
        limits: with ``framed``, ``frame_bytes_max``, ``channel_bytes_max``, ``mailbox_bytes_max``,
            ``handshake_seconds_max`` and ``farewell_seconds_max`` are used; with ``stomp`` also ``header_bytes_max``,
            ``headers_max``, ``subscriptions_max``, ``transactions_max``, ``transaction_bytes_max`` and
            ``unsettled_bytes_max``.
        login: who the client is; STOMP alone.
        passcode: its proof; STOMP alone.
        heart_beat_seconds: how often the client offers to send, and wants to receive, a sign of life; None for never.
            The server may want longer times. A connection on which nothing comes for twice the time agreed on is
            broken. STOMP alone; the framed protocol has none.

    Raises:
        ValueError: no such protocol, a login or passcode that the protocol cannot send, or a time that is not one.
        OSError: the broker cannot be reached, also not within ``handshake_seconds_max``.
        ServerRefused: the server ended the connection with an error: on entering, for example for a wrong passcode;
            on leaving in order, if no call has raised it before.
        trio.BrokenResourceError: on entering, the connection broke, or, with STOMP, the broker did not answer within
            ``handshake_seconds_max``; on leaving in order, messages that were handed over may not have been sent, or,
            with STOMP, were not confirmed: each may have arrived or not.
        ProtocolViolation: what answers does not speak STOMP 1.2.

    Cancellation: entering is atomic (if it raises there is no connection). Leaving is cleanup: the connection is closed
    whatever is raised. Leaving in order first sends what was handed over, and with STOMP lets the broker confirm that
    it has dealt with it, for at most ``farewell_seconds_max``; leaving by an exception or a cancellation closes at
    once, and what was not sent is lost. An exception of the body leaves as itself, not in a group; `trio.Cancelled` may
    leave in one. Both are always checkpoints.
    """
    check_heart_beat(heart_beat_seconds)
    if protocol == "stomp":
        return open_stomp(
            host, port, limits=limits, login=login, passcode=passcode, heart_beat_seconds=heart_beat_seconds
        )
    if protocol != "framed":
        raise ValueError(f"protocol is {shorten(str(protocol))}; allowed are framed and stomp")
    if login is not None or passcode is not None:
        raise ValueError("the framed protocol cannot send a login or passcode; protocol='stomp' can")
    return framed.connect(host, port, limits=limits)
