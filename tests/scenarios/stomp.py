"""Scenarios for peers that speak STOMP: a conversation, settling, transactions, and full queues."""

from __future__ import annotations

import dataclasses

import trio

from tests.scenarios.house import OTHER_QUEUE, QUEUE, TOPIC
from tests.scenarios.stomp_house import EACH, LIMITS, TOGETHER, Peer, StompHouse
from trio_broker import Message
from trio_broker.explorer import disturbed


def now() -> float:
    return trio.current_time()


async def a_conversation() -> None:
    """The first bytes drip in; then a peer hears itself, and each of its receipts, and says goodbye."""
    house = StompHouse()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp(pauses=0.5, version="1.1") as peer:
            before = now()
            await peer.say(peer.subscribe(QUEUE, receipt="s"), peer.send(QUEUE, b"p 0 ", "p"))
            await peer.hear_messages(1)
            await peer.say(peer.session.disconnect(receipt="d"))
            await peer.hear()
            assert disturbed() or (peer.bodies, peer.receipts) == ([b"p 0 "], ["s", "p", "d"])
            assert disturbed() or (peer.ended and not peer.error and now() == before)
        nursery.cancel_scope.cancel()


async def a_worker_that_leaves_with_unsettled_work() -> None:
    """Two workers have a message each at a time; what one has not settled comes to the other, which hears of it."""
    house = StompHouse()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as stays:
            async with house.stomp() as leaves:
                await leaves.say(leaves.subscribe(QUEUE, ack=EACH, prefetch=1, receipt="s"))
                await leaves.hear_receipt("s")
                await stays.say(stays.subscribe(QUEUE, ack=EACH, prefetch=1, receipt="s"))
                await stays.hear_receipt("s")
                house.publish(QUEUE, b"p 0 ", b"p 1 ", b"p 2 ")
                await leaves.hear_messages(1)
                await stays.hear_messages(1)
                await trio.sleep(1)
                assert disturbed() or house.broker.statistics().channels[QUEUE].backlog_messages == 1
            await trio.sleep(1)
            for number in range(3):
                await stays.say(stays.ack(*stays.received[number:], receipt=f"{number}"))
                if await stays.hear_receipt(f"{number}") and number < 2:
                    await stays.hear_messages(number + 2)
            assert disturbed() or leaves.bodies == [b"p 0 "]
            assert disturbed() or stays.bodies == [b"p 1 ", b"p 0 ", b"p 2 "]
            assert disturbed() or [received.redelivered for received in stays.received] == [False, True, False]
        nursery.cancel_scope.cancel()


async def settling_together() -> None:
    """An ACK settles what came before it, a NACK likewise; a NACK for good gives up; what is settled twice is an error
    that is told, and what is in the hands of the peer then goes back."""
    house = StompHouse(dataclasses.replace(LIMITS, backlog_bytes_max=10_000))
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as peer:
            await peer.say(peer.subscribe(QUEUE, ack=TOGETHER, prefetch=3, receipt="s"))
            if await peer.hear_receipt("s"):
                house.publish(QUEUE, *(b"p %d " % number for number in range(6)))
            first = (await peer.hear_messages(3))[:3]
            await peer.say(peer.ack(*first[:2], receipt="0 and 1"))
            second = (await peer.hear_messages(5))[2:5]
            assert disturbed() or peer.bodies == [b"p %d " % number for number in range(5)]
            await peer.say(peer.nack(*second[:2]))
            third = (await peer.hear_messages(7))[5:7]
            assert disturbed() or peer.bodies[5:] == [b"p 2 ", b"p 3 "]
            assert disturbed() or all(received.redelivered for received in third)
            before = house.broker.statistics().rejected
            await peer.say(peer.nack(*second[2:], *third[:1], requeue=False, receipt="given up"))
            await peer.hear_receipt("given up")
            assert disturbed() or house.broker.statistics().rejected == before + 2
            await peer.hear_messages(8)
            await peer.say(peer.session.ack(first[0]) if first else b"")
            at = now()
            await peer.hear()
            assert disturbed() or (peer.error is not None and "settled before" in peer.error.message)
            assert disturbed() or now() == at
            assert disturbed() or house.broker.statistics().channels[QUEUE].backlog_messages == 2  # 3 and 5
        nursery.cancel_scope.cancel()


async def _commit_to_both(peer: Peer, name: str, *channels: str, receipt: str = "c") -> bool:
    """Publish to these queues as one; whether a receipt says so."""
    frames = [peer.begin("t")]
    frames += [
        peer.send(channel, f"{name} {number} ".encode(), transaction="t") for number, channel in enumerate(channels)
    ]
    await peer.say(*frames, peer.commit("t", receipt))
    return await peer.hear_receipt(receipt)


async def _commit_late(house: StompHouse, goes: bool, at: float) -> None:
    """Commit to a queue with room and one without; go after a while, or hear at this time that it is carried out."""
    async with house.stomp() as peer:
        with trio.move_on_after(2 if goes else 100):
            assert await _commit_to_both(peer, "a", OTHER_QUEUE, QUEUE) or disturbed()
            assert disturbed() or now() == at


async def a_transaction_that_waits_for_room() -> None:
    """It is carried out when both queues have room, and not in part before that."""
    await _wait_for_room(goes=False)


async def a_transaction_whose_peer_goes() -> None:
    """So it is if its peer has gone by then."""
    await _wait_for_room(goes=True)


async def _wait_for_room(*, goes: bool) -> None:
    house = StompHouse()
    house.commits = True
    house.breaks = goes
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        house.fill(QUEUE)
        nursery.start_soon(_commit_late, house, goes, now() + 5)
        await trio.sleep(5)
        assert house.broker.statistics().published <= 3, "it was carried out in part, or though there is no room"
        bodies: list[bytes] = []
        with trio.move_on_after(20):
            bodies = await house.consume(QUEUE, 4)
        assert disturbed() or bodies == [b"p 0 ", b"p 1 ", b"p 2 ", b"a 1 "]
        assert disturbed() or house.broker.statistics().channels[OTHER_QUEUE].backlog_messages == 1
        nursery.cancel_scope.cancel()


async def transactions_that_are_given_up() -> None:
    """One loses its patience, and its peer is told; one was never committed; one is refused, since what is kept for
    those with work is used up; one is abandoned by the drain. None is carried out, and what they settle is back."""
    house = StompHouse(dataclasses.replace(LIMITS, publish_seconds_max=4, backlog_reserve_bytes_max=1))
    house.commits = True
    async with trio.open_nursery() as nursery:
        await house.start(nursery)

        async def work() -> None:
            async with house.stomp() as peer:
                await peer.say(peer.subscribe("/queue/work", ack=EACH))
                received = await peer.hear_messages(1)
                await peer.say(peer.begin("t"), peer.send(OTHER_QUEUE, b"b 0 ", transaction="t"))
                await peer.say(peer.ack(*received, transaction="t"))
                await trio.sleep(1)
                assert disturbed() or peer.error is None
                await peer.say(peer.begin("u"), peer.send(QUEUE, b"d 0 ", transaction="u"))
                await peer.say(peer.ack(*received, transaction="u"), peer.commit("u"))
                await peer.hear()
                assert disturbed() or (peer.error is not None and "backlog_reserve_bytes_max" in peer.error.message)

        house.fill(QUEUE)
        house.publish("/queue/work", b"w 0 ")
        nursery.start_soon(work)
        async with house.stomp() as peer:
            before = now()
            assert not await _commit_to_both(peer, "a", QUEUE, OTHER_QUEUE), "it was carried out"
            assert disturbed() or (peer.error is not None and "took no message" in peer.error.message)
            assert disturbed() or (peer.error is not None and peer.error.receipt_id == "c" and now() == before + 4)
        async with house.stomp() as peer:
            with trio.move_on_after(1):
                await _commit_to_both(peer, "c", OTHER_QUEUE, QUEUE)
            before = now()
            report = await house.drain()
            await peer.hear()
            assert disturbed() or (now() == before and peer.ended and not peer.receipts and report is not None)
        assert OTHER_QUEUE not in house.broker.statistics().channels
        nursery.cancel_scope.cancel()


async def transactions_in_opposite_order() -> None:
    """Two commit to the same two queues, one the other way round, and a third sends to one alone: all come through."""
    house = StompHouse()
    house.commits = True
    done = []

    async def commit(name: str, *channels: str) -> None:
        async with house.stomp() as peer:
            assert await _commit_to_both(peer, name, *channels) or disturbed()
            done.append(name)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        house.fill(QUEUE, "p")
        house.fill(OTHER_QUEUE, "q")
        async with trio.open_nursery() as peers:
            peers.start_soon(commit, "a", QUEUE, OTHER_QUEUE)
            peers.start_soon(commit, "b", OTHER_QUEUE, QUEUE)
            await trio.sleep(1)
            with trio.move_on_after(30):
                await house.consume(OTHER_QUEUE, 2)
            assert disturbed() or not done
            with trio.move_on_after(30):
                await house.consume(QUEUE, 2)
            await trio.sleep(1)
            assert disturbed() or sorted(done) == ["a", "b"]
            peers.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def a_send_that_waits() -> None:
    """For a queue that is full; its receipt, and what stands behind it, come when there is room. Who waits longer than
    ``publish_seconds_max`` is told."""
    house = StompHouse(dataclasses.replace(LIMITS, publish_seconds_max=6))
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        house.fill(QUEUE)
        async with house.stomp() as peer, house.stomp() as hasty:
            before = now()
            await peer.say(peer.send(QUEUE, b"a 0 ", "0"), peer.send(OTHER_QUEUE, b"a 1 ", "1"))
            await trio.sleep(1)
            await hasty.say(hasty.send(QUEUE, b"b 0 ", "0"))
            await trio.sleep(2)
            await house.take_one(QUEUE)
            await peer.hear_receipt("1")
            assert disturbed() or (peer.receipts == ["0", "1"] and now() == before + 3)
            await hasty.hear()
            # The one before it was taken at second 3: from then on nothing moved.
            assert disturbed() or (hasty.error is not None and hasty.error.receipt_id == "0")
            assert disturbed() or now() == before + 9, now()
        nursery.cancel_scope.cancel()


async def workers_that_send_before_they_settle() -> None:
    """Two take from each other's queue, which are full: each may send its result, for it will settle. A third finds
    that what is kept for that is used up, and is told."""
    house = StompHouse(dataclasses.replace(LIMITS, backlog_reserve_bytes_max=500))
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as one, house.stomp() as two, house.stomp() as three:
            for peer, channel in ((one, QUEUE), (two, OTHER_QUEUE), (three, QUEUE)):
                await peer.say(peer.subscribe(channel, ack=EACH, prefetch=1, receipt="s"))
                await peer.hear_receipt("s")
            house.fill(QUEUE, "p")
            house.fill(OTHER_QUEUE, "q")
            for peer in (one, two, three):
                await peer.hear_messages(1)
            before = now()
            for peer, channel, name in ((one, OTHER_QUEUE, "a"), (two, QUEUE, "b")):
                body = f"{name} 0 ".encode()
                await peer.say(peer.send(channel, body, "sent"), peer.ack(*peer.received[:1], receipt="settled"))
                await peer.hear_receipt("settled")
                assert disturbed() or (peer.receipts[1:] == ["sent", "settled"] and now() == before)
            for number in range(2):
                await three.say(three.send(OTHER_QUEUE, b"c %d " % number, f"{number}"))
                await three.hear_receipt(f"{number}")
            assert disturbed() or (three.error is not None and "backlog_reserve_bytes_max" in three.error.message)
            assert disturbed() or three.receipts == ["s", "0"]
        nursery.cancel_scope.cancel()


async def a_request_whose_asker_goes() -> None:
    """An answer comes by a queue that only the asker has; when it has gone an answer reaches nobody, and its sender,
    who would wait for room there, is not kept."""
    house = StompHouse()
    house.exact = False
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as answers:
            await answers.say(answers.subscribe(QUEUE, ack=EACH, receipt="s"))
            await answers.hear_receipt("s")
            async with house.stomp() as asks:
                for number in range(2):
                    await asks.say(asks.send(QUEUE, b"a %d " % number, reply_to="/temp-queue/mine"))
                received = await answers.hear_messages(2)
                to = received[0].message.headers["reply-to"] if received else TOPIC
                await answers.say(answers.session.send(_answer(to), receipt="answered"))
                await answers.hear_receipt("answered")
                await asks.hear_messages(1)
                if not disturbed():
                    assert asks.bodies == [b"b 0 "]
                    assert asks.received[0].subscription_id == "/temp-queue/mine"
                    assert received[1].message.headers["reply-to"] == to
                    assert to not in asks.received[0].message.headers.values()
            await trio.sleep(1)
            lost = house.broker.statistics().unrouted
            await answers.say(answers.session.send(_answer(to), receipt="in vain"))
            await answers.say(answers.ack(*received[:1]), answers.ack(*received[1:], receipt="settled"))
            await answers.hear_receipt("settled")
            assert disturbed() or house.broker.statistics().unrouted == lost + 1
            # The end of a connection that the network holds up is not known yet.
            assert disturbed() or to not in house.broker.statistics().channels
        nursery.cancel_scope.cancel()


def _answer(channel: str) -> Message:
    return Message(channel, b"b 0 ")


SCENARIOS = (
    a_conversation,
    a_worker_that_leaves_with_unsettled_work,
    settling_together,
    a_transaction_that_waits_for_room,
    a_transaction_whose_peer_goes,
    transactions_that_are_given_up,
    transactions_in_opposite_order,
    a_send_that_waits,
    workers_that_send_before_they_settle,
    a_request_whose_asker_goes,
)
