"""Who gets what, also when consumers go in the middle of their work, and publishers whose channel takes nothing."""

import contextlib

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import (
    STALL_SECONDS_MAX,
    Logs,
    collect,
    cut_frames,
    frame,
    numbered,
    open_house,
    open_tcp_house,
    pairs,
    publish_all,
    settled_cost,
    until,
)
from trio_broker import Limits

# -- who gets what ----------------------------------------------------------------------------------------------------


async def test_topic_to_all_and_queue_in_rotation(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        topic = [await house.subscribe("/topic/x") for _ in range(3)]
        queue = [await house.subscribe("/queue/x") for _ in range(3)]
        sender = await house.sender()
        await sender.send(b"".join(pairs(f"/{kind}/x", body) for body in numbered(9) for kind in ("topic", "queue")))
        for peer in topic:
            assert await collect(peer, 9) == numbered(9)
        shares = [await collect(peer, 3) for peer in queue]
        assert sorted(shares) == [numbered(9)[start::3] for start in range(3)]


async def test_a_peer_hears_itself(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        peer = await house.subscribe("/topic/x")
        await peer.publish("/topic/x", b"echo")
        assert await peer.receive() == b"echo"


@pytest.mark.parametrize("write_bytes_max", [1, 7])
async def test_frames_survive_any_cutting(autojump_clock: MockClock, write_bytes_max: int) -> None:
    """Bytes that come one by one, or in pieces that cut every frame, are the same conversation."""
    async with open_house(buffer_bytes=3, write_bytes_max=write_bytes_max) as house:
        subscriber, sender = await house.subscribe("/topic/x"), await house.sender()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.publish, "/topic/x", *numbered(20))
            assert await collect(subscriber, 20) == numbered(20)


async def test_one_read_with_everything(autojump_clock: MockClock) -> None:
    """The first frame and messages in the same read."""
    async with open_house() as house:
        peer = house.connect()
        await peer.send(frame(b"/topic/x") + pairs("/topic/x", *numbered(5)))
        assert await collect(peer, 5) == numbered(5)


# -- a queue's work outlives its consumers ----------------------------------------------------------------------------


async def test_unsent_work_of_a_stuck_consumer_goes_to_the_next(autojump_clock: MockClock) -> None:
    """In order; what the general stream may have torn is sent again, so nothing is missing."""
    bodies = numbered(100, 20_000)
    async with open_house() as house:
        stuck = await house.subscribe("/queue/x")
        await publish_all(house.broker, "/queue/x", bodies)
        await trio.sleep(STALL_SECONDS_MAX)
        await wait_all_tasks_blocked()
        assert house.evicted() == 1
        settled = house.broker.statistics().delivered
        next_one = await house.subscribe("/queue/x")
        whole, _torn = cut_frames(await stuck.read_to_end())
        assert whole == bodies[: len(whole)]
        assert settled <= len(whole)
        assert await collect(next_one, len(bodies) - settled) == bodies[settled:]
        assert house.backlog("/queue/x") == 0


async def test_torn_work_over_tcp_is_redelivered_exactly(mock_clock: MockClock) -> None:
    """On plain TCP the bytes that left are known: the torn message goes to the next, those before it do not."""
    bodies = numbered(2000, 10_000)
    async with open_tcp_house(Limits(mailbox_bytes_max=64 * 1024 * 1024)) as house, trio.open_nursery() as nursery:
        stuck = await house.subscribe("/queue/x", buffer_bytes=10_000)
        for body in bodies:
            house.broker.publish_nowait("/queue/x", body)
        await settled_cost(house.broker)
        mock_clock.jump(STALL_SECONDS_MAX)
        await until(lambda: house.broker.statistics().evicted == 1)
        next_one = await house.subscribe("/queue/x")
        rest: list[bytes] = []

        async def take_the_rest() -> None:
            rest.extend(await collect(next_one, len(bodies) - house.broker.statistics().delivered))

        nursery.start_soon(take_the_rest)
        whole, torn = cut_frames(await stuck.read_to_end())
        await until(lambda: len(whole) + len(rest) >= len(bodies))
        assert torn
        assert whole + rest == bodies


@pytest.mark.parametrize("channel", ["/topic/x", "/queue/x"])
async def test_large_payloads_that_stop_in_the_middle_of_a_write(mock_clock: MockClock, channel: str) -> None:
    """They are gathered, as views of what was read or as copies; what did not leave at once leaves as it was."""
    bodies = numbered(400, 50_000)
    async with open_tcp_house(Limits(mailbox_bytes_max=64 * 1024 * 1024)) as house, trio.open_nursery() as nursery:
        slow = await house.subscribe(channel, buffer_bytes=10_000)
        publisher = await house.connect()
        await publisher.send(frame(b"/null"))
        nursery.start_soon(publisher.publish, channel, *bodies)
        await until(lambda: house.broker.statistics().published == len(bodies))
        assert await settled_cost(house.broker) > 10_000_000
        assert await collect(slow, len(bodies)) == bodies
        await until(lambda: house.broker.statistics().delivered == len(bodies))
        assert await settled_cost(house.broker) == 0


async def test_work_of_a_consumer_that_resets_in_the_middle(autojump_clock: MockClock, logs: Logs) -> None:
    bodies = numbered(50, 20_000)
    async with open_house() as house:
        gone = await house.subscribe("/queue/x")
        bystander = await house.subscribe("/topic/x")
        await publish_all(house.broker, "/queue/x", bodies)
        await wait_all_tasks_blocked()
        first = await collect(gone, 1)
        await gone.stream.receive_some(100)
        house.stream_of(gone).reset()
        await wait_all_tasks_blocked()
        assert logs.reasons("closed")[0].startswith("the connection broke")
        settled = house.broker.statistics().delivered
        async with house.broker.subscribe("/queue/x") as next_one:
            rest = [(await next_one.receive()).body for _ in range(len(bodies) - settled)]
        assert first == bodies[:1]
        assert rest == bodies[settled:]
        await house.broker.publish("/topic/x", b"untouched")
        assert await bystander.receive() == b"untouched"
        assert trio.current_time() == 0


async def test_consumers_that_go_one_by_one_leave_the_order_whole(autojump_clock: MockClock) -> None:
    """Each had a share of the rotation, and none was sent all of it."""
    bodies = numbered(60, 30_000)
    async with open_house(buffer_bytes=100) as house:
        consumers = [await house.subscribe("/queue/x") for _ in range(3)]
        await publish_all(house.broker, "/queue/x", bodies)
        await wait_all_tasks_blocked()
        for consumer in consumers[1:] + consumers[:1]:
            await consumer.stream.aclose()
        await wait_all_tasks_blocked()
        assert house.backlog("/queue/x") == 60
        async with house.broker.subscribe("/queue/x") as next_one:
            assert [(await next_one.receive()).body for _ in bodies] == bodies


async def test_a_message_that_tears_every_time_is_given_up(autojump_clock: MockClock) -> None:
    """Poison: taken for a write ``deliveries_max`` times, then given up and counted; what is behind it gets through."""
    async with open_house(Limits(deliveries_max=3, write_bytes_max=100)) as house:
        house.broker.publish_nowait("/queue/x", bytes(100_000))
        house.broker.publish_nowait("/queue/x", b"behind")
        for attempt in range(3):
            assert house.backlog("/queue/x") == 2, attempt
            consumer = await house.subscribe("/queue/x")
            house.stream_of(consumer).reset()
            await wait_all_tasks_blocked()
        assert house.broker.statistics().poisoned == 1
        assert await (await house.subscribe("/queue/x")).receive() == b"behind"


async def test_a_queue_does_not_wait_for_a_consumer_that_is_only_lingering() -> None:
    """It broke the protocol and goes on sending: the server lingers, but its work is back at once. Real TCP."""
    async with open_tcp_house(Limits(linger_seconds_max=3600)) as house, trio.open_nursery() as nursery:
        rude = await house.subscribe("/queue/x")

        async def go_on_sending() -> None:
            while True:
                await rude.send(bytes(100_000))

        nursery.start_soon(go_on_sending)  # four zero bytes are a channel without a name
        await until(lambda: house.broker.statistics().subscriptions == 0)
        await house.broker.publish("/queue/x", b"work")
        async with house.broker.subscribe("/queue/x") as other:
            assert (await other.receive()).body == b"work"
        assert house.server.connections == 1
        nursery.cancel_scope.cancel()


# -- a publisher whose channel takes nothing --------------------------------------------------------------------------


async def test_a_full_queue_without_consumer_ends_its_publisher(autojump_clock: MockClock, logs: Logs) -> None:
    limits = Limits(backlog_bytes_max=100_000, publish_seconds_max=60)
    async with open_house(limits) as house, trio.open_nursery() as nursery:
        sender, bystander = await house.sender(), await house.sender()

        async def flood() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                while True:
                    await sender.publish("/queue/x", bytes(10_000))

        nursery.start_soon(flood)
        await sender.is_ended()
        assert trio.current_time() == 60
        assert logs.reasons("refused") == ["'/queue/x' took no message for 60 s"]
        async with house.broker.subscribe("/topic/x") as news:
            await bystander.publish("/topic/x", b"untouched")
            assert (await news.receive()).body == b"untouched"


async def test_progress_of_the_queue_renews_its_publishers_patience(autojump_clock: MockClock, logs: Logs) -> None:
    """One publisher's message is taken at 50 s; the other, behind it, ends 60 s after that."""
    limits = Limits(backlog_bytes_max=25_000, mailbox_bytes_max=5000, publish_seconds_max=60)
    async with open_house(limits, buffer_bytes=100) as house, trio.open_nursery() as nursery:
        await publish_all(house.broker, "/queue/x", [bytes(10_000)] * 3)
        first, second = await house.sender(), await house.sender()
        nursery.start_soon(first.publish, "/queue/x", bytes(10_000))
        await wait_all_tasks_blocked()
        nursery.start_soon(second.publish, "/queue/x", bytes(10_000))
        await wait_all_tasks_blocked()
        assert house.broker.statistics().channels["/queue/x"].publishers_waiting == 2
        await trio.sleep(50)
        await house.subscribe("/queue/x")  # takes one message, and gets stuck with it
        await wait_all_tasks_blocked()
        assert house.broker.statistics().channels["/queue/x"].publishers_waiting == 1
        await second.is_ended()
        assert trio.current_time() == 110
        assert logs.reasons("refused") == ["'/queue/x' took no message for 60 s"]
        first_stream = house.stream_of(first)
        assert not first_stream.closed


async def test_a_waiting_message_is_no_unfinished_frame(autojump_clock: MockClock, logs: Logs) -> None:
    """The frame's deadline does not run while the broker, not the peer, is what is waited for."""
    limits = Limits(backlog_bytes_max=1000, frame_seconds_max=1, publish_seconds_max=60)
    async with open_house(limits) as house:
        house.broker.publish_nowait("/queue/x", bytes(2000))
        sender = await house.sender()
        whole = pairs("/queue/x", b"waits")
        await sender.send(whole + whole[:5])
        await trio.sleep(30)
        consumer = await house.subscribe("/queue/x")
        await sender.send(whole[5:])
        assert await collect(consumer, 3) == [bytes(2000), b"waits", b"waits"]
        assert not logs.reasons("refused")


async def test_all_that_stood_behind_a_waiting_message_is_told_as_abandoned(
    autojump_clock: MockClock, logs: Logs
) -> None:
    async with open_house(Limits(backlog_bytes_max=1)) as house:
        sender = await house.sender()
        await sender.send(pairs("/queue/q", b"1"))
        await wait_all_tasks_blocked()
        await sender.send(pairs("/queue/q", b"2") + pairs("/queue/r", b"3") + pairs("/topic/t", b"4"))
        await wait_all_tasks_blocked()
        await house.server.drain()
    told = [record.__dict__["channel"] for record in logs.records if record.getMessage() == "abandoned"]
    assert told == ["/queue/q", "/queue/r", "/topic/t"]
