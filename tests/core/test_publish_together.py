"""Several batches at once: all of them or none, and who must wait for one channel holds up nobody in another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.core.helpers import Bench, framed, mark, numbers
from trio_broker.errors import BrokerDraining, LimitReached, PublishStalled

A, B, TOPIC, NOBODY = "/queue/a", "/queue/b", "/topic/t", "/topic/nobody"


async def test_all_batches_arrive_in_their_order(bench: Callable[..., Bench]) -> None:
    house = bench()
    news = house.peer(TOPIC)
    batches = [framed(B, b"1"), framed(A, b"2"), framed(TOPIC, b"3"), framed(B, b"4", b"5"), framed(NOBODY, b"6")]
    with assert_checkpoints():
        await house.broker.publish_all(batches)
    assert house.broker.offer_all(batches)
    assert house.peer(A).receive() == [b"2"] * 2
    assert house.peer(B).receive() == [b"1", b"4", b"5"] * 2
    assert news.receive() == [b"3"] * 2
    assert house.broker.statistics().unrouted == 2
    assert house.broker.statistics().published == 12


async def test_nothing_is_a_batch_too(bench: Callable[..., Bench]) -> None:
    house = bench()
    with assert_checkpoints():
        await house.broker.publish_all([])
    assert house.broker.offer_all([])


@pytest.mark.parametrize("full", [A, B, TOPIC])
async def test_nobody_has_anything_before_there_is_room_for_all(bench: Callable[..., Bench], full: str) -> None:
    house = bench(mailbox_bytes_max=mark(1), backlog_bytes_max=mark(1))
    news = house.peer(TOPIC, owner=trio.CancelScope())
    house.publish_nowait(full, b"0")
    before = house.broker.statistics()
    batches = [framed(name, b"x") for name in (TOPIC, B, A)]
    assert not house.broker.offer_all(batches)
    assert house.broker.statistics() == before
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish_all, batches)
        await wait_all_tasks_blocked()
        statistics = house.broker.statistics()
        assert statistics.published == 1
        waiting = {name: channel.publishers_waiting for name, channel in statistics.channels.items()}
        assert {name: count for name, count in waiting.items() if count} == {full: 1}
        assert not house.offer(full, b"behind")  # who comes later stands behind it
        if full == TOPIC:
            news.receive()
        else:
            house.peer(full).receive()
    assert house.broker.statistics().published == 4
    news.receive()


async def test_a_wait_for_several_is_over_when_all_have_room_at_once(bench: Callable[..., Bench]) -> None:
    """The first has room again while it waits for the second, and then has none again: both are looked at anew."""
    house = bench(backlog_bytes_max=mark(1))
    house.publish_nowait(A, b"0")
    house.publish_nowait(B, b"0")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish_all, [framed(A, b"x"), framed(B, b"x")])
        await wait_all_tasks_blocked()
        first = house.peer(A)
        first.receive()
        first.leave()
        await wait_all_tasks_blocked()
        assert house.offer(A, b"1")  # who needs no other channel does not wait for that one
        second = house.peer(B)
        second.receive()
        second.leave()
        await wait_all_tasks_blocked()
        assert house.broker.statistics().published == 3
        assert house.offer(B, b"1")
        assert house.peer(A).receive() == [b"1"]
        await wait_all_tasks_blocked()
        assert house.peer(B).receive() == [b"1"]
    assert house.broker.statistics().published == 6


async def test_two_that_publish_to_the_same_channels_in_opposite_order_do_not_wait_for_each_other(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(backlog_bytes_max=mark(1))
    house.publish_nowait(A, b"0")
    house.publish_nowait(B, b"0")

    async def consume(channel: str) -> None:
        async with house.broker.subscribe(channel, ack="client-individual", prefetch_messages=1) as jobs:
            async for message in jobs:
                async with message.process():
                    await trio.sleep(1)

    with trio.fail_after(200):
        async with trio.open_nursery() as consumers:
            consumers.start_soon(consume, A)
            consumers.start_soon(consume, B)
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    one, other = (A, B) if number % 2 else (B, A)
                    nursery.start_soon(house.broker.publish_all, [framed(one, b"x"), framed(other, b"x")])
            await trio.sleep(100)
            consumers.cancel_scope.cancel()
    assert house.broker.statistics().delivered == 42


@pytest.mark.parametrize("stands", ["in the first line", "in the second line", "before a full channel", "at once"])
async def test_cancelled_it_has_reached_nobody(bench: Callable[..., Bench], stands: str) -> None:
    house = bench(backlog_bytes_max=mark(1))
    full = {"in the first line": A, "in the second line": B}.get(stands, B)
    if stands != "at once":
        house.publish_nowait(full, b"0")
    async with trio.open_nursery() as nursery:
        if stands.endswith("line"):
            nursery.start_soon(house.broker.publish, full, b"1")
            await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            if stands == "at once":
                scope.cancel()
            else:

                @nursery.start_soon
                async def cancel() -> None:
                    await wait_all_tasks_blocked()
                    scope.cancel()

            await house.broker.publish_all([framed(A, b"x"), framed(B, b"x"), framed(NOBODY, b"x")])
        assert scope.cancelled_caught
        statistics = house.broker.statistics()
        assert statistics.published == (stands != "at once")
        assert set(statistics.channels) == ({full} if stands != "at once" else set())  # what was made for it is gone
        assert statistics.unrouted == 0
        if stands != "at once":
            house.peer(full).receive()


async def test_patience_ends_it_with_the_reason(bench: Callable[..., Bench], autojump_clock: MockClock) -> None:
    house = bench(backlog_bytes_max=mark(1))
    house.publish_nowait(B, b"0")
    with pytest.raises(PublishStalled, match="'/queue/b' took no message for 60 s"):
        await house.broker.publish_all([framed(B, b"x"), framed(A, b"x")], 60)
    assert trio.current_time() == 60
    assert list(house.broker.statistics().channels) == [B]
    assert house.broker.statistics().published == 1


async def test_patience_lasts_while_the_channel_that_it_waits_for_moves(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(backlog_bytes_max=mark(1))
    house.publish_nowait(B, b"0")
    async with trio.open_nursery() as nursery:
        for number in range(1, 4):
            nursery.start_soon(house.broker.publish, B, b"%d" % number)
            await wait_all_tasks_blocked()
        nursery.start_soon(house.broker.publish_all, [framed(A, b"x"), framed(B, b"x")], 60)
        await wait_all_tasks_blocked()
        worker = house.worker(B, credit=1)
        for number in range(1, 5):
            worker.given()
            await trio.sleep(50)
            worker.ledger.ack(number)
    assert trio.current_time() == 200
    assert house.broker.statistics().published == 6


async def test_a_channel_that_has_room_never_waits_for_one_that_has_none(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    """However long that takes, be it that the full one moves now and then."""
    house = bench(backlog_bytes_max=mark(1))
    house.publish_nowait(B, b"0")
    consumer = house.peer(A)
    async with trio.open_nursery() as nursery:
        for number in range(1, 5):
            nursery.start_soon(house.broker.publish, B, b"%d" % number)
            await wait_all_tasks_blocked()
        nursery.start_soon(house.broker.publish_all, [framed(A, b"x"), framed(B, b"x")], 3)
        worker = house.worker(B, credit=1)
        for number in range(1, 5):
            await trio.sleep(2)
            before = trio.current_time()
            await house.broker.publish(A, b"%d" % number)
            assert trio.current_time() == before
            assert consumer.receive() == [b"%d" % number]
            worker.given()
            worker.ledger.ack(number)
    assert consumer.receive() == [b"x"]


async def test_its_reserve_lasts_while_it_waits_for_a_topic(bench: Callable[..., Bench]) -> None:
    """Topics have none, and it waits there; that must not cost it the queue's."""
    house = bench(mailbox_bytes_max=mark(1), backlog_bytes_max=mark(1))
    news = house.peer(TOPIC, owner=trio.CancelScope())
    house.publish_nowait(TOPIC, b"0")
    house.publish_nowait(A, b"0")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: house.broker.publish_all([framed(TOPIC, b"1"), framed(A, b"1")], in_reserve=True))
        await wait_all_tasks_blocked()
        assert house.broker.statistics().published == 2
        assert news.receive() == [b"0"]
    assert news.receive() == [b"1"]
    worker = house.peer(A)
    assert [worker.receive(), worker.receive()] == [[b"0"], [b"1"]]


async def test_those_who_stand_in_the_line_of_a_topic_that_came_into_being_meanwhile_come_first(
    bench: Callable[..., Bench],
) -> None:
    house = bench(mailbox_bytes_max=mark(1), backlog_bytes_max=mark(1))
    house.publish_nowait(A, b"0")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish_all, [framed(A, b"x"), framed(TOPIC, b"x")])
        await wait_all_tasks_blocked()
        news = house.peer(TOPIC, owner=trio.CancelScope())
        house.publish_nowait(TOPIC, b"1")
        nursery.start_soon(house.broker.publish, TOPIC, b"2")
        await wait_all_tasks_blocked()
        house.peer(A).receive()
        await wait_all_tasks_blocked()
        received: list[bytes] = []
        while len(received) < 3:
            received += news.receive()
            await wait_all_tasks_blocked()
    assert received == [b"1", b"2", b"x"]


async def test_a_broker_that_ends_sends_it_away(bench: Callable[..., Bench]) -> None:
    house = bench(backlog_bytes_max=mark(1))
    house.publish_nowait(B, b"0")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def publish() -> None:
            with pytest.raises(BrokerDraining):
                await house.broker.publish_all([framed(A, b"x"), framed(B, b"x")])

        await wait_all_tasks_blocked()
        house.broker.close()
    for name in (A, NOBODY):
        with pytest.raises(BrokerDraining):
            await house.broker.publish_all([framed(name, b"x")])
        with pytest.raises(BrokerDraining):
            house.broker.offer_all([framed(name, b"x")])
    assert house.broker.statistics().published == 1
    assert not house.broker.statistics().channels


async def test_a_broker_that_ends_in_the_step_that_made_room(bench: Callable[..., Bench]) -> None:
    house = bench(backlog_bytes_max=mark(1))
    house.publish_nowait(B, b"0")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def publish() -> None:
            with pytest.raises(BrokerDraining):
                await house.broker.publish_all([framed(A, b"x"), framed(B, b"x")])

        await wait_all_tasks_blocked()
        assert house.peer(B).receive() == [b"0"]  # who waits is woken
        house.broker.close()
    assert house.broker.statistics().published == 1


async def test_a_broker_that_ends_while_it_is_at_its_first_checkpoint(bench: Callable[..., Bench]) -> None:
    house = bench()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def publish() -> None:
            with pytest.raises(BrokerDraining):
                await house.broker.publish_all([framed(NOBODY, b"x")])

        @nursery.start_soon
        async def close() -> None:
            house.broker.close()

    assert house.broker.statistics().published in {0, 1}


async def test_channels_beyond_the_limit_leave_none_of_those_that_were_made(bench: Callable[..., Bench]) -> None:
    house = bench(channels_max=1)
    batches = [framed(A, b"x"), framed(B, b"x")]
    with pytest.raises(LimitReached, match="channels_max"):
        await house.broker.publish_all(batches)
    assert not house.broker.statistics().channels
    with pytest.raises(LimitReached, match="channels_max"):
        house.broker.offer_all(batches)
    assert not house.broker.statistics().channels
    assert house.broker.statistics().published == 0


async def test_it_keeps_its_turn_among_those_who_publish_one_by_one(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    house = bench(backlog_bytes_max=mark(1))
    house.publish_nowait(A, b"0")
    async with trio.open_nursery() as nursery:
        for turn in range(1, 6):
            if turn == 3:
                nursery.start_soon(house.broker.publish_all, [framed(B, b"3"), framed(A, b"3")])
            else:
                nursery.start_soon(house.broker.publish, A, b"%d" % turn)
            await wait_all_tasks_blocked()
        peer = house.peer(A, owner=trio.CancelScope())
        received: list[bytes] = []
        while len(received) < 6:
            received += peer.receive()
            await wait_all_tasks_blocked()
    assert received == numbers(0, 6)


async def test_a_topic_that_somebody_came_to_while_it_waited_gets_it_too(bench: Callable[..., Bench]) -> None:
    house = bench(backlog_bytes_max=mark(1))
    house.publish_nowait(A, b"0")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.broker.publish_all, [framed(A, b"x"), framed(NOBODY, b"x")])
        await wait_all_tasks_blocked()
        late = house.peer(NOBODY)
        house.peer(A).receive()
    assert late.receive() == [b"x"]
    assert house.broker.statistics().unrouted == 0
