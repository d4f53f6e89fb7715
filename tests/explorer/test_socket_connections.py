"""What a program can do with one connection and its options: the same on real sockets; and what is not modelled."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.explorer.network_helpers import expect
from tests.explorer.socket_helpers import connected_sockets, connected_streams, fails, fails_at_once, read_to_the_end
from trio_broker.explorer.network import Network

# -- the same on real sockets -----------------------------------------------------------------------------------------


async def test_a_connection_has_two_ends_that_know_each_other(either: None) -> None:
    ours, theirs = await connected_streams()
    assert ours.socket.getsockname() == theirs.socket.getpeername()
    assert ours.socket.getpeername() == theirs.socket.getsockname()
    assert ours.socket.getsockname()[0] == "127.0.0.1"
    assert ours.socket.family == theirs.socket.family == socket.AF_INET
    assert ours.socket.type == theirs.socket.type == socket.SOCK_STREAM
    assert theirs.socket.proto == socket.IPPROTO_TCP
    await ours.send_all(b"ping")
    assert await theirs.receive_some(100) == b"ping"
    await theirs.send_all(b"pong")
    assert await ours.receive_some(2) == b"po"
    assert await ours.receive_some() == b"ng"
    await ours.aclose()
    await theirs.aclose()


async def test_what_anyio_asks_for_under_a_socket_is_there(either: None) -> None:
    ours, theirs = await connected_sockets()
    with ours, theirs:
        trusted: Any = ours
        under = trusted._sock
        assert (under.family, under.getsockname()) == (ours.family, theirs.getpeername())
        under.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_a_half_close_ends_one_direction(either: None) -> None:
    ours, theirs = await connected_streams()
    async with ours, theirs:
        await ours.send_all(b"question")
        await ours.send_eof()
        assert ours.socket.did_shutdown_SHUT_WR
        await ours.send_eof()
        await expect(trio.ClosedResourceError, partial(ours.send_all, b"x"))
        await fails(errno.EPIPE, partial(ours.socket.send, b"x"))
        await ours.wait_send_all_might_not_block()
        assert await read_to_the_end(theirs) == b"question"
        assert await theirs.receive_some() == b""
        await theirs.send_all(b"answer")
        assert await ours.receive_some() == b"answer"
        assert not theirs.socket.did_shutdown_SHUT_WR


async def test_small_receives_and_sends(either: None) -> None:
    ours, theirs = await connected_sockets()
    assert await ours.send(b"") == 0
    assert await ours.recv(0) == b""
    assert await ours.send(memoryview(b"abcdefgh").cast("I")) == 8
    room = bytearray(3)
    assert await theirs.recv_into(room) == 3
    assert await theirs.recv_into(room, 2) == 2
    assert room == b"dec"
    assert await theirs.recv_into(bytearray()) == 0
    for wrong in (partial(theirs.recv_into, room, 4), partial(theirs.recv_into, room, -1), partial(theirs.recv, -1)):
        await expect(ValueError, wrong)
    await expect(TypeError, partial(ours.send, "text"))  # type: ignore[arg-type]  # on purpose
    ours.shutdown(socket.SHUT_RDWR)
    assert ours.did_shutdown_SHUT_WR
    assert await ours.recv(10) == b""
    assert await theirs.recv(10) == b"fgh"
    assert await theirs.recv(10) == b""
    ours.close()
    theirs.close()


async def test_shutting_what_is_received_ends_a_wait_for_it(either: None) -> None:
    ours, theirs = await connected_sockets()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_equals, b"", partial(ours.recv, 1))
        await wait_all_tasks_blocked(0.01)
        ours.shutdown(socket.SHUT_RD)
    assert await ours.send(b"x") == 1
    assert await theirs.recv(10) == b"x"
    ours.close()
    theirs.close()


async def _equals(expected: object, operation: Callable[[], Awaitable[object]]) -> None:
    assert await operation() == expected


async def test_one_task_waits_in_each_direction(either: None) -> None:
    ours, theirs = await connected_sockets()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.recv, 1)
        await wait_all_tasks_blocked(0.01)
        await expect(trio.BusyResourceError, partial(ours.recv, 1))
        await ours.send(b"x")  # the other direction is free
        await theirs.send(b"12")
    assert await ours.recv(10) == b"2"
    listening = trio.socket.socket()
    await listening.bind(("127.0.0.1", 0))
    listening.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listening.accept)
        await wait_all_tasks_blocked(0.01)
        await expect(trio.BusyResourceError, listening.accept)
        nursery.cancel_scope.cancel()
    for made in (ours, theirs, listening):
        made.close()


async def test_options_are_remembered(either: None) -> None:
    ours, theirs = await connected_streams()
    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0  # as SocketStream has it
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, struct.pack("i", 1))
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 4) == struct.pack("i", 1)
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == socket.AF_INET
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) == socket.IPPROTO_TCP
    fails_at_once(errno.ENOPROTOOPT, partial(ours.setsockopt, socket.IPPROTO_TCP, 999, 1))
    with pytest.raises(TypeError):
        ours.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, None)  # type: ignore[call-overload]  # on purpose
    assert not ours.socket.get_inheritable()
    await ours.aclose()
    await theirs.aclose()


# -- what is not modelled ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "kind", "proto"),
    [
        (socket.AF_UNIX, socket.SOCK_STREAM, 0),
        (socket.AF_INET, socket.SOCK_DGRAM, 0),
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP),
    ],
)
async def test_other_sockets_are_refused(network: Network, family: int, kind: int, proto: int) -> None:
    with pytest.raises(NotImplementedError, match="AF_INET and AF_INET6, the type SOCK_STREAM"):
        trio.socket.socket(family, kind, proto)
    assert network.open_sockets == ()


@pytest.mark.parametrize(
    "name", ["detach", "dup", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "sendmsg", "sendto"]
)
async def test_other_methods_are_refused(network: Network, name: str) -> None:
    with trio.socket.socket() as made, pytest.raises(NotImplementedError, match=rf"no {name}\(\): it does bind"):
        getattr(made, name)(b"", 0)


async def test_flags_and_unknown_options_are_refused(network: Network) -> None:
    ours, _theirs = await connected_sockets()
    await expect(NotImplementedError, partial(ours.recv, 1, socket.MSG_PEEK))
    await expect(NotImplementedError, partial(ours.send, b"x", socket.MSG_OOB))
    fails_at_once(errno.ENOPROTOOPT, partial(ours.setsockopt, socket.SOL_SOCKET, socket.SO_REUSEPORT, 1))
    fails_at_once(errno.ENOPROTOOPT, partial(ours.getsockopt, socket.SOL_SOCKET, socket.SO_REUSEPORT))
