"""Peers that take too little are evicted, those that move are not, and the others get everything meanwhile."""

import contextlib

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import (
    STALL_SECONDS_MAX,
    Logs,
    Peer,
    collect,
    cut_frames,
    numbered,
    open_house,
    open_tcp_house,
    publish_all,
    settled_cost,
    until,
)
from trio_broker import Limits, Overflow

STALLED = "evicted: it moved less than 65,536 bytes in 10 s while messages waited"


# -- the stall rule ---------------------------------------------------------------------------------------------------


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


# -- policies that take a subscription out from outside ---------------------------------------------------------------


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
