"""A socket's operation that is cancelled, or whose socket is closed, while it waits has not happened."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.explorer.network_helpers import BOTH_MOMENTS, cancelled_at, expect, fault, waits_for_ever
from tests.explorer.socket_helpers import connected_sockets, fails
from trio_broker.explorer.faults import Fault
from trio_broker.explorer.internals import enclosing_scopes
from trio_broker.explorer.network import Network

# -- cancelled at once: the same on real sockets ----------------------------------------------------------------------


async def test_a_cancelled_connect_closes_its_socket(either: None) -> None:
    ours = trio.socket.socket()
    with trio.CancelScope() as scope:
        scope.cancel()
        await ours.connect(("127.0.0.1", 1))
    assert scope.cancelled_caught
    assert ours.fileno() == -1


@pytest.mark.parametrize("operation", ["send", "recv", "recv_into", "accept", "wait_writable", "bind"])
async def test_a_cancelled_task_is_cancelled_at_once_and_nothing_has_happened(either: None, operation: str) -> None:
    ours, theirs = await connected_sockets()
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
        ours, theirs = await connected_sockets()
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
                nursery.start_soon(expect, trio.ClosedResourceError, partial(made.connect, ("127.0.0.1", 80)))
                await wait_all_tasks_blocked()
        else:
            await network.connect(80)
            nursery.start_soon(expect, trio.ClosedResourceError, partial(made.connect, ("127.0.0.1", 80)))
            await wait_all_tasks_blocked()
        await fails(errno.EALREADY, partial(made.connect, ("127.0.0.1", 80)))
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
    await expect(trio.ClosedResourceError, partial(made.connect, ("127.0.0.1", 80)))
    trio.lowlevel.remove_instrument(closes)
    theirs = await listener.accept()
    assert await theirs.receive_some() == b""
    assert network.open_streams == (theirs,)
