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

from tests.scenarios.house import DEFECTS, GONE, PATIENCE, QUEUE, SMALL, TOPIC, assert_in_order
from trio_broker import Broker, Client, Limits, RemoteSubscription, Server, connect, serve
from trio_broker.client import open_subscription
from trio_broker.explorer import afterwards
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
        DEFECTS.records.clear()
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
        """Publish numbered messages, and note which were handed over."""
        for number in range(count):
            body = (b"%s %d " % (name.encode(), number)).ljust(size, b".")
            self.refused.append(body)
            await client.publish(channel, body)
            self.refused.remove(body)
            self.handed_over.append(body)

    async def receive(self, subscription: RemoteSubscription, count: int | None = None) -> None:
        """Receive so many messages, or all until the end, or until nothing has come for a while."""
        while count is None or len(self.received) < count:
            with trio.move_on_after(PATIENCE), suppress(trio.EndOfChannel):
                self.received.append((await subscription.receive()).body)
                continue
            return

    async def check(self) -> None:
        """What holds however the scenario ended."""
        assert not DEFECTS.records, [record.exc_info for record in DEFECTS.records]
        assert not self.network.open_streams, self.network.open_streams
        assert not self.network.open_listeners, self.network.open_listeners
        assert self.server is None or self.server.connections == 0
        assert_in_order(self.received)
        arrived = self.received + await self.what_is_left()
        assert len(set(arrived)) == len(arrived), f"doubled: {arrived}"
        assert not set(arrived) & set(self.refused), f"arrived although publish raised: {self.refused}"
        assert set(arrived) <= set(self.handed_over), f"invented or torn: {arrived}"
        self.broker.close()
        assert self.broker.memory.cost == 0, self.broker.memory.cost

    async def what_is_left(self) -> list[bytes]:
        """What waits in the queue for a taker."""
        left: list[bytes] = []
        async with self.broker.subscribe(QUEUE) as subscription:
            while True:
                try:
                    left.append(subscription.receive_nowait().body)
                except trio.WouldBlock:
                    return left


async def publish_and_subscribe() -> None:
    """A client publishes to a queue and receives from it, on a second connection."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with suppress(*GONE), trio.move_on_after(PATIENCE):
            async with connect(port=PORT, limits=house.limits) as client, client.subscribe(QUEUE) as subscription:
                await house.publish(client, QUEUE, 2)
                await house.receive(subscription, 2)
        nursery.cancel_scope.cancel()


async def several_tasks_share() -> None:
    """Two tasks publish through one client, two receive from one subscription, which is then closed under them."""
    house = House()

    async def receive(subscription: RemoteSubscription) -> None:
        with suppress(*GONE):
            await house.receive(subscription)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with suppress(*GONE), trio.move_on_after(PATIENCE):
            async with open_subscription("127.0.0.1", PORT, QUEUE, limits=house.limits) as subscription:
                nursery.start_soon(receive, subscription)
                nursery.start_soon(receive, subscription)
                await trio.sleep(1)
                async with connect(port=PORT, limits=house.limits) as client, trio.open_nursery() as publishing:
                    publishing.start_soon(_publish, house, client, "a")
                    publishing.start_soon(_publish, house, client, "b")
                await trio.sleep(1)
                await subscription.aclose()
        nursery.cancel_scope.cancel()


async def _publish(house: House, client: Client, name: str) -> None:
    with suppress(*GONE):
        await house.publish(client, QUEUE, 2, name)


async def a_broker_that_takes_nothing() -> None:
    """Publishers wait for room in the client, in line; leaving in order gives up after ``farewell_seconds_max``."""
    house = House(Limits(mailbox_bytes_max=200, farewell_seconds_max=2))
    listener = house.network.listen(PORT)  # which nobody accepts from

    async def publish(client: Client, name: str) -> None:
        with suppress(*GONE):
            await house.publish(client, QUEUE, 2, name, 150)

    left_at = math.inf
    try:
        async with trio.open_nursery() as nursery:
            with suppress(*GONE), trio.move_on_after(PATIENCE):
                async with connect(port=PORT, limits=house.limits) as client:
                    nursery.start_soon(publish, client, "a")
                    nursery.start_soon(publish, client, "b")
                    await trio.sleep(10)
                    left_at = trio.current_time()
            assert trio.current_time() <= left_at + 2
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(listener)


async def a_broker_that_is_slow() -> None:
    """It begins to take what comes after a while: publishers that wait for room in the client go on."""
    house = House(dataclasses.replace(SMALL, mailbox_bytes_max=200))
    async with trio.open_nursery() as nursery:
        listener = house.network.listen(PORT)
        nursery.start_soon(_serve_late, house, listener)
        with suppress(*GONE), trio.move_on_after(PATIENCE):
            async with connect(port=PORT, limits=house.limits) as client:
                await house.publish(client, QUEUE, 3, "p", 250)
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
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_listen_until_the_end, house)
        async with trio.open_nursery() as servers:
            await house.start(servers)
            nursery.start_soon(_publish_until_it_breaks, house)
            await trio.sleep(3.5)
            servers.cancel_scope.cancel()
        await trio.sleep(2)
        nursery.cancel_scope.cancel()


async def _listen_until_the_end(house: House) -> None:
    await trio.sleep(1)
    with suppress(*GONE), trio.move_on_after(PATIENCE):
        async with open_subscription("localhost", PORT, QUEUE, limits=house.limits) as subscription:
            await house.receive(subscription)


async def _publish_until_it_breaks(house: House) -> None:
    with suppress(*GONE), trio.move_on_after(PATIENCE):
        async with connect(port=PORT, limits=house.limits) as client:
            for number in range(10):
                await house.publish(client, QUEUE, 1, f"c{number}")
                await trio.sleep(1)


async def nobody_there() -> None:
    """Connecting to a port where nobody listens raises, and leaves nothing behind."""
    house = House()
    with suppress(OSError), trio.move_on_after(PATIENCE):
        async with connect(port=PORT, limits=house.limits):
            raise AssertionError("it connected to nobody")
    with suppress(OSError), trio.move_on_after(PATIENCE):
        async with open_subscription("127.0.0.1", PORT, TOPIC):
            raise AssertionError("it subscribed at nobody's")
    await trio.testing.wait_all_tasks_blocked()


async def an_error_in_the_block() -> None:
    """What the body raises leaves as itself, not in a group, and the connection is closed."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        try:
            with trio.move_on_after(PATIENCE):
                async with connect(port=PORT, limits=house.limits) as client:
                    await house.publish(client, QUEUE, 1)
                    await trio.sleep(1)
                    raise _Planned
        except (_Planned, *GONE):
            pass
        with suppress(*GONE, _Planned):
            with trio.move_on_after(PATIENCE):
                async with open_subscription("127.0.0.1", PORT, QUEUE, limits=house.limits) as subscription:
                    await house.receive(subscription, 1)
                    raise _Planned
        nursery.cancel_scope.cancel()


class _Planned(Exception):
    """What the body raises."""


SCENARIOS = (
    publish_and_subscribe,
    several_tasks_share,
    a_broker_that_takes_nothing,
    a_broker_that_is_slow,
    a_broker_that_goes,
    nobody_there,
    an_error_in_the_block,
)
