"""Scenarios for the broker in process: each is run again and again, cancelled at every moment.

What must hold whatever happens is said in `afterwards`: nothing accepted is lost, nothing is invented, order is kept,
the account is even, the register is empty, and the same broker still serves a fresh program.
"""

from __future__ import annotations

from typing import final

import trio
import trio.testing

from trio_broker import (
    Broker,
    BrokerDraining,
    Limits,
    LocalSubscription,
    PublishStalled,
    SubscriptionEvicted,
)
from trio_broker.explorer import afterwards

SMALL = Limits(mailbox_bytes_max=700, backlog_bytes_max=1500, stall_seconds_max=5)
"""One or two small messages fill a mailbox, two or three a backlog."""

TOPIC, QUEUE = "/topic/x", "/queue/x"

PATIENCE = 100
"""Virtual seconds after which a receiver goes home: a disturbed scenario may have less to give than a plain one."""


@final
class House:
    """A broker, what it accepted, and who received what."""

    def __init__(self, limits: Limits = SMALL) -> None:
        self.broker = Broker(limits)
        self.accepted: list[bytes] = []
        self.refused: list[bytes] = []  # publishes that raised: they must have reached nobody
        self.received: dict[str, list[bytes]] = {}  # by receiver
        self.channel = TOPIC
        self.ended = False  # the scenario itself has ended the broker
        afterwards(self.check)

    async def publish(self, channel: str, count: int, name: str = "p") -> None:
        """Publish numbered messages; those that were accepted are noted, without a checkpoint in between."""
        self.channel = channel
        for number in range(count):
            body = b"%s %d" % (name.encode(), number)
            with trio.move_on_after(PATIENCE):
                self.refused.append(body)
                try:
                    await self.broker.publish(channel, body)
                except (BrokerDraining, PublishStalled):  # not accepted; the latter if the place in line is cancelled
                    continue
                self.refused.remove(body)
                self.accepted.append(body)

    async def receive(self, channel: str, name: str, count: int | None = None, seconds: float = 0) -> None:
        """Receive some messages, or all until the end, each taking a while."""
        self.channel = channel
        received = self.received.setdefault(name, [])
        try:
            async with self.broker.subscribe(channel) as subscription:
                await take(subscription, received, count, seconds)
        except BrokerDraining:
            return

    async def check(self) -> None:
        """What holds however the scenario ended."""
        broker = self.broker
        received = [body for bodies in self.received.values() for body in bodies]
        reached = set(self.refused) & set(received)
        assert not reached, f"reached somebody although publish raised: {reached}"
        if self.channel == QUEUE:
            left = [] if self.ended else await self.what_is_left()
            assert_in_order(left)
            assert not set(self.refused) & set(left), f"kept although publish raised: {self.refused} {left}"
            assert len(set(received + left)) == len(received + left), f"doubled: {received} {left}"
            missing = set(self.accepted) - set(received + left)
            assert self.ended or not missing, f"lost: {missing}"
        else:
            for bodies in self.received.values():
                assert_in_order(bodies)
        if not self.ended:
            await self.check_rescue()
        broker.close()
        assert broker.memory.cost == 0, broker.memory.cost
        assert not broker.statistics().channels, broker.statistics()

    async def what_is_left(self) -> list[bytes]:
        """What waits in the queue for a taker, in the order in which one gets it."""
        left: list[bytes] = []
        async with self.broker.subscribe(QUEUE) as subscription:
            while True:
                try:
                    left.append(subscription.receive_nowait().body)
                except trio.WouldBlock:
                    return left

    async def check_rescue(self) -> None:
        """The same broker serves a program that comes now."""
        async with self.broker.subscribe("/topic/rescue") as subscription:
            await self.broker.publish("/topic/rescue", b"are you there?")
            assert (await subscription.receive()).body == b"are you there?"


async def take(
    subscription: LocalSubscription, received: list[bytes], count: int | None = None, seconds: float = 0
) -> None:
    """Receive into a list: so many in all, or until the end, or until nothing has come for a while."""
    while count is None or len(received) < count:
        with trio.move_on_after(PATIENCE):
            try:
                message = await subscription.receive()
            except (trio.EndOfChannel, trio.ClosedResourceError):
                return
            received.append(message.body)
            await trio.sleep(seconds)
            continue
        return


def assert_in_order(bodies: list[bytes]) -> None:
    """Each publisher's messages came in the order in which it sent them."""
    last: dict[bytes, int] = {}
    for body in bodies:
        name, number = body.split()
        assert int(number) > last.get(name, -1), f"out of order: {bodies}"
        last[name] = int(number)


async def topic_with_a_slow_subscriber() -> None:
    """Fan-out to a quick one and to one whose mailbox fills up."""
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.receive, TOPIC, "quick")
        nursery.start_soon(house.receive, TOPIC, "slow", None, 1)
        await trio.testing.wait_all_tasks_blocked()
        await house.publish(TOPIC, 4)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()


async def topic_with_a_stuck_subscriber() -> None:
    """One that never receives is evicted; the other has everything."""
    house = House()

    async def stick() -> None:
        async with house.broker.subscribe(TOPIC) as subscription:
            await trio.sleep(30)
            try:
                await subscription.receive()
            except SubscriptionEvicted:
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stick)
        nursery.start_soon(house.receive, TOPIC, "quick")
        await trio.testing.wait_all_tasks_blocked()
        await house.publish(TOPIC, 4)
        await trio.sleep(40)
        nursery.cancel_scope.cancel()


async def many_publishers() -> None:
    """Three stand in line for one topic."""
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.receive, TOPIC, "slow", 6, 1)
        await trio.testing.wait_all_tasks_blocked()
        for name in ("a", "b", "c"):
            nursery.start_soon(house.publish, TOPIC, 2, name)


async def queue_with_consumers_that_leave() -> None:
    """Rotation among three, of whom two leave early; what they were not given goes to the last."""
    house = House(Limits(mailbox_bytes_max=100_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.receive, QUEUE, "first", 1, 1)
        nursery.start_soon(house.receive, QUEUE, "second", 2, 2)
        nursery.start_soon(house.receive, QUEUE, "third", 5, 0)
        await trio.testing.wait_all_tasks_blocked()
        await house.publish(QUEUE, 8)


async def backlog_and_backpressure() -> None:
    """Publishers outrun a queue without consumers, wait, and go on when one comes."""
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.publish, QUEUE, 4, "a")
        nursery.start_soon(house.publish, QUEUE, 3, "b")
        await trio.sleep(1)
        await house.receive(QUEUE, "late", 7, 1)


async def subscribe_and_leave() -> None:
    """Coming and going while messages pass."""
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.publish, TOPIC, 3)
        for _ in range(3):
            async with house.broker.subscribe(TOPIC) as subscription:
                with trio.move_on_after(1):
                    await take(subscription, [], 1)


async def each_overflow_policy() -> None:
    """Policies that drop never make a publisher wait."""
    house = House()
    async with trio.open_nursery() as nursery:

        async def watch(policy: str) -> None:
            received = house.received.setdefault(policy, [])
            async with house.broker.subscribe(TOPIC, overflow=policy) as subscription:
                await trio.sleep(2)
                try:
                    await take(subscription, received)
                except SubscriptionEvicted:
                    return

        for policy in ("drop_oldest", "drop_newest", "latest", "disconnect"):
            nursery.start_soon(watch, policy)
        await trio.testing.wait_all_tasks_blocked()
        await house.publish(TOPIC, 5)
        await trio.sleep(3)
        nursery.cancel_scope.cancel()


async def the_end_while_some_wait() -> None:
    """The broker ends with publishers in line and subscribers parked."""
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.publish, QUEUE, 3, "a")
        nursery.start_soon(house.publish, QUEUE, 3, "b")
        nursery.start_soon(house.receive, TOPIC, "listener")
        await trio.sleep(1)
        house.ended, house.channel = True, QUEUE
        house.broker.close()


async def memory_that_is_full() -> None:
    """All publishers wait, wherever they publish to, until somebody receives."""
    house = House(Limits(memory_bytes_max=1500))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.publish, QUEUE, 4, "a")
        nursery.start_soon(house.publish, QUEUE, 2, "b")
        await trio.sleep(1)
        await house.receive(QUEUE, "late", 6, 1)


async def several_tasks_share_a_subscription() -> None:
    """Whoever waits is woken while messages wait."""
    house = House()
    async with house.broker.subscribe(QUEUE) as subscription, trio.open_nursery() as nursery:
        house.channel = QUEUE
        for name in ("a", "b"):
            nursery.start_soon(take, subscription, house.received.setdefault(name, []))
        await trio.testing.wait_all_tasks_blocked()
        await house.publish(QUEUE, 4)
        await trio.sleep(1)
        await subscription.aclose()
        nursery.cancel_scope.cancel()


SCENARIOS = (
    topic_with_a_slow_subscriber,
    topic_with_a_stuck_subscriber,
    many_publishers,
    queue_with_consumers_that_leave,
    backlog_and_backpressure,
    subscribe_and_leave,
    each_overflow_policy,
    the_end_while_some_wait,
    memory_that_is_full,
    several_tasks_share_a_subscription,
)
