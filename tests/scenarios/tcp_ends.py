"""Scenarios for the end of connections over plain TCP, however it comes."""

from __future__ import annotations

import dataclasses
import socket
import struct
from contextlib import suppress
from unittest import mock

import trio
import trio.testing

from tests.scenarios.house import GONE, LOG, QUEUE, TOPIC, frame, patience
from tests.scenarios.tcp_house import LIMITS, House, Pairs, body
from trio_broker import Limits, PublishStalled, RemoteSubscription, Server
from trio_broker.explorer import disturbed
from trio_broker.server.flusher import Flusher
from trio_broker.server.poller import Poller, open_poller
from trio_broker.server.transport import TcpTransport
from trio_broker.wire import FramedClientSession


async def that_is_cancelled_as_messages_come() -> None:
    """They come in the steps in which the connection ends, more than the system takes at once: what had left whole is
    not given to anybody else."""
    house = House()
    async with trio.open_nursery() as nursery:
        for steps in range(3):
            async with house.connect(nursery) as stream:
                nursery.start_soon(house.listen, stream, QUEUE, 0, 2)
                await trio.sleep(1)
                house.scopes[-1].cancel()
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                with suppress(trio.WouldBlock):
                    for number in range(6):
                        house.broker.publish_nowait(QUEUE, b"p%d %d " % (steps, number) + bytes(900))
                await trio.sleep(3)
        nursery.cancel_scope.cancel()


class _Signal(BaseException):
    """What a signal's handler raises."""


async def what_a_signal_raises_as_somebody_is_read() -> None:
    """It ends the poller, and whoever watches can be cancelled, even if that has been tried in that very moment."""
    poller = open_poller(Flusher())
    assert poller is not None
    ours, theirs = socket.socketpair()
    theirs.send(b"a")
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            with trio.CancelScope() as scope:

                def act() -> bool:
                    scope.cancel()
                    raise _Signal

                await poller.watch(ours, act)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        _, others = group.split(_Signal)
        if others is not None:
            raise others from None
    else:
        assert disturbed()
    finally:
        assert not poller._watched
        poller.close()
        ours.close()
        theirs.close()


async def that_lingers() -> None:
    """Input that nobody wants is read before the close, for ``linger_seconds_max``, so that the peer gets no reset."""
    house = House()

    async def chatter(stream: trio.SocketStream) -> None:
        with suppress(*GONE):
            while True:
                await stream.send_all(b"GET / HTTP/1.1\r\n\r\n" * 8)
                await trio.sleep(0.25)

    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream, trio.open_nursery() as talking:
            talking.start_soon(chatter, stream)
            before = trio.current_time()
            with patience(), suppress(*GONE):
                while await stream.receive_some(64):
                    pass
            await trio.sleep(2)
            limit = LIMITS.handshake_seconds_max + LIMITS.farewell_seconds_max + LIMITS.linger_seconds_max
            assert all(at - before <= limit for at in house.ended_at)
            talking.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def that_lingers_over_work() -> None:
    """What a queue's consumer was not sent goes to another before its connection lingers, not after."""
    house = House()
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream:
            with suppress(*GONE):
                await stream.send_all(frame(QUEUE.encode()))
            await trio.sleep(1)
            with suppress(trio.WouldBlock):
                for number in range(3):
                    house.broker.publish_nowait(QUEUE, body(number))
            await trio.testing.wait_all_tasks_blocked()
            with suppress(*GONE):
                await stream.send_all(bytes(600))  # a violation, and more that nobody reads
            await trio.testing.wait_all_tasks_blocked()
            if not disturbed():
                statistics = house.broker.statistics()
                assert statistics.channels[QUEUE].backlog_messages == 3 - statistics.delivered
                assert not house.ended_at
                assert trio.current_time() == 1
            await trio.sleep(3)
        nursery.cancel_scope.cancel()


async def that_is_reset() -> None:
    """The peer closes with input unread while more is sent to it; another one ends in its first frame; a third resets,
    which is told; of a fourth nobody has heard that it is gone when something is sent to it."""
    house = House()
    async with trio.open_nursery() as nursery:
        async with house.connect(nursery) as stream:
            with suppress(*GONE):
                await stream.send_all(frame(TOPIC.encode()))
            await trio.testing.wait_all_tasks_blocked()
            with suppress(PublishStalled):
                for number in range(3):
                    await house.broker.publish(TOPIC, body(number))
        async with house.connect(nursery) as stream:
            with suppress(*GONE):
                await stream.send_all(struct.pack(">I", 100))
        async with house.connect(nursery) as stream:
            with suppress(*GONE):
                await stream.send_all(frame(TOPIC.encode()))
            await trio.testing.wait_all_tasks_blocked()
            with suppress(trio.WouldBlock):
                house.broker.publish_nowait(TOPIC, body(0, 20))
            await trio.testing.wait_all_tasks_blocked()
            stream.socket.close()
            await trio.testing.wait_all_tasks_blocked()
            assert disturbed() or LOG.reasons[-1].startswith("the connection broke: receiving"), LOG.reasons
        async with house.connect(nursery) as stream:
            with suppress(*GONE):
                await stream.send_all(frame(TOPIC.encode()))
            await trio.testing.wait_all_tasks_blocked()
            stream.socket.close()
            with suppress(trio.WouldBlock):
                house.broker.publish_nowait(TOPIC, body(0))
            house.flusher.flush()  # in the same step, as the poller does after it has read from others
        await trio.sleep(1)
        assert len(house.ended_at) == 4
        nursery.cancel_scope.cancel()


async def that_a_client_listens_on() -> None:
    """A client hears of a reset at each receive, although the system tells it once."""
    pair = socket.socketpair()
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in pair)
    subscription = RemoteSubscription(ours, TOPIC, FramedClientSession(TOPIC, LIMITS))
    try:
        await ours.send_all(frame(TOPIC.encode()))
        theirs.socket.close()  # with something unread, which resets
        for _ in range(2):
            try:
                await subscription.receive()
            except trio.BrokenResourceError:
                continue
            raise AssertionError("the connection broke, and it was not said")
    finally:
        subscription.close()
        theirs.socket.close()


async def that_is_refused() -> None:
    """Whom a server turns away it closes, also if the stream was taken apart: one too many, one that is too late."""
    house = House(dataclasses.replace(LIMITS, connections_max=1))
    taken: list[TcpTransport] = []

    def take(stream: trio.SocketStream, limits: Limits, poller: Poller | None) -> TcpTransport:
        taken.append(TcpTransport(stream, limits, poller))
        house.sockets.append(taken[-1]._socket)
        if len(taken) == 3:
            server.begin_drain()
        return taken[-1]

    listener = Pairs(3)
    server = Server(house.broker, [listener])
    try:
        # The server takes streams of this family for general ones.
        with mock.patch("trio_broker.server.server.open_transport", take):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server._run, trio.TASK_STATUS_IGNORED)
                await trio.sleep(2.5)
                assert disturbed() or house.sockets[1].fileno() == -1, "it was refused and is open"
                await trio.sleep(1)
                assert disturbed() or house.sockets[2].fileno() == -1, "it came too late and is open"
                nursery.cancel_scope.cancel()
    finally:
        for stream in (*listener.theirs, *listener.ours):
            stream.socket.close()


SCENARIOS = (
    that_is_cancelled_as_messages_come,
    what_a_signal_raises_as_somebody_is_read,
    that_lingers,
    that_lingers_over_work,
    that_is_reset,
    that_a_client_listens_on,
    that_is_refused,
)
