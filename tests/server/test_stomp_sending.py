"""What a connection that speaks STOMP says when: ERROR, receipts and messages in between, and when it reads no more."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import Logs, numbered, open_house, open_tcp_house, publish_all, until
from tests.server.stomp_house import LARGE, join, join_tcp, send, stomp, subscribe, subscriber
from trio_broker import Limits

# -- what is said when ------------------------------------------------------------------------------------------------


async def test_an_error_comes_between_messages(autojump_clock: MockClock, logs: Logs) -> None:
    """The message that is half written is finished, the next does not come, and goes back."""
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a")
        await publish_all(house.broker, "/queue/a", [LARGE, b"second", b"third"])
        await wait_all_tasks_blocked()
        await peer.send(stomp("WHAT", "receipt:r"))
        await wait_all_tasks_blocked()
        assert (await peer.message()).body == LARGE
        assert (await peer.error())["receipt-id"] == "r"
        assert trio.current_time() == 0
        await wait_all_tasks_blocked()
        assert house.backlog("/queue/a") == 2
        receiver = await subscriber(house, "/queue/a")
        for body in (b"second", b"third"):
            message = await receiver.message()
            assert message.body == body
            assert "redelivered" not in message.headers


async def test_an_error_to_one_who_takes_nothing(autojump_clock: MockClock, logs: Logs) -> None:
    """The farewell has its time; then the connection is closed, and what was half written is another's."""
    async with open_house(Limits(farewell_seconds_max=5)) as house:
        peer = await subscriber(house, "/queue/a")
        await publish_all(house.broker, "/queue/a", [LARGE, b"second"])
        await wait_all_tasks_blocked()
        await peer.send(stomp("WHAT"))
        await trio.sleep(4.9)
        assert house.server.connections == 1
        await trio.sleep(0.2)
        assert house.server.connections == 0
        receiver = await subscriber(house, "/queue/a")
        first, second = await receiver.message(), await receiver.message()
        assert (first.body, first["redelivered"]) == (LARGE, "true")
        assert second.body == b"second"
        with pytest.raises(AssertionError, match="ended inside a frame"):
            await peer.receive_all()


async def test_goodbye_while_messages_wait(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", "ack:client-individual")
        await publish_all(house.broker, "/queue/a", [LARGE, b"second", b"third"])
        await wait_all_tasks_blocked()
        await peer.send(stomp("DISCONNECT", "receipt:bye"), send("/queue/b", body=b"too late"))
        assert (await peer.message()).body == LARGE
        await peer.receipt("bye")
        assert await peer.receive() is None
        assert trio.current_time() == 0
        await wait_all_tasks_blocked()
        assert house.backlog("/queue/a") == 3
        assert house.backlog("/queue/b") == 0
        assert logs.reasons("closed") == ["the peer said goodbye"]
        receiver = await subscriber(house, "/queue/a")
        assert [("redelivered" in (await receiver.message()).headers) for _ in range(3)] == [True, False, False]


async def test_goodbye_after_a_message_that_must_wait(autojump_clock: MockClock) -> None:
    """DISCONNECT's receipt says that all before it was accepted, so it waits with it."""
    async with open_house(Limits(backlog_bytes_max=1000)) as house:
        await house.broker.publish("/queue/a", bytes(2000))
        peer = await join(house)
        await peer.send(send("/queue/a", body=b"waits"), stomp("DISCONNECT", "receipt:bye"))
        await peer.is_silent()
        receiver = await subscriber(house, "/queue/a")
        assert len((await receiver.message()).body) == 2000
        await peer.receipt("bye")
        assert await peer.receive() is None
        assert (await receiver.message()).body == b"waits"


async def test_receipts_that_are_not_taken_stop_the_reading(autojump_clock: MockClock) -> None:
    """Above control_bytes_max nothing more is read; it goes on where it stopped when there is room."""
    limits = Limits(control_bytes_max=500)
    async with open_house(limits, buffer_bytes=500) as house, trio.open_nursery() as nursery:
        peer = await join(house)
        asked = [send("/queue/a", f"receipt:{number}", body=b"%d" % number) for number in range(1000)]
        nursery.start_soon(peer.send, *asked)
        await wait_all_tasks_blocked()
        accepted = house.backlog("/queue/a")
        assert 20 < accepted < 100
        await trio.sleep(5)
        assert house.backlog("/queue/a") == accepted
        for number in range(1000):
            await peer.receipt(str(number))
        assert house.backlog("/queue/a") == 1000


async def test_receipts_that_are_never_taken(autojump_clock: MockClock, logs: Logs) -> None:
    """The stall rule holds for them too."""
    limits = Limits(control_bytes_max=500, stall_seconds_max=10)
    async with open_house(limits, buffer_bytes=500) as house, trio.open_nursery() as nursery:
        peer = await join(house)
        asked = [send("/queue/a", f"receipt:{number}") for number in range(1000)]

        async def ask() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await peer.send(*asked)
            assert trio.current_time() == 10

        nursery.start_soon(ask)
        await trio.sleep(9.9)
        assert house.server.connections == 1
        await trio.sleep(0.2)
        assert house.server.connections == 0
        assert logs.reasons("closed")[0].startswith("it moved less than 65,536 bytes in 10 s")


async def test_a_queue_full_by_credit_does_not_starve_another(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", "ack:client", "prefetch-count:1")
        await peer.send(subscribe("t", "/queue/b", "ack:auto"), subscribe("u", "/topic/c"))
        await wait_all_tasks_blocked()
        await publish_all(house.broker, "/queue/a", numbered(100))
        assert (await peer.message())["subscription"] == "s"
        for number in range(50):
            await publish_all(house.broker, "/queue/b", [b"%d" % number])
            await publish_all(house.broker, "/topic/c", [b"%d" % number])
            assert {(await peer.message())["subscription"] for _ in range(2)} == {"t", "u"}
        await peer.is_silent()
        assert house.backlog("/queue/a") == 99


async def test_unsettled_work_above_its_mark_stops_queues_alone(autojump_clock: MockClock) -> None:
    """Above unsettled_bytes_max no queue gives more, whichever subscription it is for; topics do."""
    async with open_house(Limits(unsettled_bytes_max=5000)) as house:
        peer = await subscriber(house, "/queue/a", "ack:client-individual")
        await peer.send(subscribe("t", "/queue/b", "ack:client-individual"), subscribe("u", "/topic/c"))
        await wait_all_tasks_blocked()
        await house.broker.publish("/queue/a", bytes(6000))
        number = (await peer.message())["ack"]
        await house.broker.publish("/queue/b", b"waits")
        await house.broker.publish("/topic/c", b"comes")
        assert (await peer.message()).body == b"comes"
        await peer.is_silent()
        await peer.send(stomp("ACK", f"id:{number}"))
        assert (await peer.message()).body == b"waits"


async def test_unsubscribe_in_the_middle_of_a_write(autojump_clock: MockClock) -> None:
    """What is half written is finished, and nothing more comes under that name; then the name is free."""
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a")
        await publish_all(house.broker, "/queue/a", [LARGE, b"second"])
        await wait_all_tasks_blocked()
        await peer.send(stomp("UNSUBSCRIBE", "id:s", "receipt:r"))
        await wait_all_tasks_blocked()
        assert house.backlog("/queue/a") == 1
        assert (await peer.message()).body == LARGE
        await peer.receipt("r")
        await peer.is_silent()
        await peer.send(subscribe("s", "/queue/a"))
        message = await peer.message()
        assert (message.body, "redelivered" in message.headers) == (b"second", False)
        assert house.broker.statistics().delivered == 2


async def test_unsubscribe_and_then_settle(autojump_clock: MockClock) -> None:
    """An honest ACK may cross it: what was delivered stays to be settled."""
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", "ack:client-individual")
        await publish_all(house.broker, "/queue/a", numbered(3))
        acks = [(await peer.message())["ack"] for _ in range(3)]
        await peer.send(stomp("UNSUBSCRIBE", "id:s"))
        await peer.send(subscribe("s", "/queue/b", "ack:client-individual"))
        await peer.send(stomp("ACK", f"id:{acks[0]}"), stomp("NACK", f"id:{acks[1]}", "receipt:r"))
        await peer.receipt("r")
        assert house.backlog("/queue/a") == 1
        assert house.broker.statistics().delivered == 1


# -- over TCP ---------------------------------------------------------------------------------------------------------


async def test_an_error_while_a_message_is_half_written_over_tcp(mock_clock: MockClock, logs: Logs) -> None:
    async with open_tcp_house() as house:
        peer = await join_tcp(house, buffer_bytes=65_536)
        await peer.send(subscribe("s", "/queue/a", "receipt:1"))
        await peer.receipt("1")
        body = bytes(8_000_000)
        await house.broker.publish("/queue/a", body)
        await house.broker.publish("/queue/a", b"second")
        await peer.send(stomp("WHAT", "receipt:r"))
        assert (await peer.message()).body == body
        assert (await peer.error())["receipt-id"] == "r"
        await until(lambda: house.server.connections == 0)
        assert house.broker.statistics().channels["/queue/a"].backlog_messages == 1
