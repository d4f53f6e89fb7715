"""What scenarios in process have in common: a broker, publishers, receivers, and what must hold whatever happens.

- At every rest: who waits has a reason to. A publisher waits only for a channel that is full, a receiver only at an
  empty mailbox, a queue keeps nothing while somebody can take more. The account is what is there, the register knows no
  empty channel, and every message that was owed to somebody is received, waiting, or counted as lost.
- At the end: nothing accepted is lost, nothing refused has reached anybody, order is kept, nothing is left in account
  and register, both ends of every memory channel are closed, and the same broker serves a program that comes now.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import final

import trio
from trio.testing import assert_checkpoints

from trio_broker import (
    Broker,
    BrokerDraining,
    ChannelStatistics,
    Limits,
    LocalSubscription,
    Message,
    PublishStalled,
    SubscriptionEvicted,
)
from trio_broker.explorer import afterwards, at_rest, disturbed
from trio_broker.message import PLAIN, Batch, is_queue, plain_batch

SMALL = Limits(mailbox_bytes_max=700, backlog_bytes_max=1500, stall_seconds_max=5)
"""Two small messages fill a mailbox, three a backlog."""

TOPIC, QUEUE = "/topic/x", "/queue/x"

PATIENCE = 100
"""Virtual seconds after which a receiver goes home: a disturbed scenario may have less to give than a plain one."""


@final
class House:
    """A broker, what it accepted, and who received what.

    Args:
        limits: the broker's.
        broker: one that the scenario has opened itself; then it must be open no longer at the end.
    """

    def __init__(self, limits: Limits = SMALL, broker: Broker | None = None) -> None:
        self.opened = broker is not None
        self.broker = broker or Broker(limits)
        self.limits = self.broker.limits
        self.channel = TOPIC
        self.accepted: list[bytes] = []
        self.refused: list[bytes] = []  # publishes that raised: they must have reached nobody
        self.received: dict[str, list[bytes]] = {}  # by receiver
        self.waiting: dict[LocalSubscription, int] = {}  # open subscriptions -> how many tasks wait in receive
        self.subscriptions: list[LocalSubscription] = []  # all that ever were
        self.closed: set[LocalSubscription] = set()  # those that the scenario has closed itself
        self.owed = 0  # messages times those they are for
        self.ended = False  # the scenario itself has ended the broker
        self.stalls_expected = 0  # so many publishers are about to lose their patience ...
        self.stall_at = 0.0  # ... at this time
        self.counts = True  # whether what is owed can be counted
        afterwards(self.check)
        at_rest(self.check_rest)

    # -- what publishers and receivers do ----------------------------------------------------------------------------

    async def publish(self, channel: str, count: int, name: str = "p", seconds: float = PATIENCE) -> None:
        """Publish numbered messages, each within so many seconds; note which were accepted."""
        self.channel = channel
        for number in range(count):
            body = b"%s %d" % (name.encode(), number)
            with trio.move_on_after(seconds):
                self.refused.append(body)
                try:
                    with assert_checkpoints():
                        await self.broker.publish(channel, body)
                except (BrokerDraining, PublishStalled) as error:
                    self.check_refusal(error)
                    continue
                self.note(channel, [body])

    async def publish_batch(self, channel: str, numbers: Sequence[int], name: str, patience: float) -> None:
        """Publish messages together, as a server does."""
        self.channel = channel
        bodies = [b"%s %d" % (name.encode(), number) for number in numbers]
        batch = Batch(channel, [Message(channel, body) for body in bodies], PLAIN)
        self.refused += bodies
        try:
            if not self.broker.offer(batch):
                await self.broker.publish_batch(batch, patience)
        except (BrokerDraining, PublishStalled) as error:
            self.check_refusal(error)
        else:
            self.note(channel, bodies)

    def check_refusal(self, error: Exception) -> None:
        """An ended broker says so, and only an ended one; patience ends when it is expected to, or its scope is
        cancelled."""
        assert isinstance(error, BrokerDraining) == self.ended, error
        if not self.ended and not disturbed():
            assert self.stalls_expected, error
            assert trio.current_time() == self.stall_at
            self.stalls_expected -= 1

    def note(self, channel: str, bodies: list[bytes]) -> None:
        """These were accepted, in this step."""
        assert not self.ended, f"accepted by a broker that has ended: {bodies}"
        for body in bodies:
            self.refused.remove(body)
        self.accepted += bodies
        statistics = self.broker.statistics()
        place = statistics.channels.get(channel)
        takers = 1 if is_queue(channel) else 0 if place is None else place.subscriptions
        self.owed += takers * len(bodies)
        if is_queue(channel) and place is not None:
            cost = plain_batch(Message(channel, bodies[0])).cost  # what all of them cost, or less
            assert place.backlog_cost - cost < self.limits.backlog_bytes_max, f"there was no room: {place}"
            assert statistics.memory_cost - cost < self.limits.memory_bytes_max, f"the memory was full: {statistics}"

    async def receive(self, channel: str, name: str, count: int | None = None, seconds: float = 0) -> None:
        """Receive some messages, or all until the end, each taking a while."""
        self.channel = channel
        try:
            async with self.subscribe(channel) as subscription:
                await self.take(subscription, name, count, seconds)
        except BrokerDraining:
            assert self.ended

    @asynccontextmanager
    async def subscribe(self, channel: str, overflow: str | None = None) -> AsyncIterator[LocalSubscription]:
        """Subscribe for the length of a block."""
        async with self.broker.subscribe(channel, overflow=overflow) as subscription:
            self.subscriptions.append(subscription)
            self.waiting[subscription] = 0
            try:
                yield subscription
            finally:
                del self.waiting[subscription]

    async def take(
        self, subscription: LocalSubscription, name: str, count: int | None = None, seconds: float = 0
    ) -> None:
        """Receive so many in all, or until the end, or until nothing has come for a while."""
        received = self.received.setdefault(name, [])
        while count is None or len(received) < count:
            with trio.move_on_after(PATIENCE):
                self.waiting[subscription] += 1
                try:
                    with assert_checkpoints():
                        message = await subscription.receive()
                except trio.EndOfChannel:
                    assert self.ended
                    assert not subscription.statistics().mailbox_messages, "the end came before the last messages"
                    return
                except SubscriptionEvicted:
                    return
                except trio.ClosedResourceError:
                    assert subscription in self.closed
                    return
                finally:
                    self.waiting[subscription] -= 1
                received.append(message.body)
                self.check_line(subscription.channel)
                await trio.sleep(seconds)
                continue
            return

    @property
    def all_received(self) -> list[bytes]:
        """What all receivers together have received."""
        return [body for bodies in self.received.values() for body in bodies]

    def end(self) -> None:
        """End the broker."""
        self.ended = True
        self.broker.close()
        assert not self.broker.statistics().subscriptions, "somebody can still be given something"
        self.check_ended()

    def check_ended(self) -> None:
        """Nothing is accepted any more, by channels that somebody has yet to leave no more than by others."""
        for channel in (TOPIC, QUEUE):
            try:
                self.broker.publish_nowait(channel, b"too late")
            except BrokerDraining:
                continue
            raise AssertionError(f"an ended broker has accepted something for {channel}")

    async def end_after(self, steps: int) -> None:
        """Make room in the queue, which wakes a publisher, and end the broker so many steps later."""
        async with self.subscribe(QUEUE) as subscription:
            try:
                self.received.setdefault("taker", []).append(subscription.receive_nowait().body)
            except trio.WouldBlock:
                assert disturbed()
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            self.end()

    # -- what must hold ----------------------------------------------------------------------------------------------

    def check_line(self, name: str) -> None:
        """Nobody overtakes those who stand in line, although there is room now."""
        channel = self.broker.statistics().channels.get(name)
        if channel is None or not channel.publishers_waiting:
            return
        try:
            self.broker.publish_nowait(name, b"late 0")
        except (trio.WouldBlock, BrokerDraining):
            return
        raise AssertionError("it has overtaken those who stand in line")

    def check_rest(self) -> None:
        """What holds whenever all tasks wait."""
        statistics = self.broker.statistics()
        held = sum(subscription.statistics().mailbox_cost for subscription in self.waiting)
        ledgers = (subscription._subscription.ledger for subscription in self.waiting)
        held += sum(ledger.cost for ledger in ledgers if ledger is not None)
        kept = sum(channel.backlog_cost for channel in statistics.channels.values())
        assert statistics.memory_cost == held + kept, (statistics, held, kept)
        for channel in statistics.channels.values():
            self.check_channel(channel)
        for subscription, waiting in self.waiting.items():
            mailbox = subscription.statistics()
            evicted = subscription._subscription.evicted
            assert not evicted or not mailbox.mailbox_cost, "an evicted subscription has something waiting"
            if waiting:
                assert not mailbox.mailbox_messages, "somebody sleeps while messages wait"
                assert not self.ended, "somebody waits for an ended broker"
                assert not evicted, "somebody waits though evicted"
                assert subscription not in self.closed, "somebody waits for what was closed"
        self.check_account()

    def check_channel(self, channel: ChannelStatistics) -> None:
        """One channel at rest."""
        members = any(subscription.channel == channel.name for subscription in self.waiting)
        assert members or channel.publishers_waiting or channel.backlog_messages, f"nothing is in it: {channel}"
        if channel.kind == "queue":
            full = channel.backlog_cost >= self.limits.backlog_bytes_max
            assert not channel.backlog_messages or channel.full == channel.subscriptions, f"kept for nobody: {channel}"
        else:
            full = channel.full > 0
        full = full or self.broker.memory.is_full
        assert not channel.publishers_waiting or full, f"they wait although there is room: {channel}"
        assert not channel.publishers_waiting or not self.ended, f"they wait for an ended broker: {channel}"

    def check_account(self) -> None:
        """Every message that is owed to somebody is received, waiting, or counted as lost."""
        statistics = self.broker.statistics()
        assert statistics.published == len(self.accepted), (statistics, self.accepted)
        assert statistics.delivered == len(self.all_received), (statistics, self.received)
        if self.counts:
            mine = [subscription.statistics() for subscription in self.waiting]
            waiting = sum(each.mailbox_messages + each.unsettled for each in mine)
            waiting += sum(channel.backlog_messages for channel in statistics.channels.values())
            lost = statistics.discarded + statistics.poisoned + statistics.dropped
            lost += statistics.rejected + statistics.expired
            assert self.owed == statistics.delivered + waiting + lost, (self.owed, waiting, statistics)

    async def check(self) -> None:
        """What holds however the scenario ended."""
        broker = self.broker
        assert not self.waiting
        self.check_account()
        received = self.all_received
        reached = set(self.refused) & set(received)
        assert not reached, f"reached somebody although publish raised: {reached}"
        if is_queue(self.channel):
            left = [] if self.ended else await what_is_left(self.broker)
            assert_in_order(left)
            assert not set(self.refused) & set(left), f"kept although publish raised: {self.refused} {left}"
            assert len(set(received + left)) == len(received + left), f"doubled: {received} {left}"
            missing = set(self.accepted) - set(received + left)
            assert self.ended or not missing, f"lost: {missing}"
        else:
            for bodies in self.received.values():
                assert_in_order(bodies)
        if not self.ended:
            await self.check_rescue()
        if not self.opened and not self.ended:
            broker.close()
        self.check_ended()
        assert broker.memory.cost == 0, broker.memory.cost
        assert not broker.statistics().channels, broker.statistics()
        for subscription in self.subscriptions:
            mailbox, outbox = subscription._subscription.mailbox, subscription._subscription.outbox
            ends = mailbox._send.statistics()
            assert not ends.open_send_channels, "the sending end of a mailbox is open"
            assert not ends.open_receive_channels, "the receiving end of a mailbox is open"
            assert not outbox._send.statistics().open_send_channels, "an outbox is open"

    async def check_rescue(self) -> None:
        """The same broker serves a program that comes now."""
        async with self.broker.subscribe("/topic/rescue") as subscription:
            await self.broker.publish("/topic/rescue", b"are you there?")
            assert (await subscription.receive()).body == b"are you there?"


async def what_is_left(broker: Broker) -> list[bytes]:
    """What waits in the queues for a taker, in the order in which one gets it."""
    left: list[bytes] = []
    for name, channel in broker.statistics().channels.items():
        if channel.kind == "queue":
            async with broker.subscribe(name) as subscription:
                while True:
                    try:
                        left.append(subscription.receive_nowait().body)
                    except trio.WouldBlock:
                        break
    return left


def assert_in_order(bodies: list[bytes]) -> None:
    """Each publisher's messages came in the order in which it sent them."""
    last: dict[bytes, int] = {}
    for body in bodies:
        name, number = body.split()[:2]
        assert int(number) > last.get(name, -1), f"out of order: {bodies}"
        last[name] = int(number)
