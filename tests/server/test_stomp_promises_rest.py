"""What docs/stomp.md promises of settling and credit, in the frames of a peer, where only the core's tests say it."""

import socket
import struct

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import Logs, numbered, open_house, open_tcp_house, until
from tests.server.stomp_house import LARGE, join, join_tcp, only_on_linux, send, stomp, subscribe, subscriber
from tests.server.test_stomp_hang_up import LIMITS, backlog, open_full_house
from trio_broker import Limits

# -- modes -------------------------------------------------------------------------------------------------------------


async def test_what_left_whole_in_auto_is_lost_with_one_who_did_not_read_it(autojump_clock: MockClock) -> None:
    """S-50."""
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a")
        await house.broker.publish("/queue/a", b"lost")
        await wait_all_tasks_blocked()
        peer.memory_stream.reset()
        await wait_all_tasks_blocked()
        assert (house.server.connections, house.backlog("/queue/a")) == (0, 0)
        assert house.broker.statistics().delivered == 1


@pytest.mark.parametrize("mode", ["auto", "client", "client-individual"])
async def test_on_a_topic_the_modes_promise_the_same(autojump_clock: MockClock, mode: str) -> None:
    """S-53: no credit; and when one goes, nobody is given what it was not, which is counted."""
    async with open_house() as house:
        peer = await subscriber(house, "/topic/a", f"ack:{mode}", "prefetch-count:1")
        other = await subscriber(house, "/topic/a")
        for body in (*numbered(10), LARGE, b"waits"):
            await house.broker.publish("/topic/a", body)
        assert [(await peer.message()).body for _ in range(10)] == numbered(10)
        assert [(await other.message()).body for _ in range(12)] == [*numbered(10), LARGE, b"waits"]
        peer.memory_stream.close()
        await other.is_silent()
        statistics = house.broker.statistics()
        assert (statistics.delivered, statistics.discarded) == (10 + 12, 2)


@pytest.mark.parametrize("mode", ["client", "client-individual"])
@pytest.mark.parametrize("again", ["ACK", "NACK"])
async def test_a_message_of_a_topic_is_settled_once(
    autojump_clock: MockClock, logs: Logs, mode: str, again: str
) -> None:
    """S-53: one does not settle others."""
    async with open_house() as house:
        peer = await subscriber(house, "/topic/a", f"ack:{mode}")
        for body in numbered(3):
            await house.broker.publish("/topic/a", body)
        acks = [(await peer.message())["ack"] for _ in range(3)]
        for index, command in ((2, "NACK"), (1, "ACK"), (0, again)):
            await peer.send(stomp(command, f"id:{acks[index]}", f"receipt:{index}"))
            await peer.receipt(str(index))
        await peer.send(stomp(again, f"id:{acks[1]}"))
        assert "settled once" in (await peer.error()).body.decode()


# -- credit ------------------------------------------------------------------------------------------------------------


async def test_what_need_not_be_settled_is_dealt_above_the_mark(autojump_clock: MockClock) -> None:
    """S-55: one with too much to settle is given nothing more that it would have to settle; the rest comes."""
    async with open_house(Limits(unsettled_bytes_max=5000)) as house:
        peer = await subscriber(house, "/queue/a", "ack:client")
        await peer.send(subscribe("t", "/queue/b", "ack:auto"))
        await house.broker.publish("/queue/a", bytes(6000))
        assert (await peer.message())["subscription"] == "s"
        await house.broker.publish("/queue/a", b"waits")
        for body in numbered(10):
            await house.broker.publish("/queue/b", body)
        assert [(await peer.message()).body for _ in range(10)] == numbered(10)
        await peer.is_silent()
        assert (house.backlog("/queue/a"), house.backlog("/queue/b")) == (1, 0)


async def test_empty_messages_reach_the_mark_too(autojump_clock: MockClock) -> None:
    """S-55: each has its overhead."""
    async with open_house(Limits(unsettled_bytes_max=5000)) as house:
        peer = await subscriber(house, "/queue/a", "ack:client-individual")
        for _ in range(100):
            await house.broker.publish("/queue/a", b"")
            await wait_all_tasks_blocked()
        given = 100 - house.backlog("/queue/a")
        assert 5 < given < 80
        acks = [(await peer.message())["ack"] for _ in range(given)]
        await peer.is_silent()
        await peer.send(stomp("ACK", f"id:{acks[0]}"))
        await peer.message()


async def test_one_whose_work_takes_long_is_not_ended(autojump_clock: MockClock) -> None:
    """S-56: half a day without credit, while others wait for what it has."""
    async with open_house(Limits(backlog_bytes_max=1000)) as house, trio.open_nursery() as nursery:
        peer = await subscriber(house, "/queue/a", "ack:client-individual", "prefetch-count:1")
        for body in (b"long", bytes(2000)):
            await house.broker.publish("/queue/a", body)
        nursery.start_soon(house.broker.publish, "/queue/a", b"waits")
        number = (await peer.message())["ack"]
        await trio.sleep(43_200)
        await peer.is_silent()
        await peer.send(stomp("ACK", f"id:{number}", "receipt:r"))
        said = [await peer.receive() for _ in range(2)]
        assert {frame.command for frame in said if frame} == {"RECEIPT", "MESSAGE"}
        assert house.evicted() == 0


# -- settling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("runs", "is_known"), [(1024, True), (1025, False)])
async def test_so_many_runs_of_what_was_settled_are_remembered(
    autojump_clock: MockClock, logs: Logs, runs: int, is_known: bool
) -> None:
    """S-57: the oldest that was forgotten may be settled twice, which changes nothing."""
    async with open_house(Limits(prefetch_messages_max=3000)) as house:
        peer = await subscriber(house, "/queue/a", "ack:client-individual")
        for body in numbered(2 * runs):
            house.broker.publish_nowait("/queue/a", body)
        acks = [(await peer.message())["ack"] for _ in range(2 * runs)]
        await peer.send(*(stomp("ACK", f"id:{number}") for number in acks[::2]))
        await peer.send(stomp("ACK", f"id:{acks[0]}", "receipt:r"))
        if is_known:
            assert "settled once" in (await peer.error()).body.decode()
        else:
            await peer.receipt("r")
        assert house.broker.statistics().delivered == runs


# -- who goes ----------------------------------------------------------------------------------------------------------


@only_on_linux
async def test_one_who_closes_its_sending_side_alone_has_gone(mock_clock: MockClock) -> None:
    """S-63."""
    async with open_full_house() as (house, worker, results):
        assert isinstance(worker.stream, trio.SocketStream)
        await worker.stream.send_eof()
        await until(lambda: backlog(house) == 3)
        await results.receive()
        assert (await results.receive()).body == b"result 1"
        assert await worker.receive() is None


@only_on_linux
async def test_what_is_being_written_to_one_who_has_gone_breaks_first(mock_clock: MockClock) -> None:
    """S-63: its work goes back when that breaks; until then it is the writer who knows what has left."""
    async with open_tcp_house(LIMITS) as house, house.broker.subscribe("/topic/results"):
        await house.broker.publish("/topic/results", bytes(1500))
        worker = await join_tcp(house, buffer_bytes=65_536)
        assert isinstance(worker.stream, trio.SocketStream)
        await worker.send(subscribe("s", "/queue/jobs", "ack:client"), subscribe("t", "/topic/news", "receipt:r"))
        await worker.receipt("r")
        await house.broker.publish("/queue/jobs", b"job")
        await worker.message()
        await house.broker.publish("/topic/news", bytes(16_000_000))
        await worker.send(send("/topic/results", body=b"result"))
        await until(lambda: len(house.broker._channels["/topic/results"].line) == 1)
        await worker.stream.send_eof()
        await until(lambda: house.broker.statistics().channels["/queue/jobs"].subscriptions == 0)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert backlog(house) == 0
        worker.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await worker.stream.aclose()
        await until(lambda: backlog(house) == 1)


@only_on_linux
@pytest.mark.parametrize(
    "late",
    [pytest.param(stomp("NACK", "id:1"), id="NACK"), pytest.param(stomp("NACK", "id:2", "requeue:false"), id="reject")],
)
async def test_a_late_nack_of_one_that_has_gone_changes_nothing(mock_clock: MockClock, logs: Logs, late: bytes) -> None:
    """S-64."""
    async with open_full_house() as (house, worker, results):
        await worker.send(late, send("/queue/after", body=b"it goes on"))
        await worker.stream.aclose()
        await until(lambda: backlog(house) == 3)
        await results.receive()
        await until(lambda: not house.server.connections)
        assert backlog(house) == 3
        statistics = house.broker.statistics()
        assert statistics.rejected == 0
        assert statistics.channels["/queue/after"].backlog_messages == 1
        assert not logs.reasons("refused")


# -- sending -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_transactions", [False, True], ids=["SEND", "COMMIT"])
async def test_above_the_reserve_it_is_refused(autojump_clock: MockClock, logs: Logs, in_transactions: bool) -> None:
    """S-67: the worker is told which limit that is; what it had goes back, and what it sent before counts."""
    async with open_house(Limits(backlog_bytes_max=3000, backlog_reserve_bytes_max=3000)) as house:
        await house.broker.publish("/queue/full", bytes(3000))
        idle = await join(house)
        await idle.send(send("/queue/full", "receipt:idle"))
        await idle.is_silent()
        worker = await subscriber(house, "/queue/jobs", "ack:client-individual")
        await house.broker.publish("/queue/jobs", b"job")
        await worker.message()
        for number in range(3):
            if in_transactions:
                await worker.send(
                    stomp("BEGIN", "transaction:t"),
                    send("/queue/full", "transaction:t", body=bytes(1000)),
                    stomp("COMMIT", "transaction:t", f"receipt:{number}"),
                )
            else:
                await worker.send(send("/queue/full", f"receipt:{number}", body=bytes(1000)))
            if number < 2:
                await worker.receipt(str(number))
        said = await worker.error()
        assert (said["receipt-id"], trio.current_time()) == ("2", 0)
        assert said.body == b"the limit backlog_reserve_bytes_max (3,000) is reached"
        await wait_all_tasks_blocked()
        assert (house.backlog("/queue/full"), house.backlog("/queue/jobs")) == (1 + 2, 1)
        await idle.is_silent()
