"""What docs/cancellation.md promises of the broker in process, where no other test shows it."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
import trio
from trio.testing import assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from tests.core.helpers import Bench, framed, mark, numbers
from trio_broker import Broker, BrokerDraining, Limits, LocalSubscription, open_broker
from trio_broker.core import Subscription

TOPIC, QUEUE = "/topic/t", "/queue/q"
CHANNELS = [TOPIC, QUEUE]


def full(bench: Callable[..., Bench], channel: str) -> tuple[Bench, LocalSubscription]:
    """A channel that takes no more, and the subscription that could make room."""
    house = bench(mailbox_bytes_max=mark(1), backlog_bytes_max=mark(1))
    peer = house.peer(channel)
    house.publish_nowait(channel, b"held")
    if channel == QUEUE:
        house.publish_nowait(channel, b"kept")
    return house, peer.local


async def test_a_broker_is_opened_and_left_without_a_checkpoint() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        with assert_no_checkpoints():
            async with open_broker() as broker:
                pass
    assert not scope.cancelled_caught
    with pytest.raises(BrokerDraining):
        broker.publish_nowait(TOPIC, b"after the end")


async def test_an_exception_of_the_body_leaves_as_itself_under_cancellation() -> None:
    with pytest.raises(ZeroDivisionError):
        with trio.CancelScope() as scope:
            async with open_broker() as broker, broker.subscribe(TOPIC), broker.subscribe(QUEUE):
                scope.cancel()
                raise ZeroDivisionError


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_broker_whose_block_is_cancelled_ends_for_everybody(channel: str) -> None:
    """The block meets the cancellation; the tasks outside are told what happened to the broker, and nothing else."""
    received: list[bytes] = []
    sent_away = 0
    over = trio.Event()

    async def publish(broker: Broker) -> None:
        nonlocal sent_away
        with pytest.raises(BrokerDraining):
            await broker.publish(channel, b"waits")
        sent_away += 1

    async def receive(broker: Broker) -> None:
        async with broker.subscribe(channel) as subscription:
            await over.wait()
            received.extend([message.body async for message in subscription])

    async with trio.open_nursery() as outside:
        with trio.CancelScope() as scope:
            async with open_broker(Limits(mailbox_bytes_max=mark(1), backlog_bytes_max=1)) as broker:
                outside.start_soon(receive, broker)  # noqa: ASYNC111  the broker ends first, which is the point
                await wait_all_tasks_blocked()
                broker.publish_nowait(channel, b"in the mailbox")
                if channel == QUEUE:
                    broker.publish_nowait(channel, b"in the backlog")
                outside.start_soon(publish, broker)  # noqa: ASYNC111  the broker ends first, which is the point
                outside.start_soon(publish, broker)  # noqa: ASYNC111  the broker ends first, which is the point
                await wait_all_tasks_blocked()
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        await wait_all_tasks_blocked()
        assert sent_away == 2
        over.set()
    assert received == [b"in the mailbox"]


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize(
    ("moment", "accepted"), [("before", False), ("in line", False), ("in the tick of room", True), ("after", True)]
)
async def test_a_batch_is_accepted_whole_or_not_at_all(
    bench: Callable[..., Bench], channel: str, moment: str, *, accepted: bool
) -> None:
    house, local = full(bench, channel)
    returned = False
    received: list[bytes] = []
    async with trio.open_nursery() as nursery:

        async def publish() -> None:
            nonlocal returned
            await house.broker.publish_batch(framed(channel, b"0", b"1", b"2"))
            returned = True

        if moment == "before":
            nursery.cancel_scope.cancel()
        nursery.start_soon(publish)
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            if moment == "in line":
                nursery.cancel_scope.cancel()
                await wait_all_tasks_blocked()
            received += drain(local)
            if moment == "in the tick of room":
                nursery.cancel_scope.cancel()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    received += drain(local)
    assert returned is accepted
    assert received[-3:] == numbers(0, 3) if accepted else not set(received) & set(numbers(0, 3))
    assert house.waiting(channel) == 0


def drain(local: LocalSubscription) -> list[bytes]:
    """Receive until nothing comes."""
    received = []
    while True:
        try:
            received.append(local.receive_nowait().body)
        except trio.WouldBlock:
            return received


async def test_entering_a_subscription_is_a_checkpoint_and_leaving_it_is_none(bench: Callable[..., Bench]) -> None:
    house = bench()
    with trio.CancelScope() as scope:
        manager = house.broker.subscribe(QUEUE)
        with assert_checkpoints():
            await manager.__aenter__()
        house.publish_nowait(QUEUE, b"not received")
        scope.cancel()
        with assert_no_checkpoints():
            await manager.__aexit__(None, None, None)
    assert not scope.cancelled_caught
    assert house.backlog(QUEUE) == 1
    house.check_queue_conserved()


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("cancel_at", range(8))
async def test_at_every_step_a_cancelled_loop_loses_nothing(
    bench: Callable[..., Bench], channel: str, cancel_at: int
) -> None:
    house = bench()
    peer = house.peer(channel)
    received = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def loop() -> None:
            async for message in peer.local:
                received.append(message.body)  # noqa: PERF401  what was received before a cancellation counts

        for step in range(9):
            if step in {0, 3}:
                house.publish_nowait(channel, b"%d" % step)
            if step == cancel_at:
                nursery.cancel_scope.cancel()
            await trio.lowlevel.cancel_shielded_checkpoint()
    assert received + drain(peer.local) == [b"0", b"3"]


async def test_a_subscription_as_a_block_of_its_own(bench: Callable[..., Bench]) -> None:
    """Entering is nothing, leaving is `aclose`: closed although cancelled."""
    house = bench()
    local = house.peer(QUEUE).local
    house.publish_nowait(QUEUE, b"not received")
    with trio.CancelScope() as scope:
        scope.cancel()
        with assert_no_checkpoints():
            assert await local.__aenter__() is local
        assert house.backlog(QUEUE) == 0
        await local.__aexit__(None, None, None)
    assert scope.cancelled_caught
    assert house.backlog(QUEUE) == 1
    with pytest.raises(trio.ClosedResourceError):
        await local.receive()


@pytest.mark.parametrize("channel", CHANNELS)
async def test_synchronous_verbs_do_their_work_in_a_scope_that_was_cancelled(
    bench: Callable[..., Bench], channel: str
) -> None:
    house = bench()
    local = house.peer(channel).local
    with trio.CancelScope() as scope:
        scope.cancel()
        house.broker.publish_nowait(channel, b"a")
        assert local.receive_nowait().body == b"a"
        local.close()
        with pytest.raises(trio.ClosedResourceError):
            local.receive_nowait()
        house.broker.close()
        with pytest.raises(BrokerDraining):
            house.broker.publish_nowait(channel, b"b")
        await trio.lowlevel.checkpoint()
        raise AssertionError("not reached")
    assert scope.cancelled_caught


def test_ctrl_c_while_a_block_is_entered_leaves_no_subscription_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes when the subscription has its place and nobody has yet promised to give it up."""
    broker = Broker(Limits())

    def interrupted(subscription: Subscription) -> LocalSubscription:
        signal.raise_signal(signal.SIGINT)
        return LocalSubscription(subscription)

    async def main() -> None:
        async with broker.subscribe(TOPIC):
            await trio.lowlevel.checkpoint()
            raise AssertionError("Ctrl-C was forgotten")

    monkeypatch.setattr("trio_broker.core.broker.LocalSubscription", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run with it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            trio.run(main)
    finally:
        signal.signal(signal.SIGINT, before)
    assert broker.statistics().subscriptions == 0
