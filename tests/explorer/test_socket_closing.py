"""How a connection ends, with a close, a half-close or a reset, who is woken by it, and what was left open."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.explorer.network_helpers import expect, waits_for_ever
from tests.explorer.socket_helpers import (
    connected_sockets,
    connected_streams,
    fails,
    fails_at_once,
    left_open,
    read_to_the_end,
)
from trio_broker.explorer.network import Network

# -- the same on real sockets -----------------------------------------------------------------------------------------


async def test_the_peer_of_a_closed_end_reads_the_rest_and_soon_cannot_send(either: None) -> None:
    ours, theirs = await connected_streams()
    await ours.send_all(b"rest")
    await ours.aclose()
    assert await read_to_the_end(theirs) == b"rest"
    assert theirs.socket.is_readable()
    with pytest.raises(trio.BrokenResourceError) as caught:
        for _ in range(100):
            await theirs.send_all(b"x")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EPIPE
    assert await theirs.receive_some() == b""
    await expect(trio.BrokenResourceError, theirs.send_eof)
    await theirs.aclose()


async def test_a_close_with_unread_input_is_a_reset_that_is_told_once(either: None) -> None:
    ours, theirs = await connected_sockets()
    await theirs.send(b"unread")
    await ours.send(b"rest")
    while not ours.is_readable():
        await trio.lowlevel.checkpoint()
    ours.close()
    assert await theirs.recv(100) == b"rest"
    await fails(errno.ECONNRESET, partial(theirs.recv, 100))
    assert await theirs.recv(100) == b""
    await fails(errno.EPIPE, partial(theirs.send, b"x"))
    fails_at_once(errno.ENOTCONN, partial(theirs.shutdown, socket.SHUT_WR))
    fails_at_once(errno.ENOTCONN, theirs.getpeername)
    theirs.close()


async def test_a_reset_can_be_told_to_who_sends(either: None) -> None:
    ours, theirs = await connected_sockets()
    await theirs.send(b"unread")
    while not ours.is_readable():
        await trio.lowlevel.checkpoint()
    ours.close()
    while not theirs.is_readable():
        await trio.lowlevel.checkpoint()
    await fails(errno.ECONNRESET, partial(theirs.send, b"x"))
    await fails(errno.EPIPE, partial(theirs.send, b"x"))
    assert await theirs.recv(100) == b""
    theirs.close()


async def test_after_the_end_of_data_a_reset_is_a_broken_pipe(either: None) -> None:
    ours, theirs = await connected_sockets()
    await theirs.send(b"unread")
    while not ours.is_readable():
        await trio.lowlevel.checkpoint()
    ours.shutdown(socket.SHUT_WR)
    assert await theirs.recv(100) == b""
    ours.close()
    with pytest.raises(BrokenPipeError):
        for _ in range(100):
            await theirs.send(b"x")
    assert await theirs.recv(100) == b""
    theirs.close()


async def test_to_linger_not_is_to_reset(either: None) -> None:
    ours, theirs = await connected_sockets()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ours.close()
    while not theirs.is_readable():
        await trio.lowlevel.checkpoint()
    assert theirs.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
    assert theirs.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert await theirs.recv(100) == b""
    theirs.close()


@pytest.mark.parametrize("wait", ["recv", "accept"])
async def test_closing_a_socket_wakes_its_task(either: None, wait: str) -> None:
    ours, theirs = await connected_sockets()
    listening = trio.socket.socket()
    listening.listen()
    closed = ours if wait == "recv" else listening
    async with trio.open_nursery() as nursery:
        operation: Callable[[], Awaitable[object]] = partial(ours.recv, 1) if wait == "recv" else listening.accept
        nursery.start_soon(expect, trio.ClosedResourceError, operation)
        await wait_all_tasks_blocked(0.01)
        closed.close()
    for made in (ours, theirs, listening):
        made.close()


async def test_a_closed_socket_says_so(either: None) -> None:
    ours, theirs = await connected_sockets()
    stream = trio.SocketStream(ours)
    await stream.aclose()
    await stream.aclose()
    assert ours.fileno() == -1
    assert ours.family == socket.AF_INET
    await expect(trio.ClosedResourceError, partial(stream.send_all, b"x"))
    await expect(trio.ClosedResourceError, partial(stream.send_all, b""))
    await expect(trio.ClosedResourceError, stream.receive_some)
    await expect(trio.ClosedResourceError, stream.send_eof)
    await expect(trio.ClosedResourceError, stream.wait_send_all_might_not_block)
    for operation in (
        partial(ours.recv, 1),
        partial(ours.send, b"x"),
        ours.accept,
        partial(ours.bind, ("127.0.0.1", 0)),
        partial(ours.connect, ("127.0.0.1", 1)),
    ):
        await fails(errno.EBADF, operation)
    for at_once in (
        ours.getsockname,
        ours.getpeername,
        ours.listen,
        partial(ours.shutdown, socket.SHUT_WR),
        partial(ours.getsockopt, socket.SOL_SOCKET, socket.SO_TYPE),
        partial(ours.setsockopt, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ):
        fails_at_once(errno.EBADF, at_once)
    for not_a_file in (ours.is_readable, partial(waits_for_ever, ours.wait_writable)):
        with pytest.raises(ValueError, match="negative"):
            await not_a_file() if isinstance(not_a_file, partial) else not_a_file()
    theirs.close()


async def test_what_needs_a_connection_says_so(either: None) -> None:
    fresh = trio.socket.socket()
    assert fresh.fileno() != -1
    await fails(errno.ENOTCONN, partial(fresh.recv, 1))
    await fails(errno.EPIPE, partial(fresh.send, b"x"))
    await fails(errno.EINVAL, fresh.accept)
    fails_at_once(errno.ENOTCONN, fresh.getpeername)
    fails_at_once(errno.ENOTCONN, partial(fresh.shutdown, socket.SHUT_WR))
    assert fresh.getsockname() == ("0.0.0.0", 0)
    await fresh.wait_writable()
    assert fresh.is_readable()
    fresh.listen()
    fresh.listen(5)
    assert fresh.getsockname()[1] > 0
    assert not fresh.is_readable()
    await fails(errno.EISCONN, partial(fresh.connect, ("127.0.0.1", 1)))
    await fails(errno.EINVAL, partial(fresh.bind, ("127.0.0.1", 0)))
    fresh.close()
    ours, theirs = await connected_sockets()
    await fails(errno.EISCONN, partial(theirs.connect, ours.getsockname()))
    await fails(errno.EINVAL, partial(ours.bind, ("127.0.0.1", 0)))
    await fails(errno.EINVAL, ours.accept)
    fails_at_once(errno.EINVAL, ours.listen)
    fails_at_once(errno.EINVAL, partial(ours.shutdown, 9))
    ours.close()
    theirs.close()


# -- what is left -----------------------------------------------------------------------------------------------------


async def test_the_network_knows_what_was_not_closed(network: Network) -> None:
    fresh = trio.socket.socket()
    listeners = await trio.open_tcp_listeners(80)
    ours = await trio.open_tcp_stream("127.0.0.1", 80)
    theirs = await listeners[0].accept()
    sockets = [fresh, listeners[0].socket, listeners[1].socket, ours.socket, theirs.socket]
    assert left_open(network) == [*sockets, *network.streams, *network.open_listeners]
    assert len(network.open_streams) == len(network.open_listeners) == 2
    assert "('127.0.0.1', 80), connected" in repr(theirs.socket)
    assert "listening" in repr(listeners[0].socket)
    await ours.aclose()
    assert [*network.open_streams] == [network.streams[1]]
    for listener in listeners:
        await listener.aclose()
    await theirs.aclose()
    assert left_open(network) == [fresh]
    fresh.close()
    assert left_open(network) == []
    assert "closed" in repr(fresh)


async def test_a_failed_open_leaves_nothing(network: Network) -> None:
    await expect(OSError, partial(trio.open_tcp_stream, "any.where", 80))
    (listener,) = await trio.open_tcp_listeners(80, host="::")
    await expect(OSError, partial(trio.open_tcp_listeners, 80))  # 0.0.0.0 is free, :: is not
    assert left_open(network) == [listener.socket, *network.open_listeners]
    (other,) = await trio.open_tcp_listeners(80, host="0.0.0.0")
    await listener.aclose()
    await other.aclose()
    assert left_open(network) == []


# -- a full buffer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["send", "wait_writable"])
async def test_closing_a_socket_wakes_a_task_that_waits_for_room(operation: str) -> None:
    Network(buffer_bytes=4).install()
    ours, theirs = await connected_sockets()
    await ours.send(bytes(4))
    wait: Callable[[], Awaitable[object]] = partial(ours.send, b"x") if operation == "send" else ours.wait_writable
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, trio.ClosedResourceError, wait)
        await wait_all_tasks_blocked()
        ours.close()
    ours, theirs = await connected_sockets()
    await ours.send(bytes(4))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, errno.EPIPE, partial(ours.send, b"x"))
        await wait_all_tasks_blocked()
        theirs.shutdown(socket.SHUT_RDWR)


async def test_a_send_that_waits_learns_that_its_direction_was_ended() -> None:
    Network(buffer_bytes=4).install()
    ours, _theirs = await connected_sockets()
    await ours.send(bytes(4))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, errno.EPIPE, partial(ours.send, b"x"))
        await wait_all_tasks_blocked()
        ours.shutdown(socket.SHUT_WR)


async def test_after_both_directions_were_shut_a_peer_that_sends_fails(network: Network) -> None:
    ours, theirs = await connected_sockets()
    ours.shutdown(socket.SHUT_RDWR)
    await fails(errno.EPIPE, partial(theirs.send, b"x"))
