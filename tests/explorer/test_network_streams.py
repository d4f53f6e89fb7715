"""Streams in memory: sending and receiving, whole or cancelled, by one task a direction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, check_half_closeable_stream, wait_all_tasks_blocked

from tests.explorer.network_helpers import BOTH_MOMENTS, cancelled_at, counting, read_all, steps_of, waits_for_ever
from trio_broker.explorer.network import NetworkStream, stream_pair


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
