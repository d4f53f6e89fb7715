from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, check_half_closeable_stream, wait_all_tasks_blocked

from tests.explorer.network_helpers import cancelled_at, counting, fault, read_all, steps_of, waits_for_ever
from trio_broker.explorer.faults import Fault
from trio_broker.explorer.network import Network, NetworkListener, NetworkStream, stream_pair

BOTH_MOMENTS = pytest.mark.parametrize("before", [False, True], ids=["after", "before"])


@pytest.mark.parametrize(("buffer_bytes", "write_bytes_max"), [(200, 64), (4096, 1000), (65_536, 65_536)])
async def test_it_is_what_trio_calls_a_half_closeable_stream(buffer_bytes: int, write_bytes_max: int) -> None:
    async def make() -> tuple[NetworkStream, NetworkStream]:
        return stream_pair(buffer_bytes=buffer_bytes, write_bytes_max=write_bytes_max)

    async def make_clogged() -> tuple[NetworkStream, NetworkStream]:
        left, right = await make()
        await left.send_all(bytes(buffer_bytes))
        await right.send_all(bytes(buffer_bytes))
        return left, right

    await check_half_closeable_stream(make, make_clogged)


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0)])
def test_sizes_are_at_least_one(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        stream_pair(buffer_bytes=sizes[0], write_bytes_max=sizes[1])
    with pytest.raises(ValueError, match="at least one"):
        Network(buffer_bytes=sizes[0], write_bytes_max=sizes[1])
    with pytest.raises(ValueError, match="at least one"):
        Network(backlog_max=0)


# -- sending and receiving --------------------------------------------------------------------------------------------


async def test_a_byte_at_a_time_through_a_buffer_of_one_byte() -> None:
    left, right = stream_pair(buffer_bytes=1, write_bytes_max=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.send_all, b"hello")
        received = [await right.receive_some() for _ in range(5)]
    assert received == [b"h", b"e", b"l", b"l", b"o"]


async def test_writes_are_short_and_the_task_gives_way_after_each() -> None:
    left, right = stream_pair(buffer_bytes=100, write_bytes_max=4)
    assert await steps_of(partial(left.send_all, b"abcdefghij")) == 3
    assert await right.receive_some() == b"abcdefghij"
    assert await steps_of(partial(left.send_all, b"")) == 1


async def test_each_step_of_a_send_is_an_operation_and_so_is_each_receive() -> None:
    left, right = stream_pair(buffer_bytes=100, write_bytes_max=4)
    with counting() as operations:
        await left.send_all(b"")
        assert operations.count == 0
        await left.send_all(b"abcdefghij")
        assert operations.count == 3
        await right.receive_some()
        assert operations.count == 4
        await left.wait_send_all_might_not_block()
        assert operations.count == 4
        await left.send_eof()
        assert operations.count == 5
        await left.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await left.receive_some()
        assert operations.count == 5


async def test_a_full_buffer_makes_the_sender_wait(autojump_clock: MockClock) -> None:
    left, right = stream_pair(buffer_bytes=10, write_bytes_max=4)
    assert await waits_for_ever(partial(left.send_all, bytes(11)))
    assert await waits_for_ever(left.wait_send_all_might_not_block)
    assert await right.receive_some(3) == bytes(3)
    await left.wait_send_all_might_not_block()
    await left.send_all(bytes(3))
    assert await right.receive_some() == bytes(10)
    assert await waits_for_ever(right.receive_some)


async def test_data_of_items_wider_than_a_byte_is_sent_by_the_byte() -> None:
    left, right = stream_pair(buffer_bytes=100, write_bytes_max=3)
    await left.send_all(memoryview(b"abcdefgh").cast("I"))
    assert await right.receive_some() == b"abcdefgh"


async def test_what_failed_to_be_sent_is_not_held_by_the_error() -> None:
    left, right = stream_pair(write_bytes_max=4)
    data = bytearray(b"abcdefgh")
    await right.aclose()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await left.send_all(data)
    data.clear()  # a BufferError, if a view of it were still alive in the traceback
    del caught


@BOTH_MOMENTS
async def test_a_cancelled_send_has_sent_a_prefix_which_the_peer_can_read(before: bool) -> None:
    data = bytes(range(50))
    lengths = set()
    for step in range(12):
        left, right = stream_pair(buffer_bytes=100, write_bytes_max=7)
        cancelled = await cancelled_at(step, partial(left.send_all, data), before=before)
        await left.aclose()
        received = await read_all(right)
        assert data.startswith(received)
        assert cancelled == (received != data)
        lengths.add(len(received))
    assert lengths == {7, 14, 21, 28, 35, 42, 49, 50} | ({0} if before else set())


async def test_a_send_cancelled_where_it_waits_for_room_has_sent_what_had_room(autojump_clock: MockClock) -> None:
    left, right = stream_pair(buffer_bytes=10, write_bytes_max=4)
    assert await waits_for_ever(partial(left.send_all, bytes(range(50))))
    await left.aclose()
    assert await read_all(right) == bytes(range(10))


@BOTH_MOMENTS
@pytest.mark.parametrize("early", [False, True], ids=["waits", "at once"])
async def test_a_receive_takes_something_or_is_cancelled(early: bool, before: bool) -> None:
    outcomes = set()
    for step in range(6):
        left, right = stream_pair()
        taken = b""

        async def receive() -> None:
            nonlocal taken
            taken = await right.receive_some(2)  # noqa: B023  it ends within the round

        async with trio.open_nursery() as nursery:
            if early:
                await left.send_all(b"abcd")
            else:
                nursery.start_soon(_when_all_wait, left.send_all, b"abcd")
            cancelled = await cancelled_at(step, receive, before=before)
        await left.aclose()
        assert cancelled == (not taken)
        assert taken + await read_all(right) == b"abcd"
        outcomes.add(cancelled)
    assert outcomes == ({False} if early and not before else {False, True})


@BOTH_MOMENTS
async def test_a_cancelled_send_eof_has_told_nothing(before: bool, autojump_clock: MockClock) -> None:
    outcomes = set()
    for step in range(4):
        left, right = stream_pair()
        cancelled = await cancelled_at(step, left.send_eof, before=before)
        assert await waits_for_ever(right.receive_some) == cancelled
        if cancelled:
            await left.send_all(b"x")
            assert await right.receive_some() == b"x"
        outcomes.add(cancelled)
    assert False in outcomes
    assert (True in outcomes) == before


async def _expect(error: type[Exception], operation: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(error):
        await operation()


async def _when_all_wait(function: Callable[[bytes], Awaitable[None]], data: bytes) -> None:
    await wait_all_tasks_blocked()
    await function(data)


# -- two tasks on one end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["send_all", "wait_send_all_might_not_block", "send_eof", "receive_some"])
async def test_a_second_task_is_refused(second: str, autojump_clock: MockClock) -> None:
    left, _right = stream_pair(buffer_bytes=1)
    operations: dict[str, Callable[[], Awaitable[object]]] = {
        "send_all": partial(left.send_all, b"xx"),
        "wait_send_all_might_not_block": left.wait_send_all_might_not_block,
        "send_eof": left.send_eof,
        "receive_some": left.receive_some,
    }
    async with trio.open_nursery() as nursery:
        nursery.start_soon(operations["receive_some" if second == "receive_some" else "send_all"])
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await operations[second]()
        nursery.cancel_scope.cancel()
    await left.aclose()  # never busy


async def test_one_task_may_send_while_another_receives() -> None:
    left, right = stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.receive_some)
        await wait_all_tasks_blocked()
        await left.send_all(b"x")
        await right.send_all(b"y")


# -- the end ----------------------------------------------------------------------------------------------------------


async def test_the_peer_of_a_closed_end_reads_the_rest_and_cannot_send() -> None:
    left, right = stream_pair()
    await left.send_all(b"rest")
    await left.aclose()
    await right.send_eof()  # nobody has found out that this is in vain
    left, right = stream_pair()
    await left.send_all(b"rest")
    await left.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await right.send_all(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await right.send_eof()
    assert [await right.receive_some() for _ in range(3)] == [b"rest", b"", b""]
    with pytest.raises(trio.BrokenResourceError):
        await right.send_all(b"x")


async def test_closing_an_end_wakes_its_own_tasks_and_the_peers() -> None:
    left, right = stream_pair(buffer_bytes=1)
    await right.send_all(b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect, trio.ClosedResourceError, partial(left.send_all, b"xx"))
        nursery.start_soon(_expect, trio.BrokenResourceError, partial(right.send_all, b"xx"))
        await wait_all_tasks_blocked()
        await left.aclose()
    left, right = stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect, trio.ClosedResourceError, left.receive_some)
        nursery.start_soon(right.receive_some)
        await wait_all_tasks_blocked()
        await left.aclose()
    assert left.closed
    assert not right.closed


async def test_a_cancelled_close_closes() -> None:
    left, right = stream_pair()
    await trio.aclose_forcefully(left)
    assert left.closed
    assert await right.receive_some() == b""


async def test_the_end_of_data_ends_one_direction() -> None:
    left, right = stream_pair()
    await left.send_all(b"question")
    await left.send_eof()
    await left.send_eof()
    with pytest.raises(trio.ClosedResourceError):
        await left.send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await left.wait_send_all_might_not_block()
    assert await read_all(right) == b"question"
    await right.send_all(b"answer")
    assert await left.receive_some() == b"answer"


async def test_the_end_of_data_wakes_the_peer() -> None:
    left, right = stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(right.receive_some)
        await wait_all_tasks_blocked()
        await left.send_eof()
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks


# The reset rule, as measured with Linux 6's loopback.


async def test_a_close_with_unread_input_resets_after_what_has_arrived() -> None:
    left, right = stream_pair()
    await left.send_all(b"rest")
    await right.send_all(b"unread")
    await left.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await right.send_all(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await right.send_eof()
    await right.wait_send_all_might_not_block()
    assert await right.receive_some() == b"rest"
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError):
            await right.receive_some()


async def test_the_end_of_data_that_arrived_before_a_reset_stays_an_end() -> None:
    left, right = stream_pair()
    await left.send_all(b"rest")
    await left.send_eof()
    await right.send_all(b"unread")
    await left.aclose()
    assert await read_all(right) == b"rest"
    with pytest.raises(trio.BrokenResourceError):
        await right.send_all(b"x")


async def test_a_close_after_everything_was_read_resets_nothing() -> None:
    left, right = stream_pair()
    await right.send_all(b"read")
    await left.receive_some()
    await left.aclose()
    assert await right.receive_some() == b""


async def test_a_reset_wakes_the_peer() -> None:
    left, right = stream_pair()
    await right.send_all(b"unread")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect, trio.BrokenResourceError, right.receive_some)
        await wait_all_tasks_blocked()
        await left.aclose()


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
        nursery.start_soon(_expect, trio.BrokenResourceError, right.receive_some)
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
            nursery.start_soon(_expect, trio.ClosedResourceError, partial(left.send_all, b"x"))
            await wait_all_tasks_blocked()
        nursery.start_soon(_expect, trio.ClosedResourceError, left.receive_some)
        nursery.start_soon(_expect, trio.ClosedResourceError, right.receive_some)
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


# -- connecting -------------------------------------------------------------------------------------------------------


async def _connected(network: Network, listener: NetworkListener) -> tuple[NetworkStream, NetworkStream]:
    ours = await network.connect(listener.port)
    return ours, await listener.accept()


async def test_connect_and_accept(autojump_clock: MockClock) -> None:
    network = Network(buffer_bytes=5, write_bytes_max=2)
    listener = network.listen()
    with counting() as operations:
        ours, theirs = await _connected(network, listener)
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
    await _connected(network, new)
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
    accepted = await _connected(network, listener)
    waiting = await network.connect(listener.port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect, ConnectionRefusedError, partial(network.connect, listener.port))
        nursery.start_soon(_expect, trio.BrokenResourceError, waiting.receive_some)
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
        nursery.start_soon(_expect, trio.ClosedResourceError, listener.accept)
        nursery.start_soon(_expect, trio.ClosedResourceError, listener.accept)
        await wait_all_tasks_blocked()
        await trio.aclose_forcefully(listener)


async def test_a_listener_that_closes_on_one_who_was_promised_room_refuses() -> None:
    network = Network(backlog_max=1)
    listener = network.listen()
    await network.connect(listener.port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect, ConnectionRefusedError, partial(network.connect, listener.port))
        await wait_all_tasks_blocked()
        assert listener._take() is not None  # as accept does, but without giving way
        await listener.aclose()


async def test_the_network_knows_its_streams() -> None:
    network = Network()
    listener = network.listen(80)
    assert not network.streams
    first = await _connected(network, listener)
    second = await _connected(network, listener)
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
    await _connected(network, listener)  # the listener itself is well


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
    await _connected(network, listener)


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
