"""CONNECT and its answer."""

from __future__ import annotations

import trio

from trio_broker.client.stomp_ending import Ending
from trio_broker.client.stomp_link import RECEIVE_BYTES, Link

__all__ = ["greet"]


async def greet(link: Link, stream: trio.SocketStream, hello: bytes) -> None:  # noqa: ASYNC910  ends early only when it broke
    """Make the connection, in at most ``handshake_seconds_max``.

    Raises:
        ServerRefused, ProtocolViolation: what the server has against it, or we against the server.
        trio.BrokenResourceError: the connection broke, or ended, or the server did not answer in time.

    Cancellation: terminal. The connection can only be closed.
    """
    late = Ending("broken", f"the server did not answer CONNECT within {link.limits.handshake_seconds_max:g} s")
    try:
        with trio.move_on_after(link.limits.handshake_seconds_max):
            await stream.send_all(hello)
            while link.session.version is None and link.take(await stream.receive_some(RECEIVE_BYTES)):
                pass
        if link.session.version is None:  # and nothing else has ended it
            link.lose(late)
    except trio.BrokenResourceError as error:
        link.lose(Ending("broken", f"the connection broke: {error}"))
    link.check()
