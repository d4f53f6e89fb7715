"""Scenarios for peers that speak STOMP: what they do not take, what they do not say, and how conversations end."""

from __future__ import annotations

import dataclasses
from typing import Any

import trio

from tests.scenarios.house import LOG, OTHER_QUEUE, QUEUE, TOPIC
from tests.scenarios.stomp_house import EACH, LIMITS, Peer, StompHouse
from trio_broker.explorer import disturbed
from trio_broker.explorer.network import Network
from trio_broker.wire.stomp import HeartBeat

NARROW_BYTES = 128
"""Less than a message with its headers."""


def now() -> float:
    return trio.current_time()


def narrow(**limits: Any) -> StompHouse:
    """A house with a network that holds little."""
    changed = dataclasses.replace(LIMITS, **limits)
    return StompHouse(changed, Network(buffer_bytes=NARROW_BYTES, write_bytes_max=512))


async def _subscribed(peer: Peer, channel: str = QUEUE, prefetch: int | None = None) -> None:
    await peer.say(peer.subscribe(channel, ack=EACH, prefetch=prefetch, receipt="s"))
    await peer.hear_receipt("s")


async def errors() -> None:
    """Who breaks the protocol reads why, and then the end, at once; who does not read it is let go after
    ``farewell_seconds_max``, and what it has not settled is back then."""
    house = narrow(stall_seconds_max=100)
    house.breaks = True
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as reads, house.stomp() as sleeps:
            for peer in (reads, sleeps):
                await _subscribed(peer, prefetch=1)
            house.publish(QUEUE, b"p 0 ", b"p 1 ", b"p 2 ")
            for peer in (reads, sleeps):
                await peer.hear_messages(1)
            before = now()
            await reads.say(b"NONSENSE\n\n\0", reads.ack(*reads.received[:0]))
            await reads.hear()
            assert disturbed() or (reads.error is not None and "NONSENSE" in reads.error.message)
            assert disturbed() or (reads.ended and now() == before)
            await sleeps.say(b"NONSENSE\nreceipt:n\n\n\0")
            await trio.sleep(LIMITS.farewell_seconds_max - 0.5)
            assert disturbed() or house.connections == 1
            await trio.sleep(1)
            assert disturbed() or not house.connections
            assert disturbed() or house.broker.statistics().channels[QUEUE].backlog_messages == 3
        nursery.cancel_scope.cancel()


async def heart_beats() -> None:
    """Who beats stays, and hears a beat in time; who falls silent is told after twice its time. Who sends nothing
    because it is not read, as its message waits, is not judged."""
    house = StompHouse()
    beat = HeartBeat(1000, 1000)

    async def beat_on(peer: Peer, count: int) -> None:
        for _ in range(count):
            await trio.sleep(0.9)
            await peer.say(b"\n")

    async def beats(count: int) -> None:
        async with house.stomp(heart_beat=beat) as peer, trio.open_nursery() as both:
            begun = now()
            both.start_soon(beat_on, peer, count)
            await peer.hear(None, 20)
            if not disturbed():
                assert peer.error is not None
                assert "nothing came for 2 s" in peer.error.message
                assert now() == begun + 0.9 * count + 2
                pauses = [after - ago for ago, after in zip([begun, *peer.beats], peer.beats, strict=False)]
                assert max(pauses) <= 1, pauses
                assert len(peer.beats) >= count
            both.cancel_scope.cancel()

    async def waits() -> None:
        async with house.stomp(heart_beat=HeartBeat(1000, 0)) as peer:
            before = now()
            await peer.say(peer.send(QUEUE, b"a 0 ", "0"))
            await peer.hear_receipt("0")
            assert disturbed() or now() == before + 4.5
            await peer.hear()
            assert disturbed() or (peer.error is not None and now() == before + 6)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        house.fill(QUEUE)
        async with trio.open_nursery() as peers:
            peers.start_soon(beats, 3)
            peers.start_soon(waits)
            await trio.sleep(4.5)
            await house.take_one(QUEUE)
            await trio.sleep(5)
            assert disturbed() or not house.connections
            peers.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def replies_that_wait() -> None:
    """A peer that takes no receipts is not read any more, and then is when it takes them: it gets all of them."""
    house = narrow(control_bytes_max=60, read_bytes_max=512, stall_seconds_max=20)
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as peer, trio.open_nursery() as both:
            names = [f"receipt {number}" for number in range(20)]
            done = []

            async def talk() -> None:
                for name in names:
                    await peer.say(peer.session.begin(name), peer.session.abort(name, receipt=name))
                done.append(now())

            both.start_soon(talk)
            await trio.sleep(3)
            assert disturbed() or not done
            before = now()
            await peer.hear(lambda: len(peer.receipts) == len(names))
            assert disturbed() or (peer.receipts == names and now() == before and done == [before])
            await trio.sleep(30)
            assert disturbed() or house.connections == 1
            both.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def replies_that_nobody_takes() -> None:
    """The stall rule holds for a peer to which only replies are to be said."""
    house = narrow(control_bytes_max=60)
    house.breaks = True
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as peer:
            before = now()
            frames = [
                peer.session.begin(name) + peer.session.abort(name, receipt=name) for name in ("a" * 90, "b" * 90)
            ]
            await peer.say(*frames)
            await trio.sleep(LIMITS.stall_seconds_max - 1)
            assert disturbed() or house.connections == 1
            await trio.sleep(1.5)
            assert disturbed() or not house.connections
            assert disturbed() or any("moved less than" in reason for reason in LOG.reasons)
            assert disturbed() or now() <= before + LIMITS.stall_seconds_max + 1  # disturbed, `say` may wait as well
        nursery.cancel_scope.cancel()


async def a_transaction_that_outgrows_the_memory() -> None:
    """One that grows while the memory is full is refused; one that is whole waits for memory, and is carried out."""
    house = StompHouse(dataclasses.replace(LIMITS, memory_bytes_max=1500, backlog_bytes_max=5000))
    house.commits = True
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as whole, house.stomp() as grows:
            await whole.say(whole.begin("t"), whole.send(QUEUE, b"a 0 ", transaction="t"))
            await grows.say(grows.begin("t"), grows.send(QUEUE, b"b 0 ", transaction="t"))
            await trio.sleep(1)
            house.fill(QUEUE)
            await grows.say(grows.send(QUEUE, b"b 1 ", transaction="t"))
            await grows.hear()
            assert disturbed() or (grows.error is not None and "memory_bytes_max" in grows.error.message)
            await trio.sleep(1)
            house.fill(QUEUE, "q")
            await whole.say(whole.commit("t", "c"))
            before = now()
            await trio.sleep(2)
            assert disturbed() or house.broker.statistics().channels[QUEUE].publishers_waiting == 1
            await house.take_one(QUEUE)
            await whole.hear_receipt("c")
            assert disturbed() or (whole.receipts == ["c"] and now() == before + 2)
        nursery.cancel_scope.cancel()


async def a_drain_with_unsettled_work() -> None:
    """What is to be settled goes back: what a peer had says so, what it was not sent does not. What needs no
    acknowledgement is still sent."""
    house = narrow(mailbox_bytes_max=5000, backlog_bytes_max=10_000)
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as works, house.stomp() as listens:
            await _subscribed(works, prefetch=3)
            await listens.say(listens.subscribe(OTHER_QUEUE, receipt="s"))
            await listens.hear_receipt("s")
            house.publish(QUEUE, *((b"p %d " % number).ljust(450, b".") for number in range(5)))
            house.publish(OTHER_QUEUE, *((b"q %d " % number).ljust(100, b".") for number in range(2)))
            await works.hear_messages(1)
            await trio.sleep(1)
            async with trio.open_nursery() as readers:

                async def late(peer: Peer) -> None:
                    await trio.sleep(2)
                    await peer.hear()

                readers.start_soon(late, works)
                readers.start_soon(late, listens)
                report = await house.drain()
            if not disturbed():
                assert report is not None
                assert (report.connections, report.cut, report.seconds) == (2, 0, 2)
                assert len(listens.bodies) == 2
                assert works.ended
                assert len(works.bodies) == 2  # one and the one under way
                assert house.broker.statistics().channels[QUEUE].backlog_messages == 5
        nursery.cancel_scope.cancel()


async def a_server_that_is_cancelled() -> None:
    """With work that is unsettled, waiting and half written: all of it is back, at once."""
    house = narrow(mailbox_bytes_max=5000)
    house.breaks = True
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as servers:
            await house.start(servers)
            async with house.stomp(heart_beat=HeartBeat(0, 1000)) as one, house.stomp() as two:
                for peer in (one, two):
                    await _subscribed(peer)
                house.publish(QUEUE, *((b"p %d " % number).ljust(100, b".") for number in range(5)))
                await two.hear_messages(1)
                await trio.sleep(0.5)
                before = now()
                servers.cancel_scope.cancel()
        assert not house.connections
        assert disturbed() or now() == before
        assert disturbed() or house.broker.statistics().channels[QUEUE].backlog_messages == 5
        nursery.cancel_scope.cancel()


async def an_eviction_of_one_with_unsettled_work() -> None:
    """A peer stops reading in the middle of a topic: it is evicted, and what it had of a queue goes to another."""
    house = narrow()
    house.exact, house.breaks = False, True
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as sleeps, house.stomp() as works:
            await _subscribed(sleeps, prefetch=1)
            await sleeps.say(sleeps.subscribe(TOPIC, "topic", receipt="t"))
            await sleeps.hear_receipt("t")
            house.publish(QUEUE, b"p 0 ")
            await sleeps.hear_messages(1)
            await _subscribed(works, prefetch=1)
            before = now()
            house.broker.publish_nowait(TOPIC, b"b 0 ".ljust(300, b"."))
            await works.hear_messages(1)
            assert disturbed() or (now() == before + LIMITS.stall_seconds_max and works.bodies == [b"p 0 "])
            assert disturbed() or any(reason.startswith("evicted: it moved less") for reason in LOG.reasons)
            await works.say(works.ack(*works.received, receipt="a"))
            await works.hear_receipt("a")
        nursery.cancel_scope.cancel()


async def unsubscribing_in_the_middle_of_a_write() -> None:
    """The message under way comes whole, and may be settled; what waited is for others, at once."""
    house = narrow(mailbox_bytes_max=5000)
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as leaves, house.stomp() as stays:
            await _subscribed(leaves, prefetch=6)
            house.publish(QUEUE, *((b"p %d " % number).ljust(200, b".") for number in range(4)))
            await trio.sleep(1)
            await leaves.say(leaves.session.unsubscribe("s", receipt="u"))
            await _subscribed(stays, prefetch=4)
            before = now()
            await stays.hear_messages(1)
            assert disturbed() or now() == before
            await leaves.hear_receipt("u")
            await leaves.say(leaves.ack(*leaves.received[:1], receipt="a"))
            await leaves.hear_receipt("a")
            await stays.hear(lambda: len(stays.received) + len(leaves.received) >= 4)
            for received in stays.received:
                await stays.say(stays.ack(received))
            if not disturbed():
                assert leaves.receipts == ["s", "u", "a"]
                assert sorted(leaves.bodies + stays.bodies) == sorted(house.accepted)
                assert 1 <= len(leaves.bodies) <= 2
                assert not any(received.redelivered for received in stays.received)
            for received in leaves.received[1:]:
                await leaves.say(leaves.ack(received))
            await trio.sleep(1)
            assert disturbed() or house.broker.statistics().channels[QUEUE].subscriptions == 1
        nursery.cancel_scope.cancel()


async def messages_that_expire() -> None:
    """In a queue, and in the mailbox of a peer that reads late: they are counted, and who reads late is not taken for
    one that stalls."""
    house = narrow(mailbox_bytes_max=5000)
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.stomp() as reads, house.stomp() as sends:
            await sends.say(
                sends.send(OTHER_QUEUE, b"a 0 ", expiration="1000"), sends.send(OTHER_QUEUE, b"a 1 ", "sent")
            )
            await sends.hear_receipt("sent")
            await reads.say(reads.subscribe(QUEUE, receipt="s"))
            await reads.hear_receipt("s")
            house.publish(QUEUE, b"p 0 ".ljust(300, b"."))
            await trio.sleep(0.5)
            for number in range(2):
                await sends.say(sends.send(QUEUE, b"b %d " % number, f"{number}", expiration="1000"))
                await sends.hear_receipt(f"{number}")
            house.lost |= {b"a 0 ", b"b 0 ", b"b 1 "}
            await trio.sleep(2)
            await reads.hear_messages(1)
            await trio.sleep(1)
            assert disturbed() or house.broker.statistics().expired == 2
            await trio.sleep(LIMITS.stall_seconds_max + 1)
            house.publish(QUEUE, b"p 1 ".ljust(300, b"."))
            await trio.sleep(LIMITS.stall_seconds_max - 1)
            await reads.hear_messages(2)
            assert disturbed() or (len(reads.received) == 2 and not reads.ended)
            bodies: list[bytes] = []
            with trio.move_on_after(20):
                bodies = await house.consume(OTHER_QUEUE, 1)
            assert disturbed() or (bodies == [b"a 1 "] and house.broker.statistics().expired == 3)
        nursery.cancel_scope.cancel()


SCENARIOS = (
    errors,
    heart_beats,
    replies_that_wait,
    replies_that_nobody_takes,
    a_transaction_that_outgrows_the_memory,
    a_drain_with_unsettled_work,
    a_server_that_is_cancelled,
    an_eviction_of_one_with_unsettled_work,
    unsubscribing_in_the_middle_of_a_write,
    messages_that_expire,
)
