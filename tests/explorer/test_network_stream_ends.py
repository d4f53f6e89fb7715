"""How a stream in memory ends: closed, half-closed or reset, and what its peer is told."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.explorer.network_helpers import expect, read_all
from trio_broker.explorer.network import stream_pair


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
        nursery.start_soon(expect, trio.ClosedResourceError, partial(left.send_all, b"xx"))
        nursery.start_soon(expect, trio.BrokenResourceError, partial(right.send_all, b"xx"))
        await wait_all_tasks_blocked()
        await left.aclose()
    left, right = stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, trio.ClosedResourceError, left.receive_some)
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
        nursery.start_soon(expect, trio.BrokenResourceError, right.receive_some)
        await wait_all_tasks_blocked()
        await left.aclose()
