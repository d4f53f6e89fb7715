"""How a connection that speaks STOMP is ended: evicted, drained or left by its peer; and what becomes of its work."""

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import House, Logs, numbered, open_house, open_tcp_house, publish_all, until
from tests.server.stomp_house import LARGE, join, join_tcp, send, stomp, subscribe, subscriber
from trio_broker import Limits

# -- the stall rule ---------------------------------------------------------------------------------------------------


async def test_one_whose_messages_expired_has_not_stalled(autojump_clock: MockClock, logs: Logs) -> None:
    """The clock stops when nothing waits any more, also where what waited is of no use any more."""
    async with open_house() as house:
        peer, sender = await subscriber(house, "/topic/a"), await join(house)
        await sender.send(send("/topic/a", body=bytes(500_000)))
        await sender.send(send("/topic/a", "expiration:1000", body=bytes(100_000)))
        await sender.send(send("/topic/a", "expiration:1000", body=bytes(100_000)))
        await trio.sleep(5)
        assert len((await peer.message()).body) == 500_000
        await peer.is_silent()
        assert house.broker.statistics().expired == 2
        await trio.sleep(1000)
        await house.broker.publish("/topic/a", bytes(500_000))
        await wait_all_tasks_blocked()
        assert house.evicted() == 0
        assert len((await peer.message()).body) == 500_000


async def test_a_slow_peer_has_no_new_time_for_each_subscription(autojump_clock: MockClock, logs: Logs) -> None:
    """Something waits all the time, if not in the same mailbox: the peer must take enough of all together."""
    async with open_house(Limits(stall_seconds_max=10)) as house:
        peer = await subscriber(house, "/topic/0")
        await peer.send(*(subscribe(str(number), f"/topic/{number}") for number in range(1, 10)))
        await wait_all_tasks_blocked()
        for number in range(10):
            await house.broker.publish(f"/topic/{number}", bytes(20_000))
        for _ in range(3):
            await trio.sleep(9)
            assert house.evicted() == (trio.current_time() > 10)
            await peer.stream.receive_some(20_100)


async def test_eviction_brings_back_all_its_work(autojump_clock: MockClock, logs: Logs) -> None:
    """One subscription stalls, and the connection goes with all that it has; nothing more is said."""
    async with open_house(Limits(stall_seconds_max=10)) as house:
        peer = await subscriber(house, "/queue/a", "ack:client-individual")
        await peer.send(subscribe("t", "/topic/b"))
        await wait_all_tasks_blocked()
        await publish_all(house.broker, "/queue/a", numbered(3))
        assert [(await peer.message()).body for _ in range(3)] == numbered(3)
        await house.broker.publish("/topic/b", LARGE)
        await trio.sleep(9.9)
        assert house.server.connections == 1
        await trio.sleep(0.2)
        assert house.server.connections == 0
        assert house.evicted() == 1
        assert logs.reasons("closed")[0].startswith("evicted: it moved less than")
        assert house.backlog("/queue/a") == 3
        receiver = await subscriber(house, "/queue/a")
        assert [(await receiver.message())["redelivered"] for _ in range(3)] == ["true"] * 3


# -- the drain --------------------------------------------------------------------------------------------------------


async def drained(house: House) -> None:
    report = await house.server.drain()
    assert report.cut == 0


async def test_a_drain_finishes_what_is_settled_by_itself(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house() as house, trio.open_nursery() as nursery:
        peer = await subscriber(house, "/queue/a")
        await peer.send(subscribe("t", "/topic/b"))
        await wait_all_tasks_blocked()
        await house.broker.publish("/topic/b", LARGE)
        await publish_all(house.broker, "/queue/a", numbered(10))
        nursery.start_soon(drained, house)
        await wait_all_tasks_blocked()
        bodies = [said.body for said in await peer.receive_all()]
        assert bodies[0] == LARGE
        assert bodies[1:] == numbered(10)
        await wait_all_tasks_blocked()
        assert house.backlog("/queue/a") == 0
        assert logs.reasons("closed") == ["drained"]


async def test_a_drain_brings_back_what_is_to_be_acknowledged(autojump_clock: MockClock, logs: Logs) -> None:
    """Its acknowledgement would not be read. What is half written is finished all the same: no frame is torn."""
    async with open_house(Limits(write_bytes_max=1000)) as house, trio.open_nursery() as nursery:
        peer = await subscriber(house, "/queue/a", "ack:client-individual")
        await publish_all(house.broker, "/queue/a", [b"settled", LARGE, *numbered(5)])
        message = await peer.message()
        await peer.send(stomp("ACK", f"id:{message['ack']}"))
        await wait_all_tasks_blocked()
        nursery.start_soon(drained, house)
        await wait_all_tasks_blocked()
        assert [said.body for said in await peer.receive_all()] == [LARGE]
        assert trio.current_time() == 0
        await wait_all_tasks_blocked()
        assert house.backlog("/queue/a") == 6
        async with house.broker.subscribe("/queue/a") as queue:
            received = [await queue.receive() for _ in range(6)]
        assert [message.body for message in received] == [LARGE, *numbered(5)]
        assert [message.redelivered for message in received] == [True, *[False] * 5]


async def test_a_drain_sends_away_who_waits(autojump_clock: MockClock, logs: Logs) -> None:
    """A message that waits for its channel was not accepted, so its receipt never comes."""
    async with open_house(Limits(backlog_bytes_max=1000)) as house:
        await house.broker.publish("/queue/a", bytes(2000))
        peer = await join(house)
        await peer.send(send("/queue/a", "receipt:r"))
        await wait_all_tasks_blocked()
        await drained(house)
        assert await peer.receive() is None
        assert house.backlog("/queue/a") == 1
        assert "abandoned" in {record.getMessage() for record in logs.records}


# -- over TCP ---------------------------------------------------------------------------------------------------------


async def test_a_peer_that_vanishes_over_tcp(logs: Logs) -> None:
    async with open_tcp_house() as house:
        peer = await join_tcp(house)
        await peer.send(subscribe("s", "/queue/a", "ack:client-individual", "receipt:1"))
        await peer.receipt("1")
        for body in numbered(3):
            await house.broker.publish("/queue/a", body)
        number = (await peer.message())["ack"]
        await peer.send(stomp("ACK", f"id:{number}", "receipt:2"))
        while (said := await peer.receive()) is not None and said.command != "RECEIPT":
            pass
        await trio.aclose_forcefully(peer.stream)
        await until(lambda: house.server.connections == 0)
        other = await join_tcp(house)
        await other.send(subscribe("s", "/queue/a"))
        for body in numbered(3)[1:]:
            message = await other.message()
            assert (message.body, message["redelivered"]) == (body, "true")
