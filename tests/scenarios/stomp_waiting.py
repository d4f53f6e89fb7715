"""Scenarios for peers that speak STOMP and whose messages wait for room: those who go meanwhile, and what they keep."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import final

import trio

from tests.scenarios.house import OTHER_QUEUE, QUEUE, TOPIC, patience
from tests.scenarios.stomp_house import EACH, LIMITS, Peer, StompHouse
from trio_broker import LocalSubscription, Message
from trio_broker.explorer import disturbed
from trio_broker.explorer.network import Network
from trio_broker.wire.stomp import HeartBeat, StompClientSession


def now() -> float:
    return trio.current_time()


async def one_who_goes_and_is_beaten_at() -> None:
    """The server finds out by a heart-beat that nobody takes: the job is for others then, what waits is accepted when
    there is room, and no subscription behind it is made for one who has gone."""
    house = StompHouse()
    house.breaks = True
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        house.publish(QUEUE, b"p 0 ")
        async with house.full_topic() as news:
            async with house.stomp(heart_beat=HeartBeat(0, 1000)) as goes:
                await goes.say(goes.subscribe(QUEUE, ack=EACH, prefetch=1))
                await goes.hear_messages(1)
                await goes.say(goes.session.send(Message(TOPIC, b"a 0 ")), goes.subscribe(QUEUE, "late", EACH))
                await trio.sleep(0.1)
            await trio.sleep(3)
            channels = house.broker.statistics().channels
            assert disturbed() or (channels[QUEUE].backlog_messages == 1 and channels[TOPIC].publishers_waiting == 1)
            bodies = await _receive(news, 3)
            assert disturbed() or bodies == [b"b 0 ", b"b 1 ", b"a 0 "]
            await trio.sleep(1)
            channels = house.broker.statistics().channels
            assert disturbed() or (channels[QUEUE].backlog_messages == 1 and not house.connections)
        nursery.cancel_scope.cancel()


async def a_transaction_whose_peer_goes_and_is_beaten_at() -> None:
    """It is carried out whole; until then nobody else has the work that it settles."""
    house = StompHouse()
    house.breaks = True
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        house.publish(QUEUE, b"p 0 ")
        async with house.full_topic() as news:
            async with house.stomp(heart_beat=HeartBeat(0, 1000)) as goes:
                await goes.say(goes.subscribe(QUEUE, ack=EACH, prefetch=1))
                received = await goes.hear_messages(1)
                frames = [goes.begin("t"), goes.session.send(Message(TOPIC, b"a 0 "), transaction="t")]
                await goes.say(*frames, goes.ack(*received, transaction="t"), goes.commit("t"))
                await trio.sleep(0.1)
            await trio.sleep(3)
            assert disturbed() or house.broker.statistics().channels[QUEUE].backlog_messages == 0
            bodies = await _receive(news, 3)
            assert disturbed() or bodies == [b"b 0 ", b"b 1 ", b"a 0 "]
            await trio.sleep(1)
            assert disturbed() or (QUEUE not in house.broker.statistics().channels and not house.connections)
        nursery.cancel_scope.cancel()


async def _ask_for_replies(peer: Peer, channel: str, *more: bytes) -> None:
    """Ask for more replies than a network that holds 128 bytes can take, and then say more."""
    await peer.say(*(peer.send(channel, b"b %d " % number, f"{number:50}") for number in range(3)), *more)


async def one_who_takes_no_replies_while_its_message_waits() -> None:
    """It is ended when it has stalled, and what waits is not accepted."""
    house = StompHouse(LIMITS, Network(buffer_bytes=128, write_bytes_max=512))
    house.breaks = True
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        house.fill(OTHER_QUEUE)
        async with house.stomp() as peer:
            await _ask_for_replies(peer, QUEUE, peer.send(OTHER_QUEUE, b"a 0 "))
            await trio.sleep(LIMITS.stall_seconds_max + LIMITS.linger_seconds_max + 1)
            assert disturbed() or not house.connections
            assert disturbed() or house.broker.statistics().channels[OTHER_QUEUE].backlog_messages == 3
        nursery.cancel_scope.cancel()


async def one_who_takes_no_replies_after_its_message_waited() -> None:
    """Nothing waits any more: the connection ends when it has stalled."""
    house = StompHouse(LIMITS, Network(buffer_bytes=128, write_bytes_max=512))
    house.breaks = True
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        house.fill(OTHER_QUEUE)
        async with house.stomp() as peer:
            await peer.say(peer.send(OTHER_QUEUE, b"a 0 ", "0"))
            await trio.sleep(1)
            await house.take_one(OTHER_QUEUE)
            await peer.hear_receipt("0")
            await _ask_for_replies(peer, QUEUE)
            await trio.sleep(LIMITS.stall_seconds_max + LIMITS.linger_seconds_max + 1)
            assert disturbed() or not house.connections
        nursery.cancel_scope.cancel()


@final
class _Unreachable(trio.abc.Stream):
    """Somebody who is heard, and whom nothing reaches any more from a time on."""

    def __init__(self, reached_until: float) -> None:
        self._says, self._heard = trio.open_memory_channel[bytes](9)
        self._reached_until = reached_until

    def say(self, *frames: bytes) -> None:
        with suppress(trio.BrokenResourceError):  # nobody hears it any more
            self._says.send_nowait(b"".join(frames))

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._heard.receive()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if now() >= self._reached_until:
            raise trio.BrokenResourceError("it is out of reach")

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self._heard.close()
        await trio.lowlevel.checkpoint()


@final
class _Once(trio.abc.Listener[_Unreachable]):
    """It has one such stream to give."""

    def __init__(self, stream: _Unreachable) -> None:
        self._streams = [stream]

    async def accept(self) -> _Unreachable:
        await trio.lowlevel.checkpoint()
        if not self._streams:
            await trio.sleep_forever()
        return self._streams.pop()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def one_out_of_reach_after_its_message_waited() -> None:
    """Nothing of its own waits any more: its connection ends with the first reply that does not reach it."""
    house = StompHouse()
    stream = _Unreachable(reached_until=3)
    says = StompClientSession(LIMITS)
    async with trio.open_nursery() as nursery:
        await house.start(nursery, _Once(stream))
        house.fill(OTHER_QUEUE)
        stream.say(says.connect("here"), says.send(Message(OTHER_QUEUE, b"a 0 ")))
        await trio.sleep(1)
        assert disturbed() or house.broker.statistics().channels[OTHER_QUEUE].publishers_waiting == 1
        await house.consume(OTHER_QUEUE, 1)
        await trio.sleep(3)
        stream.say(says.send(Message(QUEUE, b"a 1 "), receipt="r"))
        await trio.sleep(LIMITS.linger_seconds_max + 1)
        assert disturbed() or not house.connections
        nursery.cancel_scope.cancel()


async def one_who_errs_between_messages() -> None:
    """The message under way comes whole, then the ERROR, and not what was dealt behind it, which goes back."""
    house = StompHouse(dataclasses.replace(LIMITS, mailbox_bytes_max=5000), Network(buffer_bytes=128))
    house.breaks = True
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as errs:
            await errs.say(errs.subscribe(QUEUE, ack=EACH, prefetch=3, receipt="s"))
            await errs.hear_receipt("s")
            for number in range(3):
                house.publish(QUEUE, (b"p %d " % number).ljust(300, b"."))
                await trio.sleep(0.1)
            await errs.say(b"WHAT\n\n\0")
            await trio.sleep(0.1)
            await errs.hear()
            assert disturbed() or (len(errs.received) == 1 and errs.error is not None)
        await trio.sleep(LIMITS.linger_seconds_max + 1)
        assert disturbed() or house.broker.statistics().channels[QUEUE].backlog_messages == 3
        nursery.cancel_scope.cancel()


async def one_who_errs_and_takes_nothing() -> None:
    """Its ERROR cannot leave; what comes to its queue meanwhile is for others at once."""
    house = StompHouse(LIMITS, Network(buffer_bytes=128, write_bytes_max=512))
    house.breaks = True
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as errs, house.stomp() as works:
            await errs.say(errs.subscribe(QUEUE, ack=EACH))
            await trio.sleep(1)
            await works.say(works.subscribe(QUEUE, ack=EACH, prefetch=1, receipt="s"))
            await works.hear_receipt("s")
            await _ask_for_replies(errs, OTHER_QUEUE, b"WHAT\n\n\0")
            await trio.sleep(1)
            before = now()
            house.publish(QUEUE, b"p 0 ")
            await works.hear_messages(1)
            assert disturbed() or (works.bodies == [b"p 0 "] and now() == before)
            assert disturbed() or house.server is None or house.server.connections == 2
        nursery.cancel_scope.cancel()


async def a_commit_in_reserve_that_waits_for_a_topic() -> None:
    """Who has something to settle may commit to a queue that is full, also if it must wait for a topic before."""
    house = StompHouse()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        house.publish(QUEUE, b"p 9 ")
        async with house.stomp() as peer, house.full_topic() as news:
            await peer.say(peer.subscribe(QUEUE, ack=EACH, prefetch=1))
            received = await peer.hear_messages(1)
            house.fill(OTHER_QUEUE)
            frames = [peer.begin("t"), peer.send(OTHER_QUEUE, b"a 0 ", transaction="t")]
            frames.append(peer.session.send(Message(TOPIC, b"a 1 "), transaction="t"))
            await peer.say(*frames, peer.ack(*received, transaction="t"), peer.commit("t", "c"))
            await trio.sleep(1)
            assert disturbed() or not peer.receipts
            at = now()
            bodies = await _receive(news, 3)
            assert disturbed() or bodies == [b"b 0 ", b"b 1 ", b"a 1 "]
            await peer.hear_receipt("c")
            assert disturbed() or (peer.receipts == ["c"] and now() == at)
        nursery.cancel_scope.cancel()


async def _receive(subscription: LocalSubscription, count: int) -> list[bytes]:
    """What a program receives, at most so many messages, for a while."""
    bodies: list[bytes] = []
    with trio.move_on_after(5):
        while len(bodies) < count:
            bodies.append((await subscription.receive()).body)
    return bodies


async def an_asker_that_goes_while_an_answer_waits() -> None:
    """It takes no answers, until its private queue is full; when it goes, who waits there is let go at once."""
    limits = dataclasses.replace(LIMITS, stall_seconds_max=50)
    house = StompHouse(limits, Network(buffer_bytes=128, write_bytes_max=512))
    house.exact, house.breaks = False, True
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as answers:
            await answers.say(answers.subscribe(QUEUE, ack=EACH, receipt="s"))
            await answers.hear_receipt("s")
            async with house.stomp() as asks:
                await asks.say(asks.send(QUEUE, b"a 0 ", reply_to="/temp-queue/mine"))
                received = await answers.hear_messages(1)
                to = received[0].message.headers["reply-to"] if received else TOPIC
                await answers.say(answers.ack(*received, receipt="settled"))
                await answers.hear_receipt("settled")
                last = await _answer_until_one_waits(house, answers, to)
                before = now()
            await answers.hear_receipt(f"{last}")
            assert disturbed() or (f"{last}" in answers.receipts and now() == before)
        nursery.cancel_scope.cancel()


async def _answer_until_one_waits(house: StompHouse, peer: Peer, channel: str) -> int:
    """Send to a queue until it is full; returns the number of what waits there."""
    with patience():
        for number in range(20):
            body = (b"b %d " % number).ljust(200, b".")
            await peer.say(peer.session.send(Message(channel, body), receipt=f"{number}"))
            await trio.sleep(0.5)
            known = house.broker.statistics().channels.get(channel)
            if known is not None and known.publishers_waiting:
                return number
    assert disturbed(), "it takes all that it is sent"
    return -1


SCENARIOS = (
    one_who_goes_and_is_beaten_at,
    a_transaction_whose_peer_goes_and_is_beaten_at,
    one_who_takes_no_replies_while_its_message_waits,
    one_who_takes_no_replies_after_its_message_waited,
    one_out_of_reach_after_its_message_waited,
    one_who_errs_between_messages,
    one_who_errs_and_takes_nothing,
    a_commit_in_reserve_that_waits_for_a_topic,
    an_asker_that_goes_while_an_answer_waits,
)
