"""A connection that speaks STOMP: how it begins, what it says when, and how it ends."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import House, Logs, frame, numbered, open_house, open_tcp_house, until
from tests.server.stomp_house import (
    CONNECT,
    StompPeer,
    greet,
    join,
    join_tcp,
    send,
    stomp,
    subscribe,
    subscriber,
)
from trio_broker import Broker, Limits

LARGE = bytes(1_000_000)


async def publish_all(broker: Broker, channel: str, bodies: list[bytes]) -> None:
    for body in bodies:
        await broker.publish(channel, body)


# -- the beginning -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_line", [b"CONNECT\n", b"STOMP\n", b"CONNECT\r\n", b"STOMP\r\n", b"\r\n\nCONNECT\n"])
async def test_first_bytes_one_by_one(autojump_clock: MockClock, first_line: bytes) -> None:
    async with open_house() as house:
        peer = StompPeer(house.connect().stream)
        for byte in first_line + b"accept-version:1.2\nhost:x\n\n\0" + send("/queue/a"):
            await peer.send(bytes([byte]))
            await wait_all_tasks_blocked()
        assert (await peer.get("CONNECTED"))["version"] == "1.2"
        assert house.backlog("/queue/a") == 1


async def test_first_bytes_that_could_be_either(autojump_clock: MockClock) -> None:
    """A frame of the framed protocol never begins as CONNECT does; what begins so and is not STOMP is named."""
    async with open_house() as house:
        peer = house.connect()
        for byte in b"CONNECT ":
            await peer.send(bytes([byte]))
            await wait_all_tasks_blocked()
        await peer.is_ended()
        framed = house.connect()
        for byte in frame(b"/topic/x"):
            await framed.send(bytes([byte]))
            await wait_all_tasks_blocked()
        await house.broker.publish("/topic/x", b"hello")
        assert await framed.receive() == b"hello"


@pytest.mark.parametrize(
    ("sent", "is_told"),
    [(b"", False), (b"CONNE", False), (b"S", False), (b"\n", True), (b"CONNECT\nhost:x\n", True)],
)
async def test_no_whole_frame_in_time(autojump_clock: MockClock, logs: Logs, sent: bytes, is_told: bool) -> None:
    """One whose protocol is known is told."""
    async with open_house(Limits(handshake_seconds_max=10)) as house:
        peer = StompPeer(house.connect().stream)
        await peer.send(sent)
        if is_told:
            assert (await peer.error()).body == b"no whole frame within handshake_seconds_max (10 s)"
        else:
            assert await peer.receive() is None
        assert trio.current_time() == 10
        assert logs.reasons("refused") == ["no whole frame within handshake_seconds_max (10 s)"]


async def test_line_ends_are_no_greeting(autojump_clock: MockClock) -> None:
    async with open_house(Limits(handshake_seconds_max=10)) as house, trio.open_nursery() as nursery:
        peer = StompPeer(house.connect().stream)

        async def drip() -> None:
            while True:
                await peer.send(b"\n")
                await trio.sleep(1)

        nursery.start_soon(drip)
        await peer.error()
        assert trio.current_time() == 10
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "the stream ended before the first frame"),
        (b"CONN", "the stream ended before the first frame"),
        (b"\n\n", "the stream ended before a connection was made"),
        (b"CONNECT\nhost:x\n\n", "the stream ended inside a frame (16 bytes were there)"),
        (CONNECT + b"SEND\n", "the stream ended inside a frame (5 bytes were there)"),
        (CONNECT + b"\n\n", None),
    ],
)
async def test_end_of_stream(autojump_clock: MockClock, logs: Logs, sent: bytes, reason: str | None) -> None:
    async with open_house() as house:
        peer = StompPeer(house.connect().stream)
        await peer.send(sent)
        await wait_all_tasks_blocked()
        await peer.memory_stream.send_eof()
        await peer.receive_all()
        await wait_all_tasks_blocked()
        assert house.server.connections == 0
        assert logs.reasons("disconnected") == ([] if reason is None else [reason])
        assert logs.reasons("closed") == [reason or "the peer closed its side"]
        assert not logs.reasons("refused")


# -- time for a frame --------------------------------------------------------------------------------------------------


async def test_a_frame_that_takes_too_long(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house(Limits(frame_seconds_max=60)) as house:
        peer = await join(house)
        await trio.sleep(1000)
        await peer.send(send("/queue/a", "receipt:r")[:-1])
        said = await peer.error()
        assert trio.current_time() == 1060
        assert said.body == b"a frame took longer than frame_seconds_max (60 s)"
        assert not house.broker.statistics().channels


async def test_frames_that_are_bound_to_a_transaction_have_their_own_time(
    autojump_clock: MockClock, logs: Logs
) -> None:
    """They bring nothing about before COMMIT, and yet each is over when it is whole."""
    async with open_house(Limits(frame_seconds_max=60)) as house:
        peer = await join(house)
        await peer.send(stomp("BEGIN", "transaction:t"))
        bound = send("/queue/a", "transaction:t")
        for _ in range(5):
            await peer.send(bound[:10])
            await trio.sleep(59)
            await peer.send(bound[10:] + bound[:10])  # the end of one, and the beginning of the next
            await trio.sleep(59)
            await peer.send(bound[10:])
            await trio.sleep(1000)
        await peer.send(stomp("COMMIT", "transaction:t", "receipt:r"))
        await peer.receipt("r")
        assert house.backlog("/queue/a") == 10


async def test_time_in_which_nothing_is_read_is_not_a_frames(autojump_clock: MockClock, logs: Logs) -> None:
    """One that takes what it is sent slowly is not read meanwhile, and so cannot finish its frame."""
    limits = Limits(control_bytes_max=500, frame_seconds_max=60, stall_seconds_max=10, stall_bytes_min=1000)
    async with open_house(limits, buffer_bytes=20_000) as house:
        peer = await subscriber(house, "/topic/x")
        await house.broker.publish("/topic/x", LARGE)
        await wait_all_tasks_blocked()
        asked = b"".join(send("/queue/a", f"receipt:{number}") for number in range(50))
        last = send("/queue/a", "receipt:last")
        await peer.send(asked + last[:-1])
        data = b""
        while b"receipt-id:49" not in data:
            await trio.sleep(2)
            chunk = await peer.stream.receive_some(20_000)
            assert chunk
            data += chunk
        assert trio.current_time() > 60
        await peer.send(last[-1:])
        await peer.receipt("last")
        assert not logs.reasons("refused")


# -- what is said when -------------------------------------------------------------------------------------------------


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


# -- the stall rule ----------------------------------------------------------------------------------------------------


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


# -- the drain ---------------------------------------------------------------------------------------------------------


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


# -- over TCP ----------------------------------------------------------------------------------------------------------


async def test_a_conversation_over_tcp() -> None:
    async with open_tcp_house() as house:
        peer = await join_tcp(house)
        await peer.send(subscribe("s", "/queue/a", "ack:client", "receipt:1"))
        await peer.receipt("1")
        body = bytes(range(256)) * 8000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send, send("/queue/a", body=body))
            message = await peer.message()
        assert message.body == body
        await peer.send(stomp("ACK", f"id:{message['ack']}"), stomp("DISCONNECT", "receipt:2"))
        await peer.receipt("2")
        assert await peer.receive() is None
        await until(lambda: house.server.connections == 0)
        assert house.broker.statistics().delivered == 1


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


async def test_greeting_twice_in_one_process_gives_different_sessions(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        peers = [StompPeer(house.connect().stream) for _ in range(2)]
        assert len({(await greet(peer))["session"] for peer in peers}) == 2
