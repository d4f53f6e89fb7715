"""What docs/cancellation.md promises of the client, where no other test shows it."""

from __future__ import annotations

import contextlib

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from tests.client.moments import cancelled_after
from tests.client.network import Network
from tests.server.house import frame, open_tcp_house
from trio_broker import RemoteSubscription
from trio_broker.client import open_subscription
from trio_broker.client.framed import connect


async def test_entering_and_leaving_over_tcp() -> None:
    """All are checkpoints, but for leaving a subscription."""
    async with open_tcp_house() as house:
        connecting = connect("127.0.0.1", house.server.port)
        with assert_checkpoints():
            client = await connecting.__aenter__()
        with assert_checkpoints():
            await client.publish("/topic/x", b"need not wait")
        subscribing = client.subscribe("/topic/x")
        with assert_checkpoints():
            await subscribing.__aenter__()
        with assert_no_checkpoints():
            await subscribing.__aexit__(None, None, None)
        with assert_checkpoints():
            await connecting.__aexit__(None, None, None)


@pytest.mark.parametrize("moment", range(30))
async def test_entering_a_subscription_is_cancelled_at_every_moment(
    autojump_clock: MockClock, network: Network, moment: int
) -> None:
    """Also in the middle of its first frame: the connection is closed, and the broker has that frame whole or torn."""
    network.buffer_bytes, network.write_bytes_max = 1, 1
    entered = False
    received = bytearray()

    async def read() -> None:
        stream = await network.next()
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await stream.receive_some(1):
                received.extend(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        async with cancelled_after(moment) as scope, open_subscription("broker", 25_000, "/topic/x"):
            entered = True
            await trio.sleep_forever()
        nursery.cancel_scope.deadline = trio.current_time() + 1
    assert scope.cancelled_caught
    assert all(stream.closed for stream in network.ours)
    hello = frame(b"/topic/x")
    assert bytes(received) == hello if entered else hello.startswith(bytes(received))


async def test_a_block_that_is_left_cancelled_is_closed(autojump_clock: MockClock, network: Network) -> None:
    async with connect() as client:
        with trio.CancelScope() as scope:
            async with client.subscribe("/topic/x") as subscription:
                await network.reached[-1].send_all(frame(b"one") + frame(b"two"))
                await subscription.receive()
                scope.cancel()
        assert [stream.closed for stream in network.ours] == [False, True]
        with pytest.raises(trio.ClosedResourceError):
            await subscription.receive()


@pytest.mark.parametrize("steps", range(12))
async def test_what_leaves_a_cancelled_client_is_cancelled_alone_perhaps_in_a_group(
    autojump_clock: MockClock, network: Network, steps: int
) -> None:
    """Wherever between the last line of the block and the end of its leaving it lands."""
    raised: list[BaseException] = []
    async with cancelled_after(steps):
        try:
            async with connect() as client:
                await client.publish("/topic/x", b"handed over")
        except BaseException as error:
            raised.append(error)
            raise
    assert {type(leaf) for error in raised for leaf in leaves(error)} <= {trio.Cancelled}
    assert all(stream.closed for stream in network.ours)


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions in a group, however deep, or the one alone."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


@pytest.mark.parametrize("moment", range(12))
async def test_a_loop_that_is_cancelled_leaves_what_it_did_not_take(
    autojump_clock: MockClock, network: Network, moment: int
) -> None:
    received = []
    async with open_subscription("broker", 25_000, "/topic/x") as subscription:
        broker = network.reached[0]
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def loop() -> None:
                async for message in subscription:
                    received.append(message.body)

            for step in range(12):
                if step in {1, 5}:
                    with trio.CancelScope(shield=True):
                        await broker.send_all(frame(b"%d" % step) + frame(b"%d" % (step + 1)))
                if step == moment:
                    nursery.cancel_scope.cancel()
                await trio.lowlevel.cancel_shielded_checkpoint()
        await broker.send_eof()
        received += [message.body async for message in subscription]
    assert received == [b"1", b"2", b"5", b"6"]


async def test_a_subscription_as_a_block_of_its_own(autojump_clock: MockClock, network: Network) -> None:
    """Entering is nothing, leaving is `aclose`: closed although cancelled."""
    async with open_subscription("broker", 25_000, "/topic/x") as subscription:
        with trio.CancelScope() as scope:
            scope.cancel()
            with assert_no_checkpoints():
                assert await subscription.__aenter__() is subscription
            await subscription.__aexit__(None, None, None)
        assert scope.cancelled_caught
        assert network.ours[0].closed
        with pytest.raises(trio.ClosedResourceError):
            await subscription.receive()


async def test_close_does_its_work_in_a_scope_that_was_cancelled(autojump_clock: MockClock, network: Network) -> None:
    """What had come is not received any more, and the connection is closed at once."""
    async with open_subscription("broker", 25_000, "/topic/x") as subscription:
        await network.reached[0].send_all(frame(b"one") + frame(b"two"))
        assert (await subscription.receive()).body == b"one"
        with trio.CancelScope() as scope:  # noqa: ASYNC100  that it has no checkpoint is the point
            scope.cancel()
            subscription.close()
        assert network.ours[0].closed
        with pytest.raises(trio.ClosedResourceError):
            await subscription.receive()


@pytest.mark.parametrize("message", [b"", frame(b"one")])
async def test_close_ends_a_receive_that_waits(autojump_clock: MockClock, network: Network, message: bytes) -> None:
    """Even if a message has just woken it: nothing is received after `close`."""
    outcomes: list[object] = []

    async def receive(subscription: RemoteSubscription) -> None:
        try:
            outcomes.append((await subscription.receive()).body)
        except trio.ClosedResourceError as error:
            outcomes.append(error)

    async with open_subscription("broker", 25_000, "/topic/x") as subscription, trio.open_nursery() as nursery:
        nursery.start_soon(receive, subscription)
        nursery.start_soon(receive, subscription)
        await wait_all_tasks_blocked()
        if message:
            await network.reached[0].send_all(message)
        subscription.close()
        before = trio.current_time()
    assert [type(outcome) for outcome in outcomes] == [trio.ClosedResourceError] * 2
    assert trio.current_time() == before


async def test_an_exception_of_a_subscriptions_block_leaves_as_itself_under_cancellation(
    autojump_clock: MockClock, network: Network
) -> None:
    with trio.CancelScope() as scope, pytest.raises(ZeroDivisionError):
        async with open_subscription("broker", 25_000, "/topic/x"):
            scope.cancel()
            raise ZeroDivisionError
    assert network.ours[0].closed
