"""Scenarios for the transport of plain TCP, over ``socket.socketpair()``: real descriptors, real system calls.

A pair of sockets of one process is as deterministic as memory: what one end sends the other can read at once. Buffers
are made as small as the system lets them be, so that writes are short and wait.
"""

from __future__ import annotations

import dataclasses
from contextlib import suppress

import trio
import trio.testing

from tests.scenarios.house import GONE, QUEUE, TOPIC, frame
from tests.scenarios.tcp_house import LIMITS, WORKER, WORKER_IN_TRANSACTION, House, body
from trio_broker import Overflow, PublishStalled
from trio_broker.explorer import disturbed


async def to_a_slow_subscriber() -> None:
    """Writes are short, and wait until the peer reads."""
    house = House()
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream:
            nursery.start_soon(house.listen, stream, TOPIC, 1)
            await trio.testing.wait_all_tasks_blocked()
            with suppress(PublishStalled):  # if its place in line is cancelled
                for number in range(4):
                    await house.broker.publish(TOPIC, body(number))
            await trio.sleep(6)
        nursery.cancel_scope.cancel()


async def to_a_quick_subscriber() -> None:
    """What a queue keeps beyond a mailbox is written as the mailbox empties, without waiting for anything, whether a
    program published it or a peer."""
    house = House(dataclasses.replace(LIMITS, read_bytes_min=1024))
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream, house.connect(nursery) as sender:
            nursery.start_soon(house.listen, stream, QUEUE)
            await trio.sleep(1)
            with suppress(trio.WouldBlock):
                for number in range(14):
                    house.broker.publish_nowait(QUEUE, body(number, 20))
            await trio.testing.wait_all_tasks_blocked()
            assert disturbed() or (len(house.received) == 14 and trio.current_time() == 1)
            with suppress(*GONE):
                words = [frame(QUEUE.encode()) + frame(body(number, 20)) for number in range(14, 28)]
                await sender.send_all(frame(b"/null") + b"".join(words))
            await trio.testing.wait_all_tasks_blocked()
            assert disturbed() or (len(house.received) == 28 and trio.current_time() == 1)
            house.flusher.announce()  # as the poller does, which flushes in the same step
            with suppress(trio.WouldBlock):
                for number in range(28, 42):
                    house.broker.publish_nowait(QUEUE, body(number, 20))
            house.flusher.flush()
            await trio.testing.wait_all_tasks_blocked()
            assert disturbed() or (len(house.received) == 42 and trio.current_time() == 1)
        nursery.cancel_scope.cancel()


async def that_drains_in_several_writes() -> None:
    """What is in the mailbox is sent without waiting, then the end of the stream, in no time."""
    house = House(dataclasses.replace(LIMITS, write_bytes_max=300))
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream:
            nursery.start_soon(house.listen, stream, TOPIC)
            await trio.sleep(1)
            with suppress(trio.WouldBlock):
                for number in range(7):
                    house.broker.publish_nowait(TOPIC, body(number, 100))
            for connection in house.connections:
                connection.retire()
                connection.drain()
            await trio.sleep(1)
            assert disturbed() or (len(house.received) == 7 and house.ended_at == [1])
        nursery.cancel_scope.cancel()


async def that_evicts_itself() -> None:
    """A peer that does not read publishes to the topic that it subscribes to, until it is too slow for that: it hears
    of its end in the step of the message that was one too many, and is sent nothing more."""
    house = House(dataclasses.replace(LIMITS, overflow=Overflow.DISCONNECT))
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream:
            with suppress(*GONE), trio.move_on_after(3):
                await stream.send_all(frame(TOPIC.encode()))
                for number in range(9):
                    await stream.send_all(frame(TOPIC.encode()) + frame(body(number)))
                    await trio.sleep(0.1)
            await trio.sleep(1)
            assert disturbed() or (len(house.ended_at) == 1 and house.broker.statistics().evicted == 1)
        nursery.cancel_scope.cancel()


async def that_is_evicted_before_a_flush() -> None:
    """It is sent nothing of what waited."""
    house = House(dataclasses.replace(LIMITS, overflow=Overflow.DISCONNECT, mailbox_bytes_max=1000))
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream:
            nursery.start_soon(house.listen, stream, TOPIC)
            await trio.sleep(1)
            with suppress(trio.WouldBlock):
                for number in range(3):
                    house.broker.publish_nowait(TOPIC, body(number, 20))
            house.flusher.flush()
            await trio.sleep(1)
            assert disturbed() or (house.received == [] and house.ended_at == [1])
        nursery.cancel_scope.cancel()


async def to_one_that_does_not_read() -> None:
    """It is evicted by the stall rule; what it had not been sent is back in its queue."""
    house = House()
    async with trio.open_nursery() as nursery:
        stream = house.connect(nursery)
        async with stream:
            with suppress(*GONE):
                await stream.send_all(frame(QUEUE.encode()))
            await trio.testing.wait_all_tasks_blocked()
            before = trio.current_time()
            for number in range(4):
                house.broker.publish_nowait(QUEUE, body(number))
            await trio.sleep(12)
            assert all(at <= before + 2 * LIMITS.stall_seconds_max for at in house.ended_at)
            assert len(house.ended_at) == 1
        nursery.cancel_scope.cancel()


async def a_write_that_is_cut() -> None:
    """A write of several messages, of which the system takes some at once and the others bit by bit."""
    house = House()
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream, trio.open_nursery() as reading:
            reading.start_soon(house.listen, stream, QUEUE, 0.5, 2)
            await trio.sleep(1)
            for number in range(7):
                house.broker.publish_nowait(QUEUE, body(number, 900))
            await trio.sleep(6)
            assert disturbed() or len(house.received) == 7
            reading.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def from_a_busy_publisher() -> None:
    """Reads come back full, one of them with nothing after it, and grow; a frame comes in pieces."""
    house = House(polled=False)
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream, house.broker.subscribe(TOPIC) as subscription:
            with suppress(*GONE):
                words = frame(b"/null") + frame(TOPIC.encode())
                await stream.send_all(words + frame(body(0, LIMITS.read_bytes_min - len(words) - 4)))
                await trio.sleep(1)
                await stream.send_all(frame(TOPIC.encode()) + frame(body(1)))
                await stream.send_all(frame(TOPIC.encode()) + frame(body(2))[:100])
                await trio.sleep(1)
                await stream.send_all(frame(body(2))[100:])
                with trio.move_on_after(1):
                    async for message in subscription:
                        house.received.append(message.body)
        nursery.cancel_scope.cancel()


async def that_talk_at_once() -> None:
    """What two send in the same step is read in one step, and written in it; one of them leaves without a word, the
    other after a frame that is cut off."""
    house = House()
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as one, house.connect(nursery) as other:
            for stream in (one, other):
                nursery.start_soon(house.listen, stream, QUEUE)
            await trio.sleep(1)
            with suppress(*GONE):
                for number, stream in enumerate((one, other)):
                    await stream.send_all(frame(QUEUE.encode()) + frame(b"p%d 0 " % number))
            await trio.sleep(1)
            assert disturbed() or sorted(house.received) == [b"p0 0 ", b"p1 0 "]
            with suppress(*GONE):
                await other.send_all(b"\0")
                await other.send_eof()
            await one.aclose()
            await trio.sleep(1)
            assert len(house.ended_at) == 2
        nursery.cancel_scope.cancel()


async def whose_peer_goes_while_its_message_waits() -> None:
    """What it had not settled is for others at once, and so is what comes later; its message is accepted in its turn,
    and it gets no subscription more."""
    await _go_while_it_waits(WORKER)


async def whose_peer_goes_while_its_transaction_waits() -> None:
    """That may settle what it was given, so that stays until it is carried out; but what comes later is for others."""
    await _go_while_it_waits(WORKER_IN_TRANSACTION)


async def _go_while_it_waits(says: bytes) -> None:
    house = House()
    waits = says is WORKER_IN_TRANSACTION
    async with trio.open_nursery() as nursery, house.broker.subscribe(TOPIC) as news:
        with suppress(trio.WouldBlock):
            for number in range(10):
                house.broker.publish_nowait(TOPIC, body(number))
        full = house.broker.statistics().published
        house.broker.publish_nowait(QUEUE, b"p 0 ")
        async with house.connect(nursery) as stream:
            with suppress(*GONE):
                await stream.send_all(says)
            await trio.sleep(1)
            assert disturbed() or house.backlog(QUEUE) == 0
        await trio.testing.wait_all_tasks_blocked()
        assert disturbed() or (house.backlog(QUEUE) == (not waits) and trio.current_time() == 1)
        house.broker.publish_nowait(QUEUE, b"p 1 ")
        assert disturbed() or house.backlog(QUEUE) == 1 + (not waits)
        bodies: list[bytes] = []
        with trio.move_on_after(2):
            while len(bodies) <= full:
                bodies.append((await news.receive()).body)
        assert disturbed() or bodies[full:] == [b"a 0 "]
        await trio.sleep(1)
        assert disturbed() or len(house.ended_at) == 1
        async with house.broker.subscribe(QUEUE) as left:
            given = [left.receive_nowait() for _ in range(left.statistics().mailbox_messages)]
            assert disturbed() or [(message.body, message.redelivered) for message in given] == [
                (b"p 0 ", True),
                (b"p 1 ", False),
            ]
        nursery.cancel_scope.cancel()


SCENARIOS = (
    to_a_slow_subscriber,
    to_a_quick_subscriber,
    that_drains_in_several_writes,
    that_evicts_itself,
    that_is_evicted_before_a_flush,
    to_one_that_does_not_read,
    a_write_that_is_cut,
    from_a_busy_publisher,
    that_talk_at_once,
    whose_peer_goes_while_its_message_waits,
    whose_peer_goes_while_its_transaction_waits,
)
