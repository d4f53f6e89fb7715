"""One peer, whatever it does: its own conversation ends at most, in bounded time, and its queue's work goes on."""

import contextlib
import functools

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import (
    Logs,
    Peer,
    cut_frames,
    frame,
    numbered,
    open_house,
    open_tcp_house,
    pairs,
    until,
)
from tests.server.streams import RaisingStream
from trio_broker import Broker, Limits, Overflow, open_broker, serve

STALL_SECONDS_MAX = Limits().stall_seconds_max
STALLED = "evicted: it moved less than 65,536 bytes in 10 s while messages waited"


async def publish_all(broker: Broker, channel: str, bodies: list[bytes]) -> None:
    for body in bodies:
        await broker.publish(channel, body)


async def collect(peer: Peer, count: int) -> list[bytes]:
    payloads = []
    for _ in range(count):
        payload = await peer.receive()
        assert payload is not None
        payloads.append(payload)
    return payloads


# -- who gets what -----------------------------------------------------------------------------------------------------


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


# -- the stall rule ----------------------------------------------------------------------------------------------------


async def test_who_never_reads_is_evicted_and_the_others_get_everything(autojump_clock: MockClock, logs: Logs) -> None:
    limits = Limits(mailbox_bytes_max=1_000_000)
    bodies = numbered(300, 20_000)
    async with open_house(limits) as house, trio.open_nursery() as nursery:
        stuck = await house.subscribe("/topic/x")
        others = [await house.subscribe("/topic/x") for _ in range(3)]
        received: list[list[bytes]] = []
        highest = 0

        async def listen(peer: Peer) -> None:
            nonlocal highest
            payloads = []
            for _ in bodies:
                payloads += await collect(peer, 1)
                highest = max(highest, house.broker.memory.cost)
            received.append(payloads)

        for peer in others:
            nursery.start_soon(listen, peer)
        await publish_all(house.broker, "/topic/x", bodies)
        assert trio.current_time() == STALL_SECONDS_MAX  # one such time, once
        await wait_all_tasks_blocked()
        assert received == [bodies] * 3
        assert highest < 4 * (limits.mailbox_bytes_max + 2 * 20_000)
        assert house.evicted() == 1
        assert house.server.connections == 3
        assert logs.reasons("closed") == [STALLED]
        whole, _torn = cut_frames(await stuck.read_to_end())
        assert whole == bodies[: len(whole)]


async def test_many_stuck_ones_delay_by_one_such_time(autojump_clock: MockClock) -> None:
    async with open_house(Limits(mailbox_bytes_max=10_000)) as house:
        for _ in range(10):
            await house.subscribe("/topic/x")
        await publish_all(house.broker, "/topic/x", numbered(50, 20_000))
        assert trio.current_time() == STALL_SECONDS_MAX
        assert house.evicted() == 10


async def test_a_byte_every_nine_seconds_is_not_moving(autojump_clock: MockClock) -> None:
    async with open_house() as house, trio.open_nursery() as nursery:
        sly = await house.subscribe("/topic/x")

        async def sip() -> None:
            while await sly.stream.receive_some(1):  # noqa: ASYNC110  the waiting is the point
                await trio.sleep(9)

        nursery.start_soon(sip)
        await house.broker.publish("/topic/x", bytes(1_000_000))
        await trio.sleep(STALL_SECONDS_MAX - 0.5)
        assert house.evicted() == 0
        await trio.sleep(0.5)
        await wait_all_tasks_blocked()
        assert house.evicted() == 1
        nursery.cancel_scope.cancel()


async def take_slowly(peer: Peer, total: int, each: int) -> bytes:
    """Read so many bytes in all, a share of them every nine seconds."""
    data = bytearray()
    while len(data) < total:
        await trio.sleep(9)
        target = min(len(data) + each, total)
        while len(data) < target:
            chunk = await peer.stream.receive_some(target - len(data))
            assert chunk, "evicted"
            data += chunk
    return bytes(data)


async def test_slow_but_moving_is_not_evicted(autojump_clock: MockClock) -> None:
    """128 KiB each nine seconds, for minutes."""
    bodies = numbered(80, 50_000)
    async with open_house(Limits(mailbox_bytes_max=100_000)) as house, trio.open_nursery() as nursery:
        slow = await house.subscribe("/topic/x")
        nursery.start_soon(publish_all, house.broker, "/topic/x", bodies)
        assert cut_frames(await take_slowly(slow, 80 * 50_004, 132_000)) == (bodies, b"")
        assert trio.current_time() > 250
        assert house.evicted() == 0


async def test_slow_but_moving_across_the_end_of_a_write(autojump_clock: MockClock) -> None:
    """66,000 bytes in nine seconds are more than the rule asks for, wherever one write ends and the next begins."""
    bodies = numbered(20, 95_532)
    limits = Limits(write_bytes_max=1, mailbox_bytes_max=64 * 1024 * 1024)
    async with open_house(limits, buffer_bytes=500) as house:
        slow = await house.subscribe("/topic/x")
        for body in bodies:
            house.broker.publish_nowait("/topic/x", body)
        assert cut_frames(await take_slowly(slow, 20 * 95_536, 66_000)) == (bodies, b"")
        assert house.evicted() == 0


async def test_slow_but_moving_by_a_smaller_measure(autojump_clock: MockClock) -> None:
    """The measure is ``stall_bytes_min``, on any kind of stream, whatever the size of its pieces."""
    limits = Limits(stall_bytes_min=1000)
    async with open_house(limits, buffer_bytes=500) as house:
        slow = await house.subscribe("/topic/x")
        await house.broker.publish("/topic/x", bytes(100_000))
        count = 0
        while count < 100_004:
            await trio.sleep(9)
            target = min(count + 2000, 100_004)
            while count < target:
                data = await slow.stream.receive_some(target - count)
                assert data, "evicted"
                count += len(data)
        assert house.evicted() == 0


async def test_a_peer_that_moves_keeps_publishers_patient(autojump_clock: MockClock) -> None:
    """One write may take longer than ``publish_seconds_max`` at the slowest pace that the stall rule allows."""
    limits = Limits(stall_bytes_min=1000, publish_seconds_max=30, mailbox_bytes_max=1000)
    async with open_house(limits, buffer_bytes=500) as house:
        slow = await house.subscribe("/topic/x")
        publisher = await house.sender()
        await publisher.publish("/topic/x", bytes(20_000))
        await publisher.publish("/topic/x", b"waits")
        stream, end = bytearray(), 20_004 + 4 + len(b"waits")
        while len(stream) < end:
            await trio.sleep(9)
            target = min(len(stream) + 1500, end)
            while len(stream) < target:
                data = await slow.stream.receive_some(target - len(stream))
                assert data, "evicted"
                stream += data
        assert cut_frames(bytes(stream)) == ([bytes(20_000), b"waits"], b"")
        assert trio.current_time() > 100


@pytest.mark.parametrize("stall_bytes_min", [1, 2, 3, 4, 5])
async def test_who_moves_nothing_is_evicted_by_any_measure(autojump_clock: MockClock, stall_bytes_min: int) -> None:
    """However small the measure, the slack of a general stream does not use it up."""
    async with open_house(Limits(stall_bytes_min=stall_bytes_min), buffer_bytes=500) as house:
        await house.subscribe("/topic/x")
        await house.broker.publish("/topic/x", bytes(10_000))
        await trio.sleep(STALL_SECONDS_MAX + 1)
        assert house.evicted() == 1


async def test_a_mailbox_that_empties_is_moving_enough(autojump_clock: MockClock) -> None:
    """Small messages to who reads them late, but all of them: nothing waits afterwards, so the clock stops."""
    async with open_house(buffer_bytes=100) as house:
        late = await house.subscribe("/topic/x")
        for _ in range(5):
            await house.broker.publish("/topic/x", bytes(150))
            await trio.sleep(9)
            assert await late.receive() == bytes(150)
            await trio.sleep(100)
        assert house.evicted() == 0


async def test_stall_over_tcp(mock_clock: MockClock, logs: Logs) -> None:
    """Over real sockets, in a time that only this test moves: who reads enough in each window stays, until it stops."""
    limits = Limits(mailbox_bytes_max=64 * 1024 * 1024)
    async with open_tcp_house(limits) as house:
        slow = await house.subscribe("/topic/x")
        for _ in range(400):
            house.broker.publish_nowait("/topic/x", bytes(100_000))
        cost = await settled_cost(house.broker)
        for _ in range(5):
            mock_clock.jump(9.5)
            taken = 0
            while taken < 2_000_000:
                taken += len(await slow.stream.receive_some(100_000))
            before, cost = cost, await settled_cost(house.broker)
            assert cost < before
            assert house.broker.statistics().evicted == 0
        for _ in range(2):  # what reached the peer's own buffer after its last read is movement still
            mock_clock.jump(10)
            await settled_cost(house.broker)
        await until(lambda: house.broker.statistics().evicted == 1)
        await until(lambda: house.server.connections == 0)
        assert logs.reasons("closed") == [STALLED]


async def settled_cost(broker: Broker) -> int:
    """What the broker holds once its writers can write no more."""
    cost = -1
    while cost != broker.memory.cost:
        cost = broker.memory.cost
        await wait_all_tasks_blocked(0.05)
    return cost


async def test_who_publishes_to_its_own_topic_and_never_reads(autojump_clock: MockClock) -> None:
    """It fills its own mailbox and so stops its own reader; it pins others no longer than anyone who is stuck."""
    async with open_house(Limits(mailbox_bytes_max=100_000)) as house, trio.open_nursery() as nursery:
        narcissus, other = await house.subscribe("/topic/x"), await house.subscribe("/topic/x")

        async def flood() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                while True:
                    await narcissus.publish("/topic/x", bytes(10_000))

        async def listen() -> None:
            while await other.receive() != b"mine":
                pass
            assert trio.current_time() == STALL_SECONDS_MAX
            nursery.cancel_scope.cancel()

        nursery.start_soon(flood)
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        await house.broker.publish("/topic/x", b"mine")
        assert trio.current_time() == STALL_SECONDS_MAX


# -- policies that take a subscription out from outside ----------------------------------------------------------------


async def test_evicted_by_policy_between_two_messages(autojump_clock: MockClock, logs: Logs) -> None:
    """The second message evicts in the same tick in which the first woke the writer."""
    limits = Limits(mailbox_bytes_max=1000, overflow=Overflow.DISCONNECT)
    async with open_house(limits) as house:
        peer = await house.subscribe("/topic/x")
        house.broker.publish_nowait("/topic/x", bytes(2000))
        house.broker.publish_nowait("/topic/x", bytes(2000))
        await peer.is_ended()
        assert logs.reasons("closed") == ["evicted: its mailbox was full, and its overflow policy is to disconnect"]


async def test_evicted_by_policy_in_the_middle_of_a_write(autojump_clock: MockClock, logs: Logs) -> None:
    """Of three messages taken for one write the first has left whole when the subscription is taken away."""
    limits = Limits(mailbox_bytes_max=300_000, overflow=Overflow.DISCONNECT)
    async with open_house(limits) as house:
        peer = await house.subscribe("/topic/x")
        for body in numbered(3, 50_000):
            house.broker.publish_nowait("/topic/x", body)
        await wait_all_tasks_blocked()
        for _ in range(10):
            house.broker.publish_nowait("/topic/x", bytes(50_000))
        whole, torn = cut_frames(await peer.read_to_end())
        assert whole == numbered(1, 50_000)
        assert torn
        await wait_all_tasks_blocked()
        assert logs.reasons("closed") == ["evicted: its mailbox was full, and its overflow policy is to disconnect"]


# -- a queue's work outlives its consumers -----------------------------------------------------------------------------


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


# -- a publisher whose channel takes nothing ---------------------------------------------------------------------------


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


# -- one boundary for what goes wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["receive_some", "send_all", "aclose"])
async def test_a_defect_in_one_connection_ends_it_alone(autojump_clock: MockClock, logs: Logs, where: str) -> None:
    logs.defects_expected = 1
    async with open_house() as house:
        bystander = await house.subscribe("/topic/x")
        house.listener.offer(RaisingStream(RuntimeError("a bug"), where, data=frame(b"/topic/x")))
        await wait_all_tasks_blocked()
        await house.broker.publish("/topic/x", b"hello")
        assert await bystander.receive() == b"hello"
        await trio.sleep(STALL_SECONDS_MAX + 1)  # the one that fails as it is closed has to be evicted first
        await house.broker.publish("/topic/x", b"still here")
        assert await bystander.receive() == b"still here"
        assert house.broker.statistics().channels["/topic/x"].subscriptions == 1
        assert house.server.connections == 1
        [record] = logs.defects
        assert record.levelname == "ERROR"
        assert record.getMessage() == "a connection failed; this is a defect of the broker"


async def test_a_defect_while_refusing_ends_nobody(autojump_clock: MockClock, logs: Logs) -> None:
    logs.defects_expected = 1
    async with open_house(Limits(connections_max=1)) as house:
        bystander = await house.subscribe("/topic/x")
        house.listener.offer(RaisingStream(RuntimeError("a bug"), "aclose"))
        await wait_all_tasks_blocked()
        await house.broker.publish("/topic/x", b"untouched")
        assert await bystander.receive() == b"untouched"


async def test_a_stream_that_can_never_be_closed_ends_nobody(autojump_clock: MockClock, logs: Logs) -> None:
    """The accept loop closes it once more, outside of the connection's own boundary."""
    async with open_house() as house:
        bystander = await house.subscribe("/topic/x")
        house.listener.offer(RaisingStream(RuntimeError("a bug"), "aclose", data=b"\0\0\0\0", always=True))
        await wait_all_tasks_blocked()
        await trio.sleep(1)
        await house.broker.publish("/topic/x", b"untouched")
        assert await bystander.receive() == b"untouched"
        logs.defects_expected = len(logs.defects)
        assert logs.defects[-1].getMessage() == "a stream could not be closed"


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


async def test_a_keyboard_interrupt_passes(autojump_clock: MockClock, logs: Logs) -> None:
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with open_house() as house:
            house.listener.offer(RaisingStream(KeyboardInterrupt(), "receive_some"))
            await trio.sleep_forever()
    assert not logs.defects


async def test_only_one_task_ever_writes(autojump_clock: MockClock) -> None:
    """The memory stream raises where two tasks write; here much is written, and the peer breaks the protocol."""
    async with open_house(buffer_bytes=1000) as house:
        peer = await house.subscribe("/topic/x")
        await house.broker.publish("/topic/x", bytes(100_000))
        await wait_all_tasks_blocked()
        await peer.send(bytes(4))
        assert cut_frames(await peer.read_to_end())[0] == []


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


class _Odd(trio.abc.Stream):
    """It makes another error of a cancellation."""

    def __init__(self) -> None:
        self.words = [frame(b"/topic/a")]

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.words:
            return self.words.pop()
        await trio.sleep_forever()
        raise AssertionError

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Without a checkpoint."""


class _OddListener(trio.abc.Listener[_Odd]):
    """It has one such stream to give."""

    def __init__(self) -> None:
        self.streams = [_Odd()]

    async def accept(self) -> _Odd:
        await trio.lowlevel.checkpoint()
        if not self.streams:
            await trio.sleep_forever()
        return self.streams.pop()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_stream_that_makes_an_error_of_a_cancellation_ends_its_connection_alone(
    autojump_clock: MockClock, logs: Logs
) -> None:
    logs.defects_expected = 1
    async with open_broker(Limits(drain_seconds_max=1)) as broker, trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(serve, broker, listeners=[_OddListener()]))
        await wait_all_tasks_blocked()
        await broker.publish("/topic/a", b"never sent")
        await wait_all_tasks_blocked()
        report = await server.drain()
        assert (report.cut, report.seconds) == (1, 1)
