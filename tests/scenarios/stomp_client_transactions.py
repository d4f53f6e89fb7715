"""Scenarios for the STOMP client and our own server: transactions, alone and around a subscription."""

from __future__ import annotations

from contextlib import suppress

import trio

from tests.scenarios.house import OTHER_QUEUE, QUEUE, patience
from tests.scenarios.stomp_client_house import OVER, ClientHouse, perhaps_over
from tests.scenarios.stomp_house import EACH, TOGETHER
from tests.scenarios.stomp_house import Transaction as Bound
from trio_broker import Message
from trio_broker.client import StompClient, Transaction
from trio_broker.explorer import disturbed

__all__ = ["SCENARIOS"]


class Planned(Exception):
    """What a block raises."""


async def transactions() -> None:
    """One is committed; one is given up because of an error and settles nothing; one is cancelled."""
    house = ClientHouse()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_over(), patience():
            house.publish(QUEUE, b"p 0 ", b"p 1 ")
            async with house.client() as client, client.subscribe(QUEUE, ack=EACH) as jobs:
                first, second = await house.take(jobs), await house.take(jobs)
                await _in_a_transaction(house, client, first, b"a 0 ", b"a 1 ")
                with suppress(Planned):
                    await _in_a_transaction(house, client, second, b"b 0 ", fails=True)
                with trio.move_on_after(1):
                    await _in_a_transaction(house, client, second, b"b 1 ", seconds=2)
                await house.deal_with(client, second)
                await house.send(client, QUEUE, b"p 2 ", confirm=True)
        await trio.sleep(1)
        assert disturbed() or house.broker.statistics().channels[OTHER_QUEUE].backlog_messages == 2
        assert disturbed() or house.broker.statistics().channels[QUEUE].backlog_messages == 1
        nursery.cancel_scope.cancel()


async def _in_a_transaction(
    house: ClientHouse, client: StompClient, settled: Message, *bodies: bytes, fails: bool = False, seconds: float = 0
) -> None:
    """Settle one message and publish others, as one."""
    async with house.transaction(client) as (transaction, bound):
        transaction.ack(settled)
        bound.settled.append(settled.body)
        for body in bodies:
            with trio.CancelScope():
                await transaction.publish(OTHER_QUEUE, body)
                bound.sent.append(body)
        await trio.sleep(seconds)
        if fails:
            raise Planned
        bound.commits = True
        house.settling.add(settled.body)


async def publishing_as_a_transaction_is_left() -> None:
    """What another task hands over at that moment is part of it, or is refused; never something that the server does
    not know what to do with."""
    house = ClientHouse()
    refused: list[type[BaseException]] = []

    async def hand_over(transaction: Transaction, bound: Bound, body: bytes) -> None:
        house.refused.add(body)
        try:
            await transaction.publish(OTHER_QUEUE, body)
        except OVER as error:
            refused.append(type(error))
        else:
            house.refused.remove(body)
            bound.sent.append(body)

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_over(), patience():
            async with house.client() as client, trio.open_nursery() as others:
                for steps in range(3):
                    async with house.transaction(client) as (transaction, bound):
                        others.start_soon(hand_over, transaction, bound, b"p %d " % steps)
                        for _ in range(steps):
                            await trio.lowlevel.checkpoint()
                        bound.commits = True
                await house.send(client, QUEUE, b"q 0 ", confirm=True)
        assert disturbed() or set(refused) <= {trio.ClosedResourceError}, refused
        nursery.cancel_scope.cancel()


async def a_transaction_around_a_subscription() -> None:
    """What settles together and is left takes nothing of the transaction with it: one is committed, one is given up
    because of an error, one is cancelled. What they left comes to the next subscription."""
    house = ClientHouse()
    done: list[bytes] = []
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_over(), patience():
            house.publish(QUEUE, b"p 0 ", b"p 1 ", b"p 2 ")
            async with house.client() as client:
                await _around_a_subscription(house, client, b"a 0 ")
                with suppress(Planned):
                    await _around_a_subscription(house, client, b"b 0 ", fails=True)
                with trio.move_on_after(2):
                    await _around_a_subscription(house, client, b"b 1 ", seconds=2)
                with trio.move_on_after(20):
                    async with client.subscribe(QUEUE, ack=TOGETHER) as jobs:
                        done += await house.work(client, jobs, 2)
                await house.send(client, QUEUE, b"p 3 ", confirm=True)
        await trio.sleep(1)
        assert disturbed() or done == [b"p 1 ", b"p 2 "]
        assert disturbed() or house.broker.statistics().channels[OTHER_QUEUE].backlog_messages == 1
        assert disturbed() or house.broker.statistics().channels[QUEUE].backlog_messages == 1
        nursery.cancel_scope.cancel()


async def _around_a_subscription(
    house: ClientHouse, client: StompClient, body: bytes, *, fails: bool = False, seconds: float = 0
) -> None:
    """Take one message, with others behind it, and settle it with what comes of it; then leave both."""
    async with house.transaction(client) as (transaction, bound), client.subscribe(QUEUE, ack=TOGETHER) as jobs:
        job = await house.take(jobs)
        transaction.ack(job)
        bound.settled.append(job.body)
        with trio.CancelScope():
            await transaction.publish(OTHER_QUEUE, body)
            bound.sent.append(body)
        await trio.sleep(1)
        await trio.sleep(seconds)
        if fails:
            raise Planned
        bound.commits = True
        house.settling.add(job.body)


SCENARIOS = (transactions, publishing_as_a_transaction_is_left, a_transaction_around_a_subscription)
