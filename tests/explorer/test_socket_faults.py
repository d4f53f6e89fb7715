"""Each step of a socket is an operation, and what each fault makes of it."""

from __future__ import annotations

import errno
import socket
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from tests.explorer.network_helpers import counting, expect, fault, waits_for_ever
from tests.explorer.socket_helpers import connected_sockets, connected_streams, fails
from trio_broker.explorer.addresses import Resolver
from trio_broker.explorer.faults import Fault
from trio_broker.explorer.network import Network


async def test_writes_are_short_and_each_is_an_operation() -> None:
    network = Network(buffer_bytes=100, write_bytes_max=4)
    network.install()
    with counting() as operations:
        ours, theirs = await connected_streams()
        assert operations.count == 2
        assert await ours.socket.send(b"abcdefghij") == 4
        assert operations.count == 3
        await ours.send_all(b"efghij")
        assert operations.count == 5
        assert await theirs.receive_some() == b"abcdefghij"
        await ours.wait_send_all_might_not_block()
        assert operations.count == 6
        await ours.send_eof()
        assert operations.count == 7
        await trio.socket.getaddrinfo("any.where", 80)
        assert operations.count == 8
        await ours.aclose()
        await expect(trio.ClosedResourceError, ours.receive_some)
        assert operations.count == 8


async def test_a_full_buffer_makes_the_sender_wait(autojump_clock: MockClock) -> None:
    Network(buffer_bytes=10, write_bytes_max=4).install()
    ours, theirs = await connected_sockets()
    await trio.SocketStream(ours).send_all(bytes(10))
    assert await waits_for_ever(partial(ours.send, b"x"))
    assert await waits_for_ever(ours.wait_writable)
    assert await theirs.recv(3) == bytes(3)
    await ours.wait_writable()
    assert await ours.send(bytes(100)) == 3


AT_EACH_OPERATION = pytest.mark.parametrize("operation", ["send", "recv", "shutdown"])


async def _do(made: trio.socket.SocketType, operation: str) -> object:
    match operation:
        case "send":
            return await made.send(b"abcdefgh")
        case "recv":
            return await made.recv(100)
        case _:
            await trio.lowlevel.checkpoint()
            made.shutdown(socket.SHUT_WR)
            return None


@AT_EACH_OPERATION
async def test_a_reset_of_the_connection(network: Network, operation: str) -> None:
    ours, theirs = await connected_sockets()
    await theirs.send(b"lost")
    number = errno.ENOTCONN if operation == "shutdown" else errno.ECONNRESET
    with fault(Fault.RESET):
        await fails(number, partial(_do, ours, operation))
    await fails(errno.ECONNRESET, partial(theirs.recv, 1))
    await expect(trio.BrokenResourceError, trio.SocketStream(theirs).send_eof)
    assert not theirs.did_shutdown_SHUT_WR
    await fails(errno.EPIPE, partial(theirs.send, b"x"))


@AT_EACH_OPERATION
async def test_an_early_end(network: Network, operation: str, autojump_clock: MockClock) -> None:
    ours, theirs = await connected_sockets()
    with fault(Fault.EOF):
        await _do(ours, operation)
    assert await ours.recv(1) == b""
    assert await theirs.send(b"x") == 1
    if operation != "shutdown":
        assert await waits_for_ever(partial(theirs.recv, 1))


@AT_EACH_OPERATION
async def test_a_stall(network: Network, operation: str, autojump_clock: MockClock) -> None:
    ours, theirs = await connected_sockets()
    await theirs.send(b"lost")
    with fault(Fault.STALL):
        assert await waits_for_ever(partial(_do, ours, operation)) == (operation != "shutdown")
    assert ours.did_shutdown_SHUT_WR == (operation == "shutdown")
    assert not ours.is_readable()
    for made in (ours, theirs):
        assert await waits_for_ever(partial(made.recv, 1))
    assert await waits_for_ever(partial(theirs.send, b"x"))
    assert await waits_for_ever(theirs.wait_writable)
    ours.close()
    assert await waits_for_ever(partial(theirs.recv, 1))


@AT_EACH_OPERATION
async def test_a_short_operation(network: Network, operation: str) -> None:
    ours, theirs = await connected_sockets()
    await theirs.send(b"abc")
    with fault(Fault.SHORT):
        assert await _do(ours, operation) == {"send": 1, "recv": b"a", "shutdown": None}[operation]


async def test_faults_of_connect_and_accept(network: Network, autojump_clock: MockClock) -> None:
    (listener,) = await trio.open_tcp_listeners(80, host="127.0.0.1")
    with fault(Fault.RESET):
        await expect(OSError, partial(trio.open_tcp_stream, "127.0.0.1", 80))
    with fault(Fault.STALL):
        assert await waits_for_ever(partial(trio.open_tcp_stream, "127.0.0.1", 80))
    with fault(Fault.EOF):
        ours = await trio.open_tcp_stream("127.0.0.1", 80)
    assert await ours.receive_some() == b""
    assert not listener.socket.is_readable()
    await ours.aclose()
    ours = await trio.open_tcp_stream("127.0.0.1", 80)
    with fault(Fault.RESET):
        await fails(errno.EMFILE, listener.accept)
    with fault(Fault.EOF):
        theirs = await listener.accept()
    assert await theirs.receive_some() == b""
    assert network.open_sockets == (listener.socket, ours.socket, theirs.socket)


async def test_faults_of_a_look_up(network: Network, autojump_clock: MockClock) -> None:
    look_up = partial(trio.socket.getaddrinfo, "any.where", 80)
    for kind, number in ((Fault.EOF, socket.EAI_NONAME), (Fault.RESET, socket.EAI_AGAIN)):
        with fault(kind), pytest.raises(socket.gaierror) as caught:
            await look_up()
        assert caught.value.errno == number
    with fault(Fault.STALL):
        assert await waits_for_ever(look_up)
    with fault(Fault.SHORT):
        assert await look_up()
    with counting() as operations, trio.CancelScope() as scope:
        scope.cancel()
        await Resolver({}).getaddrinfo(b"any.where", 80)  # itself, since Trio has a checkpoint before it
    assert scope.cancelled_caught
    assert operations.count == 0
