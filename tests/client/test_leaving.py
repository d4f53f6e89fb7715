"""Leaving a client: what was handed over is sent, or it is said that it was not; nobody waits for ever."""

import contextlib

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.network import Network, bodies_in
from tests.server.house import numbered, open_tcp_house, until
from trio_broker import Limits
from trio_broker.client.framed import connect

# -- against a real server --------------------------------------------------------------------------------------------


async def test_leaving_after_the_broker_went_is_no_error_if_all_was_sent() -> None:
    async with open_tcp_house() as house, connect("127.0.0.1", house.server.port) as client:
        await client.publish("/topic/x", b"sent")
        await until(lambda: house.broker.statistics().published == 1)
        await house.server.drain()


# -- the end ----------------------------------------------------------------------------------------------------------


async def test_leaving_sends_what_was_handed_over(autojump_clock: MockClock, network: Network) -> None:
    network.buffer_bytes = 100
    received = bytearray()
    async with trio.open_nursery() as nursery:
        async with connect(limits=Limits(farewell_seconds_max=60)) as client:

            async def read_slowly() -> None:
                while data := await network.reached[0].receive_some(100):
                    received.extend(data)
                    await trio.sleep(1)

            for body in numbered(10, 200):
                await client.publish("/topic/x", body)
            nursery.start_soon(read_slowly)
    assert bodies_in(bytes(received), b"/topic/x") == numbered(10, 200)
    assert 20 < trio.current_time() < 30


async def test_leaving_takes_no_time_with_nothing_to_send(autojump_clock: MockClock, network: Network) -> None:
    async with connect() as client:
        await client.publish("/topic/x", b"sent")
        await wait_all_tasks_blocked()
    assert trio.current_time() == 0
    assert network.ours[0].closed


async def test_leaving_says_when_not_all_was_sent(autojump_clock: MockClock, network: Network) -> None:
    network.buffer_bytes = 10
    with pytest.raises(
        trio.BrokenResourceError, match=r"^2 messages may not have been sent: the broker did not take all within 5 s$"
    ):
        async with connect(limits=Limits(farewell_seconds_max=5)) as client:
            await client.publish("/topic/x", b"one")
            await client.publish("/topic/x", b"two")
    assert trio.current_time() == 5
    assert network.ours[0].closed


async def test_leaving_says_when_the_connection_broke(autojump_clock: MockClock, network: Network) -> None:
    network.buffer_bytes = 10
    with pytest.raises(trio.BrokenResourceError, match=r"^1 messages may not have been sent: the connection broke"):
        async with connect() as client:
            await client.publish("/topic/x", b"lost")
            await wait_all_tasks_blocked()
            network.reached[0].reset()
            await wait_all_tasks_blocked()
    assert trio.current_time() == 0


@pytest.mark.parametrize("how", ["reset", "aclose"])
async def test_publishers_that_wait_hear_that_the_connection_broke(
    autojump_clock: MockClock, network: Network, how: str
) -> None:
    """At once, all of them, and whoever comes later."""
    network.buffer_bytes = 10
    broken = 0

    with contextlib.suppress(trio.BrokenResourceError):  # on leaving: the first was perhaps not sent
        async with connect(limits=Limits(mailbox_bytes_max=1)) as client, trio.open_nursery() as nursery:
            await client.publish("/topic/x", b"fills the mailbox")

            async def publish() -> None:
                nonlocal broken
                with pytest.raises(trio.BrokenResourceError):
                    await client.publish("/topic/x", b"waits")
                broken += 1

            for _ in range(3):
                nursery.start_soon(publish)
            await wait_all_tasks_blocked()
            if how == "reset":
                network.reached[0].reset()
            else:
                await network.reached[0].aclose()
            await wait_all_tasks_blocked()
            assert broken == 3
            await publish()
    assert broken == 4
    assert trio.current_time() == 0


async def test_publish_after_leaving(autojump_clock: MockClock, network: Network) -> None:
    async with connect() as client:
        pass
    with pytest.raises(trio.ClosedResourceError):
        await client.publish("/topic/x", b"too late")


async def test_publishers_that_wait_while_the_block_is_left(autojump_clock: MockClock, network: Network) -> None:
    """A task from outside the block, in line when it is left, was not handed its message over."""
    network.buffer_bytes = 10
    async with trio.open_nursery() as nursery:
        with pytest.raises(trio.BrokenResourceError, match=r"^1 message"):
            async with connect(limits=Limits(mailbox_bytes_max=1)) as client:
                await client.publish("/topic/x", b"fills the mailbox")

                async def publish() -> None:
                    with pytest.raises(trio.ClosedResourceError):
                        await client.publish("/topic/x", b"waits")

                nursery.start_soon(publish)
                nursery.start_soon(publish)
                await wait_all_tasks_blocked()


class OfTheBody(Exception):
    pass


async def test_an_exception_of_the_body_leaves_as_itself(autojump_clock: MockClock, network: Network) -> None:
    """Not in a group, at once, with the connection closed, although something was not sent."""
    network.buffer_bytes = 10
    with pytest.raises(OfTheBody):
        async with connect() as client:
            await client.publish("/topic/x", b"not sent")
            await wait_all_tasks_blocked()
            raise OfTheBody
    assert trio.current_time() == 0
    assert network.ours[0].closed


async def test_an_exception_of_the_body_under_cancellation(autojump_clock: MockClock, network: Network) -> None:
    """A cancellation that has not been delivered yet does not swallow it."""
    with pytest.raises(OfTheBody):
        with trio.CancelScope() as scope:
            async with connect():
                await wait_all_tasks_blocked()
                scope.cancel()
                raise OfTheBody
    assert network.ours[0].closed


async def test_an_exception_of_the_body_when_the_connection_broke(autojump_clock: MockClock, network: Network) -> None:
    with pytest.raises(OfTheBody):
        async with connect() as client:
            await client.publish("/topic/x", b"x")
            network.reached[0].reset()
            await wait_all_tasks_blocked()
            raise OfTheBody
    assert network.ours[0].closed


async def test_a_cancelled_block_is_closed_at_once(autojump_clock: MockClock, network: Network) -> None:
    network.buffer_bytes = 10
    with trio.move_on_after(3) as scope:
        async with connect() as client:
            await client.publish("/topic/x", b"not sent")
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == 3
    assert network.ours[0].closed


async def test_cancelled_while_it_sends_what_was_handed_over(autojump_clock: MockClock, network: Network) -> None:
    network.buffer_bytes = 10
    with trio.move_on_after(3) as scope:
        async with connect(limits=Limits(farewell_seconds_max=60)) as client:
            await client.publish("/topic/x", b"not sent")
    assert scope.cancelled_caught
    assert trio.current_time() == 3
    assert network.ours[0].closed
