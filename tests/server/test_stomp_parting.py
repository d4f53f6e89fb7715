"""What becomes of a connection whose peer takes nothing in the middle of a message: a torn frame stays its last bytes,
and who has said goodbye, or was refused, is dealt nothing more. S-62, S-65, S-74."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import House, Logs, numbered, open_house
from tests.server.stomp_house import LARGE, StompPeer, join, send, stomp, subscribe, subscriber
from tests.server.test_stomp_time_bounds import at, jobs_of
from trio_broker import Limits

STALLED = "it moved less than 65,536 bytes in 10 s"

# -- the stall rule, where a subscription has ended in the middle of its message ---------------------------------------


async def half_written(house: House, *lines: str) -> StompPeer:
    """A peer that has taken nothing of a message, of which a part waits for it; and that has another subscription."""
    peer = await subscriber(house, "/queue/jobs", *lines)
    await peer.send(subscribe("t", "/topic/news"))
    await wait_all_tasks_blocked()
    await house.broker.publish("/queue/jobs", LARGE)
    await wait_all_tasks_blocked()
    assert peer.memory_stream.unread > 50_000
    return peer


async def is_torn(peer: StompPeer) -> None:
    """All that has come is the beginning of one message."""
    data = b""
    with pytest.raises(trio.BrokenResourceError):
        while True:
            chunk = await peer.stream.receive_some(65_536)
            data += chunk
            if not chunk:
                raise trio.BrokenResourceError
    head, _, body = data.partition(b"\n\n")
    assert head.startswith(b"MESSAGE\n")
    assert len(body) < len(LARGE)
    assert body == LARGE[: len(body)]


SETTLED = {
    "ACK": stomp("ACK", "id:1"),
    "NACK": stomp("NACK", "id:1"),
    "rejected": stomp("NACK", "id:1", "requeue:false"),
}


@pytest.mark.parametrize("settled", SETTLED)
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("behind", ["nothing", "a reply", "a message"])
async def test_one_that_takes_no_more_of_what_it_settled_and_unsubscribed(
    autojump_clock: MockClock, logs: Logs, settled: str, order: str, behind: str
) -> None:
    """Nothing of that subscription is left, but its message is not whole: no frame stands in its middle."""
    async with open_house(Limits(stall_seconds_max=10)) as house:
        peer = await half_written(house, "ack:client")
        frames = [SETTLED[settled], stomp("UNSUBSCRIBE", "id:s")]
        await peer.send(*(frames if order == "before" else reversed(frames)))
        await at(9.99)
        assert (house.server.connections, house.backlog("/queue/jobs")) == (1, int(settled == "NACK"))
        if behind == "a reply":
            await peer.send(stomp("BEGIN", "transaction:t", "receipt:inside"))
        elif behind == "a message":
            await house.broker.publish("/topic/news", b"news")
        await at(10)
        assert house.server.connections == 0
        await is_torn(peer)
        assert logs.reasons("closed")[0].startswith(STALLED)
        assert house.broker.statistics().delivered == int(settled == "ACK")


@pytest.mark.parametrize("settled", SETTLED)
async def test_one_that_takes_all_of_what_it_settled_and_unsubscribed(
    autojump_clock: MockClock, logs: Logs, settled: str
) -> None:
    """It has moved in time, so it has the rest, and everything else after that."""
    async with open_house(Limits(stall_seconds_max=10)) as house:
        peer = await half_written(house, "ack:client")
        await peer.send(SETTLED[settled], stomp("UNSUBSCRIBE", "id:s", "receipt:r"))
        await house.broker.publish("/topic/news", b"news")
        await at(9.99)
        assert (await peer.message()).body == LARGE
        await peer.receipt("r")
        assert (await peer.message()).body == b"news"
        await at(1000)
        assert (house.server.connections, logs.reasons("closed")) == (1, [])


async def test_one_that_stalls_there_while_its_message_waits_for_room(autojump_clock: MockClock, logs: Logs) -> None:
    """It is ended as any other that stalls, and what it sent is not accepted."""
    limits = Limits(stall_seconds_max=10, backlog_bytes_max=1000, backlog_reserve_bytes_max=1000)
    async with open_house(limits) as house:
        peer = await half_written(house, "ack:client")
        await house.broker.publish("/queue/full", bytes(1500))
        await peer.send(SETTLED["ACK"], stomp("UNSUBSCRIBE", "id:s"), send("/queue/full", "receipt:r", body=b"waits"))
        await at(9.9)
        assert house.server.connections == 1
        await at(10.1)
        assert house.server.connections == 0
        assert await jobs_of(house, "/queue/full") == [(bytes(1500), False)]
        await is_torn(peer)


# -- who is about to end is dealt nothing more -------------------------------------------------------------------------

FAREWELLS = {"DISCONNECT": stomp("DISCONNECT", "receipt:bye"), "ERROR": stomp("WHAT"), "silence": b""}


@pytest.mark.parametrize("way", FAREWELLS)
@pytest.mark.parametrize("mode", ["auto", "client"])
async def test_one_whose_last_bytes_do_not_leave_is_dealt_nothing_more(
    autojump_clock: MockClock, logs: Logs, way: str, mode: str
) -> None:
    """What comes to its queue is for others at once, not after farewell_seconds_max; so is what had been dealt to it
    before, when that is over."""
    async with open_house(Limits(stall_seconds_max=100, farewell_seconds_max=5)) as house:
        peer = await join(house, "1.2", "heart-beat:1000,0")
        await peer.send(subscribe("s", "/queue/jobs", f"ack:{mode}"), subscribe("t", "/topic/news"))
        await wait_all_tasks_blocked()
        await house.broker.publish("/topic/news", LARGE)
        await house.broker.publish("/queue/jobs", b"before")
        await wait_all_tasks_blocked()
        assert peer.memory_stream.unread > 50_000
        await peer.send(FAREWELLS[way])
        begin = 2 if way == "silence" else 0
        await at(begin)
        assert house.server.connections == 1
        async with house.broker.subscribe("/queue/jobs") as other:
            for body in numbered(4):
                await house.broker.publish("/queue/jobs", body)
            assert [other.receive_nowait().body for _ in range(4)] == numbered(4)
            await house.broker.publish("/topic/news", b"to nobody")
            assert house.broker.statistics().unrouted == 1
            await at(begin + 4.99)
            with pytest.raises(trio.WouldBlock):
                other.receive_nowait()
            await at(begin + 5)
            message = other.receive_nowait()
            assert (message.body, message.redelivered) == (b"before", False)
        assert house.server.connections == 0


@pytest.mark.parametrize("way", FAREWELLS)
async def test_nobody_waits_for_the_mailbox_of_one_who_is_about_to_end(
    autojump_clock: MockClock, logs: Logs, way: str
) -> None:
    """A topic's publishers, that is: there is room as soon as it has left."""
    async with (
        open_house(Limits(stall_seconds_max=100, mailbox_bytes_max=1000)) as house,
        trio.open_nursery() as nursery,
    ):
        peer = await join(house, "1.2", "heart-beat:1000,0")
        await peer.send(subscribe("t", "/topic/news"))
        await wait_all_tasks_blocked()
        await house.broker.publish("/topic/news", LARGE)
        async with house.broker.subscribe("/topic/news") as other:
            nursery.start_soon(house.broker.publish, "/topic/news", b"waits")
            await wait_all_tasks_blocked()
            await peer.send(FAREWELLS[way])
            assert (await other.receive()).body == b"waits"
            assert trio.current_time() == (2 if way == "silence" else 0)


# -- subscriptions that were unsubscribed ------------------------------------------------------------------------------


async def leave_unsettled(peer: StompPeer, subscription_id: str, mode: str = "client-individual") -> str:
    """Subscribe, be given one message, unsubscribe; and the number to settle it by."""
    await peer.send(subscribe(subscription_id, "/queue/jobs", f"ack:{mode}", "prefetch-count:1"))
    number = (await peer.message())["ack"]
    await peer.send(stomp("UNSUBSCRIBE", f"id:{subscription_id}"))
    return number


REACHED = b"the limit subscriptions_max (3) is reached"


@pytest.mark.parametrize("name", ["same", "new"])
async def test_subscriptions_count_while_something_of_them_is_unsettled(
    autojump_clock: MockClock, logs: Logs, name: str
) -> None:
    """Unsubscribed or not, each is kept until then, twice as many as it may have open; all that it had goes back with
    its connection."""
    async with open_house(Limits(subscriptions_max=3)) as house:
        for body in numbered(10):
            await house.broker.publish("/queue/jobs", body)
        peer = await join(house)
        for count in range(6):
            await leave_unsettled(peer, "s" if name == "same" else str(count))
        assert house.backlog("/queue/jobs") == 4
        await peer.send(subscribe("s", "/topic/news", "receipt:r"))
        said = await peer.error()
        assert (said.body, said["receipt-id"]) == (REACHED, "r")
        await wait_all_tasks_blocked()
        assert house.backlog("/queue/jobs") == 10


async def test_those_and_the_others_count_together(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house(Limits(subscriptions_max=3)) as house:
        for body in numbered(4):
            await house.broker.publish("/queue/jobs", body)
        peer = await join(house)
        for name in ("a", "b", "c", "d"):
            await leave_unsettled(peer, name)
        for name in ("e", "f"):
            await peer.send(subscribe(name, "/topic/news", f"receipt:{name}"))
            await peer.receipt(name)
        await peer.send(subscribe("g", "/topic/news"))
        assert (await peer.error()).body == REACHED


@pytest.mark.parametrize("settled", SETTLED)
@pytest.mark.parametrize("mode", ["client", "client-individual"])
async def test_what_is_settled_counts_no_more(autojump_clock: MockClock, settled: str, mode: str) -> None:
    """So a peer that settles may come and go as often as it likes."""
    async with open_house(Limits(subscriptions_max=3)) as house:
        for body in numbered(100):
            await house.broker.publish("/queue/jobs", body)
        peer = await join(house)
        numbers = [await leave_unsettled(peer, "s", mode) for _ in range(6)]
        for count in range(30):
            await peer.send(SETTLED[settled].replace(b"id:1\n", f"id:{numbers.pop(count % 2)}\n".encode()))
            numbers.append(await leave_unsettled(peer, "s", mode))
        await peer.is_silent()
        assert house.broker.statistics().subscriptions == 0


async def test_what_need_not_be_settled_does_not_count(autojump_clock: MockClock) -> None:
    """Nor does a subscription in `auto`, or of a topic, or one that was given nothing; nor do private queues, which
    have the same bound of their own."""
    async with open_house(Limits(subscriptions_max=3)) as house:
        peer = await join(house)
        await peer.send(*(send("/topic/asked", f"reply-to:/temp-queue/{number}") for number in range(3)))
        for number in range(20):
            for lines in (["/queue/a"], ["/queue/b", "ack:client"], ["/topic/c", "ack:client"]):
                await peer.send(subscribe("s", *lines))
                await wait_all_tasks_blocked()
                if lines[0] != "/queue/b":
                    await house.broker.publish(lines[0], b"%d" % number)
                    assert (await peer.message()).body == b"%d" % number
                await peer.send(stomp("UNSUBSCRIBE", "id:s"))
        await peer.send(*(subscribe(str(number), "/topic/c", f"receipt:{number}") for number in range(3)))
        for number in range(3):
            await peer.receipt(str(number))
