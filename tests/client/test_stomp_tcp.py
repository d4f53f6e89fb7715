"""The STOMP client and our own server, over real sockets."""

from __future__ import annotations

import functools

import pytest
import trio
from trio.testing import assert_checkpoints, assert_no_checkpoints

from tests.client.moments import cancelled_after
from tests.server.house import numbered, open_tcp_house, until
from trio_broker import Broker, Limits, open_broker, serve
from trio_broker.client import BackOff, StompClient, connect, run_reconnecting
from trio_broker.errors import ServerRefused


async def test_a_job_and_its_result() -> None:
    """Headers, confirmation, and transactions: one that is given up and one that is not."""
    async with open_tcp_house() as house:
        async with (
            connect("127.0.0.1", house.server.port, protocol="stomp") as client,
            client.subscribe("/queue/jobs", ack="client-individual") as jobs,
            client.subscribe("/queue/results") as results,
        ):
            await client.publish("/queue/jobs", b"\0job", headers={"type": "a:b\n"}, confirm=True)
            job = await jobs.receive()
            assert (job.channel, job.body, job.headers["type"]) == ("/queue/jobs", b"\0job", "a:b\n")
            with pytest.raises(ZeroDivisionError):
                async with client.transaction() as transaction:
                    await transaction.publish("/queue/results", b"half a result")
                    transaction.ack(job)
                    raise ZeroDivisionError
            async with client.transaction() as transaction:
                await transaction.publish("/queue/results", b"result")
                transaction.ack(job)
            result = await results.receive()
            assert (result.channel, result.body) == ("/queue/results", b"result")
        async with house.broker.subscribe("/queue/jobs") as jobs_left, house.broker.subscribe("/queue/results") as left:
            for queue in (jobs_left, left):
                with pytest.raises(trio.WouldBlock):
                    queue.receive_nowait()


async def test_request_and_answer() -> None:
    async with open_tcp_house() as house, trio.open_nursery() as nursery:
        address = ("127.0.0.1", house.server.port)

        async def answer() -> None:
            async with connect(*address, protocol="stomp") as server, server.subscribe("/queue/ask") as asked:
                async for question in asked:
                    correlation = {"correlation-id": question.headers["correlation-id"]}
                    await server.publish(question.headers["reply-to"], b"re: " + question.body, headers=correlation)

        nursery.start_soon(answer)
        async with connect(*address, protocol="stomp") as client:
            for number in range(3):
                assert (await client.request("/queue/ask", b"%d" % number)).body == b"re: %d" % number
        nursery.cancel_scope.cancel()


def waits(broker: Broker, messages: int) -> bool:
    """Whether so many are in the backlog."""
    return broker.statistics().channels["/queue/x"].backlog_messages == messages


async def test_what_was_not_settled_goes_to_another_in_order_and_marked() -> None:
    """Left with some settled, some taken and some not taken."""
    bodies = numbered(20)
    async with open_tcp_house() as house:
        address = ("127.0.0.1", house.server.port)
        async with connect(*address, protocol="stomp") as first, connect(*address, protocol="stomp") as second:
            for body in bodies:
                await first.publish("/queue/x", body)
            for mode, left in (("client-individual", 18), ("client", 16)):
                async with first.subscribe("/queue/x", ack=mode) as jobs:
                    messages = [await jobs.receive() for _ in range(5)]
                    messages[1].ack()
                    if mode == "client-individual":
                        messages[0].ack()
                await until(functools.partial(waits, house.broker, left))
            async with second.subscribe("/queue/x", ack="client-individual") as jobs:
                for body in bodies[4:]:
                    async with (await jobs.receive()).process() as message:
                        assert (message.body, message.redelivered) == (body, True)
        await until(lambda: "/queue/x" not in house.broker.statistics().channels)


async def test_workers_that_fail_lose_nothing() -> None:
    """By an error, by a cancellation, by the end of the connection: each job is done in the end."""
    bodies = numbered(60)
    done: list[bytes] = []
    async with open_tcp_house(Limits(deliveries_max=1000)) as house:
        address = ("127.0.0.1", house.server.port)
        async with connect(*address, protocol="stomp") as client:
            for body in bodies:
                await client.publish("/queue/x", body, confirm=True)
        for attempt in range(100):
            with trio.CancelScope() as scope:
                try:
                    async with (
                        connect(*address, protocol="stomp") as client,
                        client.subscribe("/queue/x", ack="client-individual", prefetch_messages=9) as jobs,
                    ):
                        for number in range(4):
                            message = await jobs.receive()
                            async with message.process():
                                if number == 3 and attempt % 3 == 0:
                                    raise ZeroDivisionError
                                if number == 3 and attempt % 3 == 1:
                                    scope.cancel()
                                    await trio.sleep_forever()
                                done.append(message.body)
                            await client.publish("/topic/heard", b"", confirm=True)
                            if len(done) == len(bodies):
                                break
                except ZeroDivisionError:
                    pass
            if len(done) == len(bodies):
                break
    assert sorted(done) == sorted(bodies)


async def test_publishing_is_cancelled_at_every_moment_while_the_server_reads_slowly() -> None:
    """On a real socket, whose buffers are full: the server gets whole messages, each that was handed over, in order."""
    limits = Limits(mailbox_bytes_max=300_000)
    async with open_tcp_house() as house, house.broker.subscribe("/queue/x") as jobs:
        returned: list[bytes] = []
        async with connect("127.0.0.1", house.server.port, protocol="stomp", limits=limits) as client:
            for number in range(200):
                body = b"%d " % number + bytes(100_000)
                async with cancelled_after(number % 7):
                    await client.publish("/queue/x", body)
                    returned.append(body)
        assert returned
        assert [(await jobs.receive()).body for _ in returned] == returned
        with pytest.raises(trio.WouldBlock):
            jobs.receive_nowait()


async def test_what_the_server_refuses_is_told_with_its_words() -> None:
    async with open_tcp_house() as house, connect("127.0.0.1", house.server.port, protocol="stomp") as client:
        with pytest.raises(ServerRefused, match="a decimal number of milliseconds is required") as caught:
            await client.publish("/queue/x", b"", headers={"expiration": "soon"}, confirm=True)
        assert caught.value.message == "expiration is 'soon'"
        assert caught.value.receipt_id is not None


async def test_both_protocols_reach_each_other() -> None:
    async with open_tcp_house() as house:
        address = ("127.0.0.1", house.server.port)
        async with connect(*address, protocol="stomp") as stomp, connect(*address) as framed:
            async with stomp.subscribe("/topic/x") as by_stomp, framed.subscribe("/topic/x") as by_framed:
                await until(lambda: house.broker.statistics().channels["/topic/x"].subscriptions == 2)
                await framed.publish("/topic/x", b"from framed")
                assert (await by_stomp.receive()).body == (await by_framed.receive()).body == b"from framed"
                await stomp.publish("/topic/x", b"from stomp")
                assert (await by_stomp.receive()).body == (await by_framed.receive()).body == b"from stomp"


async def test_the_server_drains() -> None:
    async with open_tcp_house(Limits(linger_seconds_max=0.01)) as house:
        async with connect("127.0.0.1", house.server.port, protocol="stomp") as client:
            async with client.subscribe("/topic/x") as news:
                await house.broker.publish("/topic/x", b"the last")
                await house.server.drain()
                assert [message.body async for message in news] == [b"the last"]
            with pytest.raises(trio.BrokenResourceError, match="the server closed the connection"):
                await client.publish("/topic/x", b"anyone?")


async def test_work_goes_on_with_the_next_server() -> None:
    """Another server at the same address, while messages are on their way."""
    received: list[bytes] = []
    async with open_broker() as broker, trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(serve, broker, port=0))
        port = server.port

        async def work(client: StompClient) -> str:
            async with client.subscribe("/queue/x", ack="client-individual") as jobs:
                async for message in jobs:
                    async with message.process():
                        received.append(message.body)
                    if message.body == b"the end":
                        return "done"
            raise AssertionError("an end in order ended the loop")

        async def restart() -> None:
            nonlocal server
            await until(lambda: len(received) == 1)
            await server.drain()
            await broker.publish("/queue/x", b"two")
            await broker.publish("/queue/x", b"the end")
            server = await nursery.start(functools.partial(serve, broker, port=port))

        await broker.publish("/queue/x", b"one")
        with trio.fail_after(30):
            nursery.start_soon(restart)
            outcome = await run_reconnecting(
                work, "127.0.0.1", port, back_off=BackOff(first_seconds=0.01, longest_seconds=0.1)
            )
        assert outcome == "done"
        nursery.cancel_scope.cancel()
    assert list(dict.fromkeys(received)) == [b"one", b"two", b"the end"]


async def test_where_there_are_checkpoints() -> None:
    """Everything is one, but for leaving a subscription and what is synchronous."""
    async with open_tcp_house() as house:
        connecting = connect("127.0.0.1", house.server.port, protocol="stomp")
        with assert_checkpoints():
            client = await connecting.__aenter__()
        with assert_checkpoints():
            await client.publish("/topic/x", b"need not wait")
        subscribing = client.subscribe("/topic/x")
        with assert_checkpoints():
            await subscribing.__aenter__()
        with assert_no_checkpoints():
            await subscribing.__aexit__(None, None, None)
        leaving = client.transaction()
        with assert_checkpoints():
            await leaving.__aenter__()
        with assert_checkpoints():
            await leaving.__aexit__(None, None, None)
        with assert_checkpoints():
            await connecting.__aexit__(None, None, None)


async def test_the_largest_payload_goes_and_returns() -> None:
    body = bytes(range(256)) * 65_536
    async with open_tcp_house() as house, connect("127.0.0.1", house.server.port, protocol="stomp") as client:
        async with client.subscribe("/queue/x", ack="client-individual") as jobs:
            for payload in (b"", body[:-1]):
                await client.publish("/queue/x", payload, confirm=True)
                async with (await jobs.receive()).process() as message:
                    assert message.body == payload
