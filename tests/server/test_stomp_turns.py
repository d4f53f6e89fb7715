"""How many turns a connection's outbox holds, and how many a message waits for. Turns are counted, never seconds.

S-74: what a peer can make grow is bounded, also by what costs it nothing: replies, and subscriptions that end at once.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import House, open_house, open_tcp_house, until
from tests.server.stomp_house import LARGE, StompPeer, join_tcp, send, stomp, subscribe, subscriber
from trio_broker.core import Outbox
from trio_broker.server.speaker import Speaker

MANY = 200

REPLIES = b"".join(
    stomp("BEGIN", "transaction:t", f"receipt:b{number}") + stomp("ABORT", "transaction:t", f"receipt:a{number}")
    for number in range(MANY)
)
"""A reply to each of these, and nothing is left of them."""


class Turns:
    """What all connections of a test do: how often they are flushed, and how many names are left in their outboxes."""

    def __init__(self) -> None:
        self.flushes = 0
        self.left: list[int] = []  # after each flush that did something


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    turns = Turns()
    flush = Speaker.flush

    def counted(speaker: Speaker) -> None:
        could = not speaker.is_writing
        flush(speaker)
        turns.flushes += 1
        if could:
            turns.left.append(speaker.outbox._turns)

    monkeypatch.setattr(Speaker, "flush", counted)
    return turns


def outbox_of(house: House, topic: str) -> Outbox:
    """The outbox of the only one that is subscribed to this."""
    (subscription,) = house.broker._channels[topic]._members()
    return subscription.outbox


async def take_replies(peer: StompPeer) -> None:
    """All of them."""
    for number in range(MANY):
        await peer.receipt(f"b{number}")
        await peer.receipt(f"a{number}")


async def test_any_number_of_replies_have_one_turn(autojump_clock: MockClock, turns: Turns) -> None:
    """And one that was over long ago delays nothing."""
    async with open_house() as house:
        peer = await subscriber(house, "/topic/news")
        await peer.send(REPLIES)
        await take_replies(peer)
        assert outbox_of(house, "/topic/news")._turns <= 1
        assert max(turns.left) <= 1 + 1
        before = turns.flushes
        await house.broker.publish("/topic/news", b"news")
        assert (await peer.message()).body == b"news"
        assert turns.flushes - before <= 3


async def test_replies_that_nobody_takes_have_one_turn(autojump_clock: MockClock) -> None:
    """They wait behind what is being written, as many as come."""
    async with open_house(buffer_bytes=1000) as house:
        peer = await subscriber(house, "/topic/news")
        await house.broker.publish("/topic/news", bytes(5000))
        await peer.send(REPLIES)
        await wait_all_tasks_blocked()
        outbox = outbox_of(house, "/topic/news")
        assert outbox.control_bytes > 20 * MANY
        assert outbox._turns == 1
        assert len((await peer.message()).body) == 5000
        await take_replies(peer)


async def test_replies_and_messages_have_their_turns_over_tcp(mock_clock: MockClock, turns: Turns) -> None:
    """Where a write ends in the same step in which it was begun."""
    async with open_tcp_house() as house:
        peer = await join_tcp(house)
        await peer.send(subscribe("s", "/topic/news"))
        for _ in range(3):
            await peer.send(REPLIES)
            await take_replies(peer)
        assert max(turns.left) <= 1 + 1
        before = turns.flushes
        await house.broker.publish("/topic/news", b"news")
        assert (await peer.message()).body == b"news"
        assert turns.flushes - before <= 3


def come_and_go(way: str) -> bytes:
    """A subscription that is given something, and ends before it is sent."""
    if way == "topic":
        return subscribe("0", "/topic/busy") + send("/topic/busy", body=b"own") + stomp("UNSUBSCRIBE", "id:0")
    return subscribe("0", "/queue/a", f"ack:{way}") + stomp("UNSUBSCRIBE", "id:0")


@pytest.mark.parametrize("way", ["topic", "auto", "client"])
async def test_subscriptions_that_came_and_went_have_no_turns(
    autojump_clock: MockClock, turns: Turns, way: str
) -> None:
    """Each was named when it was given something; those names are gone when the peer is served next."""
    async with open_house() as house:
        await house.broker.publish("/queue/a", b"waits")
        peer = await subscriber(house, "/topic/news")
        turns.left.clear()
        await peer.send(come_and_go(way) * MANY)
        await wait_all_tasks_blocked()
        assert turns.left
        assert max(turns.left) <= 1 + 1
        assert house.backlog("/queue/a") == 1
        before = turns.flushes
        await house.broker.publish("/topic/news", b"news")
        assert (await peer.message()).body == b"news"
        assert turns.flushes - before <= 3
        await peer.is_silent()


@pytest.mark.parametrize("way", ["topic", "auto", "client"])
async def test_a_message_is_not_delayed_by_subscriptions_that_came_and_went(
    autojump_clock: MockClock, turns: Turns, way: str
) -> None:
    """They stand before it in the outbox, which is served for the first time since."""
    async with open_house() as house:
        await house.broker.publish("/queue/a", b"waits")
        peer = await subscriber(house, "/topic/news")
        before = turns.flushes
        await peer.send(come_and_go(way) * MANY + send("/topic/news", body=b"news"))
        assert (await peer.message()).body == b"news"
        assert turns.flushes - before <= 3
        assert outbox_of(house, "/topic/news")._turns <= 1 + 1


@pytest.mark.parametrize("way", ["topic", "auto", "client"])
async def test_nor_by_those_between_replies(autojump_clock: MockClock, turns: Turns, way: str) -> None:
    """A reply is written when its turn comes, and no turn of one that has ended is in its way."""
    async with open_house() as house:
        await house.broker.publish("/queue/a", b"waits")
        peer = await subscriber(house, "/topic/news")
        before = turns.flushes
        for number in range(5):
            reply = stomp("BEGIN", f"transaction:{number}", f"receipt:{number}")
            await peer.send(come_and_go(way) * MANY + reply + come_and_go(way) * MANY)
            await peer.receipt(str(number))
        await house.broker.publish("/topic/news", b"news")
        assert (await peer.message()).body == b"news"
        assert turns.flushes - before <= 5 * 4 + 3
        await wait_all_tasks_blocked()
        assert outbox_of(house, "/topic/news")._turns == 0


async def test_subscriptions_take_turns_though_one_is_busy(autojump_clock: MockClock) -> None:
    """Of those that have something each is served in its turn, and none is forgotten with those that have nothing."""
    async with open_house() as house:
        peer = await subscriber(house, "/topic/0")
        await peer.send(subscribe("1", "/topic/1"), subscribe("2", "/topic/2", "receipt:r"))
        await peer.receipt("r")
        await wait_all_tasks_blocked()
        await peer.send(
            *(come_and_go("topic") + send(f"/topic/{number}", body=b"%d" % number) for number in (0, 1, 2, 0))
        )
        bodies = [(await peer.message()).body for _ in range(4)]
        assert sorted(bodies) == [b"0", b"0", b"1", b"2"]
        await peer.is_silent()


async def test_one_who_is_gone_with_all_its_turns_leaves_nothing(mock_clock: MockClock) -> None:
    async with open_tcp_house() as house:
        await house.broker.publish("/queue/a", b"waits")
        peer = await join_tcp(house)
        await peer.send(come_and_go("client") * MANY)
        await trio.aclose_forcefully(peer.stream)
        await until(lambda: not house.server.connections)
        assert house.broker.statistics().channels["/queue/a"].backlog_messages == 1


async def test_subscriptions_that_end_while_a_write_waits_are_forgotten(autojump_clock: MockClock) -> None:
    """Nobody has a turn meanwhile, however long it takes."""
    async with open_house() as house:
        await house.broker.publish("/queue/a", b"waits")
        peer = await subscriber(house, "/topic/news")
        await house.broker.publish("/topic/news", LARGE)
        await wait_all_tasks_blocked()
        for _ in range(10):
            await peer.send(come_and_go("client") * MANY)
            await wait_all_tasks_blocked()
            assert outbox_of(house, "/topic/news")._turns <= 2 * 64 + 2
        assert (await peer.message()).body == LARGE
        await peer.is_silent()
        assert outbox_of(house, "/topic/news")._turns == 0
