"""What a message brings from one peer to another, whichever protocols they speak; private queues; expiry."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import Logs, frame, open_house, open_tcp_house
from tests.server.stomp_house import StompPeer, join, join_tcp, send, stomp, subscribe, subscriber
from trio_broker import Limits

BODIES = [
    pytest.param(b"", id="empty"),
    pytest.param(bytes(range(256)), id="every byte value"),
    pytest.param(b"\0" * 100, id="NULs"),
    pytest.param(stomp("MESSAGE", "content-length:0"), id="looks like a frame"),
    pytest.param(bytes(range(256)) * 20_000, id="5 MB"),
]


# -- between protocols -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("channel", ["/topic/x", "/queue/x"])
async def test_stomp_to_framed(autojump_clock: MockClock, channel: str, body: bytes) -> None:
    async with open_house() as house, trio.open_nursery() as nursery:
        framed, sender = await house.subscribe(channel), await join(house)
        nursery.start_soon(sender.send, send(channel, "type:x", body=body), send(channel, body=b"next"))
        assert await framed.receive() == body
        assert await framed.receive() == b"next"


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("channel", ["/topic/x", "/queue/x"])
async def test_framed_to_stomp(autojump_clock: MockClock, channel: str, body: bytes) -> None:
    async with open_house() as house, trio.open_nursery() as nursery:
        peer, sender = await subscriber(house, channel), await house.sender()
        nursery.start_soon(sender.publish, channel, body, b"next")
        message = await peer.message()
        assert message.body == body
        assert set(message.headers) == {"subscription", "destination", "content-length", "message-id"}
        assert message["destination"] == channel
        assert (await peer.message()).body == b"next"


@pytest.mark.parametrize("mode", ["auto", "client"])
async def test_a_topic_of_both(autojump_clock: MockClock, mode: str) -> None:
    """One batch that brings messages of both origins to subscribers of both protocols."""
    async with open_house() as house:
        framed = await house.subscribe("/topic/x")
        peers = [await subscriber(house, "/topic/x", f"ack:{mode}", version=name) for name in ("1.0", "1.1", "1.2")]
        sender, stomp_sender = await house.sender(), await join(house)
        for number in range(20):
            await sender.publish("/topic/x", b"framed %d" % number)
            await stomp_sender.send(send("/topic/x", f"number:{number}", body=b"stomp %d" % number))
            await wait_all_tasks_blocked()
        expected = [b"%s %d" % (name, number) for number in range(20) for name in (b"framed", b"stomp")]
        assert [await framed.receive() for _ in expected] == expected
        for peer in peers:
            messages = [await peer.message() for _ in expected]
            assert [message.body for message in messages] == expected
            assert [message.headers.get("number") for message in messages[1::2]] == [str(n) for n in range(20)]
            assert len({message["message-id"] for message in messages}) == 40


async def test_a_queue_of_both(autojump_clock: MockClock) -> None:
    """A framed peer and one of STOMP share the work, and what the one leaves undone the other gets."""
    async with open_house() as house:
        framed = await house.subscribe("/queue/x")
        peer = await subscriber(house, "/queue/x", "ack:client-individual")
        sender = await join(house)
        await sender.send(*(send("/queue/x", "type:t", body=b"%d" % number) for number in range(4)))
        assert [await framed.receive() for _ in range(2)] == [b"0", b"2"]
        assert [(await peer.message()).body for _ in range(2)] == [b"1", b"3"]
        await peer.memory_stream.aclose()
        assert [await framed.receive() for _ in range(2)] == [b"1", b"3"]


async def test_headers_pass_and_those_of_the_protocol_do_not(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        peer, sender = await subscriber(house, "/queue/x"), await join(house)
        own = {"type": "order", "correlation-id": "7", "persistent": "true", "ключ": "значение", "a:b": "line\nline"}
        lines = [
            "type:order", "correlation-id:7", "persistent:true", "ключ:значение", r"a\cb:line\nline",
            "type:second of the same name",
            "receipt:r", "message-id:forged", "subscription:forged", "ack:forged", "redelivered:true",
        ]  # fmt: skip
        await sender.send(send("/queue/x", *lines))
        message = await peer.message()
        assert own.items() <= message.headers.items()
        assert (message["subscription"], message["message-id"]) == ("s", "1")
        assert not {"receipt", "ack", "redelivered"} & message.headers.keys()


async def test_headers_between_programs_and_peers(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/x")
        await house.broker.publish("/queue/x", b"hello", headers={"type": "t"})
        assert (await peer.message())["type"] == "t"
        async with house.broker.subscribe("/queue/y") as queue:
            await peer.send(send("y", "type:t"))
            message = await queue.receive()
            assert (message.channel, dict(message.headers)) == ("/queue/y", {"type": "t"})


# -- private queues ----------------------------------------------------------------------------------------------------


async def ask(peer: StompPeer, body: bytes, name: str = "answers") -> None:
    await peer.send(send("/queue/service", f"reply-to:/temp-queue/{name}", "correlation-id:7", body=body))


async def test_request_and_reply(autojump_clock: MockClock) -> None:
    """The service sees an opaque name; the answer comes to the connection that asked, under the name that it chose."""
    async with open_house() as house:
        service = await subscriber(house, "/queue/service")
        clients = [await join(house) for _ in range(2)]
        for index, client in enumerate(clients):
            await ask(client, b"question %d" % index)
        for _ in range(2):
            question = await service.message()
            reply_to = question["reply-to"]
            assert reply_to.startswith("/queue/temporary/")
            await service.send(send(reply_to, "correlation-id:7", body=b"answer to " + question.body))
        for index, client in enumerate(clients):
            answer = await client.message()
            assert answer.body == b"answer to question %d" % index
            assert (answer["subscription"], answer["destination"]) == ("/temp-queue/answers",) * 2
            assert answer["correlation-id"] == "7"
            assert "ack" not in answer.headers


async def test_a_private_queue_is_made_once_and_each_name_has_its_own(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        service, client = await subscriber(house, "/queue/service"), await join(house)
        for name in ("a", "a", "b"):
            await ask(client, b"", name)
        names = [(await service.message())["reply-to"] for _ in range(3)]
        assert names[0] == names[1] != names[2]


async def test_a_private_queue_is_private(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house() as house:
        service, client = await subscriber(house, "/queue/service"), await join(house)
        await ask(client, b"")
        reply_to = (await service.message())["reply-to"]
        await service.send(subscribe("t", reply_to))
        assert "only the connection that a temporary queue was made for" in (await service.error()).body.decode()


@pytest.mark.parametrize("way", ["DISCONNECT", "closed", "reset", "ERROR"])
async def test_a_private_queue_ends_with_its_connection(autojump_clock: MockClock, logs: Logs, way: str) -> None:
    """An answer that comes too late reaches nobody, is counted, and holds nothing."""
    async with open_house() as house:
        service, client = await subscriber(house, "/queue/service"), await join(house)
        await ask(client, b"")
        reply_to = (await service.message())["reply-to"]
        match way:
            case "DISCONNECT" | "ERROR":
                await client.send(stomp(way))
                await client.receive_all()
            case "closed":
                await client.memory_stream.aclose()
            case _:
                client.memory_stream.reset()
        await wait_all_tasks_blocked()
        assert reply_to not in house.broker.statistics().channels
        await service.send(send(reply_to, "receipt:r"))
        await service.receipt("r")
        assert house.broker.statistics().unrouted == 1
        assert reply_to not in house.broker.statistics().channels


async def test_private_queues_are_bounded(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house(Limits(subscriptions_max=3)) as house:
        client = await join(house)
        for number in range(4):
            await ask(client, b"", str(number))
        assert (await client.error()).body == b"the limit subscriptions_max (3) is reached"
        assert house.backlog("/queue/service") == 3


async def test_a_request_in_a_transaction(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        service, client = await subscriber(house, "/queue/service"), await join(house)
        question = send("/queue/service", "reply-to:/temp-queue/a", "transaction:t", "expiration:60000")
        await client.send(stomp("BEGIN", "transaction:t"), question, stomp("COMMIT", "transaction:t"))
        await service.send(send((await service.message())["reply-to"], body=b"answer"))
        assert (await client.message()).body == b"answer"


# -- expiry ------------------------------------------------------------------------------------------------------------


async def test_what_expires_in_a_queue_is_not_delivered(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        sender = await join(house)
        await sender.send(
            send("/queue/a", "expiration:5000", body=b"short"),
            send("/queue/a", body=b"for ever"),
            send("/queue/a", "expiration:50000", body=b"long"),
        )
        await trio.sleep(10)
        peer = await subscriber(house, "/queue/a")
        assert (await peer.message()).body == b"for ever"
        message = await peer.message()
        assert (message.body, message["expiration"]) == (b"long", "50000")
        await peer.is_silent()
        assert house.broker.statistics().expired == 1


async def test_what_expires_while_it_is_unsettled(autojump_clock: MockClock) -> None:
    """Its late acknowledgement is no mistake; and when it comes back nobody is given it again."""
    async with open_house() as house:
        peer, sender = await subscriber(house, "/queue/a", "ack:client-individual"), await join(house)
        await sender.send(
            send("/queue/a", "expiration:5000", body=b"1"), send("/queue/a", "expiration:5000", body=b"2")
        )
        first, second = await peer.message(), await peer.message()
        await trio.sleep(10)
        await peer.send(stomp("ACK", f"id:{first['ack']}"), stomp("NACK", f"id:{second['ack']}", "receipt:r"))
        await peer.receipt("r")
        await peer.is_silent()
        statistics = house.broker.statistics()
        assert (statistics.delivered, statistics.expired) == (1, 1)
        assert "/queue/a" not in statistics.channels or house.backlog("/queue/a") == 0


async def test_what_expires_while_its_publisher_waits(autojump_clock: MockClock) -> None:
    """Its time begins when it is read. One that waited for longer is accepted, and of no use any more."""
    async with open_house(Limits(backlog_bytes_max=1000)) as house:
        await house.broker.publish("/queue/a", bytes(2000))
        sender = await join(house)
        await sender.send(send("/queue/a", "expiration:5000", "receipt:r"), send("/queue/a", body=b"next"))
        await trio.sleep(30)
        async with house.broker.subscribe("/queue/a") as queue:
            await queue.receive()
            await sender.receipt("r")
            assert (await queue.receive()).body == b"next"
        assert house.broker.statistics().expired == 1


# -- over TCP ----------------------------------------------------------------------------------------------------------


async def test_both_protocols_on_one_port() -> None:
    body = bytes(range(256)) * 40_000
    async with open_tcp_house() as house, trio.open_nursery() as nursery:
        framed = await house.subscribe("/topic/x")
        peer = await join_tcp(house)
        await peer.send(subscribe("s", "/topic/x", "receipt:1"))
        await peer.receipt("1")
        sender = await house.connect()
        await sender.send(frame(b"/null"))
        nursery.start_soon(sender.publish, "/topic/x", body)
        assert (await peer.message()).body == body
        assert await framed.receive() == body
        nursery.start_soon(peer.send, send("/topic/x", "type:t", body=body[1:]))
        message = await peer.message()
        assert (message.body, message["type"]) == (body[1:], "t")
        assert await framed.receive() == body[1:]
