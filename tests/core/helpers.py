"""A broker on a bench: the peers attached to it are known, so its account can be checked to the byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import trio

from trio_broker.core.broker import Broker
from trio_broker.core.ledger import Ledger
from trio_broker.core.local import LocalSubscription
from trio_broker.core.outbox import Outbox
from trio_broker.core.subscription import Subscription
from trio_broker.limits import BATCH_COST, MESSAGE_COST, Limits, Overflow
from trio_broker.message import AckMode, Batch, Delivery, Message, Part
from trio_broker.wire import FRAMED, frame

ACKING = [AckMode.CLIENT, AckMode.CLIENT_INDIVIDUAL]

ALL = 1 << 30
"""More bytes than any test holds: `take` everything."""


def mark(messages: int) -> int:
    """The mark of a mailbox or backlog that is full with so many single messages of a few bytes, and not with fewer."""
    return messages * (BATCH_COST + MESSAGE_COST)


def framed(channel: str, *bodies: bytes) -> Batch:
    """A batch as it comes from a framed peer."""
    return Batch(channel, [frame(body) for body in bodies], FRAMED)


def numbers(start: int, end: int) -> list[bytes]:
    """The bodies of messages that are told apart by their number."""
    return [b"%d" % number for number in range(start, end)]


def bodies(deliveries: Iterable[Delivery]) -> list[bytes]:
    """The bodies of all messages of these deliveries, in order."""
    return [message.body for delivery in deliveries for message in delivery.batch]


def tries(deliveries: Iterable[Delivery]) -> list[tuple[bytes, int]]:
    """Each message's body, and how often it was taken before."""
    return [
        (message.body, tried)
        for delivery in deliveries
        for message, tried in zip(delivery.batch, delivery.attempts or [0] * len(delivery), strict=True)
    ]


def drain(subscription: LocalSubscription) -> list[Message]:
    """All that can be received without waiting."""
    messages = []
    while True:
        try:
            messages.append(subscription.receive_nowait())
        except trio.WouldBlock:
            return messages


class CountingCodec:
    """A codec of plain bytes that counts its work: how many parts it measured."""

    def __init__(self) -> None:
        self.measured = 0

    def decode(self, channel: str, part: Part) -> Message:
        return Message(channel, part)

    def measure(self, parts: Sequence[Part]) -> int:
        self.measured += len(parts)
        return sum(map(len, parts))


class Peer:
    """A subscription and what its owner does with it: a connection's writer takes and settles."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.local = LocalSubscription(subscription)

    def take(self, bytes_max: int = ALL) -> list[bytes]:
        """Take for a write; return the bodies."""
        return bodies(self.subscription.take(bytes_max))

    def settle(self, messages: int | None = None) -> None:
        """All that was taken has left, or only the first messages of it."""
        if messages is None:
            self.subscription.settle()
        else:
            self.subscription.settle_first(messages)

    def receive(self, bytes_max: int = ALL) -> list[bytes]:
        """Take and settle."""
        taken = self.take(bytes_max)
        self.settle()
        return taken

    def given(self, bytes_max: int = ALL) -> dict[bytes, int]:
        """Take what is to be acknowledged, and write it; return the number of each body."""
        deliveries = self.subscription.take(bytes_max)
        first = self.subscription.first_number
        self.settle()
        return {body: number for number, body in enumerate(bodies(deliveries), first)}

    @property
    def ledger(self) -> Ledger:
        """Its owner's."""
        ledger = self.subscription.ledger
        assert ledger is not None
        return ledger

    @property
    def held(self) -> int:
        """How many messages it was given and has not settled."""
        return self.waiting + len(self.subscription.unsettled)

    def leave(self) -> None:
        self.subscription.leave()

    @property
    def waiting(self) -> int:
        return self.subscription.mailbox.messages


class Bench:
    """A broker under test and its peers. At the end all leave, and nothing may be left anywhere."""

    def __init__(self, **limits: Any) -> None:
        self.broker = Broker(Limits(**limits))
        self.peers: list[Peer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.broker.close()
        for peer in self.peers:
            peer.leave()
        if error is None:
            assert self.broker.memory.cost == 0, "something is still on the account"
            assert not self.broker.statistics().channels, "a channel was not collected"

    def peer(
        self,
        channel: str,
        overflow: Overflow | str | None = None,
        *,
        outbox: Outbox | None = None,
        owner: trio.CancelScope | None = None,
        ack: AckMode = AckMode.AUTO,
        credit: int | None = None,
        ledger: Ledger | None = None,
    ) -> Peer:
        """Attach a peer. Without an owner it counts as a program's own subscription."""
        if ledger is None and ack is not AckMode.AUTO:
            ledger = self.broker.open_ledger()
        return self.watch(
            self.broker.attach(
                channel,
                outbox or Outbox(),
                overflow=overflow,
                owner=owner,
                ledger=ledger,
                ack=ack,
                prefetch_messages=credit,
            )
        )

    def worker(self, channel: str, credit: int | None = None, ledger: Ledger | None = None) -> Peer:
        """Attach a connection's subscription that acknowledges one message at a time."""
        owner = trio.CancelScope()
        return self.peer(channel, owner=owner, ack=AckMode.CLIENT_INDIVIDUAL, credit=credit, ledger=ledger)

    def watch(self, subscription: Subscription) -> Peer:
        """Count this subscription among the peers."""
        peer = Peer(subscription)
        self.peers.append(peer)
        return peer

    def offer(self, channel: str, *messages: bytes) -> bool:
        """Publish a framed batch if that is possible without waiting."""
        return self.broker.offer(framed(channel, *messages))

    def publish_nowait(self, channel: str, *messages: bytes) -> None:
        """Publish each message on its own, without waiting."""
        for body in messages:
            self.broker.publish_nowait(channel, body)

    def backlog(self, channel: str) -> int:
        """How many messages wait in the queue itself."""
        channels = self.broker.statistics().channels
        return channels[channel].backlog_messages if channel in channels else 0

    def waiting(self, channel: str) -> int:
        """How many publishers stand in the channel's line."""
        channels = self.broker.statistics().channels
        return channels[channel].publishers_waiting if channel in channels else 0

    def check(self) -> None:
        """The account is exactly what the mailboxes, ledgers and backlogs hold."""
        held = sum(peer.subscription.mailbox.cost for peer in self.peers)
        held += sum(ledger.cost for ledger in {peer.subscription.ledger for peer in self.peers} if ledger is not None)
        statistics = self.broker.statistics()
        held += sum(channel.backlog_cost for channel in statistics.channels.values())
        assert statistics.memory_cost == self.broker.memory.cost == held

    def check_queue_conserved(self) -> None:
        """Of what was published to queues alone, each message is in exactly one place."""
        statistics = self.broker.statistics()
        here = [peer.subscription.statistics() for peer in self.peers]
        waiting = sum(each.mailbox_messages + each.unsettled for each in here)
        waiting += sum(channel.backlog_messages for channel in statistics.channels.values())
        gone = statistics.delivered + statistics.discarded + statistics.poisoned
        gone += statistics.rejected + statistics.expired + statistics.unrouted
        assert statistics.published == waiting + gone
