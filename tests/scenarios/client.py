"""Scenarios for the client, and for `serve` with listeners of its own: Trio's sockets lead into the explorer's network.

What must hold whatever happens: a message whose publish raised reaches nobody, one that was handed over arrives whole,
once and in order or the block of `connect` says that it may not have; everything is closed, and in time.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from contextlib import suppress
from typing import Final, final

import trio
import trio.testing

from tests.scenarios.core_house import assert_in_order, what_is_left
from tests.scenarios.house import GONE, LOG, PATIENCE, QUEUE, SMALL, TOPIC, frame, patience, perhaps_gone
from trio_broker import Broker, Client, Limits, RemoteSubscription, Server, serve
from trio_broker.client import open_subscription
from trio_broker.client.framed import connect
from trio_broker.explorer import afterwards, disturbed
from trio_broker.explorer.network import Network, NetworkListener

PORT: Final = 25_000


@final
class House:
    """A broker, its server, and a network into which all sockets lead."""

    def __init__(self, limits: Limits = SMALL) -> None:
        self.limits = limits
        self.broker = Broker(limits)
        self.network = Network()
        self.network.install()
        self.server: Server | None = None
        self.handed_over: list[bytes] = []
        self.refused: list[bytes] = []  # publishes that raised: they must reach nobody
        self.received: list[bytes] = []
        self.closed = False  # the scenario has closed the subscription itself
        self.reliable = True  # undisturbed, whatever was handed over arrives
        LOG.begin()
        afterwards(self.check)

    async def start(self, nursery: trio.Nursery) -> None:
        """Start the server."""
        with suppress(*GONE):
            try:
                self.server = await nursery.start(functools.partial(serve, self.broker, port=PORT))
            except RuntimeError as error:
                if "without calling task_status.started()" not in str(error):
                    raise

    async def publish(self, client: Client, channel: str, count: int, name: str = "p", size: int = 0) -> None:
        """Publish numbered messages, each in a scope of its own, and note which were handed over."""
        for number in range(count):
            body = (b"%s %d " % (name.encode(), number)).ljust(size, b".")
            self.refused.append(body)
            with trio.CancelScope():
                await client.publish(channel, body)
                self.refused.remove(body)
                self.handed_over.append(body)

    async def receive(self, subscription: RemoteSubscription, count: int | None = None) -> None:
        """Receive so many messages, or all until the end, or until nothing has come for a while."""
        while count is None or len(self.received) < count:
            with patience(), suppress(trio.EndOfChannel):
                self.received.append((await subscription.receive()).body)
                continue
            return

    async def check(self) -> None:
        """What holds however the scenario ended."""
        assert not LOG.defects, [record.exc_info for record in LOG.defects]
        assert not self.network.open_streams, self.network.open_streams
        assert not self.network.open_listeners, self.network.open_listeners
        assert self.server is None or self.server.connections == 0
        assert_in_order(self.received)
        arrived = self.received + await what_is_left(self.broker)
        assert len(set(arrived)) == len(arrived), f"doubled: {arrived}"
        assert not set(arrived) & set(self.refused), f"arrived although publish raised: {self.refused}"
        assert set(arrived) <= set(self.handed_over), f"invented or torn: {arrived}"
        if self.reliable and not disturbed():
            assert set(arrived) == set(self.handed_over), f"lost: {self.handed_over}, {arrived}"
        self.broker.close()
        assert self.broker.memory.cost == 0, self.broker.memory.cost


async def publish_and_subscribe() -> None:
    """A client publishes to a queue and receives from it, on a second connection."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_gone(), patience():
            async with connect(port=PORT, limits=house.limits) as client, client.subscribe(QUEUE) as subscription:
                await house.publish(client, QUEUE, 2)
                await house.receive(subscription, 2)
        assert disturbed() or (house.received == house.handed_over and trio.current_time() == 0)
        nursery.cancel_scope.cancel()


async def several_tasks_share() -> None:
    """Two tasks publish through one client, two receive from one subscription, which is then closed under them."""
    house = House()

    async def publish(client: Client, name: str) -> None:
        with perhaps_gone():
            await house.publish(client, QUEUE, 2, name)

    async def receive(subscription: RemoteSubscription) -> None:
        try:
            await house.receive(subscription)
        except trio.ClosedResourceError:
            assert house.closed or disturbed()
        except trio.BrokenResourceError:
            assert disturbed()

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_gone(), patience():
            async with open_subscription("127.0.0.1", PORT, QUEUE, limits=house.limits) as subscription:
                nursery.start_soon(receive, subscription)
                nursery.start_soon(receive, subscription)
                await trio.sleep(1)
                async with connect(port=PORT, limits=house.limits) as client, trio.open_nursery() as publishing:
                    publishing.start_soon(publish, client, "a")
                    publishing.start_soon(publish, client, "b")
                await trio.sleep(1)
                assert disturbed() or len(house.received) == 4
                house.closed = True
                await subscription.aclose()
                await trio.sleep(1)
                assert disturbed() or len(nursery.child_tasks) == 1, "somebody waits for what was closed"
        nursery.cancel_scope.cancel()


async def a_broker_that_takes_nothing() -> None:
    """Publishers wait for room in the client, in line; leaving in order gives up after ``farewell_seconds_max``."""
    house = House(Limits(mailbox_bytes_max=200, farewell_seconds_max=2))
    house.reliable = False
    listener = house.network.listen(PORT)  # which nobody accepts from

    async def publish(client: Client, name: str) -> None:
        try:
            await house.publish(client, QUEUE, 2, name, 150)
        except trio.ClosedResourceError:
            assert disturbed() or trio.current_time() == 10
        except trio.BrokenResourceError:
            assert disturbed()

    left_at, complaint = math.inf, ""
    try:
        async with trio.open_nursery() as nursery:
            with patience():
                try:
                    async with connect(port=PORT, limits=house.limits) as client:
                        nursery.start_soon(publish, client, "a")
                        nursery.start_soon(publish, client, "b")
                        await trio.sleep(10)
                        left_at = trio.current_time()
                except GONE as error:
                    complaint = str(error)
            assert trio.current_time() <= left_at + 2
            assert disturbed() or (trio.current_time() == 12 and "1 messages may not have been sent" in complaint), (
                complaint
            )
            assert disturbed() or not nursery.child_tasks
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(listener)


async def a_broker_that_resets() -> None:
    """Publishers that wait for room in the client hear at once that the connection broke."""
    house = House(Limits(mailbox_bytes_max=200, farewell_seconds_max=2))
    house.reliable = False
    listener = house.network.listen(PORT)

    async def publish(client: Client, name: str) -> None:
        try:
            await house.publish(client, QUEUE, 3, name, 150)
        except trio.BrokenResourceError:
            assert disturbed() or trio.current_time() == 5
        except trio.ClosedResourceError:
            assert disturbed()

    try:
        async with trio.open_nursery() as nursery:
            with suppress(*GONE), patience():
                async with connect(port=PORT, limits=house.limits) as client:
                    nursery.start_soon(publish, client, "a")
                    nursery.start_soon(publish, client, "b")
                    await trio.sleep(5)
                    await trio.aclose_forcefully(listener)
                    await trio.sleep(5)
                    assert disturbed() or len(nursery.child_tasks) == 0
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(listener)


async def a_broker_that_ends_and_does_not_read() -> None:
    """A write that waits for it is given up at once, and so is the block."""
    house = House()
    house.reliable = False
    listener = house.network.listen(PORT)

    async def end() -> None:
        with suppress(*GONE):
            async with await listener.accept() as stream:
                await trio.sleep(1)
                await stream.send_eof()
                await trio.sleep(PATIENCE)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            with suppress(*GONE), patience():
                async with connect(port=PORT, limits=house.limits) as client:
                    await house.publish(client, QUEUE, 2, "p", 250)
                    await trio.sleep(3)
            assert disturbed() or trio.current_time() == 3
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(listener)


async def a_broker_that_is_slow() -> None:
    """It begins to take what comes after a while: publishers that wait for room in the client go on."""
    house = House(dataclasses.replace(SMALL, mailbox_bytes_max=200, backlog_bytes_max=10_000))
    async with trio.open_nursery() as nursery:
        listener = house.network.listen(PORT)
        nursery.start_soon(_serve_late, house, listener)
        with perhaps_gone(), patience():
            async with connect(port=PORT, limits=house.limits) as client:
                await house.publish(client, QUEUE, 3, "p", 250)
                assert disturbed() or trio.current_time() == 5
        await trio.sleep(1)
        nursery.cancel_scope.cancel()


async def _serve_late(house: House, listener: NetworkListener) -> None:
    try:
        await trio.sleep(5)
        await serve(house.broker, listeners=[listener])
    finally:
        await trio.aclose_forcefully(listener)


async def a_broker_that_goes() -> None:
    """The server ends while a client publishes and another listens: both hear of it, and neither waits for ever."""
    house = House()
    house.reliable = False

    async def listen() -> None:
        await trio.sleep(1)
        with suppress(*GONE), patience():
            async with open_subscription("localhost", PORT, QUEUE, limits=house.limits) as subscription:
                await house.receive(subscription)
                assert disturbed() or trio.current_time() == 3.5

    async def publish() -> None:
        with patience():
            try:
                async with connect(port=PORT, limits=house.limits) as client:
                    nursery.start_soon(watch, client)
                    for number in range(10):
                        await house.publish(client, QUEUE, 1, f"c{number}")
                        await trio.sleep(1)
            except GONE:
                assert disturbed() or trio.current_time() == 4  # the first publish after the end

    async def watch(client: Client) -> None:
        try:
            await client.raise_when_over()
        except trio.BrokenResourceError:
            assert disturbed() or trio.current_time() == 3.5
        except trio.ClosedResourceError:
            assert disturbed()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        async with trio.open_nursery() as servers:
            await house.start(servers)
            nursery.start_soon(publish)
            await trio.sleep(3.5)
            servers.cancel_scope.cancel()
        await trio.sleep(2)
        assert disturbed() or not nursery.child_tasks
        nursery.cancel_scope.cancel()


async def a_receive_that_is_cancelled() -> None:
    """It has taken nothing: whoever receives next, here the same task again, has all messages."""
    house = House()
    house.reliable = False
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_gone(), patience(3 * PATIENCE):
            async with open_subscription("127.0.0.1", PORT, TOPIC, limits=house.limits) as subscription:
                await trio.sleep(1)
                for number in range(2):
                    body = b"p %d " % number
                    house.handed_over.append(body)
                    house.broker.publish_nowait(TOPIC, body)
                retried = False
                for _ in range(2):
                    end = trio.current_time() + PATIENCE
                    with trio.move_on_at(end) as scope, suppress(trio.EndOfChannel):
                        while len(house.received) < 2:
                            house.received.append((await subscription.receive()).body)
                    retried = retried or (scope.cancelled_caught and trio.current_time() < end)
                # If this very scope was cancelled nothing else was disturbed.
                assert house.received == house.handed_over or (disturbed() and not retried)
        nursery.cancel_scope.cancel()


async def publishes_as_the_block_is_left() -> None:
    """What is handed over arrives, and what is not handed over is told so, in whatever step the block is left."""
    house = House()

    async def publish(client: Client, name: str) -> None:
        with suppress(*GONE):
            await house.publish(client, QUEUE, 1, name)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        for steps in range(4):
            with perhaps_gone(), patience():
                async with connect(port=PORT, limits=house.limits) as client:
                    for name in ("a", "b"):
                        nursery.start_soon(publish, client, f"{name}{steps}")
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()


async def nobody_there() -> None:
    """Connecting to a port where nobody listens raises, and leaves nothing behind."""
    house = House()
    with suppress(OSError), patience():
        async with connect(port=PORT, limits=house.limits):
            raise AssertionError("it connected to nobody")
    with suppress(OSError), patience():
        async with open_subscription("127.0.0.1", PORT, TOPIC):
            raise AssertionError("it subscribed at nobody's")
    await trio.testing.wait_all_tasks_blocked()


async def what_is_said_of_one_message() -> None:
    """Who is told of one message alone that it may not have been sent may send it again: it has not arrived."""
    house = House()
    house.reliable = False
    complaint = ""
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with suppress(OSError), patience():
            try:
                async with connect(port=PORT, limits=house.limits) as client:
                    await house.publish(client, QUEUE, 1)
                    await trio.sleep(1)
            except trio.BrokenResourceError as error:
                complaint = str(error)
        await trio.sleep(1)
        arrived = await what_is_left(house.broker)
        assert not arrived or "may not have been sent" not in complaint, complaint
        assert disturbed() or arrived == house.handed_over
        house.handed_over.clear()
        nursery.cancel_scope.cancel()


class _Planned(Exception):
    """What a body raises."""


async def an_error_in_the_block() -> None:
    """What the body raises leaves as itself, not in a group, and the connection is closed."""
    house = House()
    house.reliable = False  # such a block is left at once
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with suppress(_Planned), perhaps_gone(), patience():
            async with connect(port=PORT, limits=house.limits) as client:
                await house.publish(client, QUEUE, 1)
                await trio.sleep(1)
                raise _Planned
        with suppress(_Planned), perhaps_gone(), patience():
            async with open_subscription("127.0.0.1", PORT, QUEUE, limits=house.limits) as subscription:
                await house.receive(subscription, 1)
                raise _Planned
        assert disturbed() or house.received == [b"p 0 "]
        nursery.cancel_scope.cancel()


async def an_error_while_others_wait() -> None:
    """Publishers that wait for room in the client hear of it in the step in which the block is left."""
    house = House(Limits(mailbox_bytes_max=200))
    house.reliable = False
    listener = house.network.listen(PORT)  # which nobody accepts from

    async def publish(client: Client) -> None:
        with suppress(*GONE):
            await house.publish(client, QUEUE, 4, "p", 150)

    try:
        async with trio.open_nursery() as nursery:
            with suppress(_Planned), perhaps_gone(), patience():
                async with connect(port=PORT, limits=house.limits) as client:
                    nursery.start_soon(publish, client)
                    await trio.sleep(1)
                    raise _Planned
            await trio.sleep(1)
            assert not nursery.child_tasks, "somebody waits for a client that is gone"
    finally:
        await trio.aclose_forcefully(listener)


async def a_block_that_is_cancelled() -> None:
    """The cancellation goes on out of the block, which takes no time, and the exception of a body with it."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_gone(), trio.move_on_after(3) as scope:
            async with connect(port=PORT, limits=house.limits):
                await trio.sleep_forever()
            raise AssertionError("it went on")
        assert disturbed() or (scope.cancelled_caught and trio.current_time() == 3)
        with suppress(_Planned), perhaps_gone(), patience() as scope:
            async with open_subscription("127.0.0.1", PORT, TOPIC, limits=house.limits):
                scope.cancel()
                raise _Planned
        nursery.cancel_scope.cancel()


async def a_broker_that_stops_in_a_frame() -> None:
    """Whole frames before it are received, or given up by a close; then it is an error, not an orderly end."""
    house = House()
    house.reliable = False
    listener = house.network.listen(PORT)
    words = frame(b"p 0 ") + frame(b"p 1 ") + frame(b"p 2 ")[:6]
    house.handed_over += [b"p 0 ", b"p 1 "]

    async def talk() -> None:
        with suppress(*GONE):
            while True:
                async with await listener.accept() as stream:
                    await stream.receive_some(64)
                    await stream.send_all(words)
                    await stream.send_eof()
                    await stream.receive_some(64)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            with suppress(*GONE), patience():
                async with open_subscription("127.0.0.1", PORT, QUEUE, limits=house.limits) as subscription:
                    await house.receive(subscription, 1)
                    subscription.close()
                    try:
                        await subscription.receive()
                    except trio.ClosedResourceError:
                        pass
                    else:
                        raise AssertionError("it received after its close")
            house.received.clear()
            with suppress(*GONE), patience():
                async with open_subscription("127.0.0.1", PORT, QUEUE, limits=house.limits) as subscription:
                    await house.receive(subscription, 2)
                    try:
                        await subscription.receive()
                    except trio.EndOfChannel:
                        assert disturbed(), "an end inside a frame is no orderly end"
            assert disturbed() or house.received == house.handed_over
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(listener)


SCENARIOS = (
    publish_and_subscribe,
    several_tasks_share,
    a_broker_that_takes_nothing,
    a_broker_that_resets,
    a_broker_that_ends_and_does_not_read,
    a_broker_that_is_slow,
    a_broker_that_goes,
    a_receive_that_is_cancelled,
    publishes_as_the_block_is_left,
    what_is_said_of_one_message,
    nobody_there,
    an_error_in_the_block,
    an_error_while_others_wait,
    a_block_that_is_cancelled,
    a_broker_that_stops_in_a_frame,
)
