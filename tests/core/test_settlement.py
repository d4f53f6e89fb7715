"""Acknowledgements in process: `Message.ack`, `Message.nack` and `Message.process`, and Ctrl-C in each."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from tests.core.helpers import ACKING, Bench, drain, numbers
from trio_broker.core.ledger import Entry, Ledger
from trio_broker.limits import Overflow
from trio_broker.message import AckMode, Message

QUEUE, TOPIC = "/queue/q", "/topic/t"


@pytest.mark.parametrize("mode", [*ACKING, "client", "client-individual"])
async def test_what_was_received_is_delivered_once_it_is_acknowledged(
    bench: Callable[..., Bench], mode: AckMode | str
) -> None:
    house = bench()
    async with house.broker.subscribe(QUEUE, ack=mode) as subscription:
        house.publish_nowait(QUEUE, b"a")
        message = await subscription.receive()
        assert (message.body, message.redelivered) == (b"a", False)
        here = subscription.statistics()
        assert (here.unsettled, here.mailbox_messages, here.delivered) == (1, 0, 0)
        assert house.broker.statistics().delivered == 0
        assert house.broker.memory.cost > 0
        for _ in range(3):  # idempotent, whatever is called later
            message.ack()
            message.nack()
            message.nack(requeue=False)
        assert (subscription.statistics().unsettled, subscription.statistics().delivered) == (0, 1)
        assert house.broker.memory.cost == 0
    statistics = house.broker.statistics()
    assert (statistics.delivered, statistics.rejected) == (1, 0)


async def test_a_nack_says_whether_somebody_else_is_to_have_it(bench: Callable[..., Bench]) -> None:
    house = bench()
    async with house.broker.subscribe(QUEUE, ack="client-individual", prefetch_messages=2) as first:
        house.publish_nowait(QUEUE, b"back", b"away")
        back, away = drain(first)
        async with house.broker.subscribe(QUEUE) as second:
            away.nack(requeue=False)
            back.nack()
            back.ack()  # too late
            (message,) = drain(first) + drain(second)
            assert (message.body, message.redelivered) == (b"back", True)
            message.ack()
    statistics = house.broker.statistics()
    assert (statistics.delivered, statistics.rejected) == (1, 1)


async def test_a_nack_goes_to_whoever_is_next_and_to_oneself_only_if_nobody_else_can(
    bench: Callable[..., Bench],
) -> None:
    house = bench()
    async with house.broker.subscribe(QUEUE, ack="client-individual", prefetch_messages=1) as one:
        house.publish_nowait(QUEUE, b"a")
        one.receive_nowait().nack()
        again = one.receive_nowait()
        assert again.redelivered
        async with house.broker.subscribe(QUEUE, ack="client-individual", prefetch_messages=1) as other:
            again.nack()
            with pytest.raises(trio.WouldBlock):
                one.receive_nowait()
            other.receive_nowait().ack()


async def test_another_mode_is_refused_with_those_that_are_allowed(bench: Callable[..., Bench]) -> None:
    house = bench()
    with pytest.raises(ValueError, match=r"^ack is 'bogus'; allowed are auto, client, client-individual$"):
        async with house.broker.subscribe(QUEUE, ack="bogus"):
            pytest.fail("subscribed")
    assert not house.broker.statistics().channels


async def test_auto_and_topics_have_nothing_to_settle(bench: Callable[..., Bench]) -> None:
    house = bench()
    async with house.broker.subscribe(QUEUE) as auto, house.broker.subscribe(TOPIC, ack="client-individual") as news:
        for subscription, channel in ((auto, QUEUE), (news, TOPIC)):
            house.publish_nowait(channel, b"a")
            message = subscription.receive_nowait()
            before = house.broker.statistics()
            message.nack()
            message.ack()
            with pytest.raises(ZeroDivisionError):
                async with message.process():
                    _ = 1 / 0
            assert house.broker.statistics() == before
        assert drain(auto) == drain(news) == []
    assert house.broker.statistics().delivered == 2
    Message(QUEUE, b"of nobody").ack()


@pytest.mark.parametrize("overflow", list(Overflow))
async def test_a_topics_policies_hold_whatever_the_mode(bench: Callable[..., Bench], overflow: Overflow) -> None:
    house = bench(mailbox_bytes_max=1500)
    auto = house.peer(TOPIC, overflow)
    client = house.peer(TOPIC, overflow, ack=AckMode.CLIENT)
    for body in numbers(0, 6):
        try:
            house.broker.publish_nowait(TOPIC, body)
        except trio.WouldBlock:
            break
    assert (auto.subscription.evicted is None) == (client.subscription.evicted is None)
    assert auto.subscription.dropped == client.subscription.dropped
    assert auto.take() == client.take()
    house.check()


async def test_process_acknowledges_what_was_dealt_with(bench: Callable[..., Bench]) -> None:
    house = bench()
    async with house.broker.subscribe(QUEUE, ack="client-individual") as subscription:
        house.publish_nowait(QUEUE, b"a", b"b", b"c")
        message = subscription.receive_nowait()
        async with message.process() as same:
            assert same is message
            assert house.broker.statistics().delivered == 0
        assert house.broker.statistics().delivered == 1
        async with (message := subscription.receive_nowait()).process():
            message.nack(requeue=False)  # settled inside: leaving changes nothing
        async with (message := subscription.receive_nowait()).process():
            message.ack()
        assert drain(subscription) == []
    statistics = house.broker.statistics()
    assert (statistics.delivered, statistics.rejected) == (2, 1)


async def test_process_returns_after_an_error(bench: Callable[..., Bench]) -> None:
    house = bench()
    async with house.broker.subscribe(QUEUE, ack="client-individual") as subscription:
        house.publish_nowait(QUEUE, b"a")
        with pytest.raises(ZeroDivisionError):
            async with subscription.receive_nowait().process():
                _ = 1 / 0
        message = subscription.receive_nowait()
        assert message.redelivered
        with pytest.raises(ZeroDivisionError):
            async with message.process():
                message.ack()  # it was dealt with before that
                _ = 1 / 0
        assert drain(subscription) == []
    assert house.broker.statistics().delivered == 1


async def test_process_returns_what_was_cancelled(bench: Callable[..., Bench], autojump_clock: MockClock) -> None:
    house = bench()
    async with house.broker.subscribe(QUEUE, ack="client-individual") as subscription:
        house.publish_nowait(QUEUE, b"a")
        with trio.move_on_after(1):
            async with (await subscription.receive()).process():
                await trio.sleep_forever()
        with trio.CancelScope() as scope:
            scope.cancel()
            async with subscription.receive_nowait().process() as message:
                assert message.redelivered  # no checkpoint on entering, nor on leaving
        assert not scope.cancelled_caught
    assert house.broker.statistics().delivered == 1


@pytest.mark.parametrize("how", ["ack", "nack", "process", "process that fails"])
def test_ctrl_c_comes_before_or_after_a_settlement_and_never_inside(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The signal is raised in the middle, and seen when all has been done."""
    remove = Ledger._remove

    def interrupted(ledger: Ledger, number: int) -> list[Entry]:
        signal.raise_signal(signal.SIGINT)
        return remove(ledger, number)

    async def settle() -> None:
        with Bench() as house:
            async with house.broker.subscribe(QUEUE, ack="client-individual") as subscription:
                house.publish_nowait(QUEUE, b"a")
                message = subscription.receive_nowait()
                match how:
                    case "ack":
                        message.ack()
                    case "nack":
                        message.nack(requeue=False)
                    case "process":
                        async with message.process():
                            pass
                    case _:
                        with pytest.raises(ZeroDivisionError):
                            async with message.process():
                                _ = 1 / 0
                assert subscription.statistics().unsettled == 0
                finished.append(how)

    finished: list[str] = []
    monkeypatch.setattr(Ledger, "_remove", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trio.run(settle)
    finally:
        signal.signal(signal.SIGINT, before)
    assert finished == [how]


class Interrupting:
    """A settler that has no protection of its own."""

    def __init__(self) -> None:
        self.settled: list[str] = []

    def ack(self, number: int) -> None:
        signal.raise_signal(signal.SIGINT)
        self.settled.append("ack")

    def nack(self, number: int, requeue: bool) -> None:
        signal.raise_signal(signal.SIGINT)
        self.settled.append("nack")


def test_ctrl_c_does_not_come_between_a_block_and_its_settlement() -> None:
    async def process() -> None:
        async with Message(QUEUE, b"a", {}, 0, False, settler, 1).process():
            pass

    settler = Interrupting()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trio.run(process)
    finally:
        signal.signal(signal.SIGINT, before)
    assert settler.settled == ["ack"]


async def test_what_is_settled_after_the_broker_ended_counts_and_the_rest_is_discarded(
    bench: Callable[..., Bench],
) -> None:
    house = bench()
    async with house.broker.subscribe(QUEUE, ack="client-individual", prefetch_messages=4) as subscription:
        house.publish_nowait(QUEUE, *numbers(0, 6))
        messages = [subscription.receive_nowait() for _ in range(3)]
        house.broker.close()
        assert house.broker.statistics().discarded == 2
        messages[0].ack()
        messages[1].nack()
        messages.append(await subscription.receive())  # what is in the mailbox is still received
        with pytest.raises(trio.EndOfChannel):
            await subscription.receive()
        messages[3].ack()
    statistics = house.broker.statistics()
    assert (statistics.delivered, statistics.discarded) == (2, 4)
