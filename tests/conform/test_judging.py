"""What counts for a check and what does not, where a broker ends a connection, or is stricter than others."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.conform.broker import open_broker
from trio_broker.conform import CHECKS, Outcome, Result, Target, run_checks, select
from trio_broker.conform.check import Mismatch
from trio_broker.conform.stage import Stage
from trio_broker.conform.suite import run_check


async def result_of(number: str, *flaws: str, version: str = "1.2") -> Result:
    """What comes of one check on a broker with these flaws, all of which must have been asked for."""
    (check,) = select([number])
    async with open_broker(*flaws) as broker:
        result = await run_check(check, Stage(Target(broker.open_stream), version, "alone"))
    assert set(flaws) <= broker.asked
    return result


async def test_a_broker_that_resets_every_connection_leaves_a_whole_report(autojump_clock: MockClock) -> None:
    async with open_broker("resets after a frame") as broker:
        report = await run_checks(Target(broker.open_stream), CHECKS, ["1.2"], at_once=64)
    assert [result.check for result in report.results] == [check for check in CHECKS if "1.2" in check.levels]
    seen = {result.check.number: (result.outcome, result.seen) for result in report.results}
    assert seen["C-80"] == (Outcome.FAILED, "connection reset instead of the RECEIPT for SEND")


async def test_the_end_of_bytes_cannot_be_told_to_who_has_reset(autojump_clock: MockClock) -> None:
    async with open_broker("resets after a frame") as broker, Stage(Target(broker.open_stream), "1.2", "a") as stage:
        peer = await stage.connect()
        await peer.frame("SEND", {"destination": "/queue/a"}, b"body")
        await peer.finish_sending()
        assert str(await peer.receive()) == "connection reset"


async def test_a_topic_is_judged_by_each_subscriber(autojump_clock: MockClock) -> None:
    result = await result_of("C-66", "topics give everything to the first")
    assert (result.outcome, result.seen) == (Outcome.FAILED, "20 and 0 of 10, some of them more than once")
    result = await result_of("C-66", "topics are queues")
    assert (result.outcome, result.seen) == (Outcome.FAILED, "5 and 5 of 10")
    result = await result_of("C-66")
    assert (result.outcome, result.seen) == (Outcome.PASSED, "10 and 10 of 10")


@pytest.mark.parametrize("version", ["1.1", "1.2"])
async def test_a_broker_may_give_up_after_one_period_of_silence(autojump_clock: MockClock, version: str) -> None:
    result = await result_of("C-139", "is strict", version=version)
    assert (result.outcome, result.seen) == (Outcome.PASSED, "kept for 3 periods of 1 s")


async def test_a_broker_may_keep_a_connection_that_is_half_closed(autojump_clock: MockClock) -> None:
    result = await result_of("C-134", "keeps what is half-closed")
    assert (result.outcome, result.seen) == (Outcome.PASSED, "the message is there")
    result = await result_of("C-134", "keeps what is half-closed", "loses every message")
    assert (result.outcome, result.seen) == (Outcome.FAILED, "0 messages")


@pytest.mark.parametrize("number", ["C-33", "C-34"])
async def test_what_is_not_carried_out_may_end_the_connection(autojump_clock: MockClock, number: str) -> None:
    result = await result_of(number, "closes without an error")
    assert (result.outcome, result.seen) == (Outcome.PASSED, "connection closed")
    result = await result_of(number)
    assert result.outcome is Outcome.PASSED
    assert result.seen.startswith("ERROR ")
    assert result.seen.endswith(", connection closed")


async def test_an_answer_to_connect_may_be_the_end(autojump_clock: MockClock) -> None:
    async def open_stream() -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_eof()
        return ours

    (check,) = select(["C-10"])
    result = await run_check(check, Stage(Target(open_stream), "1.2", "alone"))
    assert (result.outcome, result.seen) == (Outcome.PASSED, "connection closed")


async def test_a_connection_that_ended_is_not_quiet(autojump_clock: MockClock) -> None:
    result = await result_of("C-85", "closes without a receipt")
    assert (result.outcome, result.seen) == (Outcome.FAILED, "connection closed")


async def test_what_came_last_before_the_end_is_said(autojump_clock: MockClock) -> None:
    async with open_broker() as broker, Stage(Target(broker.open_stream), "1.2", "name") as stage:
        peer = await stage.connect()
        await peer.send(b"NOTHING\n\n\0")
        with pytest.raises(Mismatch, match=r"^ERROR 'no such command: NOTHING', connection closed$"):
            await peer.quiet()
