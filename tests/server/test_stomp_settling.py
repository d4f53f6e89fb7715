"""Acknowledgements and transactions, from the frames of each version to what becomes of the messages."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import House, Logs, numbered, open_house
from tests.server.stomp_house import Said, StompPeer, join, send, stomp, subscribe, subscriber
from trio_broker import Limits


def settle(command: str, version: str, message: Said, *lines: str) -> bytes:
    """ACK or NACK of a message, as each version writes it."""
    names = {
        "1.0": [f"message-id:{message['message-id']}"],
        "1.1": [f"message-id:{message['message-id']}", "subscription:s"],
        "1.2": [f"id:{message.headers.get('ack')}"],
    }
    return stomp(command, *names[version], *lines)


async def take(peer: StompPeer, count: int) -> list[Said]:
    return [await peer.message() for _ in range(count)]


# -- the forms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
async def test_client_mode_settles_all_before(autojump_clock: MockClock, version: str) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", "ack:client", version=version)
        for body in numbered(5):
            await house.broker.publish("/queue/a", body)
        messages = await take(peer, 5)
        assert ("ack" in messages[0].headers) == (version == "1.2")
        await peer.send(settle("ACK", version, messages[2], "receipt:r"))
        await peer.receipt("r")
        assert house.broker.statistics().delivered == 3
        await peer.memory_stream.aclose()
        await wait_all_tasks_blocked()
        assert house.backlog("/queue/a") == 2


@pytest.mark.parametrize("version", ["1.1", "1.2"])
async def test_individual_mode_settles_one(autojump_clock: MockClock, version: str) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", "ack:client-individual", version=version)
        for body in numbered(3):
            await house.broker.publish("/queue/a", body)
        messages = await take(peer, 3)
        await peer.send(settle("ACK", version, messages[1], "receipt:r"))
        await peer.receipt("r")
        await peer.memory_stream.aclose()
        other = await subscriber(house, "/queue/a")
        again = await take(other, 2)
        assert [message.body for message in again] == [numbered(3)[0], numbered(3)[2]]
        assert [message["redelivered"] for message in again] == ["true", "true"]


@pytest.mark.parametrize("version", ["1.1", "1.2"])
async def test_nack_gives_back_where_it_stood(autojump_clock: MockClock, version: str) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", "ack:client-individual", "prefetch-count:2", version=version)
        for body in numbered(4):
            await house.broker.publish("/queue/a", body)
        first, second = await take(peer, 2)
        await peer.send(settle("NACK", version, first))
        again = await peer.message()
        assert (again.body, again["redelivered"]) == (first.body, "true")
        await peer.send(settle("NACK", version, second, "requeue:false"))
        assert (await peer.message()).body == numbered(4)[2]
        assert house.broker.statistics().rejected == 1


async def test_nack_in_client_mode_is_of_all_before(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", "ack:client", "prefetch-count:3")
        for body in numbered(3):
            await house.broker.publish("/queue/a", body)
        messages = await take(peer, 3)
        await peer.send(settle("NACK", "1.2", messages[1], "requeue:false"))
        await peer.send(settle("ACK", "1.2", messages[2], "receipt:r"))
        await peer.receipt("r")
        statistics = house.broker.statistics()
        assert (statistics.rejected, statistics.delivered) == (2, 1)


async def test_settling_on_a_topic_changes_nothing(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/topic/a", "ack:client", "prefetch-count:1")
        for body in numbered(10):
            await house.broker.publish("/topic/a", body)
        messages = await take(peer, 10)
        await peer.send(*(settle("ACK", "1.2", message) for message in messages[:5]))
        await peer.send(settle("NACK", "1.2", messages[5], "receipt:r"))
        await peer.receipt("r")
        await peer.is_silent()


@pytest.mark.parametrize("prefetch", ["prefetch-count:3", "activemq.prefetchSize:3"])
async def test_credit(autojump_clock: MockClock, prefetch: str) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", "ack:client-individual", prefetch)
        for body in numbered(6):
            await house.broker.publish("/queue/a", body)
        messages = await take(peer, 3)
        await peer.is_silent()
        await peer.send(settle("ACK", "1.2", messages[1]))
        assert (await peer.message()).body == numbered(6)[3]
        await peer.is_silent()


# -- transactions ------------------------------------------------------------------------------------------------------


async def test_a_commit_that_waits_for_room_and_is_cut_off(autojump_clock: MockClock, logs: Logs) -> None:
    """Of a transaction all happens or nothing: not even what had room, and what was to be settled goes back."""
    async with open_house(Limits(mailbox_bytes_max=1000)) as house, trio.open_nursery() as nursery:
        await house.subscribe("/topic/full")
        await house.broker.publish("/topic/full", bytes(200_000))
        nursery.start_soon(house.broker.publish, "/topic/full", bytes(2000))
        await wait_all_tasks_blocked()
        peer = await subscriber(house, "/queue/a", "ack:client")
        await house.broker.publish("/queue/a", b"work")
        number = (await peer.message())["ack"]
        await peer.send(
            stomp("BEGIN", "transaction:t"),
            send("/queue/free", "transaction:t"),
            send("/topic/full", "transaction:t"),
            stomp("ACK", f"id:{number}", "transaction:t"),
            stomp("COMMIT", "transaction:t", "receipt:r"),
        )
        await peer.is_silent()
        house.server.begin_drain()
        assert await peer.receive() is None
        await wait_all_tasks_blocked()
        assert house.backlog("/queue/free") == 0
        assert house.backlog("/queue/a") == 1
        assert "abandoned" in {record.getMessage() for record in logs.records}
        nursery.cancel_scope.cancel()


async def test_a_commit_that_waits_for_room_happens_when_there_is(autojump_clock: MockClock) -> None:
    async with open_house(Limits(backlog_bytes_max=1000)) as house:
        await house.broker.publish("/queue/full", bytes(2000))
        peer = await join(house)
        await peer.send(
            stomp("BEGIN", "transaction:t"),
            send("/queue/free", "transaction:t"),
            send("/queue/full", "transaction:t"),
            stomp("COMMIT", "transaction:t", "receipt:r"),
        )
        await peer.is_silent()
        async with house.broker.subscribe("/queue/full") as full:
            await full.receive()
            await peer.receipt("r")
            assert (await full.receive()).body == b"hello"
        assert house.backlog("/queue/free") == 1


async def test_a_commit_that_waits_settles_with_its_messages(autojump_clock: MockClock) -> None:
    """Not before them, and not never."""
    async with open_house(Limits(mailbox_bytes_max=1000)) as house, trio.open_nursery() as nursery:
        slow = await house.subscribe("/topic/full")
        await house.broker.publish("/topic/full", bytes(200_000))
        nursery.start_soon(house.broker.publish, "/topic/full", bytes(2000))
        await wait_all_tasks_blocked()
        peer = await subscriber(house, "/queue/a", "ack:client-individual")
        for body in numbered(2):
            await house.broker.publish("/queue/a", body)
        first, second = await take(peer, 2)
        await peer.send(
            stomp("BEGIN", "transaction:t"),
            send("/topic/full", "transaction:t"),
            settle("ACK", "1.2", first, "transaction:t"),
            settle("NACK", "1.2", second, "requeue:false", "transaction:t"),
            stomp("COMMIT", "transaction:t", "receipt:r"),
        )
        await peer.is_silent()
        before = house.broker.statistics()
        assert [len(await slow.receive() or b"") for _ in range(2)] == [200_000, 2000]
        await peer.receipt("r")
        assert await slow.receive() == b"hello"
        await wait_all_tasks_blocked()
        after = house.broker.statistics()
        assert (before.rejected, after.rejected) == (0, 1)
        assert after.delivered - before.delivered == 3 + 1  # the topic's, and the one that was acknowledged


async def test_a_commit_that_waits_for_too_long(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house(Limits(backlog_bytes_max=1000, publish_seconds_max=60)) as house:
        await house.broker.publish("/queue/full", bytes(2000))
        peer = await join(house)
        await peer.send(
            stomp("BEGIN", "transaction:t"),
            send("/queue/free", "transaction:t"),
            send("/queue/full", "transaction:t"),
            stomp("COMMIT", "transaction:t", "receipt:r"),
        )
        said = await peer.error()
        assert said["receipt-id"] == "r"
        assert trio.current_time() == 60
        assert house.backlog("/queue/free") == 0


async def test_a_commit_with_an_unknown_ack(autojump_clock: MockClock, logs: Logs) -> None:
    """Nothing of it happens: neither its messages nor its other settlements."""
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", "ack:client-individual")
        await house.broker.publish("/queue/a", b"work")
        number = (await peer.message())["ack"]
        await peer.send(
            stomp("BEGIN", "transaction:t"),
            send("/queue/b", "transaction:t"),
            stomp("ACK", f"id:{number}", "transaction:t"),
            stomp("ACK", "id:99", "transaction:t"),
            stomp("COMMIT", "transaction:t", "receipt:r"),
        )
        assert (await peer.error())["receipt-id"] == "r"
        await wait_all_tasks_blocked()
        assert house.backlog("/queue/b") == 0
        assert house.backlog("/queue/a") == 1
        assert house.broker.statistics().delivered == 0


async def test_a_transaction_of_all_kinds(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", "ack:client-individual")
        for body in numbered(3):
            await house.broker.publish("/queue/a", body)
        first, second, third = await take(peer, 3)
        await peer.send(
            stomp("BEGIN", "transaction:t"),
            stomp("ACK", f"id:{first['ack']}", "transaction:t"),
            stomp("NACK", f"id:{second['ack']}", "requeue:false", "transaction:t"),
            send("/queue/b", "transaction:t", "receipt:bound"),
            stomp("NACK", f"id:{third['ack']}", "transaction:t"),
        )
        await peer.receipt("bound")
        await peer.is_silent()
        assert house.backlog("/queue/b") == 0
        await peer.send(stomp("COMMIT", "transaction:t", "receipt:r"))
        said = [await peer.receive(), await peer.receive()]
        assert {frame.command for frame in said if frame} == {"RECEIPT", "MESSAGE"}
        statistics = house.broker.statistics()
        assert (house.backlog("/queue/b"), statistics.delivered, statistics.rejected) == (1, 1, 1)


@pytest.mark.parametrize("end", ["ABORT", "DISCONNECT", ""])
async def test_what_is_not_committed_did_not_happen(autojump_clock: MockClock, end: str) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", "ack:client")
        await house.broker.publish("/queue/a", b"work")
        number = (await peer.message())["ack"]
        await peer.send(
            stomp("BEGIN", "transaction:t"),
            send("/queue/b", "transaction:t"),
            stomp("ACK", f"id:{number}", "transaction:t"),
        )
        await wait_all_tasks_blocked()
        if end:
            await peer.send(stomp(end, "transaction:t", "receipt:r"))
            await peer.receipt("r")
        await peer.memory_stream.aclose()
        await wait_all_tasks_blocked()
        assert house.backlog("/queue/a") == 1
        assert house.backlog("/queue/b") == 0


# -- workers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_transactions", [False, True], ids=["SEND and ACK", "in transactions"])
async def test_two_workers_that_feed_each_other_flow(autojump_clock: MockClock, in_transactions: bool) -> None:
    """Each sends its result before it acknowledges, onto a full backlog. Neither may wait for the other's ACK."""
    async with open_house(Limits(backlog_bytes_max=10_000)) as house, trio.open_nursery() as nursery:
        for queue in ("/queue/there", "/queue/back"):
            for body in numbered(100, 500):
                if not await published_at_once(house, queue, body):
                    break
        done = 0

        async def work(source: str, target: str) -> None:
            nonlocal done
            peer = await subscriber(house, source, "ack:client-individual", "prefetch-count:1")
            while True:
                message = await peer.message()
                ack = f"id:{message['ack']}"
                if in_transactions:
                    await peer.send(
                        stomp("BEGIN", "transaction:t"),
                        send(target, "transaction:t", body=message.body),
                        stomp("ACK", ack, "transaction:t"),
                        stomp("COMMIT", "transaction:t", "receipt:r"),
                    )
                else:
                    await peer.send(send(target, body=message.body), stomp("ACK", ack, "receipt:r"))
                while (await peer.receive()).command != "RECEIPT":  # type: ignore[union-attr]  # it goes on for ever
                    raise AssertionError("credit 1, and a message before the receipt of its ACK")
                done += 1
                if done == 500:
                    nursery.cancel_scope.cancel()

        nursery.start_soon(work, "/queue/there", "/queue/back")
        nursery.start_soon(work, "/queue/back", "/queue/there")
    assert done >= 500


async def published_at_once(house: House, queue: str, body: bytes) -> bool:
    try:
        house.broker.publish_nowait(queue, body)
    except trio.WouldBlock:
        return False
    return True


async def test_poison_is_gone_and_what_is_behind_it_came_meanwhile(autojump_clock: MockClock) -> None:
    async with open_house(Limits(deliveries_max=16)) as house:
        await house.broker.publish("/queue/a", b"poison")
        for body in numbered(20):
            await house.broker.publish("/queue/a", body)
        deaths = 0
        done: list[bytes] = []
        peer = await subscriber(house, "/queue/a", "ack:client-individual", "prefetch-count:1")
        while len(done) < 20:
            message = await peer.message()
            assert ("redelivered" in message.headers) == (message.body == b"poison" and deaths > 0)
            if message.body == b"poison":
                deaths += 1
                await peer.memory_stream.aclose()
                peer = await subscriber(house, "/queue/a", "ack:client-individual", "prefetch-count:1")
            else:
                done.append(message.body)
                await peer.send(stomp("ACK", f"id:{message['ack']}"))
        assert deaths == 16
        assert done == numbered(20)
        assert house.broker.statistics().poisoned == 1


async def test_poison_by_nack(autojump_clock: MockClock) -> None:
    async with open_house(Limits(deliveries_max=3)) as house:
        peer = await subscriber(house, "/queue/a", "ack:client-individual")
        await house.broker.publish("/queue/a", b"poison")
        for _ in range(3):
            await peer.send(settle("NACK", "1.2", await peer.message()))
        await peer.is_silent()
        assert house.broker.statistics().poisoned == 1


async def test_a_subscription_that_ends_gives_its_work_to_another(autojump_clock: MockClock) -> None:
    """UNSUBSCRIBE gives back what was not sent; what was sent stays with the connection until that ends."""
    async with open_house(Limits(write_bytes_max=1)) as house:
        peer = await subscriber(house, "/queue/a", "ack:client", "prefetch-count:2")
        other = await join(house)
        await other.send(subscribe("s", "/queue/a", "ack:client", "prefetch-count:2"))
        await wait_all_tasks_blocked()
        for body in numbered(6):
            await house.broker.publish("/queue/a", body)
        mine, others = await take(peer, 2), await take(other, 2)
        await peer.send(stomp("UNSUBSCRIBE", "id:s", "receipt:r"))
        await peer.receipt("r")
        await other.send(settle("ACK", "1.2", others[1]))
        assert [message.body for message in await take(other, 2)] == numbered(6)[4:]
        await peer.memory_stream.aclose()
        await wait_all_tasks_blocked()
        assert house.backlog("/queue/a") == 2
        assert [message.body for message in mine] == [numbered(6)[0], numbered(6)[2]]
