"""Listeners, the limit on connections, several servers, and what a cancellation leaves behind."""

import errno
import functools
import os
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import (
    Logs,
    Peer,
    frame,
    numbered,
    open_house,
    open_tcp_house,
    until,
)
from tests.server.streams import MemoryListener
from trio_broker import Limits, Server, open_broker, serve


async def test_port_of_a_server() -> None:
    async with open_tcp_house() as house:
        assert 0 < house.server.port < 65_536
        [listener] = house.server.listeners
        assert isinstance(listener, trio.SocketListener)
        assert listener.socket.getsockname() == ("127.0.0.1", house.server.port)


async def test_no_port_without_a_socket(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        with pytest.raises(ValueError, match="none of the listeners has a port"):
            _ = house.server.port


async def test_a_busy_port_is_an_os_error() -> None:
    async with open_tcp_house() as house:
        with pytest.raises(OSError, match="in use") as caught:
            await serve(house.broker, port=house.server.port)
        assert caught.value.errno == errno.EADDRINUSE
        async with trio.open_nursery() as nursery:
            with pytest.raises(OSError, match="in use"):
                await nursery.start(functools.partial(serve, house.broker, port=house.server.port))


async def test_all_addresses() -> None:
    async with open_broker() as broker, trio.open_nursery() as nursery:
        server: Server = await nursery.start(functools.partial(serve, broker, host=None, port=0))
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        peer = Peer(stream)
        await peer.send(frame(b"/topic/x"))
        await until(lambda: broker.statistics().subscriptions == 1)
        await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_more_connections_than_allowed(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house(Limits(connections_max=3)) as house:
        peers = [await house.subscribe("/topic/x") for _ in range(3)]
        for _ in range(2):
            await house.connect().is_ended()
        assert logs.reasons("refused") == ["connections_max (3) are open"] * 2
        assert house.server.connections == 3
        await house.broker.publish("/topic/x", b"untouched")
        for peer in peers:
            assert await peer.receive() == b"untouched"

        await peers[0].stream.aclose()  # the place is free again, for one
        await wait_all_tasks_blocked()
        newcomer = await house.subscribe("/topic/x")
        await house.connect().is_ended()
        await house.broker.publish("/topic/x", b"again")
        assert await newcomer.receive() == b"again"
        assert trio.current_time() == 0


async def test_the_silent_hold_their_places_for_a_bounded_time(autojump_clock: MockClock) -> None:
    async with open_house(Limits(connections_max=2, handshake_seconds_max=10)) as house:
        for _ in range(2):
            house.connect()
        await wait_all_tasks_blocked()
        await house.connect().is_ended()
        await trio.sleep(10)
        await wait_all_tasks_blocked()
        subscriber = await house.subscribe("/topic/x")
        await house.broker.publish("/topic/x", b"hello")
        assert await subscriber.receive() == b"hello"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_accept_survives_a_lack_of_descriptors(autojump_clock: MockClock, number: int) -> None:
    async with open_house() as house:
        for _ in range(3):
            house.listener.offer(OSError(number, os.strerror(number)))
        subscriber = house.connect()
        await subscriber.send(frame(b"/topic/x"))
        await trio.sleep(1)
        await house.broker.publish("/topic/x", b"hello")
        assert await subscriber.receive() == b"hello"


ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parents[2])}

SCARCE = """
import functools, resource, socket, trio, trio_broker

async def main():
    async with trio_broker.open_broker() as broker, trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(trio_broker.serve, broker, port=0))
        highest = max(int(name) for name in __import__("os").listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, highest + 20))
        greedy = []
        try:
            while True:
                greedy.append(socket.create_connection(("127.0.0.1", server.port)))
        except OSError as error:
            print("client:", error.errno)
        await trio.sleep(0.01)
        print("open:", server.connections < len(greedy))
        for sock in greedy:
            sock.close()
        async with trio_broker.connect("127.0.0.1", server.port) as client:
            async with client.subscribe("/topic/x") as news:
                while not broker.statistics().subscriptions:
                    await trio.sleep(0.001)
                await client.publish("/topic/x", b"hello")
                print((await news.receive()).body.decode())
        nursery.cancel_scope.cancel()

trio.run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_accept_survives_a_real_lack_of_descriptors() -> None:
    """Both ends are in one process, which runs out of descriptors while connections wait to be accepted."""
    done = await trio.run_process(
        [sys.executable, "-c", SCARCE], capture_stdout=True, capture_stderr=True, check=False, env=ENVIRONMENT
    )
    assert done.stdout.decode().splitlines() == [f"client: {errno.EMFILE}", "open: True", "hello"], done.stderr


async def test_several_servers_on_one_broker(autojump_clock: MockClock) -> None:
    """They share its channels; draining one leaves the other's connections alone."""
    async with open_house() as house, trio.open_nursery() as nursery:
        listener = MemoryListener()
        other: Server = await nursery.start(functools.partial(serve, house.broker, listeners=[listener]))
        here = await house.subscribe("/topic/x")
        there = Peer(listener.connect())
        await there.send(frame(b"/topic/x"))
        await wait_all_tasks_blocked()
        await here.publish("/topic/x", b"to both")
        assert await here.receive() == await there.receive() == b"to both"
        await other.drain()
        assert await there.receive() is None
        assert listener.closed
        await house.broker.publish("/topic/x", b"to one")
        assert await here.receive() == b"to one"
        assert house.server.connections == 1


async def test_several_listeners_of_one_server(autojump_clock: MockClock) -> None:
    listeners = [MemoryListener(), MemoryListener()]
    async with open_broker() as broker, trio.open_nursery() as nursery:
        server: Server = await nursery.start(functools.partial(serve, broker, listeners=listeners))
        peers = [Peer(listener.connect()) for listener in listeners]
        for peer in peers:
            await peer.send(frame(b"/topic/x"))
        await wait_all_tasks_blocked()
        assert server.connections == 2
        await broker.publish("/topic/x", b"hello")
        assert [await peer.receive() for peer in peers] == [b"hello"] * 2
        await server.drain()
    assert all(listener.closed for listener in listeners)


async def test_cancelling_serve_leaves_nothing_open_and_work_in_its_queues(autojump_clock: MockClock) -> None:
    """All of it before `trio.Cancelled` leaves, and in no time, whatever the peers do."""
    bodies = numbered(60, 30_000)
    listener = MemoryListener(buffer_bytes=100)
    async with open_broker() as broker:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                serving = functools.partial(serve, broker, listeners=[listener])
                server: Server = await nursery.start(serving)
                for number in range(3):  # stuck consumers, idle ones of a topic, and one that has not said anything
                    await Peer(listener.connect()).send(frame(b"/queue/x"))
                    await Peer(listener.connect()).send(frame(b"/topic/%d" % number))
                    listener.connect()
                await wait_all_tasks_blocked()
                for body in bodies:
                    await broker.publish("/queue/x", body)
                await wait_all_tasks_blocked()
                assert server.connections == 9
                scope.cancel()
        assert scope.cancelled_caught
        assert trio.current_time() == 0
        assert server.connections == 0
        assert listener.closed
        assert all(stream.closed for stream in listener.accepted)
        statistics = broker.statistics()
        assert statistics.subscriptions == 0
        assert list(statistics.channels) == ["/queue/x"]
        async with broker.subscribe("/queue/x") as jobs:
            assert [(await jobs.receive()).body for _ in bodies] == bodies
        assert broker.memory.cost == 0


async def test_cancelled_while_publishers_wait(autojump_clock: MockClock) -> None:
    """What waited for its channel was not accepted."""
    listener = MemoryListener()
    async with open_broker(Limits(backlog_bytes_max=1000)) as broker:
        broker.publish_nowait("/queue/x", bytes(2000))
        async with trio.open_nursery() as nursery:
            await nursery.start(functools.partial(serve, broker, listeners=[listener]))
            sender = Peer(listener.connect())
            await sender.send(frame(b"/null"))
            await sender.publish("/queue/x", b"waits")
            await wait_all_tasks_blocked()
            assert broker.statistics().channels["/queue/x"].publishers_waiting == 1
            nursery.cancel_scope.cancel()
        assert broker.statistics().published == 1
        assert broker.statistics().channels["/queue/x"].publishers_waiting == 0


async def test_a_server_can_be_cancelled_before_it_has_begun(autojump_clock: MockClock) -> None:
    listener = MemoryListener()
    async with open_broker() as broker:
        with trio.CancelScope() as scope:
            scope.cancel()
            await serve(broker, listeners=[listener])
        assert scope.cancelled_caught
        assert listener.closed


async def test_the_broker_ends_before_its_server(autojump_clock: MockClock) -> None:
    """Subscribers get what is in their mailboxes and then the end; nobody waits for a broker that is no more."""
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:
        async with open_broker() as broker:
            serving = functools.partial(serve, broker, listeners=[listener])  # noqa: ASYNC111  which is the point
            server: Server = await nursery.start(serving)
            subscriber = Peer(listener.connect())
            await subscriber.send(frame(b"/topic/x"))
            await wait_all_tasks_blocked()
            broker.publish_nowait("/topic/x", b"last")
        assert await subscriber.receive_all() == [b"last"]
        await wait_all_tasks_blocked()
        assert server.connections == 0
        nursery.cancel_scope.cancel()


async def test_unread_input_at_the_end_does_not_reset_who_sent_it(logs: Logs) -> None:
    """A peer that broke the protocol and keeps sending still gets what the server had to say, and a clean end."""
    async with open_tcp_house() as house, trio.open_nursery() as nursery:
        peer = await house.connect()
        await peer.send(b"GET / HTTP/1.1\r\n")

        async def keep_sending() -> None:
            for _ in range(50):
                await peer.send(bytes(10_000))
            assert isinstance(peer.stream, trio.SocketStream)
            await peer.stream.send_eof()

        nursery.start_soon(keep_sending)
        assert (await peer.read_to_end()).startswith(b"HTTP/1.1 400")
        await until(lambda: house.server.connections == 0)
        assert len(logs.reasons("refused")) == 1
