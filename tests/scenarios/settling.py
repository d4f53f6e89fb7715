"""Scenarios for programs in the broker's process that settle what they receive, and that publish to several queues."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import final

import trio
import trio.testing

from tests.scenarios.core_house import PATIENCE, QUEUE, SMALL
from trio_broker import Broker, BrokerDraining, LimitReached, Limits, LocalSubscription, Message, PublishStalled
from trio_broker.explorer import afterwards, at_rest, disturbed
from trio_broker.message import AckMode, plain_batch

OTHER = "/queue/other"


@final
class House:
    """A broker, and what became of each message.

    - At every rest: all that was accepted waits, is to be settled, or is counted; the account is what is there; nobody
      was given more than its credit, and a queue keeps nothing while somebody can take more.
    - At the end: what was settled is gone, what was not is back in its queue, once, and says that it was given before;
      what was refused is nowhere, and the account is even.
    """

    def __init__(self, limits: Limits = SMALL) -> None:
        self.broker = Broker(limits)
        self.accepted: list[bytes] = []
        self.refused: list[bytes] = []
        self.given: Counter[bytes] = Counter()
        self.settled: list[bytes] = []  # for good: acknowledged, or rejected
        self.mine: dict[LocalSubscription, None] = {}  # subscriptions that are open
        self.ended = False
        self.fills = False  # more is published than there is room for
        afterwards(self.check)
        at_rest(self.check_rest)

    def publish(self, *bodies: bytes, channel: str = QUEUE) -> None:
        """Publish to a queue that has room."""
        for body in bodies:
            try:
                self.broker.publish_nowait(channel, body)
            except trio.WouldBlock:
                assert disturbed() or self.fills
                return
            self.accepted.append(body)

    def fill(self, channel: str, name: str) -> None:
        """Publish to a queue until it has no room."""
        self.fills = True
        self.publish(*(f"{name} {number}".encode() for number in range(10)), channel=channel)

    async def publish_all(self, name: str, *channels: str, patience: float = PATIENCE) -> bool:
        """Publish a message to each queue as one; whether it was accepted."""
        batches = [
            plain_batch(Message(channel, f"{name} {number}".encode())) for number, channel in enumerate(channels)
        ]
        bodies = [message.body for batch in batches for message in batch]
        self.refused += bodies
        try:
            with trio.testing.assert_checkpoints():
                await self.broker.publish_all(batches, patience)
        except PublishStalled:
            return False
        except BrokerDraining:
            assert self.ended
            return False
        assert not self.ended
        self.refused = [body for body in self.refused if body not in bodies]
        self.accepted += bodies
        return True

    async def work(self, name: str, ack: AckMode, prefetch: int | None, count: int, seconds: float = 0) -> list[bytes]:
        """Receive so many messages, and deal with each in a block that takes a while."""
        bodies: list[bytes] = []
        async with self.broker.subscribe(QUEUE, ack=ack, prefetch_messages=prefetch) as subscription:
            self.mine[subscription] = None
            try:
                while len(bodies) < count:
                    with trio.move_on_after(PATIENCE):
                        message = await self.receive(subscription)
                        bodies.append(message.body)
                        async with message.process():
                            await trio.sleep(seconds)
                            self.settled.append(message.body)
                        continue
                    break
            finally:
                del self.mine[subscription]
        return bodies

    async def take(self, channel: str) -> None:
        """Take one message, in one step: nobody sees more room than that."""
        async with self.broker.subscribe(channel) as subscription:
            with suppress(trio.WouldBlock):
                body = subscription.receive_nowait().body
                self.given[body] += 1
                self.settled.append(body)

    async def receive(self, subscription: LocalSubscription) -> Message:
        """Receive one."""
        with trio.testing.assert_checkpoints():
            message = await subscription.receive()
        assert message.body not in self.settled, f"given again after it was settled: {message.body!r}"
        assert message.redelivered == (self.given[message.body] > 0), message
        self.given[message.body] += 1
        return message

    def check_rest(self) -> None:
        statistics = self.broker.statistics()
        mine = [subscription.statistics() for subscription in self.mine]
        backlogs = sum(channel.backlog_cost for channel in statistics.channels.values())
        ledgers = {subscription._subscription.ledger for subscription in self.mine} - {None}
        held = sum(each.mailbox_cost for each in mine) + sum(ledger.cost for ledger in ledgers if ledger is not None)
        assert statistics.memory_cost == backlogs + held, statistics
        waiting = sum(channel.backlog_messages for channel in statistics.channels.values())
        waiting += sum(each.mailbox_messages + each.unsettled for each in mine)
        counted = statistics.delivered + statistics.rejected + statistics.discarded
        assert statistics.published == len(self.accepted) == waiting + counted, (statistics, waiting)
        for subscription in self.mine:
            assert subscription._subscription.room >= 0, "it was given more than it has credit for"
        for channel in statistics.channels.values():
            assert not channel.backlog_messages or channel.full == channel.subscriptions, f"for nobody: {channel}"
            in_use = channel.backlog_messages or channel.subscriptions or channel.publishers_waiting
            assert in_use, f"nothing is left in it: {channel}"

    async def check(self) -> None:
        assert not self.mine
        statistics = self.broker.statistics()
        left: list[bytes] = []
        for name in () if self.ended else statistics.channels:
            async with self.broker.subscribe(name) as subscription:
                with suppress(trio.WouldBlock):
                    while True:
                        message = subscription.receive_nowait()
                        assert message.redelivered == (self.given[message.body] > 0), message
                        left.append(message.body)
        assert not set(left) & set(self.settled), f"back although it was settled: {left}"
        assert not {*left, *self.given} & set(self.refused), f"accepted though it was refused: {self.refused}"
        assert len(set(left)) == len(left), f"doubled: {left}"
        assert self.ended or set(left) | set(self.settled) == set(self.accepted), (left, self.settled, self.accepted)
        self.broker.close()
        assert self.broker.memory.cost == 0, self.broker.memory.cost
        assert not self.broker.statistics().channels


async def one_by_one() -> None:
    """Two workers, each with one message at a time; the first is cancelled in the middle of one: the other has it next,
    before what came later."""
    house = House()
    got: dict[str, list[bytes]] = {"first": [], "second": []}
    async with trio.open_nursery() as nursery:

        async def second() -> None:
            got["second"] = await house.work("second", AckMode.CLIENT_INDIVIDUAL, 1, 4, 3)

        async def first() -> None:
            with trio.move_on_after(2):
                await house.work("first", AckMode.CLIENT_INDIVIDUAL, 1, 4, 10)

        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(second)
        await trio.testing.wait_all_tasks_blocked()
        house.publish(*(b"p %d" % number for number in range(4)))
    assert disturbed() or got["second"] == [b"p 1", b"p 0", b"p 2", b"p 3"]
    assert disturbed() or trio.current_time() == 12


async def leaving_with_unsettled_work() -> None:
    """One receives more than it settles, rejects one, and leaves; the next has the rest in order."""
    house = House(Limits(backlog_bytes_max=10_000))
    subscription: LocalSubscription
    async with house.broker.subscribe(QUEUE, ack="client", prefetch_messages=5) as subscription:
        house.mine[subscription] = None
        try:
            house.publish(*(b"p %d" % number for number in range(7)))
            await trio.sleep(1)
            with trio.move_on_after(PATIENCE):
                messages = [await house.receive(subscription) for _ in range(5)]
                assert disturbed() or subscription.statistics().mailbox_messages == 0
                house.settled += [message.body for message in messages[:2]]
                messages[1].ack()
                messages[0].ack()  # again, which is no mistake
                await trio.sleep(1)
                assert disturbed() or subscription.statistics().mailbox_messages == 2
                messages[3].nack()  # which gives 2 and 3 back: they come again, before what came later
                await trio.sleep(1)
                again = [await house.receive(subscription) for _ in range(3)]
                assert disturbed() or [message.body for message in again] == [b"p 5", b"p 6", b"p 2"]
        finally:
            del house.mine[subscription]
    rest = await house.work("next", AckMode.CLIENT_INDIVIDUAL, None, 5)
    assert disturbed() or rest == [b"p %d" % number for number in range(2, 7)]


async def rejecting() -> None:
    """A message that is rejected is given up and makes room; one that goes back comes next, in its place."""
    house = House(Limits(backlog_bytes_max=10_000))
    async with house.broker.subscribe(QUEUE, ack="client-individual", prefetch_messages=2) as subscription:
        house.mine[subscription] = None
        try:
            house.publish(*(b"p %d" % number for number in range(4)))
            bodies = []
            with trio.move_on_after(PATIENCE):
                one, two = await house.receive(subscription), await house.receive(subscription)
                house.settled.append(two.body)
                two.nack(requeue=False)
                bodies.append((await house.receive(subscription)).body)
                one.nack()
                again = await house.receive(subscription)
                bodies.append(again.body)
                house.settled.append(again.body)
                again.ack()
                one.nack()  # its number is not outstanding any more
                bodies.append((await house.receive(subscription)).body)
            assert disturbed() or bodies == [b"p 2", b"p 0", b"p 3"]
            assert disturbed() or house.broker.statistics().rejected == 1
        finally:
            del house.mine[subscription]


async def publishing_to_all() -> None:
    """Three publish to two queues, in either order, and one loses its patience; as room comes the others are accepted
    in turn, and nothing in part."""
    house = House()
    done: list[str] = []

    async def publish(name: str, *channels: str, patience: float = PATIENCE) -> None:
        with trio.move_on_after(50):
            if await house.publish_all(name, *channels, patience=patience):
                done.append(name)
            elif not disturbed():
                assert (name, trio.current_time()) == ("c", 2)

    async with trio.open_nursery() as nursery:
        house.fill(QUEUE, "p")
        house.fill(OTHER, "q")
        nursery.start_soon(publish, "a", QUEUE, OTHER)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(publish, "b", OTHER, QUEUE)
        nursery.start_soon(lambda: publish("c", QUEUE, OTHER, patience=2))
        await trio.sleep(3)
        await house.take(QUEUE)
        await trio.sleep(1)
        assert disturbed() or not done
        await house.take(OTHER)
        await trio.sleep(1)
        assert disturbed() or done == ["a"]
        await house.take(OTHER)
        await house.take(QUEUE)
        await trio.sleep(1)
        assert disturbed() or done == ["a", "b"]


async def room_in_one_that_is_taken_back() -> None:
    """There is room in one queue, and none any more when there is some in the other: it waits for both."""
    house = House()
    async with trio.open_nursery() as nursery:
        house.fill(QUEUE, "p")
        house.fill(OTHER, "q")
        nursery.start_soon(house.publish_all, "a", QUEUE, OTHER)
        await trio.sleep(1)
        async with house.broker.subscribe(OTHER) as subscription:  # which gives back what it never received
            house.mine[subscription] = None
            try:
                await trio.sleep(1)
            finally:
                del house.mine[subscription]
        await trio.sleep(1)
        await house.take(QUEUE)
        await trio.sleep(1)
        assert disturbed() or b"a 0" in house.refused
        await house.take(OTHER)
        await trio.sleep(1)
        assert disturbed() or not house.refused


async def the_end_while_some_publish_to_all() -> None:
    """They are sent away, at once, and nothing is accepted."""
    for steps in (None, 0, 1, 2):
        house = House()
        before = None
        async with trio.open_nursery() as nursery:
            house.fill(QUEUE, "p")
            nursery.start_soon(house.publish_all, "a", OTHER, QUEUE)
            nursery.start_soon(house.publish_all, "b", QUEUE, OTHER)
            await trio.sleep(1)
            if steps is not None:
                async with house.broker.subscribe(QUEUE) as subscription:
                    with suppress(trio.WouldBlock):
                        house.settled.append(subscription.receive_nowait().body)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
            house.ended = True
            house.broker.close()
            before = trio.current_time()
        assert before in {None, trio.current_time()}


async def several_that_cannot_be() -> None:
    """There is no memory for them, or there may be no such queues: nothing is left of what was made for them alone."""
    house = House(Limits(memory_bytes_max=1, channels_max=1))
    batches = [plain_batch(Message(name, b"x")) for name in (OTHER, "/queue/third")]
    house.publish(b"p 0")
    with suppress(LimitReached):
        house.broker.offer_all(batches)
    await trio.sleep(1)
    await house.take(QUEUE)
    with suppress(LimitReached):
        house.broker.offer_all(batches)
    await trio.sleep(1)
    house.broker.memory.add(1)
    assert not house.broker.offer_all(batches[:1])
    house.broker.memory.add(-1)
    await trio.sleep(1)


async def the_end_while_one_waits_for_memory() -> None:
    """It stands in the line of a queue that is there for it alone, and is sent away at once."""
    house = House(Limits(memory_bytes_max=1))
    house.publish(b"p 0")
    before = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.publish_all, "a", OTHER)
        await trio.sleep(1)
        assert disturbed() or house.broker.statistics().channels[OTHER].publishers_waiting == 1
        house.ended = True
        house.broker.close()
        before = trio.current_time()
    assert before in {None, trio.current_time()}


SCENARIOS = (
    one_by_one,
    leaving_with_unsettled_work,
    rejecting,
    publishing_to_all,
    room_in_one_that_is_taken_back,
    the_end_while_some_publish_to_all,
    several_that_cannot_be,
    the_end_while_one_waits_for_memory,
)
