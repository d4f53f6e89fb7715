from __future__ import annotations

import errno
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, open_stream_to_socket_listener, wait_all_tasks_blocked

from tests.explorer.helpers import failing, holding
from tests.explorer.network_helpers import cancelled_at, counting, fault, waits_for_ever
from trio_broker.explorer import afterwards
from trio_broker.explorer.addresses import Resolver
from trio_broker.explorer.faults import Fault
from trio_broker.explorer.internals import enclosing_scopes
from trio_broker.explorer.network import Network
from trio_broker.explorer.sockets import VirtualSocket

BOTH_MOMENTS = pytest.mark.parametrize("before", [False, True], ids=["after", "before"])


@pytest.fixture
async def network() -> Network:
    network = Network()
    network.install()
    return network


async def _connected(host: str = "127.0.0.1") -> tuple[trio.SocketStream, trio.SocketStream]:
    """The two ends of a new connection, without their listener."""
    (listener,) = await trio.open_tcp_listeners(0, host=host)
    async with listener:
        ours = await open_stream_to_socket_listener(listener)
        return ours, await listener.accept()


async def _pair() -> tuple[trio.socket.SocketType, trio.socket.SocketType]:
    ours, theirs = await _connected()
    return ours.socket, theirs.socket


async def _read_all(stream: trio.abc.ReceiveStream) -> bytes:
    received = b""
    while data := await stream.receive_some(1000):
        received += data
    return received


async def _fails(number: int, operation: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        await operation()
    assert caught.value.errno == number


def _left_open(network: Network) -> list[object]:
    return [*network.open_sockets, *network.open_streams, *network.open_listeners]


async def _expect(error: type[Exception], operation: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(error):
        await operation()


def _fails_at_once(number: int, operation: Callable[[], object]) -> None:
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        operation()
    assert caught.value.errno == number


# -- the same on real sockets -----------------------------------------------------------------------------------------


@pytest.fixture(params=["real", "virtual"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """What the virtual sockets do is what Trio's do over the loopback interface."""
    network = Network() if request.param == "virtual" else None
    if network is not None:
        network.install()
    yield
    with trio.socket.socket() as made:
        assert isinstance(made, VirtualSocket) == (network is not None)
    if network is not None:  # a real socket that was left open is a ResourceWarning
        assert _left_open(network) == []


async def test_a_connection_has_two_ends_that_know_each_other(either: None) -> None:
    ours, theirs = await _connected()
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
    ours, theirs = await _pair()
    with ours, theirs:
        trusted: Any = ours
        under = trusted._sock
        assert (under.family, under.getsockname()) == (ours.family, theirs.getpeername())
        under.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_a_half_close_ends_one_direction(either: None) -> None:
    ours, theirs = await _connected()
    async with ours, theirs:
        await ours.send_all(b"question")
        await ours.send_eof()
        assert ours.socket.did_shutdown_SHUT_WR
        await ours.send_eof()
        await _expect(trio.ClosedResourceError, partial(ours.send_all, b"x"))
        await _fails(errno.EPIPE, partial(ours.socket.send, b"x"))
        await ours.wait_send_all_might_not_block()
        assert await _read_all(theirs) == b"question"
        assert await theirs.receive_some() == b""
        await theirs.send_all(b"answer")
        assert await ours.receive_some() == b"answer"
        assert not theirs.socket.did_shutdown_SHUT_WR


async def test_the_peer_of_a_closed_end_reads_the_rest_and_soon_cannot_send(either: None) -> None:
    ours, theirs = await _connected()
    await ours.send_all(b"rest")
    await ours.aclose()
    assert await _read_all(theirs) == b"rest"
    assert theirs.socket.is_readable()
    with pytest.raises(trio.BrokenResourceError) as caught:
        for _ in range(100):
            await theirs.send_all(b"x")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EPIPE
    assert await theirs.receive_some() == b""
    await _expect(trio.BrokenResourceError, theirs.send_eof)
    await theirs.aclose()


async def test_a_close_with_unread_input_is_a_reset_that_is_told_once(either: None) -> None:
    ours, theirs = await _pair()
    await theirs.send(b"unread")
    await ours.send(b"rest")
    while not ours.is_readable():
        await trio.lowlevel.checkpoint()
    ours.close()
    assert await theirs.recv(100) == b"rest"
    await _fails(errno.ECONNRESET, partial(theirs.recv, 100))
    assert await theirs.recv(100) == b""
    await _fails(errno.EPIPE, partial(theirs.send, b"x"))
    _fails_at_once(errno.ENOTCONN, partial(theirs.shutdown, socket.SHUT_WR))
    _fails_at_once(errno.ENOTCONN, theirs.getpeername)
    theirs.close()


async def test_a_reset_can_be_told_to_who_sends(either: None) -> None:
    ours, theirs = await _pair()
    await theirs.send(b"unread")
    while not ours.is_readable():
        await trio.lowlevel.checkpoint()
    ours.close()
    while not theirs.is_readable():
        await trio.lowlevel.checkpoint()
    await _fails(errno.ECONNRESET, partial(theirs.send, b"x"))
    await _fails(errno.EPIPE, partial(theirs.send, b"x"))
    assert await theirs.recv(100) == b""
    theirs.close()


async def test_after_the_end_of_data_a_reset_is_a_broken_pipe(either: None) -> None:
    ours, theirs = await _pair()
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
    ours, theirs = await _pair()
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
    ours, theirs = await _pair()
    listening = trio.socket.socket()
    listening.listen()
    closed = ours if wait == "recv" else listening
    async with trio.open_nursery() as nursery:
        operation: Callable[[], Awaitable[object]] = partial(ours.recv, 1) if wait == "recv" else listening.accept
        nursery.start_soon(_expect, trio.ClosedResourceError, operation)
        await wait_all_tasks_blocked(0.01)
        closed.close()
    for made in (ours, theirs, listening):
        made.close()


async def test_a_closed_socket_says_so(either: None) -> None:
    ours, theirs = await _pair()
    stream = trio.SocketStream(ours)
    await stream.aclose()
    await stream.aclose()
    assert ours.fileno() == -1
    assert ours.family == socket.AF_INET
    await _expect(trio.ClosedResourceError, partial(stream.send_all, b"x"))
    await _expect(trio.ClosedResourceError, partial(stream.send_all, b""))
    await _expect(trio.ClosedResourceError, stream.receive_some)
    await _expect(trio.ClosedResourceError, stream.send_eof)
    await _expect(trio.ClosedResourceError, stream.wait_send_all_might_not_block)
    for operation in (
        partial(ours.recv, 1),
        partial(ours.send, b"x"),
        ours.accept,
        partial(ours.bind, ("127.0.0.1", 0)),
        partial(ours.connect, ("127.0.0.1", 1)),
    ):
        await _fails(errno.EBADF, operation)
    for at_once in (
        ours.getsockname,
        ours.getpeername,
        ours.listen,
        partial(ours.shutdown, socket.SHUT_WR),
        partial(ours.getsockopt, socket.SOL_SOCKET, socket.SO_TYPE),
        partial(ours.setsockopt, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ):
        _fails_at_once(errno.EBADF, at_once)
    for not_a_file in (ours.is_readable, partial(waits_for_ever, ours.wait_writable)):
        with pytest.raises(ValueError, match="negative"):
            await not_a_file() if isinstance(not_a_file, partial) else not_a_file()
    theirs.close()


async def test_what_needs_a_connection_says_so(either: None) -> None:
    fresh = trio.socket.socket()
    assert fresh.fileno() != -1
    await _fails(errno.ENOTCONN, partial(fresh.recv, 1))
    await _fails(errno.EPIPE, partial(fresh.send, b"x"))
    await _fails(errno.EINVAL, fresh.accept)
    _fails_at_once(errno.ENOTCONN, fresh.getpeername)
    _fails_at_once(errno.ENOTCONN, partial(fresh.shutdown, socket.SHUT_WR))
    assert fresh.getsockname() == ("0.0.0.0", 0)
    await fresh.wait_writable()
    assert fresh.is_readable()
    fresh.listen()
    fresh.listen(5)
    assert fresh.getsockname()[1] > 0
    assert not fresh.is_readable()
    await _fails(errno.EISCONN, partial(fresh.connect, ("127.0.0.1", 1)))
    await _fails(errno.EINVAL, partial(fresh.bind, ("127.0.0.1", 0)))
    fresh.close()
    ours, theirs = await _pair()
    await _fails(errno.EISCONN, partial(theirs.connect, ours.getsockname()))
    await _fails(errno.EINVAL, partial(ours.bind, ("127.0.0.1", 0)))
    await _fails(errno.EINVAL, ours.accept)
    _fails_at_once(errno.EINVAL, ours.listen)
    _fails_at_once(errno.EINVAL, partial(ours.shutdown, 9))
    ours.close()
    theirs.close()


async def test_small_receives_and_sends(either: None) -> None:
    ours, theirs = await _pair()
    assert await ours.send(b"") == 0
    assert await ours.recv(0) == b""
    assert await ours.send(memoryview(b"abcdefgh").cast("I")) == 8
    room = bytearray(3)
    assert await theirs.recv_into(room) == 3
    assert await theirs.recv_into(room, 2) == 2
    assert room == b"dec"
    assert await theirs.recv_into(bytearray()) == 0
    for wrong in (partial(theirs.recv_into, room, 4), partial(theirs.recv_into, room, -1), partial(theirs.recv, -1)):
        await _expect(ValueError, wrong)
    await _expect(TypeError, partial(ours.send, "text"))  # type: ignore[arg-type]  # on purpose
    ours.shutdown(socket.SHUT_RDWR)
    assert ours.did_shutdown_SHUT_WR
    assert await ours.recv(10) == b""
    assert await theirs.recv(10) == b"fgh"
    assert await theirs.recv(10) == b""
    ours.close()
    theirs.close()


async def test_shutting_what_is_received_ends_a_wait_for_it(either: None) -> None:
    ours, theirs = await _pair()
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
    ours, theirs = await _pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.recv, 1)
        await wait_all_tasks_blocked(0.01)
        await _expect(trio.BusyResourceError, partial(ours.recv, 1))
        await ours.send(b"x")  # the other direction is free
        await theirs.send(b"12")
    assert await ours.recv(10) == b"2"
    listening = trio.socket.socket()
    await listening.bind(("127.0.0.1", 0))
    listening.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listening.accept)
        await wait_all_tasks_blocked(0.01)
        await _expect(trio.BusyResourceError, listening.accept)
        nursery.cancel_scope.cancel()
    for made in (ours, theirs, listening):
        made.close()


async def test_ports_are_taken_and_free_again(either: None) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    for host in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(OSError, match="in use") as caught:
            await trio.open_tcp_listeners(port, host=host)
        assert caught.value.errno == errno.EADDRINUSE
    await listener.aclose()
    await _expect(OSError, partial(trio.open_tcp_stream, "127.0.0.1", port))
    (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
    (other,) = await trio.open_tcp_listeners(port, host="127.0.0.2")
    await listener.aclose()
    await _expect(trio.ClosedResourceError, listener.accept)
    await other.aclose()


async def test_a_port_that_was_only_bound_is_free_again(either: None) -> None:
    first, second = trio.socket.socket(), trio.socket.socket()
    await first.bind(("127.0.0.1", 0))
    place = first.getsockname()
    await _fails(errno.EADDRINUSE, partial(second.bind, place))
    first.close()
    await second.bind(place)
    second.close()


async def test_to_connect_to_nobody_is_refused_and_can_be_tried_again(either: None) -> None:
    bound = trio.socket.socket()
    await bound.bind(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    with pytest.raises(OSError, match="all attempts to connect") as caught:
        await trio.open_tcp_stream("127.0.0.1", port)
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    (refused,) = caught.value.__cause__.exceptions
    assert isinstance(refused, ConnectionRefusedError)
    assert f"('127.0.0.1', {port})" in str(refused)
    bound.listen()
    assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
    bound.close()


async def test_a_listener_that_closes_resets_who_waits_in_its_backlog(either: None) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    waiting = await open_stream_to_socket_listener(listener)
    await listener.aclose()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await waiting.receive_some()
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    await waiting.aclose()


async def test_who_connects_may_choose_its_address(either: None) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    ours = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1], local_address="127.0.0.3")
    accepted, address = await listener.socket.accept()
    assert address == ours.socket.getsockname() == accepted.getpeername()
    assert address[0] == "127.0.0.3"
    for made in (listener.socket, ours.socket, accepted):
        made.close()


async def test_options_are_remembered(either: None) -> None:
    ours, theirs = await _connected()
    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0  # as SocketStream has it
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, struct.pack("i", 1))
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 4) == struct.pack("i", 1)
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == socket.AF_INET
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) == socket.IPPROTO_TCP
    _fails_at_once(errno.ENOPROTOOPT, partial(ours.setsockopt, socket.IPPROTO_TCP, 999, 1))
    with pytest.raises(TypeError):
        ours.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, None)  # type: ignore[call-overload]  # on purpose
    assert not ours.socket.get_inheritable()
    await ours.aclose()
    await theirs.aclose()


async def test_addresses_are_checked(either: None) -> None:
    with trio.socket.socket() as fresh:
        for wrong in (7, ("127.0.0.1",), ("127.0.0.1", 0, 0)):
            await _expect(ValueError, partial(fresh.bind, wrong))
        await _expect(OverflowError, partial(fresh.bind, ("127.0.0.1", 70_000)))
        await _expect(socket.gaierror, partial(fresh.bind, ("::1", 0)))
        await fresh.bind(("", 0))
        assert fresh.getsockname()[0] == "0.0.0.0"
    assert fresh.fileno() == -1


async def test_a_cancelled_connect_closes_its_socket(either: None) -> None:
    ours = trio.socket.socket()
    with trio.CancelScope() as scope:
        scope.cancel()
        await ours.connect(("127.0.0.1", 1))
    assert scope.cancelled_caught
    assert ours.fileno() == -1


@pytest.mark.parametrize("operation", ["send", "recv", "recv_into", "accept", "wait_writable", "bind"])
async def test_a_cancelled_task_is_cancelled_at_once_and_nothing_has_happened(either: None, operation: str) -> None:
    ours, theirs = await _pair()
    listening, fresh = trio.socket.socket(), trio.socket.socket()
    await listening.bind(("127.0.0.1", 0))
    listening.listen()
    connected = trio.socket.socket()
    await connected.connect(listening.getsockname())
    await theirs.send(b"abc")
    while not ours.is_readable():
        await trio.lowlevel.checkpoint()
    operations: dict[str, Callable[[], Awaitable[object]]] = {
        "send": partial(ours.send, b"x"),
        "recv": partial(ours.recv, 10),
        "recv_into": partial(ours.recv_into, bytearray(10)),
        "accept": listening.accept,
        "wait_writable": ours.wait_writable,
        "bind": partial(fresh.bind, ("127.0.0.1", 0)),
    }
    with trio.CancelScope() as scope:
        scope.cancel()
        await operations[operation]()
    assert scope.cancelled_caught
    assert await ours.recv(10) == b"abc"
    ours.shutdown(socket.SHUT_WR)
    assert await theirs.recv(10) == b""
    accepted, _ = await listening.accept()
    assert fresh.getsockname() == ("0.0.0.0", 0)
    for made in (ours, theirs, listening, fresh, connected, accepted):
        made.close()


async def test_serve_tcp(either: None) -> None:
    async def echo(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(await _read_all(stream))

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        stream = await open_stream_to_socket_listener(listeners[0])
        async with stream:
            await stream.send_all(bytes(range(200)))
            await stream.send_eof()
            assert await _read_all(stream) == bytes(range(200))
        nursery.cancel_scope.cancel()
    assert listeners[0].socket.fileno() == -1


async def test_tls_over_it(either: None) -> None:
    """With a cipher that needs no certificate, so that none is needed here."""
    contexts = {side: ssl.SSLContext(getattr(ssl, f"PROTOCOL_TLS_{side}")) for side in ("CLIENT", "SERVER")}
    contexts["CLIENT"].check_hostname = False
    contexts["CLIENT"].verify_mode = ssl.CERT_NONE
    for context in contexts.values():
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("aNULL:@SECLEVEL=0")

    async def answer(stream: trio.SSLStream[trio.SocketStream]) -> None:
        async with stream:
            await stream.send_all(bytes(reversed(await stream.receive_some())))

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    tls_listener = trio.SSLListener(listener, contexts["SERVER"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [tls_listener])
        plain = await open_stream_to_socket_listener(listener)
        async with trio.SSLStream(plain, contexts["CLIENT"], server_hostname="here") as stream:
            await stream.send_all(b"abc")
            assert await _read_all(stream) == b"cba"
        nursery.cancel_scope.cancel()


# -- addresses and names ----------------------------------------------------------------------------------------------


async def test_every_address_has_two_listeners_as_on_a_real_system(network: Network) -> None:
    four, six = await trio.open_tcp_listeners(0)
    assert four.socket.getsockname() == ("0.0.0.0", 49_152)
    assert six.socket.getsockname() == ("::", 49_153, 0, 0)
    both = await trio.open_tcp_listeners(80)
    assert [listener.socket.getsockname()[1] for listener in both] == [80, 80]
    assert [listener.port for listener in network.open_listeners] == [49_152, 49_153, 80, 80]
    ours = await trio.open_tcp_stream("127.0.0.9", 80)
    theirs = await both[0].accept()
    assert theirs.socket.getsockname() == ("127.0.0.9", 80)
    assert theirs.socket.getpeername() == ours.socket.getsockname() == ("127.0.0.1", 32_769)
    ours = await trio.open_tcp_stream("2001:db8::1", 80)
    theirs = await both[1].accept()
    assert theirs.socket.getsockname() == ("2001:db8::1", 80, 0, 0)
    assert theirs.socket.getpeername() == ours.socket.getsockname() == ("::1", 32_770, 0, 0)
    ours = await trio.open_tcp_stream("0.0.0.0", 80)
    assert ours.socket.getpeername() == ("127.0.0.1", 80)


async def test_one_socket_may_listen_to_both_families(network: Network) -> None:
    listening = trio.socket.socket(socket.AF_INET6)
    await listening.bind(("0:0::0", 80))
    listening.listen()
    assert listening.getsockname() == ("::", 80, 0, 0)
    await trio.open_tcp_stream("127.0.0.1", 80)
    accepted, address = await listening.accept()
    assert address == accepted.getpeername() == ("::ffff:127.0.0.1", 32_769, 0, 0)
    await _expect(OSError, partial(trio.open_tcp_listeners, 80, host="127.0.0.1"))


async def test_addresses_are_different_places(network: Network) -> None:
    listeners = [(await trio.open_tcp_listeners(80, host=host))[0] for host in ("192.0.2.1", "192.0.2.2")]
    await trio.open_tcp_stream("192.0.2.2", 80)
    assert [listener.socket.is_readable() for listener in listeners] == [False, True]
    await _expect(OSError, partial(trio.open_tcp_stream, "127.0.0.1", 80))
    await network.connect(80)  # to whoever came first
    assert [listener.socket.is_readable() for listener in listeners] == [True, True]


async def test_streams_without_a_socket_are_on_the_same_network(network: Network) -> None:
    listener = network.listen(80)
    for host in ("127.0.0.1", "::1", "some.where"):
        ours = await trio.open_tcp_stream(host, 80)
        theirs = await listener.accept()
        await theirs.send_all(b"hello")
        assert await ours.receive_some() == b"hello"
    await _expect(OSError, partial(trio.open_tcp_listeners, 80))
    (served,) = await trio.open_tcp_listeners(81, host="127.0.0.1")
    without = await network.connect(81)
    accepted = await served.accept()
    assert accepted.socket.getpeername() == ("127.0.0.1", 32_769 + 3)
    await without.send_all(b"hello")
    assert await accepted.receive_some() == b"hello"
    with pytest.raises(OSError, match="in use"):
        network.listen(81)


async def test_names() -> None:
    network = Network()
    network.install({"one.example": ["2001:db8::1", "192.0.2.1"], "none.example": []})

    async def addresses(host: str | bytes, family: int = 0) -> list[str]:
        entries = await trio.socket.getaddrinfo(host, "http", family, socket.SOCK_STREAM)
        assert {entry[4][1] for entry in entries} == {80}
        return [str(entry[4][0]) for entry in entries]

    assert await addresses("localhost") == await addresses(b"any.where") == ["127.0.0.1", "::1"]
    assert await addresses("any.where", socket.AF_INET6) == ["::1"]
    assert await addresses("ONE.example.") == ["2001:db8::1", "192.0.2.1"]
    assert await addresses("192.0.2.7") == ["192.0.2.7"]
    for unknown in ("none.example", "any.invalid"):
        with pytest.raises(socket.gaierror) as caught:
            await addresses(unknown)
        assert caught.value.errno == socket.EAI_NONAME
    assert await trio.socket.getnameinfo(("192.0.2.1", 80), 0) == ("192.0.2.1", "80")
    with trio.socket.socket() as bound:
        await bound.bind(("one.example", "http"))
        assert bound.getsockname() == ("192.0.2.1", 80)


async def test_the_second_address_is_tried_when_nobody_answers_at_the_first(
    network: Network, autojump_clock: MockClock
) -> None:
    (listener,) = await trio.open_tcp_listeners(80, host="::1")
    await trio.open_tcp_stream("any.where", 80)
    assert trio.current_time() == 0
    with fault(Fault.STALL, at=1):  # the look-up is 0
        stream = await trio.open_tcp_stream("any.where", 80)
    assert trio.current_time() == 0.25
    assert stream.socket.getpeername()[0] == "::1"
    assert len(network.open_sockets) == 3  # the listener, and both streams; what stalled was closed
    await listener.aclose()


def test_install_needs_a_run() -> None:
    with pytest.raises(RuntimeError):
        Network().install()


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
    ours, _theirs = await _pair()
    await _expect(NotImplementedError, partial(ours.recv, 1, socket.MSG_PEEK))
    await _expect(NotImplementedError, partial(ours.send, b"x", socket.MSG_OOB))
    _fails_at_once(errno.ENOPROTOOPT, partial(ours.setsockopt, socket.SOL_SOCKET, socket.SO_REUSEPORT, 1))
    _fails_at_once(errno.ENOPROTOOPT, partial(ours.getsockopt, socket.SOL_SOCKET, socket.SO_REUSEPORT))


# -- what is left -----------------------------------------------------------------------------------------------------


async def test_the_network_knows_what_was_not_closed(network: Network) -> None:
    fresh = trio.socket.socket()
    listeners = await trio.open_tcp_listeners(80)
    ours = await trio.open_tcp_stream("127.0.0.1", 80)
    theirs = await listeners[0].accept()
    sockets = [fresh, listeners[0].socket, listeners[1].socket, ours.socket, theirs.socket]
    assert _left_open(network) == [*sockets, *network.streams, *network.open_listeners]
    assert len(network.open_streams) == len(network.open_listeners) == 2
    assert "('127.0.0.1', 80), connected" in repr(theirs.socket)
    assert "listening" in repr(listeners[0].socket)
    await ours.aclose()
    assert [*network.open_streams] == [network.streams[1]]
    for listener in listeners:
        await listener.aclose()
    await theirs.aclose()
    assert _left_open(network) == [fresh]
    fresh.close()
    assert _left_open(network) == []
    assert "closed" in repr(fresh)


async def test_a_failed_open_leaves_nothing(network: Network) -> None:
    await _expect(OSError, partial(trio.open_tcp_stream, "any.where", 80))
    (listener,) = await trio.open_tcp_listeners(80, host="::")
    await _expect(OSError, partial(trio.open_tcp_listeners, 80))  # 0.0.0.0 is free, :: is not
    assert _left_open(network) == [listener.socket, *network.open_listeners]
    (other,) = await trio.open_tcp_listeners(80, host="0.0.0.0")
    await listener.aclose()
    await other.aclose()
    assert _left_open(network) == []


# -- operations and faults --------------------------------------------------------------------------------------------


async def test_writes_are_short_and_each_is_an_operation() -> None:
    network = Network(buffer_bytes=100, write_bytes_max=4)
    network.install()
    with counting() as operations:
        ours, theirs = await _connected()
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
        await _expect(trio.ClosedResourceError, ours.receive_some)
        assert operations.count == 8


async def test_a_full_buffer_makes_the_sender_wait(autojump_clock: MockClock) -> None:
    Network(buffer_bytes=10, write_bytes_max=4).install()
    ours, theirs = await _pair()
    await trio.SocketStream(ours).send_all(bytes(10))
    assert await waits_for_ever(partial(ours.send, b"x"))
    assert await waits_for_ever(ours.wait_writable)
    assert await theirs.recv(3) == bytes(3)
    await ours.wait_writable()
    assert await ours.send(bytes(100)) == 3


@pytest.mark.parametrize("operation", ["send", "wait_writable"])
async def test_closing_a_socket_wakes_a_task_that_waits_for_room(operation: str) -> None:
    Network(buffer_bytes=4).install()
    ours, theirs = await _pair()
    await ours.send(bytes(4))
    wait: Callable[[], Awaitable[object]] = partial(ours.send, b"x") if operation == "send" else ours.wait_writable
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect, trio.ClosedResourceError, wait)
        await wait_all_tasks_blocked()
        ours.close()
    ours, theirs = await _pair()
    await ours.send(bytes(4))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_fails, errno.EPIPE, partial(ours.send, b"x"))
        await wait_all_tasks_blocked()
        theirs.shutdown(socket.SHUT_RDWR)


async def test_a_send_that_waits_learns_that_its_direction_was_ended() -> None:
    Network(buffer_bytes=4).install()
    ours, _theirs = await _pair()
    await ours.send(bytes(4))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_fails, errno.EPIPE, partial(ours.send, b"x"))
        await wait_all_tasks_blocked()
        ours.shutdown(socket.SHUT_WR)


async def test_after_both_directions_were_shut_a_peer_that_sends_fails(network: Network) -> None:
    ours, theirs = await _pair()
    ours.shutdown(socket.SHUT_RDWR)
    await _fails(errno.EPIPE, partial(theirs.send, b"x"))


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
    ours, theirs = await _pair()
    await theirs.send(b"lost")
    number = errno.ENOTCONN if operation == "shutdown" else errno.ECONNRESET
    with fault(Fault.RESET):
        await _fails(number, partial(_do, ours, operation))
    await _fails(errno.ECONNRESET, partial(theirs.recv, 1))
    await _expect(trio.BrokenResourceError, trio.SocketStream(theirs).send_eof)
    assert not theirs.did_shutdown_SHUT_WR
    await _fails(errno.EPIPE, partial(theirs.send, b"x"))


@AT_EACH_OPERATION
async def test_an_early_end(network: Network, operation: str, autojump_clock: MockClock) -> None:
    ours, theirs = await _pair()
    with fault(Fault.EOF):
        await _do(ours, operation)
    assert await ours.recv(1) == b""
    assert await theirs.send(b"x") == 1
    if operation != "shutdown":
        assert await waits_for_ever(partial(theirs.recv, 1))


@AT_EACH_OPERATION
async def test_a_stall(network: Network, operation: str, autojump_clock: MockClock) -> None:
    ours, theirs = await _pair()
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
    ours, theirs = await _pair()
    await theirs.send(b"abc")
    with fault(Fault.SHORT):
        assert await _do(ours, operation) == {"send": 1, "recv": b"a", "shutdown": None}[operation]


async def test_faults_of_connect_and_accept(network: Network, autojump_clock: MockClock) -> None:
    (listener,) = await trio.open_tcp_listeners(80, host="127.0.0.1")
    with fault(Fault.RESET):
        await _expect(OSError, partial(trio.open_tcp_stream, "127.0.0.1", 80))
    with fault(Fault.STALL):
        assert await waits_for_ever(partial(trio.open_tcp_stream, "127.0.0.1", 80))
    with fault(Fault.EOF):
        ours = await trio.open_tcp_stream("127.0.0.1", 80)
    assert await ours.receive_some() == b""
    assert not listener.socket.is_readable()
    await ours.aclose()
    ours = await trio.open_tcp_stream("127.0.0.1", 80)
    with fault(Fault.RESET):
        await _fails(errno.EMFILE, listener.accept)
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


# -- cancelled while it waits -----------------------------------------------------------------------------------------


@BOTH_MOMENTS
@pytest.mark.parametrize("operation", ["send", "recv", "accept", "connect", "bind", "wait_writable"])
async def test_what_is_cancelled_while_it_waits_has_not_happened(
    operation: str, before: bool, autojump_clock: MockClock
) -> None:
    outcomes = set()
    for step in range(4):
        network = Network(buffer_bytes=4, backlog_max=1)
        network.install()
        ours, theirs = await _pair()
        listening, made = trio.socket.socket(), trio.socket.socket()
        await listening.bind(("127.0.0.1", 80))
        listening.listen()
        if operation in {"send", "wait_writable"}:
            await ours.send(bytes(4))
        elif operation == "connect":
            await network.connect(80)
        operations: dict[str, tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]] = {
            "send": (partial(ours.send, b"x"), partial(theirs.recv, 4)),
            "recv": (partial(ours.recv, 4), partial(theirs.send, b"x")),
            "accept": (listening.accept, partial(network.connect, 80)),
            "connect": (partial(made.connect, ("127.0.0.1", 80)), listening.accept),
            "bind": (partial(made.bind, ("127.0.0.1", 81)), trio.lowlevel.checkpoint),
            "wait_writable": (ours.wait_writable, partial(theirs.recv, 4)),
        }
        do_it, enable = operations[operation]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_when_all_wait, enable)
            cancelled = await cancelled_at(step, do_it, before=before)
        undone: dict[str, Callable[[], Awaitable[bool]]] = {
            "send": partial(waits_for_ever, partial(theirs.recv, 4)),
            "recv": partial(_not, partial(waits_for_ever, partial(ours.recv, 4))),
            "accept": partial(_not, partial(waits_for_ever, listening.accept)),
            "connect": partial(waits_for_ever, listening.accept),
            "bind": partial(_is, made.getsockname, ("0.0.0.0", 0)),
        }
        if operation in undone:
            assert await undone[operation]() == cancelled
        if operation == "connect":
            assert (made.fileno() == -1) == cancelled
        outcomes.add(cancelled)
    assert outcomes == {False, True}


async def _when_all_wait(operation: Callable[[], Awaitable[object]]) -> None:
    await wait_all_tasks_blocked()
    await operation()


async def _not(operation: Callable[[], Awaitable[bool]]) -> bool:
    return not await operation()


async def _is(function: Callable[[], Any], expected: object) -> bool:
    await trio.lowlevel.checkpoint()
    return bool(function() == expected)


async def test_the_scopes_within_open_tcp_stream_are_left_out(network: Network, autojump_clock: MockClock) -> None:
    """A cancellation of these alone is no cancellation that a program can cause; Trio has an assertion against it."""
    opening: list[trio.lowlevel.Task] = []

    async def opener() -> None:
        opening.append(trio.lowlevel.current_task())
        with fault(Fault.STALL, at=0):
            await trio.open_tcp_stream("127.0.0.1", 80)

    with trio.CancelScope() as root:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opener)
            for _ in range(2):  # within the delay before the next address is tried, and when there is none
                await trio.sleep(0.2)
                (private,) = opening[0].child_nurseries
                (connecting,) = private.child_tasks
                for task in (opening[0], connecting):
                    assert enclosing_scopes(task, root) == [nursery.cancel_scope, root]
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["stall", "backlog"])
async def test_closing_a_socket_that_connects_wakes_it(kind: str, autojump_clock: MockClock) -> None:
    network = Network(backlog_max=1)
    network.install()
    listener = network.listen(80)
    made = trio.socket.socket()
    async with trio.open_nursery() as nursery:
        if kind == "stall":
            with fault(Fault.STALL):
                nursery.start_soon(_expect, trio.ClosedResourceError, partial(made.connect, ("127.0.0.1", 80)))
                await wait_all_tasks_blocked()
        else:
            await network.connect(80)
            nursery.start_soon(_expect, trio.ClosedResourceError, partial(made.connect, ("127.0.0.1", 80)))
            await wait_all_tasks_blocked()
        await _fails(errno.EALREADY, partial(made.connect, ("127.0.0.1", 80)))
        made.close()
    if kind == "backlog":
        await listener.accept()
    assert await waits_for_ever(listener.accept)
    await network.connect(80)  # its place was given back
    assert network.open_sockets == ()


async def test_a_socket_that_is_closed_in_the_step_in_which_it_is_connected_leaves_nothing_open(
    network: Network,
) -> None:
    listener = network.listen(80)
    made = trio.socket.socket()

    class Closes(trio.abc.Instrument):
        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            if network.streams:
                made.close()

    closes = Closes()
    trio.lowlevel.add_instrument(closes)
    await _expect(trio.ClosedResourceError, partial(made.connect, ("127.0.0.1", 80)))
    trio.lowlevel.remove_instrument(closes)
    theirs = await listener.accept()
    assert await theirs.receive_some() == b""
    assert network.open_streams == (theirs,)


# -- explored ---------------------------------------------------------------------------------------------------------

MESSAGE = b"one message that is longer than one write, since a write moves no more than 64 bytes\n"


async def _echo(stream: trio.SocketStream) -> None:
    """A server of one line, that survives its peers."""
    async with stream:
        received = b""
        try:
            while not received.endswith(b"\n"):
                data = await stream.receive_some()
                if not data:
                    return
                received += data
            await stream.send_all(received)
        except trio.BrokenResourceError:
            pass


async def _ask(line: bytes) -> bytes:
    """An unmodified program's client; None of what it gets is not whole."""
    async with await trio.open_tcp_stream("127.0.0.1", 7) as stream:
        await stream.send_all(line)
        return await _read_all(stream)


async def _conversation(ask: Callable[[bytes], Awaitable[bytes]], whole: Callable[[bytes], bool]) -> None:
    network = Network()
    network.install()
    answers: list[bytes] = []

    async def check() -> None:
        await trio.lowlevel.checkpoint()
        assert _left_open(network) == []
        assert all(map(whole, answers)), "a partial line was taken for an answer"

    afterwards(check)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_tcp, _echo, 7, host="127.0.0.1"))
        with trio.move_on_after(60):
            try:
                answers.append(await ask(MESSAGE))
            except (OSError, trio.BrokenResourceError):
                pass
        nursery.cancel_scope.cancel()


async def _careful_ask(line: bytes) -> bytes:
    answer = await _ask(line)
    if not answer.endswith(b"\n"):
        raise trio.BrokenResourceError("the answer ended early")
    return answer


async def careful() -> None:
    """Only what is whole counts."""
    await _conversation(_careful_ask, MESSAGE.__eq__)


async def careless() -> None:
    """The bug: the end of what was sent is taken for the end of the answer."""
    await _conversation(_ask, MESSAGE.__eq__)


async def leaky() -> None:
    """The bug: a stream is left open if it breaks."""

    async def ask(line: bytes) -> bytes:
        stream = await trio.open_tcp_stream("127.0.0.1", 7)
        await stream.send_all(line)
        answer = await _read_all(stream)
        await stream.aclose()
        if not answer.endswith(b"\n"):
            raise trio.BrokenResourceError("the answer ended early")
        return answer

    await _conversation(ask, MESSAGE.__eq__)


def test_an_unmodified_program_is_explored() -> None:
    result = holding(careful, turns=False)
    assert result.runs["fault"] > 20


def test_a_partial_answer_is_found() -> None:
    result = failing(careless, axis="fault", match="a partial line", turns=False, interrupts=False, double=False)
    assert {failure.token.rpartition(":")[2] for failure in result.failures} <= {"eof", "reset", "short", "stall"}


def test_a_socket_that_stays_open_is_found() -> None:
    failing(leaky, axis="cancel", failures_max=1, turns=False, double=False)
