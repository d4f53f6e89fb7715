"""Scenarios for the broker in process: each is run again and again, cancelled at every moment.

What must hold whatever happens stands in `core_house`. While a run is not disturbed the scenarios demand more: who has
received what, and when.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio
import trio.testing

from tests.scenarios.core_house import QUEUE, TOPIC, House
from trio_broker import BrokerDraining, Limits, Message, open_broker
from trio_broker.explorer import disturbed
from trio_broker.message import plain_batch


async def topic_with_a_slow_subscriber() -> None:
    """Fan-out to a quick one and to one whose mailbox fills up."""
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.receive, TOPIC, "quick")
        nursery.start_soon(house.receive, TOPIC, "slow", None, 1)
        await trio.testing.wait_all_tasks_blocked()
        await house.publish(TOPIC, 4)
        assert disturbed() or trio.current_time() == 1  # the slow one takes its second, and there is room for the last
        await trio.sleep(10)
        assert disturbed() or house.received == {"quick": house.accepted, "slow": house.accepted}
        nursery.cancel_scope.cancel()


async def topic_with_a_stuck_subscriber() -> None:
    """One that never receives is evicted; the other has everything."""
    house = House()

    async def stick() -> None:
        async with house.subscribe(TOPIC) as subscription:
            await trio.sleep(30)
            await house.take(subscription, "stuck", 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stick)
        nursery.start_soon(house.receive, TOPIC, "quick")
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        await house.publish(TOPIC, 4)
        assert trio.current_time() - before <= house.limits.stall_seconds_max
        await trio.sleep(40)
        assert disturbed() or house.received == {"quick": house.accepted, "stuck": []}
        assert disturbed() or house.broker.statistics().evicted == 1
        nursery.cancel_scope.cancel()


async def publishers_that_give_up() -> None:
    """One after the other, each before the stuck one's time is over: it is evicted nevertheless."""
    house = House()

    async def stick() -> None:
        async with house.subscribe(TOPIC):
            await trio.sleep(30)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stick)
        await trio.testing.wait_all_tasks_blocked()
        await house.publish(TOPIC, 2)
        for _ in range(3):
            await house.publish(TOPIC, 1, "hasty", 2)
            house.refused.clear()
        assert disturbed() or (trio.current_time() == 5 and house.broker.statistics().evicted == 1)
        nursery.cancel_scope.cancel()


async def many_publishers() -> None:
    """Three stand in line for one topic."""
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.receive, TOPIC, "slow", 6, 1)
        await trio.testing.wait_all_tasks_blocked()
        for name in ("a", "b", "c"):
            nursery.start_soon(house.publish, TOPIC, 2, name)
    assert disturbed() or sorted(house.received["slow"]) == [b"a 0", b"a 1", b"b 0", b"b 1", b"c 0", b"c 1"]


async def publishers_with_patience() -> None:
    """Whoever stands in line keeps its patience while the channel moves, and loses it when nothing does."""
    house = House()
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(house.publish_batch, QUEUE, [0], f"a{number}", 3)
        await trio.testing.wait_all_tasks_blocked()
        await house.receive(QUEUE, "slow", 4, 2)
        assert disturbed() or not house.refused
        await trio.sleep(0.5)
        for number in range(4):
            nursery.start_soon(house.publish_batch, QUEUE, [0], f"b{number}", 3)
        await trio.testing.wait_all_tasks_blocked()
        if not disturbed():
            waiting = house.broker.statistics().channels[QUEUE].publishers_waiting
            assert waiting == 4
            house.stalls_expected, house.stall_at = waiting, trio.current_time() + 3
    assert trio.current_time() <= begun + 8.5 + 3
    assert disturbed() or not house.stalls_expected


async def queue_with_consumers_that_leave() -> None:
    """Rotation among three, of whom two leave early; what they were not given goes to the last."""
    house = House(Limits(mailbox_bytes_max=100_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.receive, QUEUE, "first", 1, 1)
        nursery.start_soon(house.receive, QUEUE, "second", 2, 2)
        nursery.start_soon(house.receive, QUEUE, "third", 5, 0)
        await trio.testing.wait_all_tasks_blocked()
        await house.publish(QUEUE, 8)
    assert disturbed() or sorted(house.all_received) == house.accepted


async def batches_to_consumers_that_leave() -> None:
    """Batches are dealt out, begun, given back by several at once, interleaved, and come to the next in order."""
    house = House(Limits(mailbox_bytes_max=100_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.receive, QUEUE, "first", 1, 1)
        nursery.start_soon(house.receive, QUEUE, "second", 2, 0.5)
        await trio.testing.wait_all_tasks_blocked()
        await house.publish_batch(QUEUE, range(6), "p", 3)
        await house.publish_batch(QUEUE, range(6, 9), "p", 3)
        await trio.sleep(2)
        await house.receive(QUEUE, "third", 6)
        if not disturbed():
            third = house.received["third"]
            assert len(third) == 6
            assert third == sorted(third)


async def backlog_and_backpressure() -> None:
    """Publishers outrun a queue without consumers, wait, and go on when one comes."""
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.publish, QUEUE, 4, "a")
        nursery.start_soon(house.publish, QUEUE, 3, "b")
        await trio.sleep(1)
        await house.receive(QUEUE, "late", 7, 1)
    assert disturbed() or len(house.received["late"]) == 7


async def subscribe_and_leave() -> None:
    """Coming and going while messages pass."""
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.publish, TOPIC, 3)
        for name in ("first", "second", "third"):
            with trio.move_on_after(1):
                await house.receive(TOPIC, name, 1)


async def each_overflow_policy() -> None:
    """Policies that drop never make a publisher wait."""
    house = House()
    house.counts = False  # whom a publish evicts was owed its message, and is gone when the publish returns
    async with trio.open_nursery() as nursery:

        async def watch(policy: str) -> None:
            async with house.subscribe(TOPIC, policy) as subscription:
                await trio.sleep(2)
                await house.take(subscription, policy)

        for policy in ("drop_oldest", "drop_newest", "latest", "disconnect"):
            nursery.start_soon(watch, policy)
        await trio.testing.wait_all_tasks_blocked()
        await house.publish(TOPIC, 5)
        assert trio.current_time() == 0
        await trio.sleep(3)
        if not disturbed():
            assert house.received == {
                "drop_oldest": [b"p 4"],
                "drop_newest": [b"p 0", b"p 1"],
                "latest": [b"p 4"],
                "disconnect": [],
            }
            assert house.broker.statistics().dropped == 4 + 3 + 4 + 1
        nursery.cancel_scope.cancel()


async def evicted_while_two_wait() -> None:
    """Two tasks wait at one mailbox, which is more than full before the first has run: both hear of it."""
    house = House()
    house.counts = False  # whom a publish evicts was owed its message, and is gone when the publish returns
    async with house.subscribe(TOPIC, "disconnect") as subscription, trio.open_nursery() as nursery:
        for name in ("a", "b"):
            nursery.start_soon(house.take, subscription, name)
        await trio.testing.wait_all_tasks_blocked()
        for body in (b"p 0", b"p 1", b"p 2"):
            house.accepted.append(body)
            house.broker.publish_nowait(TOPIC, body)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()


async def the_end_while_some_wait() -> None:
    """The broker ends with publishers in line and subscribers parked; also some steps after one has been woken."""
    for steps in (None, 0, 1, 2):
        house = House()
        ended_at = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.publish, QUEUE, 3, "a")
            nursery.start_soon(house.publish, QUEUE, 2, "b")
            nursery.start_soon(house.receive, TOPIC, "listener")
            await trio.sleep(1)
            if steps is None:
                house.end()
            else:
                await house.end_after(steps)
            ended_at = trio.current_time()
        assert ended_at in {None, trio.current_time()}


async def the_end_with_messages_inside() -> None:
    """Two tasks share a mailbox that holds messages as the broker ends: they have all of them, and then the end."""
    async with AsyncExitStack() as stack:
        with trio.testing.assert_no_checkpoints():  # so that nothing can come between the broker and its block
            broker = await stack.enter_async_context(open_broker(Limits(memory_bytes_max=1500)))
        house = House(broker=broker)
        house.ended = True  # it is when the checks run, however this block is left
        house.counts = False
        async with house.subscribe(TOPIC) as subscription, trio.open_nursery() as nursery:
            for body in (b"p 0", b"p 1", b"p 2"):
                house.accepted.append(body)
                broker.publish_nowait(TOPIC, body)
            broker.close()
            before = trio.current_time()
            try:
                await broker.publish_batch(plain_batch(Message(TOPIC, b"late")))
            except BrokerDraining:
                assert trio.current_time() == before
            else:
                raise AssertionError("accepted by a broker that has ended")
            for name in ("a", "b"):
                nursery.start_soon(house.take, subscription, name, None, 1)
            await trio.sleep(5)
            assert disturbed() or sorted(house.all_received) == house.accepted


async def the_end_of_a_queue_with_messages_inside() -> None:
    """Who leaves a queue that has ended leaves what it had to nobody, and that is counted."""
    house = House()
    async with house.subscribe(QUEUE) as subscription:
        await house.publish(QUEUE, 2)
        house.end()
        await house.take(subscription, "a", 1)


async def the_end_in_the_step_of_a_batch() -> None:
    """Two tasks wait at one mailbox, a batch comes, and in the same step the end: each of them has a message."""
    house = House()
    async with house.subscribe(QUEUE) as subscription, trio.open_nursery() as nursery:
        house.channel = QUEUE
        for name in ("a", "b"):
            nursery.start_soon(house.take, subscription, name)
        await trio.testing.wait_all_tasks_blocked()
        await house.publish_batch(QUEUE, range(2), "p", 3)
        house.end()
    assert disturbed() or sorted(house.all_received) == house.accepted


async def memory_that_is_full() -> None:
    """All publishers wait, wherever they publish to, until somebody receives."""
    house = House(Limits(memory_bytes_max=1500))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.publish, QUEUE, 4, "a")
        nursery.start_soon(house.publish, "/queue/y", 2, "y")
        nursery.start_soon(house.publish, QUEUE, 2, "b")
        await trio.sleep(1)
        if house.broker.memory.is_full:
            try:
                house.broker.publish_nowait("/queue/new", b"no room")
            except trio.WouldBlock:
                pass
            else:
                raise AssertionError("accepted although the memory is full")
        async with trio.open_nursery() as receivers:
            receivers.start_soon(house.receive, "/queue/y", "y", 2, 1)
            receivers.start_soon(house.receive, QUEUE, "late", 6, 1)
    house.channel = QUEUE


async def several_tasks_share_a_subscription() -> None:
    """Whoever waits is woken while messages wait, and when the subscription is closed."""
    house = House()
    async with house.subscribe(QUEUE) as subscription, trio.open_nursery() as nursery:
        house.channel = QUEUE
        for name in ("a", "b"):
            nursery.start_soon(house.take, subscription, name)
        await trio.testing.wait_all_tasks_blocked()
        await house.publish(QUEUE, 4)
        await trio.sleep(1)
        house.closed.add(subscription)
        await subscription.aclose()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()


async def a_batch_for_two_that_wait() -> None:
    """Two tasks wait at one mailbox, a batch comes: each of them has a message, although the first takes its time."""
    house = House()
    async with house.subscribe(QUEUE) as subscription, trio.open_nursery() as nursery:
        house.channel = QUEUE
        for name in ("a", "b"):
            nursery.start_soon(house.take, subscription, name, 1, 10)
        await trio.testing.wait_all_tasks_blocked()
        await house.publish_batch(QUEUE, range(2), "p", 3)
        await trio.sleep(1)
        assert disturbed() or sorted(house.all_received) == house.accepted


async def room_that_is_taken_back() -> None:
    """Two publishers wait for memory; when there is some, the queue of one is full, as a consumer gave back what it
    had: it waits on, and the other goes on."""
    house = House(Limits(memory_bytes_max=2800, backlog_bytes_max=1500))
    async with trio.open_nursery() as nursery, house.subscribe("/queue/y") as other:
        async with house.subscribe(QUEUE):
            await house.publish("/queue/y", 2, "y")
            await house.publish(QUEUE, 3, "a")
            for channel, name in (("/queue/z", "c"), (QUEUE, "b")):  # the consumer's leaving wakes the first, in vain
                nursery.start_soon(house.publish, channel, 1, name)
                await trio.sleep(1)
        await trio.sleep(1)
        await house.take(other, "y", 2, 1)
        await trio.sleep(1)
        assert disturbed() or len(house.accepted) == 6
        await house.receive(QUEUE, "late", 4)


SCENARIOS = (
    topic_with_a_slow_subscriber,
    topic_with_a_stuck_subscriber,
    publishers_that_give_up,
    many_publishers,
    publishers_with_patience,
    queue_with_consumers_that_leave,
    batches_to_consumers_that_leave,
    backlog_and_backpressure,
    subscribe_and_leave,
    each_overflow_policy,
    evicted_while_two_wait,
    the_end_while_some_wait,
    the_end_with_messages_inside,
    the_end_of_a_queue_with_messages_inside,
    the_end_in_the_step_of_a_batch,
    a_batch_for_two_that_wait,
    room_that_is_taken_back,
    memory_that_is_full,
    several_tasks_share_a_subscription,
)
