"""What each fault makes of each operation of a stream, of connecting and of accepting."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.explorer.network_helpers import (
    cancelled_at,
    connect_and_accept,
    expect,
    fault,
    read_all,
    steps_of,
    waits_for_ever,
)
from trio_broker.explorer.faults import Fault
from trio_broker.explorer.network import Network, NetworkStream, stream_pair

# -- faults of a stream -----------------------------------------------------------------------------------------------


AT_EACH_OPERATION = pytest.mark.parametrize("operation", ["send_all", "receive_some", "send_eof"])


def _operation(stream: NetworkStream, name: str) -> Callable[[], Awaitable[object]]:
    operations: dict[str, Callable[[], Awaitable[object]]] = {
        "send_all": partial(stream.send_all, b"abcdefgh"),
        "receive_some": stream.receive_some,
        "send_eof": stream.send_eof,
    }
    return operations[name]


@AT_EACH_OPERATION
async def test_eof_ends_what_comes_and_loses_what_goes(operation: str, autojump_clock: MockClock) -> None:
    left, right = stream_pair(buffer_bytes=10, write_bytes_max=4)
    await right.send_all(b"arrived")
    with fault(Fault.EOF):
        result = await _operation(left, operation)()
    assert await read_all(left) == (b"" if result else b"arrived")
    await right.send_all(bytes(100))  # goes nowhere; the buffer does not fill
    assert await left.receive_some() == b""
    if operation != "send_eof":
        await left.send_all(bytes(100))
        await left.wait_send_all_might_not_block()
        assert await waits_for_ever(right.receive_some)
    await left.aclose()
    assert await right.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await right.send_all(b"x")


async def test_eof_in_the_middle_of_a_send_has_sent_what_went_before() -> None:
    left, right = stream_pair(write_bytes_max=4)
    with fault(Fault.EOF, at=1):
        await left.send_all(b"abcdefgh")
    await left.aclose()
    assert await read_all(right) == b"abcd"


async def test_eof_wakes_a_task_that_receives_and_a_peer_that_waits_for_room() -> None:
    left, right = stream_pair(buffer_bytes=4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.receive_some)
        await wait_all_tasks_blocked()
        with fault(Fault.EOF):
            await left.send_all(b"x")
    left, right = stream_pair(buffer_bytes=4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(right.send_all, bytes(100))
        await wait_all_tasks_blocked()
        with fault(Fault.EOF):
            await left.send_eof()


async def test_after_eof_a_full_buffer_keeps_nobody_waiting() -> None:
    left, _right = stream_pair(buffer_bytes=4)
    await left.send_all(bytes(4))
    with fault(Fault.EOF):
        await left.receive_some()
    await left.wait_send_all_might_not_block()
    await left.send_all(bytes(100))


async def test_eof_does_not_mend_what_is_broken() -> None:
    left, right = stream_pair()
    await right.send_all(b"x")
    await left.send_all(b"unread")
    await right.aclose()
    await left.receive_some()
    with fault(Fault.EOF), pytest.raises(trio.BrokenResourceError):
        await left.receive_some()


@AT_EACH_OPERATION
async def test_reset_breaks_both_ends_and_loses_what_was_on_its_way(operation: str) -> None:
    left, right = stream_pair()
    await left.send_all(b"lost")
    await right.send_all(b"lost")
    await right.send_eof()
    with fault(Fault.RESET), pytest.raises(trio.BrokenResourceError):
        await _operation(left, operation)()
    for stream in (left, right):
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await left.send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):  # its own send_eof comes first
        await right.send_all(b"x")
    await right.send_eof()
    await left.aclose()
    await right.aclose()


async def test_reset_wakes_the_peer() -> None:
    left, right = stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, trio.BrokenResourceError, right.receive_some)
        await wait_all_tasks_blocked()
        with fault(Fault.RESET), pytest.raises(trio.BrokenResourceError):
            await left.send_all(b"x")


@AT_EACH_OPERATION
async def test_stall_parks_both_ends_for_ever(operation: str, autojump_clock: MockClock) -> None:
    left, right = stream_pair()
    await right.send_all(b"arrived")
    await left.send_all(b"arrived")
    with fault(Fault.STALL):
        assert await waits_for_ever(_operation(left, operation))
    for stream in (left, right):
        for name in ("send_all", "receive_some", "send_eof"):
            assert await waits_for_ever(_operation(stream, name))
        assert await waits_for_ever(stream.wait_send_all_might_not_block)
    await left.aclose()
    assert await waits_for_ever(right.receive_some)  # nobody says so
    assert await waits_for_ever(partial(right.send_all, b"x"))
    await right.aclose()


async def test_closing_ones_own_end_wakes_ones_own_stalled_tasks_only(autojump_clock: MockClock) -> None:
    left, right = stream_pair()
    async with trio.open_nursery() as nursery:
        with fault(Fault.STALL):
            nursery.start_soon(expect, trio.ClosedResourceError, partial(left.send_all, b"x"))
            await wait_all_tasks_blocked()
        nursery.start_soon(expect, trio.ClosedResourceError, left.receive_some)
        nursery.start_soon(expect, trio.ClosedResourceError, right.receive_some)
        await wait_all_tasks_blocked()
        await left.aclose()
        await trio.sleep(1000)
        assert len(nursery.child_tasks) == 1  # the peer's
        await right.aclose()


async def test_short_moves_one_byte_and_gives_way() -> None:
    left, right = stream_pair(write_bytes_max=4)
    with fault(Fault.SHORT, at=1) as operations:
        await left.send_all(b"abcdefgh")
    assert operations.count == 3  # abcd, e, fgh
    with fault(Fault.SHORT):
        assert await right.receive_some() == b"a"
    assert await right.receive_some() == b"bcdefgh"
    with fault(Fault.SHORT):
        await left.send_eof()
    assert await right.receive_some() == b""


@pytest.mark.parametrize(
    ("operation", "well", "short"), [("send_all", 1, 3), ("receive_some", 1, 2), ("send_eof", 1, 2)]
)
async def test_short_takes_its_time(operation: str, well: int, short: int) -> None:
    left, right = stream_pair(buffer_bytes=100, write_bytes_max=8)
    await right.send_all(b"abcdefgh")
    assert await steps_of(_operation(left, operation)) == well
    left, right = stream_pair(buffer_bytes=100, write_bytes_max=8)
    await right.send_all(b"abcdefgh")
    with fault(Fault.SHORT):
        assert await steps_of(_operation(left, operation)) == short


@AT_EACH_OPERATION
async def test_a_short_operation_that_is_cancelled_has_succeeded_all_the_same(operation: str) -> None:
    left, right = stream_pair()
    await right.send_all(b"xy")
    do_it = partial(left.send_all, b"x") if operation == "send_all" else _operation(left, operation)
    with fault(Fault.SHORT):
        assert not await cancelled_at(1, do_it, before=True)
    await left.aclose()


# -- faults of a network ----------------------------------------------------------------------------------------------


async def test_accept_eof_and_stall_are_faults_of_the_accepted_stream(autojump_clock: MockClock) -> None:
    network = Network()
    listener = network.listen()
    ours = await network.connect(listener.port)
    await ours.send_all(b"arrived")
    with fault(Fault.EOF):
        theirs = await listener.accept()
    assert await read_all(theirs) == b"arrived"
    await network.connect(listener.port)
    with fault(Fault.STALL):
        theirs = await listener.accept()
    assert await waits_for_ever(theirs.receive_some)
    await connect_and_accept(network, listener)  # the listener itself is well


async def test_accept_reset_is_a_lack_of_resources_that_loses_nobody() -> None:
    network = Network()
    listener = network.listen()
    for who_waits in (0, 1):
        with fault(Fault.RESET), pytest.raises(OSError, match="open files") as caught:
            await listener.accept()
        assert caught.value.errno == errno.EMFILE
        assert len(network.open_streams) == 2 * who_waits
        await network.connect(listener.port)
    await listener.accept()
    await listener.accept()


async def test_a_server_survives_a_reset_of_accept(autojump_clock: MockClock) -> None:
    network = Network()
    listener = network.listen()

    async def answer(stream: NetworkStream) -> None:
        await stream.send_all(b"hello")

    async with trio.open_nursery() as nursery:
        with fault(Fault.RESET):
            nursery.start_soon(trio.serve_listeners, answer, [listener])
            await wait_all_tasks_blocked()
        ours = await network.connect(listener.port)
        assert await read_all(ours) == b"hello"
        nursery.cancel_scope.cancel()


async def test_accept_and_connect_short_only_take_longer() -> None:
    network = Network()
    listener = network.listen()
    with fault(Fault.SHORT):
        assert await steps_of(partial(network.connect, listener.port)) == 2
    with fault(Fault.SHORT):
        assert await steps_of(listener.accept) == 2
    ours, theirs = network.streams
    await ours.send_all(b"hello")
    assert await theirs.receive_some() == b"hello"


async def test_connect_reset_is_refused(autojump_clock: MockClock) -> None:
    network = Network()
    listener = network.listen()
    with fault(Fault.RESET), pytest.raises(ConnectionRefusedError) as caught:
        await network.connect(listener.port)
    assert caught.value.errno == errno.ECONNREFUSED
    assert network.streams == ()
    assert await waits_for_ever(listener.accept)


async def test_connect_stall_waits_for_ever(autojump_clock: MockClock) -> None:
    network = Network()
    listener = network.listen()
    with fault(Fault.STALL):
        assert await waits_for_ever(partial(network.connect, listener.port))
    assert network.streams == ()
    await connect_and_accept(network, listener)


async def test_connect_eof_is_connected_and_closed_by_the_peer(autojump_clock: MockClock) -> None:
    network = Network()
    listener = network.listen()
    with fault(Fault.EOF):
        ours = await network.connect(listener.port)
    assert await ours.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await ours.send_all(b"x")
    assert network.open_streams == (ours,)
    assert await waits_for_ever(listener.accept)
    with fault(Fault.EOF), pytest.raises(ConnectionRefusedError):
        await network.connect(1)


async def test_connect_eof_does_not_wait_for_room() -> None:
    network = Network(backlog_max=1)
    listener = network.listen()
    await network.connect(listener.port)
    with fault(Fault.EOF):
        await network.connect(listener.port)
