"""Receiving over the network: nothing lost, nothing twice, and the end told for what it was."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.moments import cancelled_after
from tests.client.network import Network
from tests.server.house import frame, numbered, open_tcp_house, until
from tests.server.streams import MemoryStream
from trio_broker import InvalidChannel, Limits, Message, ProtocolViolation, RemoteSubscription
from trio_broker.client import open_subscription
from trio_broker.client.framed import connect


@asynccontextmanager
async def subscribed(
    network: Network, limits: Limits | None = None
) -> AsyncIterator[tuple[RemoteSubscription, MemoryStream]]:
    """A subscription and the broker's end of it, which has read the first frame."""
    async with open_subscription("broker", 25_000, "/topic/x", limits=limits) as subscription:
        broker = network.reached[-1]
        assert await broker.receive_some(100) == frame(b"/topic/x")
        yield subscription, broker


async def test_messages_as_they_come(autojump_clock: MockClock, network: Network) -> None:
    async with subscribed(network) as (subscription, broker):
        assert subscription.channel == "/topic/x"
        await broker.send_all(frame(b"one") + frame(b"") + frame(b"three"))
        assert await subscription.receive() == Message("/topic/x", b"one")
        assert await subscription.receive() == Message("/topic/x", b"")
        assert await subscription.receive() == Message("/topic/x", b"three")


async def test_messages_in_any_cutting(autojump_clock: MockClock, network: Network) -> None:
    network.buffer_bytes, network.write_bytes_max = 3, 2
    async with subscribed_in_pieces(network) as (subscription, broker), trio.open_nursery() as nursery:
        nursery.start_soon(broker.send_all, b"".join(map(frame, numbered(20))))
        assert [(await subscription.receive()).body for _ in range(20)] == numbered(20)


@asynccontextmanager
async def subscribed_in_pieces(network: Network) -> AsyncIterator[tuple[RemoteSubscription, MemoryStream]]:
    """As `subscribed`, over a connection that takes a few bytes at a time."""
    async with trio.open_nursery() as nursery:

        async def read_hello() -> None:
            hello = b""
            while hello != frame(b"/topic/x"):
                hello += await (await network.next()).receive_some()

        nursery.start_soon(read_hello)
        async with open_subscription("broker", 25_000, "/topic/x") as subscription:
            yield subscription, network.reached[0]


async def test_an_orderly_end(autojump_clock: MockClock, network: Network) -> None:
    """What came before it is received first; then it stays."""
    async with subscribed(network) as (subscription, broker):
        await broker.send_all(frame(b"last"))
        await broker.send_eof()
        assert [message.body async for message in subscription] == [b"last"]
        for _ in range(2):
            with pytest.raises(trio.EndOfChannel):
                await subscription.receive()


@pytest.mark.parametrize("torn", [b"\0", b"\0\0\0\5", b"\0\0\0\5hell"])
async def test_an_end_inside_a_frame(autojump_clock: MockClock, network: Network, torn: bytes) -> None:
    async with subscribed(network) as (subscription, broker):
        await broker.send_all(frame(b"whole") + torn)
        await broker.send_eof()
        assert (await subscription.receive()).body == b"whole"
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError, match="the stream ended inside a frame"):
                await subscription.receive()


async def test_a_connection_that_breaks(autojump_clock: MockClock, network: Network) -> None:
    async with subscribed(network) as (subscription, broker):
        await broker.send_all(frame(b"whole") + frame(b"another"))
        assert (await subscription.receive()).body == b"whole"
        broker.reset()
        assert (await subscription.receive()).body == b"another"
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError):
                await subscription.receive()


async def test_a_frame_that_is_too_large(autojump_clock: MockClock, network: Network) -> None:
    """Refused at its header; what came whole before it is received first."""
    async with subscribed(network, Limits(frame_bytes_max=1000)) as (subscription, broker):
        await broker.send_all(frame(bytes(1000)) + (1001).to_bytes(4, "big"))
        assert len((await subscription.receive()).body) == 1000
        for _ in range(2):
            with (
                trio.fail_after(10),
                pytest.raises(ProtocolViolation, match="a payload of 1,001 bytes; at most 1,000 are allowed"),
            ):
                await subscription.receive()
            await broker.send_all(b"x" * 10)


async def test_many_tasks_share_the_messages(autojump_clock: MockClock, network: Network) -> None:
    """Each message to one of them, first come, first served."""
    async with subscribed(network) as (subscription, broker):
        received: list[tuple[int, bytes]] = []

        async def receive(task: int) -> None:
            received.append((task, (await subscription.receive()).body))

        async with trio.open_nursery() as nursery:
            for task in range(10):
                nursery.start_soon(receive, task)
                await wait_all_tasks_blocked()
            await broker.send_all(b"".join(map(frame, numbered(4))))
            await wait_all_tasks_blocked()
            await broker.send_all(b"".join(map(frame, numbered(10)[4:])))
        assert received == list(enumerate(numbered(10)))


async def test_all_tasks_hear_of_the_end(autojump_clock: MockClock, network: Network) -> None:
    async with subscribed(network) as (subscription, broker):
        ended = 0

        async def receive() -> None:
            nonlocal ended
            with pytest.raises(trio.EndOfChannel):
                await subscription.receive()
            ended += 1

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            await broker.send_eof()
        assert ended == 5


@pytest.mark.parametrize("write_bytes_max", [1, 5, 1000])
async def test_cancelled_at_every_moment(autojump_clock: MockClock, network: Network, write_bytes_max: int) -> None:
    """A receive that raised `Cancelled` took nothing; two tasks receive, and one of them is cancelled all the time."""
    network.write_bytes_max = write_bytes_max
    async with subscribed_in_pieces(network) as (subscription, broker):
        received: list[bytes] = []
        cancelled = 0
        bodies = numbered(300)

        async def patient() -> None:
            async for message in subscription:
                received.append(message.body)
                for _ in range(3):
                    await trio.lowlevel.checkpoint()

        async def receive_within(moments: int) -> bool:
            """Receive one message, or be cancelled after so many checkpoints."""
            async with cancelled_after(moments) as scope:
                received.append((await subscription.receive()).body)
            return scope.cancelled_caught

        async def impatient() -> None:
            nonlocal cancelled
            with pytest.RaisesGroup(trio.EndOfChannel):
                for moment in itertools.count():
                    cancelled += await receive_within(moment % 7)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(patient)
            nursery.start_soon(impatient)
            for body in bodies:
                await broker.send_all(frame(body))
                await trio.lowlevel.checkpoint()
            await broker.send_eof()
        assert received == bodies
        assert cancelled


async def test_receive_is_a_checkpoint(autojump_clock: MockClock, network: Network) -> None:
    async with subscribed(network) as (subscription, broker):
        await broker.send_all(frame(b"one") + frame(b"two"))
        with trio.testing.assert_checkpoints():
            await subscription.receive()
        with trio.testing.assert_checkpoints():
            await subscription.receive()


async def test_closing(autojump_clock: MockClock, network: Network) -> None:
    """Whoever waits hears of it, and whoever comes later, although messages were there."""
    async with subscribed(network) as (subscription, broker):

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await subscription.receive()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            await subscription.aclose()
            await receive()
        assert network.ours[0].closed
        assert await broker.receive_some() == b""
        await subscription.aclose()


async def test_closing_with_messages_inside(autojump_clock: MockClock, network: Network) -> None:
    async with subscribed(network) as (subscription, broker):
        await broker.send_all(b"".join(map(frame, numbered(3))))
        await subscription.receive()
        with trio.CancelScope() as scope:
            scope.cancel()
            await subscription.aclose()
        assert network.ours[0].closed
        with pytest.raises(trio.ClosedResourceError):
            await subscription.receive()


async def test_receive_after_leaving_the_block(autojump_clock: MockClock, network: Network) -> None:
    """Leaving closes the subscription: what was not received by then is not received later."""
    async with subscribed(network) as (subscription, broker):
        await broker.send_all(b"".join(map(frame, numbered(3))))
        await subscription.receive()
    with pytest.raises(trio.ClosedResourceError):
        await subscription.receive()


@pytest.mark.parametrize("channel", ["", "x" * 256, "\ud800"])
async def test_a_name_that_is_none(autojump_clock: MockClock, network: Network, channel: str) -> None:
    with pytest.raises(InvalidChannel):
        async with open_subscription("broker", 25_000, channel):
            pass
    assert not network.reached


class OfTheBody(Exception):
    pass


async def test_an_exception_of_the_body_leaves_as_itself(autojump_clock: MockClock, network: Network) -> None:
    with pytest.raises(OfTheBody):
        async with subscribed(network):
            raise OfTheBody
    assert network.ours[0].closed


async def test_work_of_a_queue_that_was_not_sent_goes_back() -> None:
    """Leaving the block with most of a queue still in the broker: the next subscriber gets it, in order."""
    bodies = numbered(100, 100_000)
    async with open_tcp_house(Limits(mailbox_bytes_max=64 * 1024 * 1024)) as house:
        async with connect("127.0.0.1", house.server.port) as client:
            async with client.subscribe("/queue/x") as jobs:
                await until(lambda: house.broker.statistics().subscriptions == 1)
                for body in bodies:
                    house.broker.publish_nowait("/queue/x", body)
                assert (await jobs.receive()).body == bodies[0]
            await until(lambda: house.broker.statistics().subscriptions == 0)
            delivered = house.broker.statistics().delivered
            assert 0 < delivered < 100
            async with client.subscribe("/queue/x") as jobs:
                for body in bodies[delivered:]:
                    assert (await jobs.receive()).body == body
