"""Scenarios for the STOMP client and our own server: publishing, subscriptions and requests."""

from __future__ import annotations

import dataclasses
from contextlib import suppress

import trio

from tests.scenarios.house import OTHER_QUEUE, PATIENCE, QUEUE, TOPIC, patience
from tests.scenarios.stomp_client_house import ClientHouse, perhaps_over
from tests.scenarios.stomp_house import EACH, LIMITS, TOGETHER
from trio_broker import Message
from trio_broker.client import StompClient, StompSubscription
from trio_broker.explorer import disturbed

__all__ = ["SCENARIOS"]


class Planned(Exception):
    """What a block raises."""


def now() -> float:
    return trio.current_time()


async def publish_and_subscribe() -> None:
    """One client publishes, with and without confirmation; two tasks of another share a subscription."""
    house = ClientHouse()
    done: list[bytes] = []

    async def work(client: StompClient, subscription: StompSubscription, count: int) -> None:
        with perhaps_over(), patience():
            done.extend(await house.work(client, subscription, count, seconds=1))

    async def consume() -> None:
        with perhaps_over(), patience():
            async with (
                house.client() as client,
                client.subscribe(QUEUE, ack=EACH, prefetch_messages=2) as subscription,
                trio.open_nursery() as workers,
            ):
                workers.start_soon(work, client, subscription, 1)
                workers.start_soon(work, client, subscription, 1)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        nursery.start_soon(consume)
        with perhaps_over(), patience():
            async with house.client() as client:
                await house.send(client, QUEUE, b"p 0 ", confirm=True)
                await house.send(client, QUEUE, b"p 1 ")
        await trio.sleep(5)
        assert disturbed() or sorted(done) == [b"p 0 ", b"p 1 "]
        assert disturbed() or not house.broker.statistics().channels
        nursery.cancel_scope.cancel()


async def permits() -> None:
    """Room is reserved: a publisher waits for it until the permit is released, or used, which may be confirmed later.
    Nothing is kept by a call that is cancelled, whoever else waits then."""
    house = ClientHouse(dataclasses.replace(LIMITS, mailbox_bytes_max=400))
    times: list[float] = []

    async def publish(client: StompClient, body: bytes, channel: str = QUEUE) -> None:
        with perhaps_over(), patience():
            await house.send(client, channel, body)
            times.append(now())

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_over(), patience():
            async with house.client() as client, trio.open_nursery() as publishers:
                began = now()
                with trio.CancelScope():
                    async with house.reserve(client, 500):
                        pass
                async with house.reserve(client, 500):
                    publishers.start_soon(publish, client, b"p 0 ")
                    publishers.start_soon(publish, client, b"a 0 ")
                    await trio.sleep(2)
                    assert disturbed() or not times
                with trio.CancelScope():
                    async with house.reserve(client, 500) as permit:
                        receipt = permit.send(QUEUE, b"b 0 ")
                        publishers.start_soon(publish, client, b"c 0 ", OTHER_QUEUE)
                        await trio.sleep(1)
                        with trio.CancelScope():
                            await receipt.confirmed()
                            house.note_confirmed(client, b"b 0 ")
                        with trio.CancelScope():
                            await receipt.confirmed()
                            house.note_confirmed(client, b"b 0 ")
                assert disturbed() or times == [began + 2, began + 2, began + 2], times
        nursery.cancel_scope.cancel()


async def several_subscriptions() -> None:
    """One client has two, each of another mode, and gets its own messages; a cumulative acknowledgement."""
    house = ClientHouse()
    house.copies = True
    house.exact = False
    heard: list[bytes] = []

    async def follow(subscription: StompSubscription) -> None:
        with suppress(trio.ClosedResourceError), perhaps_over():
            async for message in subscription:
                heard.append(message.body)  # noqa: PERF401 -- what was heard before the end counts, too

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_over(), patience():
            async with (
                house.client() as client,
                client.subscribe(OTHER_QUEUE, ack=TOGETHER) as series,
                client.subscribe(TOPIC) as news,
            ):
                nursery.start_soon(follow, news)
                await house.send(client, TOPIC, b"a 0 ")
                await house.send(client, OTHER_QUEUE, b"q 0 ", b"q 1 ")
                first = await house.take(series)
                second = await house.take(series)
                house.settle(client, first, second)
                second.ack()
                assert disturbed() or heard == [b"a 0 "]
        await trio.sleep(1)
        assert not disturbed() or house.server is None or len(nursery.child_tasks) <= 1, "somebody waits for a client"
        assert disturbed() or not house.broker.statistics().channels
        nursery.cancel_scope.cancel()


async def work_that_fails() -> None:
    """By an error or a cancellation: it is back in its queue, and comes again, marked as such. What a subscription
    leaves comes to the next, on the same connection."""
    house = ClientHouse()
    seen: list[Message] = []
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_over(), patience():
            house.publish(QUEUE, b"p 0 ", b"p 1 ")
            async with house.client() as client:
                async with client.subscribe(QUEUE, ack=EACH, prefetch_messages=2) as jobs:
                    seen.append(await house.take(jobs))
                    with suppress(Planned):
                        async with seen[-1].process():
                            raise Planned
                    seen.append(await house.take(jobs))
                    with trio.move_on_after(2):
                        await house.deal_with(client, seen[-1], seconds=3)
                    await house.take(jobs)
                    await trio.sleep(1)
                async with client.subscribe(QUEUE, ack=EACH) as jobs:
                    for _ in range(2):
                        with trio.move_on_after(10):
                            seen.append(await house.take(jobs))
                            await house.deal_with(client, seen[-1])
                    await house.send(client, OTHER_QUEUE, b"b 0 ", confirm=True)
        assert disturbed() or [message.redelivered for message in seen] == [False, False, True, True]
        assert disturbed() or {message.body for message in seen[2:]} == {b"p 0 ", b"p 1 "}
        nursery.cancel_scope.cancel()


async def entering_that_is_cancelled() -> None:
    """There is no subscription then, nor a transaction: the next one gets what is there."""
    house = ClientHouse()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_over(), patience(3 * PATIENCE):
            house.publish(QUEUE, b"p 0 ")
            async with house.client() as client:
                done: list[bytes] = []
                retried = False
                for _ in range(2):
                    end = now() + PATIENCE
                    with trio.move_on_at(end) as scope:
                        async with client.subscribe(QUEUE, ack=EACH) as jobs:
                            if not done:
                                done += await house.work(client, jobs, 1)
                    retried = retried or (scope.cancelled_caught and now() < end)
                    assert not client._link.inboxes, "a subscription was left behind"
                await trio.sleep(1)
                # If this very scope was cancelled nothing else was disturbed.
                if retried or not disturbed():
                    assert done == [b"p 0 "], done
                    assert not house.broker.statistics().channels, "the server still has a subscription"
                    assert not client._link._receipts, "a confirmation is awaited that nobody asked for"
        nursery.cancel_scope.cancel()


async def a_receive_that_is_cancelled() -> None:
    """It has taken nothing: who receives next, here the same task again, has all messages."""
    house = ClientHouse()
    house.reliable = False
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_over(), patience(3 * PATIENCE):
            async with house.client() as client, client.subscribe(TOPIC) as subscription:
                await trio.sleep(1)
                bodies = [b"p %d " % number for number in range(2)]
                house.copies = True
                for body in bodies:
                    house.broker.publish_nowait(TOPIC, body)
                received: list[bytes] = []
                retried = False
                for _ in range(2):
                    end = now() + PATIENCE
                    with trio.move_on_at(end) as scope:
                        while len(received) < 2:
                            received.append((await subscription.receive()).body)
                    retried = retried or (scope.cancelled_caught and now() < end)
                # If this very scope was cancelled nothing else was disturbed.
                assert received == bodies or (disturbed() and not retried), received
        nursery.cancel_scope.cancel()


async def requests() -> None:
    """One is answered; one is given up before its answer comes, which is thrown away; the next gets its own."""
    house = ClientHouse()
    house.exact = False
    answers: list[bytes] = []

    async def answer() -> None:
        with perhaps_over(), patience():
            async with house.client() as client, client.subscribe(QUEUE, ack=EACH) as asked:
                for seconds in (0, 3, 0):
                    request = await house.take(asked)
                    async with request.process():
                        await trio.sleep(seconds)
                        number = request.headers["correlation-id"]
                        answer = b"re " + request.body
                        await client.publish(request.headers["reply-to"], answer, headers={"correlation-id": number})
                        house.settle(client, request)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        nursery.start_soon(answer)
        await trio.sleep(1)
        with perhaps_over(), patience():
            async with house.client() as client:
                for number, seconds in enumerate((50, 1, 50)):
                    body = b"p %d " % number
                    with trio.move_on_after(seconds):
                        answer_to_it = (await client.request(QUEUE, body)).body
                        assert answer_to_it == b"re " + body, "the answer to another request"
                        answers.append(answer_to_it)
                        house.accepted.add(body)
                    assert not client._replies or not client._replies._expected, "it waits for an answer nobody wants"
        assert disturbed() or answers == [b"re p 0 ", b"re p 2 "]
        nursery.cancel_scope.cancel()


async def a_subscription_that_is_not_received_from() -> None:
    """When too much waits in it nothing more is read, so a confirmation waits, too; then it is received from."""
    house = ClientHouse(dataclasses.replace(LIMITS, mailbox_bytes_max=400, stall_seconds_max=50))
    house.copies = True
    house.exact = False
    done: list[float] = []

    async def publish(client: StompClient) -> None:
        with perhaps_over(), patience():
            await trio.sleep(1)
            await house.send(client, QUEUE, b"p 0 ", confirm=True)
            done.append(now())

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_over(), patience():
            async with house.client() as client, client.subscribe(TOPIC) as news, trio.open_nursery() as publishing:
                began = now()
                for number in range(2):
                    await house.broker.publish(TOPIC, b"a %d " % number + b"." * 150)
                    await trio.sleep(0.5)
                publishing.start_soon(publish, client)
                await trio.sleep(2)
                assert disturbed() or not done
                await news.receive()
                await news.receive()
                await news.aclose()
                with suppress(trio.ClosedResourceError):
                    await news.receive()
                    raise AssertionError("it was closed")
                await trio.sleep(1)
                assert disturbed() or done == [began + 3]
        nursery.cancel_scope.cancel()


SCENARIOS = (
    publish_and_subscribe,
    permits,
    several_subscriptions,
    work_that_fails,
    entering_that_is_cancelled,
    a_receive_that_is_cancelled,
    requests,
    a_subscription_that_is_not_received_from,
)
