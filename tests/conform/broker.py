"""A small STOMP broker in memory that does everything right, and everything wrong on request."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from tests.conform.ends import ClientEnd
from tests.conform.session import Message, Session, Subscription


class Broker:
    """Queues, topics, and the sessions that use them. Its flaws are names that the code below asks for."""

    def __init__(self, nursery: trio.Nursery, *flaws: str) -> None:
        self.flaws = set(flaws)
        self.asked: set[str] = set()
        self.sessions = 0
        self.queues: dict[str, list[Message]] = {}
        self.subscriptions: list[Subscription] = []
        self.numbers = itertools.count(1)
        self._nursery = nursery

    def flawed(self, name: str) -> bool:
        self.asked.add(name or "nothing")
        return name in self.flaws

    async def open_stream(self) -> trio.abc.Stream:
        end = ClientEnd()
        self.sessions += 1
        if self.sessions <= 10 or not self.flawed("tires"):
            self._nursery.start_soon(Session(self, end).run)
        await trio.lowlevel.checkpoint()
        return end

    def publish(self, message: Message) -> None:
        if self.flawed("loses every message"):
            return
        if message.destination.startswith("/topic/") and not self.flawed("topics are queues"):
            subscriptions = [each for each in self.subscriptions if each.destination == message.destination]
            if self.flawed("topics give everything to the first"):
                subscriptions = [subscriptions[0] for _ in subscriptions]
            for subscription in subscriptions:
                subscription.session.deliver(subscription, message)
            return
        queue = self.queues.setdefault(message.destination, [])
        if self.flawed("last in, first out"):
            queue.insert(0, message)
        elif self.flawed("mixes messages up") and message.body == b"7":
            self.queues.setdefault("late", []).append(message)
        elif self.flawed("mixes messages up") and message.body == b"8":
            queue += [message, *self.queues.pop("late")]
        else:
            queue.append(message)
        self.dispatch(message.destination)

    def dispatch(self, destination: str) -> None:
        queue = self.queues.get(destination, [])
        takers = [each for each in self.subscriptions if each.destination == destination]
        if self.flawed("one message at a time"):
            takers = [each for each in takers if not each.unsettled]
        if not takers and self.flawed("queues keep nothing"):
            queue.clear()
        while queue and takers:
            message = queue.pop(0)
            for taker in takers if self.flawed("queues are topics") else takers[:1]:
                taker.session.deliver(taker, message)
            self.subscriptions.append(self.subscriptions.pop(self.subscriptions.index(takers[0])))
            takers.append(takers.pop(0))
            if self.flawed("one message at a time"):
                break

    def give_back(self, subscription: Subscription) -> None:
        queue = self.queues.setdefault(subscription.destination, [])
        returned = list(subscription.unsettled.values())
        for message in returned:
            message.redelivered = not self.flawed("no mark on what returns")
        subscription.unsettled.clear()
        if not subscription.destination.startswith("/topic/") and not self.flawed("nothing returns"):
            queue[:0] = returned


@asynccontextmanager
async def open_broker(*flaws: str) -> AsyncIterator[Broker]:
    async with trio.open_nursery() as nursery:
        yield Broker(nursery, *flaws)
        nursery.cancel_scope.cancel()
