"""Scenarios for a server and its peers while it serves, over the explorer's network."""

from __future__ import annotations

import dataclasses
from contextlib import suppress

import trio

from tests.scenarios.core_house import assert_in_order, what_is_left
from tests.scenarios.house import (
    GONE,
    NOBODY,
    ONE_BEHIND_ANOTHER,
    OTHER_QUEUE,
    PATIENCE,
    QUEUE,
    SMALL,
    TOPIC,
    House,
    frame,
    patience,
)
from trio_broker import Overflow, PublishStalled
from trio_broker.explorer import disturbed
from trio_broker.explorer.network import Network


async def connect_and_close() -> None:
    """Peers come and go: one at once, one without a word, one in order."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with suppress(OSError), patience():
            async with await house.network.connect(house.listener.port):
                pass
        async with house.peer(TOPIC):
            await trio.sleep(1)
        nursery.cancel_scope.cancel()


async def handshakes() -> None:
    """One that stays silent, one that breaks the protocol, one that speaks HTTP, one that stops in its first frame, and
    one that does not read the farewell, and one that drips."""
    house = House(network=Network(buffer_bytes=64))

    async def drip() -> None:
        with suppress(*GONE), patience():
            async with await house.network.connect(house.listener.port) as stream:
                for byte in frame(b"/topic/dripping"):
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(2)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with trio.open_nursery() as peers:
            for words in (b"", b"\0\0\0\0", b"\0\0\0\x08/to"):
                peers.start_soon(house.say, words)
            peers.start_soon(house.say, b"GET / HTTP/1.1\r\n\r\n", 100)
            peers.start_soon(drip)
            before = trio.current_time()
            heard = await house.say(b"GET / HTTP/1.1\r\n\r\n")
            assert disturbed() or (heard.count(b"HTTP/1.1 400") == 1 and trio.current_time() == before), heard
            await trio.sleep(10)
            # Whatever happened to them, none is served for longer than handshake, farewell and lingering may take.
            assert not house.connections
            peers.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def topic_over_the_network() -> None:
    """Two subscribers, one of them slow, and a publisher."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with trio.open_nursery() as peers:
            peers.start_soon(house.listen, TOPIC, "quick", 3)
            peers.start_soon(house.listen, TOPIC, "slow", 3, 1)
            await trio.sleep(SMALL.handshake_seconds_max + SMALL.frame_seconds_max)
            peers.start_soon(house.send, TOPIC, 3)
            await trio.sleep(20)
            sent = [b"p 0 ", b"p 1 ", b"p 2 "]
            assert disturbed() or house.received == {"quick": sent, "slow": sent}
            peers.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def queue_over_the_network() -> None:
    """Rotation between two consumers, of whom one leaves early."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with trio.open_nursery() as peers:
            peers.start_soon(house.listen, QUEUE, "leaves", 1)
            peers.start_soon(house.listen, QUEUE, "stays", 4)
            await trio.sleep(1)
            peers.start_soon(house.send, QUEUE, 5)
            await trio.sleep(20)
            assert disturbed() or house.broker.statistics().delivered == 5
            peers.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def one_connection_at_a_time() -> None:
    """Who comes while ``connections_max`` are open is turned away at once, and who comes later is served."""
    house = House(dataclasses.replace(SMALL, connections_max=1))
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.peer(TOPIC):
            await trio.sleep(1)
            before = trio.current_time()
            assert disturbed() or not await house.say(b"")
            assert disturbed() or trio.current_time() == before
            assert house.connections <= 1
        await trio.sleep(10)
        async with house.peer(TOPIC):
            await trio.sleep(1)
            assert house.connections <= 1
        nursery.cancel_scope.cancel()


async def a_frame_that_never_ends() -> None:
    """A peer that sends a byte now and then is let go after ``frame_seconds_max``."""
    house = House()

    async def drip() -> None:
        async with house.peer(NOBODY) as stream:
            if stream is not None:
                with suppress(*GONE):
                    for byte in b"\0\0\0\x20/topic/x":
                        await stream.send_all(bytes([byte]))
                        await trio.sleep(2)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        nursery.start_soon(drip)
        await trio.sleep(12)
        assert not house.connections or not house.broker.memory.cost  # a peer whose words are lost may stay
        nursery.cancel_scope.cancel()


async def a_queue_that_is_full() -> None:
    """A publisher on the network waits in line, goes on when a consumer comes, and gives up when none does."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        nursery.start_soon(house.send, QUEUE, 4, "a")
        await trio.sleep(5)
        with trio.move_on_after(15):
            await house.listen(QUEUE, "late", 2)
        assert disturbed() or house.received["late"][:2] == [b"a 0 ", b"a 1 "]
        nursery.start_soon(house.send, QUEUE, 4, "b")
        await trio.sleep(30)
        waiting = [channel.publishers_waiting for channel in house.broker.statistics().channels.values()]
        assert not any(waiting)  # the last one was told to give up
        nursery.cancel_scope.cancel()


async def messages_of_which_the_first_waits() -> None:
    """What stands behind it is accepted after it, and what comes meanwhile after that."""
    house = House()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        house.fill_queue()
        async with house.peer(NOBODY) as stream:
            if stream is not None:
                with suppress(*GONE), patience():
                    await stream.send_all(ONE_BEHIND_ANOTHER)
                    await trio.sleep(1)
                    await stream.send_all(frame(OTHER_QUEUE.encode()) + frame(b"a 3 "))
            await trio.sleep(1)
            channels = house.broker.statistics().channels
            assert OTHER_QUEUE not in channels, "what stands behind a message that waits has overtaken it"
            house.consumers.add("taker")
            received = house.received.setdefault("taker", [])
            async with house.broker.subscribe(QUEUE) as subscription:
                with suppress(trio.WouldBlock):
                    received.append(subscription.receive_nowait().body)
            await trio.sleep(1)
            left = await what_is_left(house.broker)
            assert disturbed() or {b"a 1 ", b"a 2 ", b"a 3 "} < set(left)
            assert_in_order(left)
        nursery.cancel_scope.cancel()


async def memory_that_is_full() -> None:
    """A connection with an unfinished frame is not read while the broker holds too much."""
    house = House(dataclasses.replace(SMALL, memory_bytes_max=700, backlog_bytes_max=5000, header_bytes_max=1))

    async def stop_in_the_middle() -> None:
        async with house.peer(NOBODY) as stream:
            if stream is not None:
                with patience(), suppress(*GONE):
                    await stream.send_all(frame(QUEUE.encode()) + frame(b"a 1 ".ljust(40, b"."))[:30])
                    await trio.sleep(3)
                    await stream.send_all(frame(b"a 1 ".ljust(40, b"."))[30:])
                    await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        nursery.start_soon(house.send, QUEUE, 1, "p", 150)
        await trio.sleep(1)
        nursery.start_soon(stop_in_the_middle)
        await trio.sleep(1)
        nursery.start_soon(house.listen, QUEUE, "late", 2)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()


async def a_subscriber_that_does_not_read() -> None:
    """It is evicted by the stall rule, and the publisher that waited for it goes on."""
    house = House()

    async def stick() -> None:
        async with house.peer(TOPIC):
            await trio.sleep(PATIENCE)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        nursery.start_soon(stick)
        await trio.sleep(1)
        before = trio.current_time()
        with suppress(PublishStalled):  # if its place in line is cancelled
            for number in range(4):
                await house.broker.publish(TOPIC, (b"p %d " % number).ljust(200, b"."))
        assert trio.current_time() - before <= SMALL.stall_seconds_max
        nursery.cancel_scope.cancel()


async def a_slow_subscriber_is_disconnected() -> None:
    """By the overflow policy: at once, although it reads nothing, and nobody waits for it."""
    house = House(dataclasses.replace(SMALL, overflow=Overflow.DISCONNECT, stall_seconds_max=100))

    async def stick() -> None:
        async with house.peer(TOPIC):
            await trio.sleep(PATIENCE)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        nursery.start_soon(stick)
        await trio.sleep(1)
        bodies = [(b"p %d " % number).ljust(200, b".") for number in range(4)]
        for body in bodies[:2]:  # the first fills the network, the second is on its way
            before = trio.current_time()
            await house.broker.publish(TOPIC, body)
            assert trio.current_time() == before
            await trio.sleep(1)
        for body in bodies[2:]:  # the third is too much, and in the same step nobody is there for the fourth
            house.broker.publish_nowait(TOPIC, body)
        await trio.sleep(SMALL.linger_seconds_max)
        statistics = house.broker.statistics()
        assert disturbed() or (house.connections, statistics.evicted) == (0, 1), statistics
        assert disturbed() or (statistics.dropped, statistics.unrouted) == (1, 1), statistics
        nursery.cancel_scope.cancel()


async def a_stuck_subscriber_that_ends() -> None:
    """Messages wait for it, and it says that it has no more to say: its connection ends at once."""
    house = House(dataclasses.replace(SMALL, stall_seconds_max=100))
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with house.peer(QUEUE) as stream:
            await trio.sleep(1)
            house.broker.publish_nowait(QUEUE, b"p 1 ".ljust(500, b"."))
            await trio.sleep(1)
            with suppress(*GONE), patience():
                if stream is not None:
                    await stream.send_eof()
            await trio.sleep(SMALL.linger_seconds_max)
            assert disturbed() or not house.connections
        nursery.cancel_scope.cancel()


async def a_write_that_is_cut() -> None:
    """A consumer goes in the middle of a write of several messages: those that it had whole are not given again."""
    house = House(dataclasses.replace(SMALL, mailbox_bytes_max=10_000, backlog_bytes_max=10_000, write_bytes_max=1000))
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        async with trio.open_nursery() as peers:
            peers.start_soon(house.listen, QUEUE, "goes", 2, 1)
            await trio.sleep(1)
            for number in range(5):
                house.broker.publish_nowait(QUEUE, (b"p %d " % number).ljust(110, b"."))
            await trio.sleep(3)
            peers.start_soon(house.listen, QUEUE, "comes", 3)
            await trio.sleep(3)
            if not disturbed():
                numbers = [[int(body.split()[1][:1]) for body in bodies] for bodies in house.received.values()]
                assert numbers[0] == [0, 1]
                assert numbers[1] == sorted(numbers[1])
            peers.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


class _Defective(trio.abc.Stream):
    """A stream that fails in ways no stream should."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep(1)
        raise ZeroDivisionError

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        raise ZeroDivisionError  # whether it is closed in order or by force


class _DefectiveListener(trio.abc.Listener[_Defective]):
    """It has one such stream to give."""

    def __init__(self) -> None:
        self.given = False

    async def accept(self) -> _Defective:
        await trio.lowlevel.checkpoint()
        if self.given:
            await trio.sleep_forever()
        self.given = True
        return _Defective()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def a_stream_with_a_defect() -> None:
    """Its connection ends, which is logged as a defect, and the others are served."""
    house = House()
    house.defects_max = 3  # of the connection, of its close, and of the accept loop's close
    async with trio.open_nursery() as nursery:
        await house.start(nursery, _DefectiveListener())
        await trio.sleep(3)
        async with trio.open_nursery() as peers:
            peers.start_soon(house.listen, TOPIC, "later", 1)
            await trio.sleep(1)
            peers.start_soon(house.send, TOPIC, 1)
            await trio.sleep(3)
            assert disturbed() or house.received == {"later": [b"p 0 "]}
            assert disturbed() or house.connections == 0
            peers.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


SCENARIOS = (
    connect_and_close,
    handshakes,
    topic_over_the_network,
    queue_over_the_network,
    one_connection_at_a_time,
    a_frame_that_never_ends,
    a_queue_that_is_full,
    messages_of_which_the_first_waits,
    memory_that_is_full,
    a_subscriber_that_does_not_read,
    a_slow_subscriber_is_disconnected,
    a_stuck_subscriber_that_ends,
    a_write_that_is_cut,
    a_stream_with_a_defect,
)
