"""Connecting and publishing over the network: whole frames or nothing, in order, with back-pressure."""

import contextlib

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.moments import cancelled_after
from tests.client.network import Network, bodies_in
from tests.server.house import cut_frames, numbered, open_tcp_house, until
from tests.server.streams import MemoryStream
from trio_broker import BrokerError, InvalidChannel, Limits, MessageTooLarge
from trio_broker.client.framed import connect


async def drink(stream: MemoryStream, *, at_a_time: int = 65_536) -> bytes:
    """Read all that comes, up to the end of the stream."""
    data = bytearray()
    while chunk := await stream.receive_some(at_a_time):
        data += chunk
    return bytes(data)


# -- against a real server --------------------------------------------------------------------------------------------


async def test_publish_and_subscribe_over_tcp() -> None:
    async with open_tcp_house() as house, connect("127.0.0.1", house.server.port) as client:
        async with client.subscribe("/topic/x") as news, client.subscribe("/queue/x") as jobs:
            await until(lambda: house.broker.statistics().subscriptions == 2)
            await client.publish("/topic/x", b"hello")
            await client.publish("/queue/x", b"")
            assert (await news.receive()).body == b"hello"
            message = await jobs.receive()
            assert (message.channel, message.body) == ("/queue/x", b"")
        await until(lambda: house.broker.statistics().subscriptions == 0)


async def test_everything_arrives_that_was_handed_over_before_leaving() -> None:
    bodies = numbered(500, 10_000)
    async with open_tcp_house() as house, house.broker.subscribe("/queue/x") as jobs:
        async with connect("127.0.0.1", house.server.port) as client:
            for body in bodies:
                await client.publish("/queue/x", body)
        assert [(await jobs.receive()).body for _ in bodies] == bodies


async def test_the_largest_payload_goes_and_returns() -> None:
    body = bytes(range(256)) * 65_536
    async with open_tcp_house() as house, connect("127.0.0.1", house.server.port) as client:
        async with client.subscribe("/topic/x") as news:
            await until(lambda: house.broker.statistics().subscriptions == 1)
            await client.publish("/topic/x", body[:-1])
            assert (await news.receive()).body == body[:-1]


async def test_the_addresses_are_those_that_the_broker_sees() -> None:
    async with open_tcp_house() as house, connect("127.0.0.1", house.server.port) as client:
        assert client.local_address[0] == "127.0.0.1"
        async with client.subscribe("/topic/x") as news:
            assert news.local_address != client.local_address


async def test_nobody_there() -> None:
    async with open_tcp_house() as house:
        port = house.server.port
    with pytest.raises(OSError, match=r"refused|connect"):
        async with connect("127.0.0.1", port):
            pass


async def test_the_broker_drains() -> None:
    async with open_tcp_house(Limits(linger_seconds_max=0.01)) as house:
        with pytest.raises(trio.BrokenResourceError, match="the broker closed the connection"):
            async with connect("127.0.0.1", house.server.port) as client:
                await until(lambda: house.server.connections == 1)
                await house.server.drain()
                while True:
                    await client.publish("/topic/x", b"anyone?")


# -- what is refused before it is handed over -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "body", "error"),
    [
        ("", b"", InvalidChannel),
        ("/" + "x" * 255, b"", InvalidChannel),
        ("/\ud800", b"", InvalidChannel),
        ("/topic/x", bytes(1001), MessageTooLarge),
    ],
    ids=["empty name", "over-long name", "not UTF-8", "payload too large"],
)
async def test_refused_and_nothing_is_sent(
    autojump_clock: MockClock, network: Network, channel: str, body: bytes, error: type[BrokerError]
) -> None:
    async with connect(limits=Limits(frame_bytes_max=1000)) as client:
        with pytest.raises(error):
            await client.publish(channel, body)
        await client.publish("/topic/x", bytes(1000))
    assert bodies_in(await drink(network.reached[0]), b"/topic/x") == [bytes(1000)]


# -- atomic under cancellation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("write_bytes_max", [1, 5, 1000])
@pytest.mark.parametrize("mailbox_bytes_max", [1, 200, 100_000])
async def test_cancelled_at_every_moment(
    autojump_clock: MockClock, network: Network, write_bytes_max: int, mailbox_bytes_max: int
) -> None:
    """A publish that raised `Cancelled` was not sent, one that returned was; nothing is ever sent in part."""
    network.buffer_bytes, network.write_bytes_max = 30, write_bytes_max
    limits = Limits(mailbox_bytes_max=mailbox_bytes_max, farewell_seconds_max=1000)
    cancelled = 0
    for moment in range(40):
        returned: list[bytes] = []
        received = bytearray()

        async with trio.open_nursery() as nursery:
            async with connect(limits=limits) as client:
                reached = network.reached[-1]

                async def read_slowly(reached: MemoryStream = reached, received: bytearray = received) -> None:
                    while data := await reached.receive_some(7):
                        received += data
                        await trio.sleep(0.001)

                nursery.start_soon(read_slowly)
                for number in range(6):
                    body = b"%d." % number * 10
                    async with cancelled_after(moment if number % 2 else None) as scope:
                        if number == 5 and not moment:
                            scope.cancel()
                        await client.publish("/topic/x", body)
                        returned.append(body)
                    cancelled += scope.cancelled_caught
        assert bodies_in(bytes(received), b"/topic/x") == returned
    assert cancelled


async def test_cancelled_in_line(autojump_clock: MockClock, network: Network) -> None:
    """Publishers that wait for room keep their order; one that is cancelled leaves the line, and nothing else."""
    network.buffer_bytes = 10
    async with connect(limits=Limits(mailbox_bytes_max=1)) as client, trio.open_nursery() as nursery:
        scopes: list[trio.CancelScope] = []

        async def publish(body: bytes) -> None:
            with trio.CancelScope() as scope:
                scopes.append(scope)
                await client.publish("/topic/x", body)

        for number in range(5):
            nursery.start_soon(publish, b"%d" % number)
            await wait_all_tasks_blocked()
        scopes[1].cancel()  # the head
        scopes[3].cancel()
        await wait_all_tasks_blocked()
        data = b""
        while len(cut_frames(data)[0]) < 7:
            data += await network.reached[0].receive_some(10)
        assert bodies_in(data, b"/topic/x") == [b"0", b"2", b"4"]


async def test_cancelled_while_the_broker_reads_slowly_over_tcp() -> None:
    """On a real socket, whose buffers are full: the server gets whole messages, each that was handed over, in order."""
    limits = Limits(mailbox_bytes_max=300_000)
    async with open_tcp_house() as house, house.broker.subscribe("/queue/x") as jobs:
        returned: list[bytes] = []
        async with connect("127.0.0.1", house.server.port, limits=limits) as client:
            for number in range(200):
                body = b"%d " % number + bytes(100_000)
                async with cancelled_after(number % 7):
                    await client.publish("/queue/x", body)
                    returned.append(body)
        assert returned
        assert [(await jobs.receive()).body for _ in returned] == returned
        await until(lambda: house.server.connections == 0)
        with pytest.raises(trio.WouldBlock):
            jobs.receive_nowait()


async def test_connecting_is_cancelled_at_every_moment(autojump_clock: MockClock, network: Network) -> None:
    """Whatever was opened is closed."""
    for moment in range(20):
        async with cancelled_after(moment) as scope, connect() as client, client.subscribe("/topic/x"):
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert all(stream.closed for stream in network.ours)


# -- back-pressure ----------------------------------------------------------------------------------------------------


async def test_a_broker_that_does_not_read_makes_publishers_wait(autojump_clock: MockClock, network: Network) -> None:
    network.buffer_bytes = 500
    handed_over = 0
    with contextlib.suppress(trio.BrokenResourceError):  # on leaving: nobody reads the rest
        async with connect(limits=Limits(mailbox_bytes_max=10_000)) as client, trio.open_nursery() as nursery:

            async def flood() -> None:
                nonlocal handed_over
                for _ in range(100):
                    await client.publish("/topic/x", bytes(936))  # 1000 with its overhead
                    handed_over += 1

            nursery.start_soon(flood)
            await trio.sleep(1000)
            assert handed_over == 10
            count = 0
            while handed_over < 100:
                count += len(await network.reached[0].receive_some(500))
                await wait_all_tasks_blocked()
                assert handed_over * 1000 <= 10_000 + 1.1 * count + 1000
    assert handed_over == 100


async def test_one_large_message_always_gets_through(autojump_clock: MockClock, network: Network) -> None:
    async with trio.open_nursery() as nursery:
        received: list[bytes] = []

        async def read() -> None:
            received.extend(bodies_in(await drink(network.reached[0]), b"/topic/x"))

        async with connect(limits=Limits(mailbox_bytes_max=10)) as client:
            nursery.start_soon(read)
            await client.publish("/topic/x", bytes(500_000))
            await client.publish("/topic/x", b"next")
    assert received == [bytes(500_000), b"next"]
