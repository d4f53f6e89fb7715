"""What docs/cancellation.md promises of the server, where no other test shows it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.server.house import Peer, frame, open_house
from tests.server.streams import MemoryListener
from trio_broker import open_broker, serve


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions in a group, however deep, or the one alone."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


@pytest.mark.parametrize("peers", [0, 1, 2])
async def test_what_leaves_a_cancelled_serve_is_cancelled_alone_perhaps_in_groups(
    autojump_clock: MockClock, peers: int
) -> None:
    """Everything has been closed by then, and the same broker can be served again."""
    raised: list[BaseException] = []
    async with open_broker() as broker:
        for _ in range(2):
            listener = MemoryListener()

            async def watched(listener: MemoryListener) -> None:
                try:
                    await serve(broker, listeners=[listener])
                except BaseException as error:
                    raised.append(error)
                    assert listener.closed
                    assert all(stream.closed for stream in listener.accepted)
                    raise

            async with trio.open_nursery() as nursery:
                nursery.start_soon(watched, listener)
                for _ in range(peers):
                    await Peer(listener.connect()).send(frame(b"/topic/x"))
                await wait_all_tasks_blocked()
                assert broker.statistics().subscriptions == peers
                nursery.cancel_scope.cancel()
            assert broker.statistics().subscriptions == 0
    assert len(raised) == 2
    assert {type(leaf) for error in raised for leaf in leaves(error)} == {trio.Cancelled}


async def test_an_error_of_a_listener_ends_the_server_in_a_group(autojump_clock: MockClock) -> None:
    """Everything is closed then as well."""
    listener = MemoryListener()
    raised: list[BaseException] = []
    async with open_broker() as broker, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def watched() -> None:
            try:
                await serve(broker, listeners=[listener])
            except BaseExceptionGroup as group:
                raised.append(group)

        await Peer(listener.connect()).send(frame(b"/topic/x"))
        await wait_all_tasks_blocked()
        listener.offer(OSError("of the listener"))
    assert [str(leaf) for error in raised for leaf in leaves(error)] == ["of the listener"]
    assert listener.closed
    assert all(stream.closed for stream in listener.accepted)


async def test_a_drain_is_a_checkpoint_even_if_nothing_is_left_to_wait_for(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        await house.server.drain()
        with assert_checkpoints():
            report = await house.server.drain()
        assert report.seconds == 0


async def test_a_drain_can_begin_in_a_scope_that_was_cancelled(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        peer = await house.subscribe("/topic/x")
        with trio.CancelScope() as scope:
            scope.cancel()
            house.server.begin_drain()
            await trio.lowlevel.checkpoint()
            raise AssertionError("not reached")
        assert scope.cancelled_caught
        await peer.is_ended()
        assert house.listener.closed
        assert trio.current_time() == 0
