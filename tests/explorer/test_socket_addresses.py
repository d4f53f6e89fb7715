"""Ports, addresses and names: who can be connected to, and where."""

from __future__ import annotations

import errno
import socket
from functools import partial

import pytest
import trio
from trio.testing import MockClock, open_stream_to_socket_listener

from tests.explorer.network_helpers import expect, fault
from tests.explorer.socket_helpers import fails
from trio_broker.explorer.faults import Fault
from trio_broker.explorer.network import Network

# -- ports: the same on real sockets ----------------------------------------------------------------------------------


async def test_ports_are_taken_and_free_again(either: None) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    for host in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(OSError, match="in use") as caught:
            await trio.open_tcp_listeners(port, host=host)
        assert caught.value.errno == errno.EADDRINUSE
    await listener.aclose()
    await expect(OSError, partial(trio.open_tcp_stream, "127.0.0.1", port))
    (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
    (other,) = await trio.open_tcp_listeners(port, host="127.0.0.2")
    await listener.aclose()
    await expect(trio.ClosedResourceError, listener.accept)
    await other.aclose()


async def test_a_port_that_was_only_bound_is_free_again(either: None) -> None:
    first, second = trio.socket.socket(), trio.socket.socket()
    await first.bind(("127.0.0.1", 0))
    place = first.getsockname()
    await fails(errno.EADDRINUSE, partial(second.bind, place))
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


async def test_addresses_are_checked(either: None) -> None:
    with trio.socket.socket() as fresh:
        for wrong in (7, ("127.0.0.1",), ("127.0.0.1", 0, 0)):
            await expect(ValueError, partial(fresh.bind, wrong))
        await expect(OverflowError, partial(fresh.bind, ("127.0.0.1", 70_000)))
        await expect(socket.gaierror, partial(fresh.bind, ("::1", 0)))
        await fresh.bind(("", 0))
        assert fresh.getsockname()[0] == "0.0.0.0"
    assert fresh.fileno() == -1


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
    await expect(OSError, partial(trio.open_tcp_listeners, 80, host="127.0.0.1"))


async def test_addresses_are_different_places(network: Network) -> None:
    listeners = [(await trio.open_tcp_listeners(80, host=host))[0] for host in ("192.0.2.1", "192.0.2.2")]
    await trio.open_tcp_stream("192.0.2.2", 80)
    assert [listener.socket.is_readable() for listener in listeners] == [False, True]
    await expect(OSError, partial(trio.open_tcp_stream, "127.0.0.1", 80))
    await network.connect(80)  # to whoever came first
    assert [listener.socket.is_readable() for listener in listeners] == [True, True]


async def test_streams_without_a_socket_are_on_the_same_network(network: Network) -> None:
    listener = network.listen(80)
    for host in ("127.0.0.1", "::1", "some.where"):
        ours = await trio.open_tcp_stream(host, 80)
        theirs = await listener.accept()
        await theirs.send_all(b"hello")
        assert await ours.receive_some() == b"hello"
    await expect(OSError, partial(trio.open_tcp_listeners, 80))
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
