"""Connecting and accepting in memory: ports, the backlog, cancellation, and the end of a listener."""

from __future__ import annotations

import errno
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.explorer.network_helpers import (
    BOTH_MOMENTS,
    cancelled_at,
    connect_and_accept,
    counting,
    expect,
    waits_for_ever,
)
from trio_broker.explorer.network import Network, NetworkStream, stream_pair


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0)])
def test_sizes_are_at_least_one(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        stream_pair(buffer_bytes=sizes[0], write_bytes_max=sizes[1])
    with pytest.raises(ValueError, match="at least one"):
        Network(buffer_bytes=sizes[0], write_bytes_max=sizes[1])
    with pytest.raises(ValueError, match="at least one"):
        Network(backlog_max=0)


async def test_connect_and_accept(autojump_clock: MockClock) -> None:
    network = Network(buffer_bytes=5, write_bytes_max=2)
    listener = network.listen()
    with counting() as operations:
        ours, theirs = await connect_and_accept(network, listener)
    assert operations.count == 2
    await ours.send_all(b"ping")
    assert await theirs.receive_some() == b"ping"
    assert await waits_for_ever(partial(theirs.send_all, b"123456"))
    assert await ours.receive_some() == b"12345"
    assert await waits_for_ever(listener.accept)


def test_ports() -> None:
    network = Network()
    first, second, chosen = network.listen(), network.listen(), network.listen(80)
    assert first.port != second.port
    assert chosen.port == 80
    with pytest.raises(OSError, match="in use") as caught:
        network.listen(80)
    assert caught.value.errno == errno.EADDRINUSE


async def test_a_port_is_free_again_after_the_close() -> None:
    network = Network()
    old = network.listen()
    await old.aclose()
    new = network.listen(old.port)
    await old.aclose()  # again; it is not the new one
    await connect_and_accept(network, new)
    with pytest.raises(trio.ClosedResourceError):
        await old.accept()


async def test_nobody_listens() -> None:
    network = Network()
    with pytest.raises(ConnectionRefusedError):
        await network.connect(80)
    assert network.streams == ()


async def test_who_connects_waits_while_the_backlog_is_full_and_comes_in_order() -> None:
    network = Network(backlog_max=2)
    listener = network.listen()
    await network.connect(listener.port)
    await network.connect(listener.port)
    connected = []

    async def connect(name: str) -> None:
        await network.connect(listener.port)
        connected.append(name)

    async with trio.open_nursery() as nursery:
        for name in ("third", "fourth", "fifth"):
            nursery.start_soon(connect, name)
            await wait_all_tasks_blocked()
        assert connected == []
        assert len(network.streams) == 4
        await listener.accept()
        nursery.start_soon(connect, "sixth")  # must not take the room that the third was promised
        await wait_all_tasks_blocked()
        assert connected == ["third"]
        for _ in range(5):
            await listener.accept()
            await wait_all_tasks_blocked()
    assert connected == ["third", "fourth", "fifth", "sixth"]


async def test_room_that_was_promised_is_not_given_to_another(autojump_clock: MockClock) -> None:
    network = Network(backlog_max=1)
    listener = network.listen()
    await network.connect(listener.port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.connect, listener.port)
        await wait_all_tasks_blocked()
        assert listener._take() is not None  # as accept does, but without giving way
        assert await waits_for_ever(partial(network.connect, listener.port))
    assert len(network.streams) == 4


async def test_a_connect_that_was_cancelled_leaves_nothing_and_its_place_to_others(autojump_clock: MockClock) -> None:
    network = Network(backlog_max=1)
    listener = network.listen()
    await network.connect(listener.port)
    assert await waits_for_ever(partial(network.connect, listener.port))
    assert len(network.streams) == 2
    await listener.accept()
    await network.connect(listener.port)
    assert len(network.streams) == 4


@BOTH_MOMENTS
async def test_a_cancelled_connect_or_accept_has_not_happened(before: bool, autojump_clock: MockClock) -> None:
    for step in range(4):
        network = Network()
        listener = network.listen()
        cancelled = await cancelled_at(step, partial(network.connect, listener.port), before=before)
        assert cancelled == (not network.streams) == (before and step == 0)
        if not cancelled:
            cancelled = await cancelled_at(step, listener.accept, before=before)
            assert await waits_for_ever(listener.accept) != cancelled


@BOTH_MOMENTS
async def test_a_cancelled_accept_that_waited_loses_no_connection(before: bool, autojump_clock: MockClock) -> None:
    outcomes = set()
    for step in range(4):
        network = Network()
        listener = network.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_connect_when_all_wait, network, listener.port)
            cancelled = await cancelled_at(step, listener.accept, before=before)
        assert await waits_for_ever(listener.accept) != cancelled
        outcomes.add(cancelled)
    assert outcomes == {False, True}


async def _connect_when_all_wait(network: Network, port: int) -> None:
    await wait_all_tasks_blocked()
    await network.connect(port)


async def test_tasks_that_accept_are_served_in_order() -> None:
    network = Network()
    listener = network.listen()
    served = []

    async def accept(name: str) -> None:
        await listener.accept()
        served.append(name)

    async with trio.open_nursery() as nursery:
        for name in ("first", "second"):
            nursery.start_soon(accept, name)
            await wait_all_tasks_blocked()
        for _ in range(2):
            await network.connect(listener.port)
            await wait_all_tasks_blocked()
    assert served == ["first", "second"]


async def test_closing_a_listener_refuses_resets_and_wakes() -> None:
    network = Network(backlog_max=1)
    listener = network.listen()
    accepted = await connect_and_accept(network, listener)
    waiting = await network.connect(listener.port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, ConnectionRefusedError, partial(network.connect, listener.port))
        nursery.start_soon(expect, trio.BrokenResourceError, waiting.receive_some)
        await wait_all_tasks_blocked()
        await listener.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await waiting.send_all(b"x")
    with pytest.raises(ConnectionRefusedError):
        await network.connect(listener.port)
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
    await accepted[0].send_all(b"x")
    assert await accepted[1].receive_some() == b"x"
    assert network.open_streams == (*accepted, waiting)


async def test_closing_a_listener_wakes_its_tasks() -> None:
    listener = Network().listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, trio.ClosedResourceError, listener.accept)
        nursery.start_soon(expect, trio.ClosedResourceError, listener.accept)
        await wait_all_tasks_blocked()
        await trio.aclose_forcefully(listener)


async def test_a_listener_that_closes_on_one_who_was_promised_room_refuses() -> None:
    network = Network(backlog_max=1)
    listener = network.listen()
    await network.connect(listener.port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, ConnectionRefusedError, partial(network.connect, listener.port))
        await wait_all_tasks_blocked()
        assert listener._take() is not None  # as accept does, but without giving way
        await listener.aclose()


async def test_the_network_knows_its_streams() -> None:
    network = Network()
    listener = network.listen(80)
    assert not network.streams
    first = await connect_and_accept(network, listener)
    second = await connect_and_accept(network, listener)
    everything: tuple[NetworkStream, ...] = (*first, *second)
    assert network.streams == everything
    assert network.open_streams == everything
    await first[1].aclose()
    assert set(everything) - set(network.open_streams) == {first[1]}
    assert network.streams == everything
    assert [repr(stream) for stream in first] == [
        "<NetworkStream 1 to port 80, open>",
        "<NetworkStream 1 at port 80, closed>",
    ]
