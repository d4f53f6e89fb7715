"""What scenarios for the STOMP client have in common: clients of our own server, and what must hold.

Beside what `tests.scenarios.stomp_house` asks of the broker:

- At every rest of a client: who waits for room waits while there is none, who receives waits while nothing is there,
  its reader waits only while too much is held, its writer sleeps only while nothing is to be written, its account is
  what is there, and after its end nobody waits for it.
- When its block is left its socket is closed.
- A publish without confirmation that raised has reached nobody, one that was confirmed, or whose client was left in
  order and said nothing, is in the broker once, all others once at most.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from tests.scenarios.house import GONE
from tests.scenarios.stomp_house import LIMITS, StompHouse
from tests.scenarios.stomp_house import Transaction as Bound
from trio_broker import Limits, serve
from trio_broker.client import Permit, StompClient, StompSubscription, Transaction, connect
from trio_broker.client.stomp_subscription import _MessageInbox
from trio_broker.errors import ServerRefused
from trio_broker.explorer import disturbed
from trio_broker.explorer.network import Network
from trio_broker.limits import MESSAGE_COST
from trio_broker.message import AckMode, Message, is_queue
from trio_broker.wire.stomp_client import Received

__all__ = ["MARK", "OVER", "ClientHouse", "perhaps_over"]

OVER = (*GONE, trio.EndOfChannel, ServerRefused)
"""What a program hears of a connection that is over."""

MARK = dataclasses.replace(LIMITS, mailbox_bytes_max=400, farewell_seconds_max=2)
"""Three small messages fill the client."""


@contextmanager
def perhaps_over() -> Iterator[None]:
    """In a disturbed run a program's connection may end, and it goes home."""
    try:
        yield
    except OVER:
        if not disturbed():
            raise
    except BaseExceptionGroup as group:
        rest = group.split(OVER)[1]
        if not disturbed() or rest is group:
            raise
        if rest is not None:
            raise rest from None


class ClientHouse(StompHouse):
    """A broker, a server, and clients whose sockets lead into the house's network."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.clients: list[StompClient] = []
        self.refused: set[bytes] = set()  # publishes that raised: they must reach nobody
        self.handed_over: dict[StompClient, set[bytes]] = {}  # those that did not, to queues
        self.acknowledged: dict[StompClient, set[bytes]] = {}
        self.permits: dict[StompClient, list[Permit]] = {}
        self.reliable = True  # undisturbed, what was handed over arrives
        super().__init__(limits, Network(write_bytes_max=512, buffer_bytes=2048))
        self.network.install()
        random.seed(1)  # for the times of the back-off

    @asynccontextmanager
    async def client(self, heart_beat_seconds: float | None = None) -> AsyncIterator[StompClient]:
        """A client; its socket is closed when its block has been left."""
        mine: StompClient | None = None
        try:
            async with connect(
                port=self.listener.port,
                protocol="stomp",
                limits=self.limits,
                heart_beat_seconds=heart_beat_seconds,
            ) as client:
                self.join(client)
                mine = client
                yield client
            if self.server is not None:
                self.accepted |= self.handed_over[client]
        finally:
            self.check_left(mine)

    def join(self, client: StompClient) -> None:
        """From now on this client is looked at, too."""
        self.clients.append(client)
        self.acknowledged[client] = set()
        self.handed_over[client] = set()
        self.permits[client] = []

    def check_left(self, client: StompClient | None) -> None:
        """The socket of a client whose block was left is closed, and nobody waits for it."""
        if client is not None:
            here = {socket.getsockname() for socket in self.network.open_sockets}
            assert client.local_address not in here, "its socket is open"
            assert client._link._over.is_set(), "it does not know that it is over"
            assert not client._link._receipts, "somebody waits for its receipts"
            transactions = client._transactions
            assert (transactions._open, transactions._cost) == (0, 0), "it counts a transaction that was left"

    # -- what programs do ----------------------------------------------------------------------------------------------

    async def send(  # type: ignore[override]
        self, client: StompClient, channel: str, *bodies: bytes, confirm: bool = False, size: int = 0
    ) -> None:
        """Publish, each in a scope of its own, and note what is certain."""
        for begin in bodies:
            body = begin.ljust(size, b".")
            if not confirm:
                self.refused.add(body)
            with trio.CancelScope():
                await client.publish(channel, body, confirm=confirm)
                if confirm:
                    self.note_confirmed(client, body)
                else:
                    self.note_handed_over(client, channel, body)

    @asynccontextmanager
    async def reserve(self, client: StompClient, body_bytes_max: int) -> AsyncIterator[Permit]:
        """A permit for the length of a block. What a client keeps is what such permits are promised."""
        with await client.reserve(body_bytes_max) as permit:
            self.permits[client].append(permit)
            yield permit

    def note_handed_over(self, client: StompClient, channel: str, body: bytes) -> None:
        """A publish without confirmation has returned."""
        self.refused.remove(body)
        if is_queue(channel):
            self.handed_over[client].add(body)

    def note_confirmed(self, client: StompClient, body: bytes) -> None:
        """The broker has a message, and has dealt with what came before it on this connection."""
        self.accepted.add(body)
        self.confirmed |= self.acknowledged[client]

    async def take(self, subscription: StompSubscription) -> Message:
        """Receive, and note it."""
        message = await subscription.receive()
        self.note(message, is_settled=subscription.ack is AckMode.AUTO)
        return message

    def note(self, message: Message, *, is_settled: bool = False) -> None:
        """Somebody has received this."""
        self.note_delivery(Received(None, message, "", None, message.redelivered), is_settled=is_settled)

    async def deal_with(self, client: StompClient, message: Message, seconds: float = 0) -> None:
        """Process a message, which takes a while."""
        async with message.process():
            await trio.sleep(seconds)
            self.settle(client, message)

    def settle(self, client: StompClient, *messages: Message) -> None:
        """These are acknowledged in this step."""
        bodies = {message.body for message in messages}
        self.settling |= bodies
        self.acknowledged[client] |= bodies

    async def work(
        self, client: StompClient, subscription: StompSubscription, count: int, *, seconds: float = 0
    ) -> list[bytes]:
        """Receive and process so many messages; returns what they were."""
        bodies = []
        for _ in range(count):
            message = await self.take(subscription)
            await self.deal_with(client, message, seconds)
            bodies.append(message.body)
        return bodies

    @asynccontextmanager
    async def transaction(self, client: StompClient) -> AsyncIterator[tuple[Transaction, Bound]]:
        """A transaction, and what is noted of it: its body says ``commits`` at its end."""
        bound = Bound()
        self.transactions.append(bound)
        try:
            async with client.transaction() as transaction:
                yield transaction, bound
        finally:
            if not bound.commits:
                bound.settled.clear()  # somebody else may settle them
        self.accepted |= set(bound.sent)
        self.confirmed |= set(bound.settled)

    # -- what must hold ------------------------------------------------------------------------------------------------

    def check_rest(self) -> None:
        super().check_rest()
        for client in self.clients:
            check_client(client)
            promised = sum(permit._cost for permit in self.permits[client] if permit._open)
            assert client._link.outgoing._reserved == promised, "it keeps room for nobody"

    async def check(self) -> None:
        assert not self.network.open_sockets, self.network.open_sockets
        await super().check()

    def check_bodies(self, left: list[Message]) -> None:
        super().check_bodies(left)
        there = {message.body for message in left} | self.delivered.keys()
        assert not self.refused & there, f"there although publish raised: {self.refused & there}"
        if self.reliable and not disturbed():
            handed_over = set[bytes]().union(*self.handed_over.values())
            assert handed_over <= there, f"lost: {handed_over - there}"

    async def check_rescue(self) -> None:
        """`check_stomp_rescue` does it."""
        await trio.lowlevel.checkpoint()

    async def check_stomp_rescue(self) -> None:
        """The same broker serves a client that comes now."""
        if self.server is None:  # it had none before, either
            await trio.lowlevel.checkpoint()
            return
        network = Network()
        network.install()
        listener = network.listen()
        async with trio.open_nursery() as nursery:
            await nursery.start(functools.partial(serve, self.broker, listeners=[listener]))
            async with connect(port=listener.port, protocol="stomp", heart_beat_seconds=None) as client:
                async with client.subscribe("/queue/rescue", ack=AckMode.CLIENT_INDIVIDUAL) as subscription:
                    await client.publish("/queue/rescue", b"are you there?", confirm=True)
                    async with (await subscription.receive()).process() as message:
                        assert message.body == b"are you there?"
            nursery.cancel_scope.cancel()


def check_client(client: StompClient) -> None:
    """A client at rest."""
    link = client._link
    outgoing, over = link.outgoing, link.ending is not None
    assert not outgoing._room or (outgoing._full() and not over), "somebody waits for room although there is some"
    assert not outgoing._line.statistics().tasks_waiting or outgoing._room, "a line without a head"
    assert not link._relief or link._holds_too_much(), "it does not read though it has room"
    assert not outgoing._work or not outgoing._frames, "its writer sleeps while frames wait"
    assert not outgoing._work or link.cause is None, "its writer waits for work though nobody is there any more"
    assert not outgoing._work or not (outgoing._cost or outgoing._small_cost), "a cost of nothing"
    held = {True: 0, False: 0}
    for inbox in link.inboxes.values():
        if isinstance(inbox, _MessageInbox):
            held[inbox.settlements is not None] += sum(cost for _, cost in inbox.waiting)
            assert not inbox.arrivals or not inbox.waiting, "somebody waits to receive what is there"
    assert over or link._held == held, (link._held, held)
    assert not over or not link.inboxes, "a subscription of a connection that is over"
    assert not link._over.is_set() or not link._receipts, "somebody waits for a receipt that will not come"
    assert outgoing.receipts_due * MESSAGE_COST <= link.limits.mailbox_bytes_max + MESSAGE_COST, "receipts without end"
