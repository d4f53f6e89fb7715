"""A whole broker against a plain model: any plan of what peers and publishers may do, with tiny limits.

After each step everything has come to rest, and then: the account is exact; nobody waits who need not; each publisher
was accepted in its turn; what peers of a topic got has no hole that was not told; and of a queue's messages none is
lost and none invented. At the end all leave, and what is left in the queues is received in the order of acceptance.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.core.helpers import Bench, Peer, bodies, framed, mark
from trio_broker.errors import BrokerDraining
from trio_broker.limits import Overflow

CHANNELS = ["/topic/a", "/topic/b", "/queue/a", "/queue/b"]
LIMITS = {
    "mailbox_bytes_max": mark(2),
    "backlog_bytes_max": mark(3),
    "memory_bytes_max": mark(9),
    "deliveries_max": 3,
}

Step: TypeAlias = tuple[str, int, int]

steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("subscribe"), st.integers(0, 3), st.integers(0, 9)),
    st.tuples(st.sampled_from(["publish", "offer"]), st.integers(0, 3), st.integers(1, 5)),
    st.tuples(st.sampled_from(["take", "receive"]), st.integers(0, 9), st.sampled_from([1, 12, 1000])),
    st.tuples(st.sampled_from(["settle", "tear", "leave", "retire", "evict"]), st.integers(0, 9), st.integers(0, 3)),
    st.tuples(st.just("cancel"), st.integers(0, 9), st.just(0)),
)


@dataclass
class Seen:
    """What the model knows of one peer."""

    peer: Peer
    channel: str
    start: int  # how many messages the channel had accepted when it came
    taken: list[bytes] = field(default_factory=list)  # taken for a write, not yet settled
    received: list[tuple[bytes, int]] = field(default_factory=list)  # settled, and the losses told before each
    over: bool = False


class House:
    """The broker, its model, and the publishers that wait."""

    def __init__(self, bench: Bench, nursery: trio.Nursery) -> None:
        self.bench = bench
        self.nursery = nursery
        self.seen: list[Seen] = []
        self.accepted: defaultdict[str, list[bytes]] = defaultdict(list)
        self.line: defaultdict[str, list[tuple[trio.CancelScope, list[bytes]]]] = defaultdict(list)
        self.number = 0
        self.refused = 0

    def new_bodies(self, count: int) -> list[bytes]:
        start, self.number = self.number, self.number + count
        return [b"%d" % number for number in range(start, self.number)]

    async def publish(self, channel: str, messages: list[bytes], scope: trio.CancelScope) -> None:
        place = (scope, messages)
        self.line[channel].append(place)
        with scope:
            try:
                await self.bench.broker.publish_batch(framed(channel, *messages))
            except BrokerDraining:
                self.refused += 1
                self.line[channel].remove(place)
                return
            assert self.line[channel].pop(0) is place, "somebody was accepted out of turn"
            self.accepted[channel] += messages
        if scope.cancelled_caught:
            self.line[channel].remove(place)

    async def do(self, step: Step) -> None:
        """One step of the plan; one that makes no sense now does nothing."""
        action, which, how = step
        match action:
            case "subscribe":
                self.subscribe(CHANNELS[which], how)
            case "publish":
                self.nursery.start_soon(self.publish, CHANNELS[which], self.new_bodies(how), trio.CancelScope())
            case "offer":
                messages = self.new_bodies(how)
                if self.bench.offer(CHANNELS[which], *messages):
                    self.accepted[CHANNELS[which]] += messages
            case "cancel":
                waiting = [scope for line in self.line.values() for scope, _ in line]
                if which < len(waiting):
                    waiting[which].cancel()
            case _:
                present = [seen for seen in self.seen if not seen.over]
                if which < len(present):
                    self.act(action, present[which], how)
        await wait_all_tasks_blocked()

    def subscribe(self, channel: str, how: int) -> None:
        policies = [None] if channel.startswith("/queue") else [Overflow.BLOCK, *Overflow]
        peer = self.bench.peer(channel, policies[how % len(policies)], owner=trio.CancelScope())
        self.seen.append(Seen(peer, channel, len(self.accepted[channel])))

    def act(self, action: str, seen: Seen, how: int) -> None:
        """What a peer may do."""
        peer = seen.peer
        match action:
            case "take" if not seen.taken:
                for delivery in peer.subscription.take(how):
                    losses = [delivery.dropped_before] + [0] * (len(delivery) - 1)
                    messages = bodies([delivery])
                    seen.taken += messages
                    seen.received += zip(messages, losses, strict=True)
            case "receive" if peer.waiting and not seen.taken:
                message = peer.local.receive_nowait()
                seen.received.append((message.body, message.dropped_before))
            case "settle":
                peer.settle()
                seen.taken.clear()
            case "tear":
                sent = min(how, len(seen.taken))
                peer.settle(sent)
                peer.leave()
                self.forget(seen, len(seen.taken) - sent)
            case "leave":
                peer.leave()
                self.forget(seen, len(seen.taken))
            case "evict":
                peer.subscription.evict("the plan says so")  # `check` lets it leave
            case "retire":
                peer.subscription.retire()
            case _:
                pass

    def forget(self, seen: Seen, unsent: int) -> None:
        """It has ended; the last of what it took was not sent."""
        seen.over = True
        seen.taken.clear()
        del seen.received[len(seen.received) - unsent :]

    # -- what must hold ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        self.bench.check()
        for seen in self.seen:
            if not seen.over and seen.peer.subscription.evicted is not None:
                seen.peer.leave()  # as its connection would
                self.forget(seen, len(seen.taken))
            if seen.channel.startswith("/topic"):
                self.check_topic(seen)
        for channel in CHANNELS:
            self.check_nobody_waits_in_vain(channel)
        self.check_queues()
        statistics = self.bench.broker.statistics()
        assert statistics.published == sum(map(len, self.accepted.values()))
        assert statistics.subscriptions == sum(seen.peer.subscription.member for seen in self.seen)
        assert statistics.dropped == sum(seen.peer.subscription.dropped for seen in self.seen)
        assert statistics.delivered == sum(len(seen.received) - len(seen.taken) for seen in self.seen)

    def check_topic(self, seen: Seen) -> None:
        """What came is what was accepted since it subscribed, less what was told as lost."""
        accepted = self.accepted[seen.channel]
        index = seen.start
        for body, lost in seen.received:
            index += lost
            assert body == accepted[index]
            index += 1
        subscription = seen.peer.subscription
        if subscription.overflow is Overflow.BLOCK:
            assert subscription.dropped == 0
            if subscription.member:
                assert index + seen.peer.waiting == len(accepted)
        elif subscription.member:
            told = sum(lost for _, lost in seen.received)
            assert index + seen.peer.waiting + subscription.dropped - told == len(accepted)

    def check_queues(self) -> None:
        """No message was received twice, or was never published; as many as were accepted are somewhere."""
        somewhere = self.bench.broker.statistics().poisoned
        for channel in CHANNELS[2:]:
            here = [seen for seen in self.seen if seen.channel == channel]
            received = [body for seen in here for body, _ in seen.received]
            assert len(received) == len(set(received))
            assert set(received) <= set(self.accepted[channel])
            somewhere += len(received) + sum(seen.peer.waiting for seen in here) + self.bench.backlog(channel)
        assert somewhere == sum(len(self.accepted[channel]) for channel in CHANNELS[2:])

    def check_nobody_waits_in_vain(self, channel: str) -> None:
        broker = self.bench.broker
        members = [
            seen.peer.subscription for seen in self.seen if seen.channel == channel and seen.peer.subscription.member
        ]
        statistics = broker.statistics().channels.get(channel)
        if statistics is None:
            assert not members
            assert not self.line[channel]
            return
        if channel.startswith("/queue"):
            full = statistics.backlog_cost >= LIMITS["backlog_bytes_max"]
            if statistics.backlog_messages:
                assert all(member.mailbox.is_full for member in members)
        else:
            full = any(member.mailbox.is_full for member in members if member.overflow is Overflow.BLOCK)
        assert statistics.publishers_waiting == len(self.line[channel])
        if statistics.publishers_waiting:
            assert full or broker.memory.is_full

    # -- the end -----------------------------------------------------------------------------------------------------

    async def receive_the_rest(self) -> None:
        """All leave; then one consumer for each queue receives all that is left, publishers that wait included."""
        for seen in self.seen:
            seen.peer.subscription.retire()
        for seen in self.seen:
            if not seen.over:
                seen.peer.leave()
                self.forget(seen, len(seen.taken))
        for channel in CHANNELS[2:]:
            self.subscribe(channel, 0)
        last = self.seen[-2:]
        while any(seen.peer.waiting for seen in last) or self.nursery.child_tasks:
            for seen in last:
                self.act("take", seen, 1)
                self.act("settle", seen, 0)
            await wait_all_tasks_blocked()
            self.check()
        for seen in last:
            order = {body: index for index, body in enumerate(self.accepted[seen.channel])}
            places = [order[body] for body, _ in seen.received]
            assert places == sorted(places)
        queued = sum(len(self.accepted[channel]) for channel in CHANNELS[2:])
        received = sum(len(seen.received) for seen in self.seen if seen.channel in CHANNELS[2:])
        assert received + self.bench.broker.statistics().poisoned == queued

    async def close(self) -> None:
        """The broker ends in the middle of it all: who waits is told, and everything is accounted for."""
        waiting = sum(map(len, self.line.values()))
        self.bench.broker.close()
        await wait_all_tasks_blocked()
        assert self.refused == waiting
        for seen in self.seen:
            while not seen.over and seen.peer.waiting:
                self.act("settle", seen, 0)
                self.act("take", seen, 12)
            seen.peer.leave()
        assert self.bench.broker.memory.cost == 0


async def follow(plan: list[Step], close: bool) -> None:
    """Follow a plan, checking after each step."""
    with Bench(**LIMITS) as bench:
        async with trio.open_nursery() as nursery:
            house = House(bench, nursery)
            for step in plan:
                await house.do(step)
                house.check()
            if close:
                await house.close()
            else:
                await house.receive_the_rest()


def run(*arguments: Any) -> None:
    trio.run(follow, *arguments, clock=MockClock(autojump_threshold=0))


@given(st.lists(steps, min_size=5, max_size=80), st.booleans())
def test_any_plan(plan: list[Step], close: bool) -> None:
    run(plan, close)
