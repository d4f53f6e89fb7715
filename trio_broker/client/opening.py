"""How a client's connection begins, in a bounded time."""

from __future__ import annotations

import errno

import trio

from trio_broker.limits import Limits

__all__ = ["open_stream"]


async def open_stream(host: str, port: int, limits: Limits) -> trio.SocketStream:
    """`trio.open_tcp_stream`, for at most ``handshake_seconds_max``: the system may try for minutes.

    Raises:
        OSError: nobody can be reached there; `TimeoutError` if it took too long.

    Cancellation: atomic. If this raises anything there is no connection. Always a checkpoint.
    """
    with trio.move_on_after(limits.handshake_seconds_max):
        return await trio.open_tcp_stream(host, port)
    raise TimeoutError(errno.ETIMEDOUT, f"no connection within {limits.handshake_seconds_max:g} s")
