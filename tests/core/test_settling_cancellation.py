"""What docs/cancellation.md promises of settling, and of publishing to several channels at once."""

from __future__ import annotations

import pytest
import trio
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from trio_broker import Broker, BrokerDraining, Limits, PublishStalled
from trio_broker.message import Message, plain_batch

QUEUE, OTHER = "/queue/q", "/queue/other"


async def test_processing_has_no_checkpoint_of_its_own() -> None:
    broker = Broker(Limits())
    broker.publish_nowait(QUEUE, b"work")
    async with broker.subscribe(QUEUE, ack="client-individual") as jobs:
        message = await jobs.receive()
        with trio.CancelScope() as scope:
            scope.cancel()
            with assert_no_checkpoints():
                async with message.process():
                    pass
        assert not scope.cancelled_caught
        assert broker.counters.delivered == 1
    assert not broker.statistics().channels


async def test_what_is_processed_goes_back_when_its_block_is_cancelled() -> None:
    broker = Broker(Limits())
    broker.publish_nowait(QUEUE, b"first")
    broker.publish_nowait(QUEUE, b"second")
    async with broker.subscribe(QUEUE, ack="client-individual", prefetch_messages=1) as jobs:
        with trio.CancelScope() as scope:
            async with (await jobs.receive()).process():
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        again = await jobs.receive()
        assert (again.body, again.redelivered) == (b"first", True)
        again.ack()
        assert (await jobs.receive()).body == b"second"


async def test_an_error_in_the_block_gives_the_message_back_and_leaves_as_itself() -> None:
    broker = Broker(Limits())
    broker.publish_nowait(QUEUE, b"work")
    async with broker.subscribe(QUEUE, ack="client-individual") as jobs:
        with pytest.raises(ZeroDivisionError):
            async with (await jobs.receive()).process():
                raise ZeroDivisionError
        assert (await jobs.receive()).redelivered


async def test_settling_does_its_work_in_a_scope_that_was_cancelled() -> None:
    broker = Broker(Limits())
    for body in (b"done", b"not done"):
        broker.publish_nowait(QUEUE, body)
    async with broker.subscribe(QUEUE, ack="client-individual") as jobs:
        done, not_done = await jobs.receive(), await jobs.receive()
        with trio.CancelScope() as scope:  # noqa: ASYNC100  that it has no checkpoint is the point
            scope.cancel()
            with assert_no_checkpoints():
                done.ack()
                not_done.nack()
        assert not scope.cancelled_caught
        assert jobs.receive_nowait().body == b"not done"
    assert broker.counters.delivered == 1


@pytest.mark.parametrize("full", [QUEUE, OTHER])
async def test_batches_for_several_channels_are_accepted_together_or_not_at_all(full: str) -> None:
    """Cancelled while it waits for the room of one of them, at the head of both lines."""
    broker = Broker(Limits(backlog_bytes_max=1))
    broker.publish_nowait(full, b"held")
    batches = [plain_batch(Message(channel, b"together")) for channel in (OTHER, QUEUE)]

    async def publish() -> None:
        with scope:
            await broker.publish_all(batches)

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(publish)
        await wait_all_tasks_blocked()
        before = broker.statistics()
        assert before.published == 1
        assert {channel.publishers_waiting for channel in before.channels.values()} == {1}
        scope.cancel()
    assert scope.cancelled_caught
    after = broker.statistics()
    assert after.published == 1
    assert list(after.channels) == [full]  # the other was made for this alone
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(publish)
        await wait_all_tasks_blocked()
        async with broker.subscribe(full) as subscription:
            assert [(await subscription.receive()).body for _ in range(2)] == [b"held", b"together"]
    assert broker.counters.published == 3


async def test_the_end_of_the_broker_and_of_patience_while_several_channels_are_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    broker = Broker(Limits(backlog_bytes_max=1))
    broker.publish_nowait(QUEUE, b"held")
    batches = [plain_batch(Message(channel, b"together")) for channel in (OTHER, QUEUE)]
    with pytest.raises(PublishStalled, match="'/queue/q' took no message"):
        await broker.publish_all(batches, 7)
    assert trio.current_time() == 7
    async with trio.open_nursery() as nursery:

        async def publish() -> None:
            with pytest.raises(BrokerDraining):
                await broker.publish_all(batches)

        nursery.start_soon(publish)
        await wait_all_tasks_blocked()
        broker.close()
    assert broker.counters.published == 1
    assert broker.memory.cost == 0
