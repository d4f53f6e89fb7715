"""Two connected sockets, and what an operation on them fails with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import open_stream_to_socket_listener

from trio_broker.explorer.network import Network


async def connected_streams(host: str = "127.0.0.1") -> tuple[trio.SocketStream, trio.SocketStream]:
    """The two ends of a new connection, without their listener."""
    (listener,) = await trio.open_tcp_listeners(0, host=host)
    async with listener:
        ours = await open_stream_to_socket_listener(listener)
        return ours, await listener.accept()


async def connected_sockets() -> tuple[trio.socket.SocketType, trio.socket.SocketType]:
    """The same, as sockets."""
    ours, theirs = await connected_streams()
    return ours.socket, theirs.socket


async def read_to_the_end(stream: trio.abc.ReceiveStream) -> bytes:
    """All that comes, up to the end."""
    received = b""
    while data := await stream.receive_some(1000):
        received += data
    return received


async def fails(number: int, operation: Callable[[], Awaitable[object]]) -> None:
    """It fails with this errno."""
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        await operation()
    assert caught.value.errno == number


def left_open(network: Network) -> list[object]:
    """Whatever nobody has closed."""
    return [*network.open_sockets, *network.open_streams, *network.open_listeners]


def fails_at_once(number: int, operation: Callable[[], object]) -> None:
    """The same for what is not awaited."""
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        operation()
    assert caught.value.errno == number
