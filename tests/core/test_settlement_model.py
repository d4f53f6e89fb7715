"""Settlement against a plain model: any plan of what publishers, consumers and the clock may do, with tiny limits.

Each message is at any moment in exactly one place. After each step: what was given was waiting, with as many attempts
behind it as the model counts, and had not expired; nobody has more than the credit; who could take more does not wait
for what is there; a consumer sees what was never tried in order. At the end all leave, and what is left is received in
the order of acceptance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.core.helpers import Bench, Peer, framed, mark, tries
from trio_broker.errors import NotOutstanding
from trio_broker.message import AckMode

QUEUES = ["/queue/a", "/queue/b"]
LIMITS = {
    "mailbox_bytes_max": mark(4),
    "backlog_bytes_max": mark(30),
    "unsettled_bytes_max": 2500,
    "deliveries_max": 3,
}

Step: TypeAlias = tuple[str, int, int]

steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("subscribe"), st.integers(0, 17), st.integers(1, 5)),
    st.tuples(st.just("publish"), st.integers(0, 5), st.integers(1, 7)),
    st.tuples(st.sampled_from(["take", "receive"]), st.integers(0, 5), st.sampled_from([1, 20, 1000])),
    st.tuples(st.sampled_from(["ack", "ack", "nack", "reject"]), st.integers(0, 5), st.integers(0, 5)),
    st.tuples(st.sampled_from(["leave", "withdraw", "retire"]), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("sleep"), st.just(0), st.integers(1, 3)),
)


@dataclass
class Known:
    """What the model knows of one message."""

    body: bytes
    position: int
    queue: str
    dies_at: float
    place: str = "waiting"
    attempts: int = 0


@dataclass(eq=False)
class Consumer:
    """What the model knows of one subscription."""

    peer: Peer
    queue: str
    mode: AckMode
    unsettled: dict[int, Known] = field(default_factory=dict)
    last_fresh: int = -1
    over: bool = False


class Model:
    def __init__(self, house: Bench) -> None:
        self.house = house
        self.messages: dict[bytes, Known] = {}
        self.consumers: list[Consumer] = []

    def count(self, place: str) -> int:
        return sum(message.place == place for message in self.messages.values())

    # -- what may happen -----------------------------------------------------------------------------------------------

    async def do(self, step: Step) -> None:
        action, which, how = step
        match action:
            case "subscribe":
                self.subscribe(QUEUES[which % 2], list(AckMode)[which % 3], how, shared=which > 8)
            case "publish":
                self.publish(QUEUES[which % 2], how, [float("inf"), 2.0, 4.0][which % 3])
            case "sleep":
                await trio.sleep(how)
            case _:
                present = [consumer for consumer in self.consumers if not consumer.over]
                if which < len(present):
                    self.act(action, present[which], how)

    def subscribe(self, queue: str, mode: AckMode, credit: int, shared: bool) -> None:
        ledgers = [consumer.peer.ledger for consumer in self.consumers if not consumer.over]
        ledger = ledgers[0] if shared and ledgers else self.house.broker.open_ledger()
        peer = self.house.peer(queue, owner=trio.CancelScope(), ack=mode, credit=credit, ledger=ledger)
        self.consumers.append(Consumer(peer, queue, mode))

    def publish(self, queue: str, count: int, life: float) -> None:
        start = len(self.messages)
        bodies = [b"%d" % number for number in range(start, start + count)]
        batch = framed(queue, *bodies)
        batch.expires_at = trio.current_time() + life
        if self.house.broker.offer(batch):
            for number, body in enumerate(bodies, start):
                self.messages[body] = Known(body, number, queue, batch.expires_at)

    def act(self, action: str, consumer: Consumer, how: int) -> None:
        subscription = consumer.peer.subscription
        match action:
            case "take":
                came = tries(subscription.take(how))
                self.give(consumer, came, subscription.first_number)
                consumer.peer.settle()
            case "receive":
                try:
                    message = consumer.peer.local.receive_nowait()
                except trio.WouldBlock:
                    return
                known = self.messages[message.body]
                assert message.redelivered == (known.attempts > 0)
                self.give(consumer, [(message.body, known.attempts)], message._number)
            case "leave":
                subscription.leave()
                self.returned(list(consumer.unsettled.values()))
                consumer.unsettled.clear()
                consumer.over = True
            case "withdraw":
                subscription.withdraw()
            case "retire":
                subscription.retire()
            case _:
                self.settle(action, consumer, how)
        consumer.over = consumer.over or subscription.ended

    def give(self, consumer: Consumer, came: list[tuple[bytes, int]], first_number: int) -> None:
        for number, (body, attempts) in enumerate(came, first_number):
            known = self.messages[body]
            assert known.place == "waiting", "it is given twice, or after its end"
            assert known.queue == consumer.queue
            assert known.dies_at > trio.current_time(), "it is given late"
            assert attempts == known.attempts
            if not attempts:
                assert known.position > consumer.last_fresh, "out of order"
                consumer.last_fresh = known.position
            if consumer.mode is AckMode.AUTO:
                known.place = "delivered"
            else:
                known.place = "unsettled"
                consumer.unsettled[number] = known

    def settle(self, action: str, consumer: Consumer, how: int) -> None:
        numbers = list(consumer.unsettled)
        if how >= len(numbers):
            return
        ledger = consumer.peer.ledger
        ledger.check(numbers[how])
        assert ledger.subscription_of(numbers[how]) is consumer.peer.subscription
        settled = numbers[: how + 1] if consumer.mode is AckMode.CLIENT else [numbers[how]]
        messages = [consumer.unsettled.pop(number) for number in settled]
        if action == "ack":
            ledger.ack(numbers[how])
        else:
            ledger.nack(numbers[how], requeue=action == "nack")
        if action == "nack":
            self.returned(messages)
        for message in messages:
            if action != "nack":
                message.place = "delivered" if action == "ack" else "rejected"
        for number in settled:
            try:
                ledger.check(number)
            except NotOutstanding:
                continue
            raise AssertionError("it may be settled twice")

    def returned(self, messages: list[Known]) -> None:
        for message in messages:
            message.attempts += 1
            message.place = "waiting" if message.attempts < LIMITS["deliveries_max"] else "poisoned"

    # -- what holds after each step ------------------------------------------------------------------------------------

    def check(self) -> None:
        house = self.house
        house.check()
        house.check_queue_conserved()
        statistics = house.broker.statistics()
        assert statistics.published == len(self.messages)
        assert statistics.delivered == self.count("delivered")
        assert statistics.rejected == self.count("rejected")
        assert statistics.poisoned == self.count("poisoned")
        dead = [message for message in self.messages.values() if message.dies_at <= trio.current_time()]
        assert statistics.expired <= sum(message.place == "waiting" for message in dead)
        assert statistics.discarded == statistics.unrouted == 0
        for consumer in self.consumers:
            assert list(consumer.peer.subscription.unsettled) == list(consumer.unsettled)
            credit = consumer.peer.subscription.credit
            assert credit is None or consumer.peer.held <= credit
        for queue in QUEUES:
            self.check_nobody_waits_in_vain(queue)

    def check_nobody_waits_in_vain(self, queue: str) -> None:
        here = [consumer for consumer in self.consumers if consumer.queue == queue and not consumer.over]
        members = [consumer.peer for consumer in here if consumer.peer.subscription.member]
        full = 0
        for peer in members:
            credit = peer.subscription.credit
            no_bytes = peer.subscription.mailbox.waiting_cost >= LIMITS["mailbox_bytes_max"]
            no_credit = credit is not None and (
                peer.held >= credit or peer.ledger.cost >= LIMITS["unsettled_bytes_max"]
            )
            full += no_bytes or no_credit
        channel = self.house.broker.statistics().channels.get(queue)
        assert (0 if channel is None else channel.full) == full
        if self.house.backlog(queue):
            assert full == len(members), "somebody could take what is there"

    # -- the end -------------------------------------------------------------------------------------------------------

    def receive_the_rest(self) -> None:
        for consumer in self.consumers:
            consumer.peer.subscription.retire()
        for consumer in reversed(self.consumers):
            if not consumer.over:
                self.act("leave", consumer, 0)
        for queue in QUEUES:
            last = self.house.worker(queue, credit=2)
            received: list[bytes] = []
            while given := last.given():
                received += given
                last.ledger.ack(list(given.values())[-1])
                for number in list(given.values())[:-1]:
                    last.ledger.ack(number)
            alive = [
                message.body
                for message in self.messages.values()
                if message.queue == queue and message.place == "waiting" and message.dies_at > trio.current_time()
            ]
            assert received == alive
        waiting = self.count("waiting")
        statistics = self.house.broker.statistics()
        assert statistics.delivered + statistics.expired == self.count("delivered") + waiting
        self.house.check_queue_conserved()


async def follow(plan: list[Step]) -> None:
    with Bench(**LIMITS) as house:
        model = Model(house)
        for step in plan:
            await model.do(step)
            model.check()
        model.receive_the_rest()


@given(st.lists(steps, min_size=5, max_size=70))
def test_any_plan(plan: list[Step]) -> None:
    trio.run(follow, plan, clock=MockClock(autojump_threshold=0))
