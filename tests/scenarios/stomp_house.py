"""What scenarios with peers that speak STOMP have in common: the peers, and what must hold whatever happens.

Beside what `tests.scenarios.house` asks:

- At every rest: all that was published is delivered, counted, waiting, on its way, or to be settled.
- A settlement that was confirmed by a receipt is for good: the message is never delivered again, nor is it in its
  queue. What nobody settled is back there.
- Only a message that may have been delivered before is delivered again, and says so.
- A transaction is carried out as a whole or not at all.
- What a peer hears is whole frames, up to ERROR, after which it hears nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import final

import trio
import trio.testing

from tests.scenarios.house import GONE, PATIENCE, SMALL, TOPIC, House, patience
from trio_broker import Limits, LocalSubscription, serve
from trio_broker.core.ledger import Ledger
from trio_broker.explorer import disturbed
from trio_broker.explorer.network import Network, NetworkStream
from trio_broker.message import AckMode, Message, is_queue
from trio_broker.server.stomp import StompDialect
from trio_broker.wire.stomp import Connected, HeartBeat, Receipt, Received, ServerError, StompClientSession

__all__ = ["LIMITS", "Peer", "StompHouse"]

LIMITS = dataclasses.replace(SMALL, stall_bytes_min=400, read_bytes_min=512, read_bytes_max=512, write_bytes_max=400)
"""A write is at most 100 bytes long at once, less than a message."""

EACH, TOGETHER = AckMode.CLIENT_INDIVIDUAL, AckMode.CLIENT


@dataclasses.dataclass(slots=True)
class Transaction:
    """What a peer has bound to one transaction.

    Attributes:
        sent: bodies.
        settled: bodies of the messages that it settles.
        commits: its COMMIT was sent, or may have been.
    """

    sent: list[bytes] = dataclasses.field(default_factory=list)
    settled: list[bytes] = dataclasses.field(default_factory=list)
    commits: bool = False


@final
class Peer:
    """One peer: it says frames, and notes what it hears.

    Args:
        house: the house.
        stream: its end of the connection; None if there is none.
        version: what it speaks.
        heart_beat: what it offers.

    Attributes:
        received: the messages, in order.
        receipts: the receipts, in order.
        beats: when heart-beats came.
        error: the ERROR.
        ended: nothing more comes.
    """

    def __init__(self, house: StompHouse, stream: NetworkStream | None, version: str, heart_beat: HeartBeat) -> None:
        self.house = house
        self.stream = stream
        self.session = StompClientSession(house.broker.limits, versions=(version,), heart_beat=heart_beat)
        self.connected: Connected | None = None
        self.received: list[Received] = []
        self.receipts: list[str] = []
        self.beats: list[float] = []
        self.error: ServerError | None = None
        self.ended = stream is None
        self.modes: dict[str, AckMode] = {}  # of its subscriptions
        self.unsettled: dict[str, list[Received]] = {}  # by subscription, in order
        self.transactions: dict[str, Transaction] = {}
        self._confirms: dict[str, Callable[[], None]] = {}  # what a receipt says, by its name

    @property
    def bodies(self) -> list[bytes]:
        """What it received."""
        return [received.message.body for received in self.received]

    # -- frames --------------------------------------------------------------------------------------------------------

    async def say(self, *frames: bytes) -> None:
        """Say something; in a disturbed run it may not come through."""
        if self.stream is None:
            return
        try:
            with patience():
                await self.stream.send_all(b"".join(frames))
        except GONE:
            assert disturbed() or self.error or self.ended, "a peer that nothing has happened to cannot say a thing"

    def send(
        self, channel: str, body: bytes, receipt: str | None = None, transaction: str | None = None, **headers: str
    ) -> bytes:
        """SEND."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if transaction is not None:
            self.transactions[transaction].sent.append(body)
        elif receipt is not None and is_queue(channel):
            self._confirms[receipt] = functools.partial(self.house.accepted.add, body)
        return self.session.send(Message(channel, body, named), receipt=receipt, transaction=transaction)

    def subscribe(
        self,
        channel: str,
        name: str = "s",
        ack: AckMode = AckMode.AUTO,
        prefetch: int | None = None,
        receipt: str | None = None,
    ) -> bytes:
        """SUBSCRIBE."""
        self.modes[name] = ack
        self.unsettled[name] = []
        self.house.unsure = self.house.unsure or ack is AckMode.AUTO
        self.house.copies = self.house.copies or not is_queue(channel)
        return self.session.subscribe(channel, name, ack=ack, prefetch_messages=prefetch, receipt=receipt)

    def ack(self, *received: Received, receipt: str | None = None, transaction: str | None = None) -> bytes:
        """ACK of the last of these, which came by one subscription; nothing if there is none."""
        if not received:
            return b""
        bodies = self._settled_by(received[-1])
        if transaction is not None:
            self.transactions[transaction].settled += bodies
        else:
            self._note_settled(bodies, receipt)
        return self.session.ack(received[-1], receipt=receipt, transaction=transaction)

    def nack(self, *received: Received, receipt: str | None = None, requeue: bool = True) -> bytes:
        """NACK, likewise."""
        if not received:
            return b""
        bodies = self._settled_by(received[-1])
        if not requeue:
            self._note_settled(bodies, receipt)
        return self.session.nack(received[-1], requeue=requeue, receipt=receipt)

    def _settled_by(self, received: Received) -> list[bytes]:
        """The messages that a settlement of this one settles; from now on they are."""
        name = received.subscription_id or ""
        unsettled = self.unsettled[name]
        settled = [received]
        if self.modes[name] is TOGETHER:
            settled = unsettled[: unsettled.index(received) + 1]
        self.unsettled[name] = [each for each in unsettled if each not in settled]
        return [each.message.body for each in settled]

    def _note_settled(self, bodies: list[bytes], receipt: str | None) -> None:
        self.house.settling |= set(bodies)
        if receipt is not None:
            self._confirms[receipt] = functools.partial(self.house.confirmed.update, bodies)

    def begin(self, name: str) -> bytes:
        """BEGIN."""
        self.transactions[name] = transaction = Transaction()
        self.house.transactions.append(transaction)
        return self.session.begin(name)

    def commit(self, name: str, receipt: str | None = None) -> bytes:
        """COMMIT."""
        transaction = self.transactions[name]
        transaction.commits = True
        self.house.settling |= set(transaction.settled)
        if receipt is not None:
            self._confirms[receipt] = functools.partial(self._note_carried_out, transaction)
        return self.session.commit(name, receipt=receipt)

    def _note_carried_out(self, transaction: Transaction) -> None:
        self.house.accepted |= set(transaction.sent)
        self.house.confirmed |= set(transaction.settled)

    # -- hearing -------------------------------------------------------------------------------------------------------

    async def hear(self, until: Callable[[], object] | None = None, seconds: float = PATIENCE) -> None:
        """Hear until something holds, or until the end, for so many seconds at most."""
        with trio.move_on_after(seconds):
            try:
                while self.stream is not None and not self.ended and (until is None or not until()):
                    self._digest(await self.stream.receive_some(512))
            except GONE:
                self.ended = True
                assert disturbed() or self.house.breaks, "a connection broke that nothing has happened to"

    async def hear_messages(self, count: int) -> list[Received]:
        """Hear until so many messages have come in all; return those that came."""
        await self.hear(lambda: len(self.received) >= count)
        return self.received

    async def hear_receipt(self, receipt: str) -> bool:
        """Hear until this receipt comes; whether it did."""
        await self.hear(lambda: receipt in self.receipts)
        return receipt in self.receipts

    def _digest(self, data: bytes) -> None:
        """Frame for frame, so that what comes after ERROR is seen."""
        self.ended = self.ended or not data
        while data:
            if self.connected is not None and not self.session.held_bytes and data.startswith(b"\n"):
                self.beats.append(trio.current_time())
            frame, end, data = data.partition(b"\0")
            assert self.error is None or not frame.strip(b"\n") + end, f"after ERROR came {frame!r}"
            for event in self.session.receive_data(frame + end):
                self._note(event)

    def _note(self, event: Connected | Received | Receipt | ServerError) -> None:
        match event:
            case Connected():
                self.connected = event
            case Received():
                self.received.append(event)
                name = event.subscription_id or ""
                is_settled = self.modes.get(name, AckMode.AUTO) is AckMode.AUTO  # as for a temporary queue
                if not is_settled:
                    self.unsettled[name].append(event)
                self.house.note_delivery(event, is_settled=is_settled)
            case Receipt(receipt_id=receipt_id):
                self.receipts.append(receipt_id)
                self._confirms.get(receipt_id, lambda: None)()
            case ServerError():
                self.error = event


class StompHouse(House):
    """A broker, a server, and peers that speak STOMP."""

    def __init__(self, limits: Limits = LIMITS, network: Network | None = None) -> None:
        self.accepted: set[bytes] = set()  # bodies that a queue has, as a receipt says
        self.settling: set[bytes] = set()  # bodies of which an ACK may have come through, or a NACK for good
        self.confirmed: set[bytes] = set()  # those of which a receipt says so
        self.transactions: list[Transaction] = []
        self.delivered: Counter[bytes] = Counter()  # bodies that a queue gave to somebody, as far as that is known
        self.firsts: Counter[bytes] = Counter()  # of which it was said that nobody had them before
        self.automatic: set[bytes] = set()  # bodies that were settled by being sent
        self.lost: set[bytes] = set()  # bodies that the scenario lets expire
        self.fills = False  # more is published than there is room for
        self.breaks = False  # connections of this scenario break without a disturbance
        self.unsure = False  # somebody settles nothing: what was sent to it counts as delivered, and may not arrive
        self.exact = True  # only peers receive, from queues
        self.ledgers: dict[Ledger, None] = {}
        super().__init__(limits, network or Network(write_bytes_max=512))

    @asynccontextmanager
    async def stomp(
        self, *, version: str = "1.2", heart_beat: HeartBeat | None = None, pauses: float = 0
    ) -> AsyncIterator[Peer]:
        """A peer that has connected, if it came that far; its first bytes may come with pauses."""
        stream: NetworkStream | None = None
        try:
            with patience(), suppress(OSError):
                stream = await self.network.connect(self.listener.port)
            peer = Peer(self, stream, version, heart_beat or HeartBeat())
            words = peer.session.connect("here")
            for piece in (words[:2], words[2:5], words[5:]) if pauses else (words,):
                await peer.say(piece)
                await trio.sleep(pauses)
            await peer.hear(lambda: peer.connected)
            yield peer
        finally:
            if stream is not None:
                await trio.aclose_forcefully(stream)

    @asynccontextmanager
    async def full_topic(self) -> AsyncIterator[LocalSubscription]:
        """A program that subscribes to the topic and has two messages to receive: there is no room for a third. Topics
        have no reserve."""
        self.copies = True
        async with self.broker.subscribe(TOPIC) as subscription:
            self.programs.append(subscription)
            for number in range(2):
                with suppress(trio.WouldBlock):
                    self.broker.publish_nowait(TOPIC, b"b %d " % number)
            yield subscription
            self.programs.remove(subscription)

    async def consume(self, channel: str, count: int, seconds: float = 0) -> list[bytes]:
        """A peer that receives so many messages and settles each with a receipt, each taking a while."""
        async with self.stomp() as peer:
            await peer.say(peer.subscribe(channel, ack=EACH, prefetch=1))
            for number in range(count):
                received = (await peer.hear_messages(number + 1))[number:]
                await trio.sleep(seconds)
                await peer.say(peer.ack(*received, receipt=f"c{number}"))
                await peer.hear_receipt(f"c{number}")
            return peer.bodies

    def publish(self, channel: str, *bodies: bytes) -> None:
        """Publish to a queue in process; in an undisturbed run there is room."""
        for body in bodies:
            try:
                self.broker.publish_nowait(channel, body)
            except trio.WouldBlock:
                assert disturbed() or self.fills, "there is no room"
                return
            self.accepted.add(body)

    def fill(self, channel: str, name: str = "p") -> None:
        """Publish to a queue until it has no room."""
        self.fills = True
        self.publish(channel, *(f"{name} {number} ".encode() for number in range(10)))

    async def take_one(self, channel: str) -> None:
        """Take one message from a queue, in process and in one step: nobody sees more room than that."""
        async with self.broker.subscribe(channel) as subscription:
            with suppress(trio.WouldBlock):
                body = subscription.receive_nowait().body
                self.delivered[body] += 1
                self.automatic.add(body)

    # -- what must hold ------------------------------------------------------------------------------------------------

    def note_delivery(self, received: Received, *, is_settled: bool) -> None:
        """Somebody has received this."""
        body = received.message.body
        if is_queue(received.message.channel):
            self.delivered[body] += 1
            assert body not in self.confirmed, f"delivered again after its settlement was confirmed: {body!r}"
            self.firsts[body] += not received.redelivered
            assert self.firsts[body] <= 1, f"delivered twice without a word about it: {body!r}"
            if is_settled:
                self.automatic.add(body)

    def check_rest(self) -> None:
        super().check_rest()
        underway = 0
        for connection in () if self.server is None else self.server._open:
            dialect = connection._dialect
            if isinstance(dialect, StompDialect):
                self.ledgers[dialect._ledger] = None
                underway += len(dialect._ledger)
                for subscription in dialect._ledger.subscriptions:
                    underway += subscription.mailbox.messages + sum(map(len, subscription._taken))
        if self.exact and not self.copies:
            statistics = self.broker.statistics()
            underway += sum(channel.backlog_messages for channel in statistics.channels.values())
            counted = statistics.delivered + statistics.discarded + statistics.poisoned + statistics.dropped
            counted += statistics.unrouted + statistics.rejected + statistics.expired
            assert statistics.published == counted + underway, (statistics, underway)

    async def check(self) -> None:
        for ledger in self.ledgers:
            assert not ledger, "something is to be settled by somebody who is gone"
            assert ledger.cost == 0, ledger.cost
            assert not ledger.subscriptions, "a subscription of somebody who is gone"
        if not self.ended:
            left = await self._what_is_left()
            self.check_bodies(left)
            await self.check_stomp_rescue()
        await super().check()

    def check_bodies(self, left: list[Message]) -> None:
        """What became of each message."""
        kept = [message.body for message in left]
        assert len(set(kept)) == len(kept), f"doubled: {kept}"
        for message in left:
            body = message.body
            assert body not in self.confirmed, f"back in its queue after its settlement was confirmed: {body!r}"
            assert message.redelivered or not self.delivered[body], f"back without a word about it: {body!r}"
        for body in self.accepted | self.delivered.keys():
            known = body in kept or body in self.settling or body in self.automatic or body in self.lost
            assert known or (self.unsure and disturbed() and not self.delivered[body]), f"lost: {body!r}"
        for transaction in self.transactions:
            there = [body for body in transaction.sent if body in kept or self.delivered[body]]
            assert not there or transaction.commits, f"carried out though it was not committed: {there}"
            assert self.unsure or len(there) in {0, len(transaction.sent)}, (
                f"carried out in part: {there} of {transaction.sent}"
            )
            if transaction.sent and not self.unsure:
                back = [body for body in transaction.settled if body in kept or self.delivered[body] > 1]
                assert len(back) == (0 if there else len(transaction.settled)), f"settled in part: {back} and {there}"

    async def _what_is_left(self) -> list[Message]:
        """What waits in the queues."""
        left: list[Message] = []
        for name, channel in self.broker.statistics().channels.items():
            if channel.kind == "queue":
                async with self.broker.subscribe(name) as subscription:
                    with suppress(trio.WouldBlock):
                        while True:
                            left.append(subscription.receive_nowait())
        return left

    async def check_stomp_rescue(self) -> None:
        """The same broker serves a peer that comes now and speaks STOMP."""
        network = Network(write_bytes_max=512, buffer_bytes=2048)
        listener = network.listen()
        async with trio.open_nursery() as nursery:
            await nursery.start(functools.partial(serve, self.broker, listeners=[listener]))
            async with await network.connect(listener.port) as stream:
                session = StompClientSession(self.broker.limits)
                await stream.send_all(
                    session.connect("here")
                    + session.subscribe("/queue/rescue", "s", ack=EACH)
                    + session.send(Message("/queue/rescue", b"are you there?"))
                )
                events: list[object] = []
                while len(events) < 2:
                    events += session.receive_data(await stream.receive_some(512))
                received = events[1]
                assert isinstance(received, Received)
                assert received.message.body == b"are you there?"
                await stream.send_all(session.ack(received) + session.disconnect(receipt="d"))
                while Receipt("d") not in events:
                    events += session.receive_data(await stream.receive_some(512))
            nursery.cancel_scope.cancel()
