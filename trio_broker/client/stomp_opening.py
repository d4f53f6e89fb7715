"""How a STOMP client's connection begins and ends: its block."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from trio_broker.client.opening import open_stream
from trio_broker.client.stomp import StompClient
from trio_broker.client.stomp_greeting import greet
from trio_broker.client.stomp_link import Link
from trio_broker.limits import Limits

__all__ = ["open_stomp"]


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_stomp(
    host: str,
    port: int,
    *,
    limits: Limits | None = None,
    login: str | None = None,
    passcode: str | None = None,
    heart_beat_seconds: float | None = 10.0,
    end_is_loss: bool = False,
) -> AsyncIterator[StompClient]:
    """`connect` with ``protocol="stomp"``.

    Args:
        host, port, limits, login, passcode, heart_beat_seconds: as for `connect`.
        end_is_loss: a subscription's end in order is told as `trio.BrokenResourceError`, so that it ends no loop.

    Raises:
        As `connect`.

    Cancellation: as for `connect`.
    """
    limits = limits or Limits()
    link = Link(limits, heart_beat_seconds, end_is_loss=end_is_loss)
    hello = link.session.connect(host, login, passcode)
    stream = await open_stream(host, port, limits)
    failure: BaseException | None = None
    try:
        await greet(link, stream, hello)
        async with trio.open_nursery() as tasks:
            tasks.start_soon(link.write, stream)
            tasks.start_soon(link.read, stream)
            try:
                yield StompClient(stream, link)
                await link.farewell()
            except BaseException as error:
                failure = error
                raise
            finally:
                link.close()
                tasks.cancel_scope.cancel(reason="the client's block was left")
    except BaseException as error:  # noqa: BLE001, ASYNC103  raised below, and the body's own as itself, not in a group
        failure = failure or error
    stream.socket.close()  # all that the stream's aclose does, but for its checkpoint: nothing can come between
    if failure is not None:
        raise failure
    link.raise_what_was_lost()
