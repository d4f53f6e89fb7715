"""How checks are chosen and run."""

from __future__ import annotations

import re

import pytest
import trio
from trio.testing import MockClock

from tests.conform.broker import open_broker
from trio_broker.conform import CHECKS, VERSIONS, Check, Level, Outcome, Target, run_checks, select
from trio_broker.conform.check import Chapter, Mismatch, NotShown
from trio_broker.conform.stage import Stage


def made(run: object, *, must: str = "1.2") -> Check:
    """A check of its own."""
    chapter = Chapter()
    chapter.check("Clause", "something", must=must)(run)  # type: ignore[arg-type]  # each test has its own kind
    (check,) = chapter.numbered(after=0)
    return check


def test_the_catalogue_is_in_order() -> None:
    assert [check.number for check in CHECKS] == [f"C-{number}" for number in range(1, len(CHECKS) + 1)]
    assert len({check.run for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert check.levels.keys() <= set(VERSIONS)
        assert re.fullmatch(r"(S-[0-9]+( S-[0-9]+)*)?", check.ours), check.number
        assert check.expected[-1] != "."


@pytest.mark.parametrize(
    ("patterns", "numbers"),
    [
        (["C-1"], ["C-1"]),
        (["c-13?"], [f"C-13{digit}" for digit in range(10)]),
        (["S-4"], ["C-31", "C-32"]),
        (["cumulative:"], ["C-92"]),
        (["C-141", "C-2"], ["C-2", "C-141"]),
        (["nothing has this"], []),
        (["c-999"], []),
    ],
)
def test_patterns_choose(patterns: list[str], numbers: list[str]) -> None:
    assert [check.number for check in select(patterns)] == numbers


def test_without_a_pattern_all_are_chosen() -> None:
    assert select([]) == CHECKS


def test_a_check_is_for_known_versions() -> None:
    with pytest.raises(ValueError, match="at least one of"):
        Chapter().check("Clause", "something")
    with pytest.raises(ValueError, match=r"2\.0"):
        Chapter().check("Clause", "something", must="2.0")


async def test_outcomes(autojump_clock: MockClock) -> None:
    async def passes(stage: Stage) -> str:
        await trio.sleep(1)
        return "as it should be"

    async def fails(stage: Stage) -> str:
        await trio.sleep(2)
        raise Mismatch("otherwise")

    async def declines(stage: Stage) -> str:
        raise NotShown("no occasion")

    async def hangs(stage: Stage) -> str:
        peer = await stage.connect()
        await peer.message("a MESSAGE that nobody sends")
        return "never"

    async def hears_no_frame(stage: Stage) -> str:
        peer = await stage.open()
        await peer.send(b"CONNECT\naccept-version:1.2\n\n\0")
        return str(await peer.message())

    checks = [made(run) for run in (passes, fails, declines, hangs, hears_no_frame)]
    async with open_broker() as broker:
        target = Target(broker.open_stream, check_seconds_max=7)
        report = await run_checks(target, checks, ["1.2"])
    assert [(result.outcome, result.seen, result.seconds) for result in report.results] == [
        (Outcome.PASSED, "as it should be", 1),
        (Outcome.FAILED, "otherwise", 2),
        (Outcome.NOT_SHOWN, "no occasion", 0),
        (Outcome.FAILED, "a MESSAGE that nobody sends did not come within 7 s", 7),
        (Outcome.FAILED, "a MESSAGE did not come within 7 s", 7),
    ]
    assert {result.level for result in report.results} == {Level.MUST}
    assert not report.conforms


@pytest.mark.parametrize(("at_once", "seconds"), [(1, 6), (2, 3), (64, 1)])
async def test_so_many_run_at_once(autojump_clock: MockClock, at_once: int, seconds: float) -> None:
    async def sleeps(stage: Stage) -> str:
        await trio.sleep(1)
        return stage.queue()

    progress: list[tuple[int, int]] = []
    async with open_broker() as broker:
        began = trio.current_time()
        report = await run_checks(
            Target(broker.open_stream),
            [made(sleeps, must="1.1 1.2") for _ in range(3)],
            VERSIONS,
            at_once=at_once,
            progress=lambda done, planned: progress.append((done, planned)),
        )
        assert trio.current_time() - began == seconds
    assert [result.version for result in report.results] == ["1.1", "1.2"] * 3
    assert len({result.seen for result in report.results}) == 6  # each has destinations of its own
    assert progress == [(number, 6) for number in range(1, 7)]


async def test_versions_that_are_not_spoken_are_left_out(autojump_clock: MockClock) -> None:
    async with open_broker("connects in another version") as broker:
        report = await run_checks(Target(broker.open_stream), CHECKS, VERSIONS)
    assert report.unspoken == dict.fromkeys(VERSIONS, "CONNECTED speaks 9.9")
    assert report.results == ()
    assert not report.conforms


async def test_a_broker_that_says_nothing_speaks_no_version(autojump_clock: MockClock) -> None:
    async def open_stream() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return trio.testing.memory_stream_pair()[0]

    report = await run_checks(Target(open_stream), CHECKS, ["1.2"])
    assert report.unspoken == {"1.2": "no CONNECTED within 10 s"}


async def test_a_broker_that_cannot_be_reached() -> None:
    async def open_stream() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        await run_checks(Target(open_stream), CHECKS, VERSIONS)


async def test_what_connect_says(autojump_clock: MockClock) -> None:
    async with open_broker() as broker:
        target = Target(broker.open_stream, vhost="/", login="me", passcode="a:b", topic_prefix="T.", queue_prefix="Q.")
        stage = Stage(target, "1.1", "name")
        assert stage.connect_headers() == {
            "accept-version": "1.1",
            "host": "/",
            "login": "me",
            "passcode": "a:b",
        }
        assert (stage.queue(), stage.topic()) == ("Q.name-1", "T.name-2")


async def test_a_flood_ends_a_check(autojump_clock: MockClock) -> None:
    frame = b"MESSAGE\n\n" + b"x" * 1_000_000 + b"\0"

    async def reads(stage: Stage) -> str:
        peer = await stage.connect()
        return str(len(await peer.quiet()))

    async def open_stream() -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(b"CONNECTED\nversion:1.2\n\n\0" + frame * 40)
        return ours

    report = await run_checks(Target(open_stream), [made(reads)], ["1.2"])
    (result,) = report.results
    assert (result.outcome, result.seen) == (Outcome.FAILED, "more than 33,554,432 bytes that nobody asked for")


async def test_connections_are_closed_at_the_end(autojump_clock: MockClock) -> None:
    async def hangs(stage: Stage) -> str:
        peer = await stage.connect()
        await stage.subscribe(peer, "/queue/a")
        await trio.sleep_forever()
        return ""

    async with open_broker() as broker:
        with trio.move_on_after(1):
            await run_checks(Target(broker.open_stream), [made(hangs)], ["1.2"])
        await trio.testing.wait_all_tasks_blocked()
        assert broker.subscriptions == []


async def test_what_follows_is_written_only_when_the_broker_stays_silent(autojump_clock: MockClock) -> None:
    """Else the broker would close with unread bytes, and the system could reset what the ERROR is in."""
    written = b""

    async def open_stream() -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(answer_late, theirs)
        await trio.lowlevel.checkpoint()
        return ours

    async def answer_late(stream: trio.abc.Stream) -> None:
        nonlocal written
        await trio.sleep(0.4)
        written = bytes(await stream.receive_some())
        await stream.send_all(b"ERROR\nmessage:late\n\n\0")

    async with trio.open_nursery() as nursery, Stage(Target(open_stream), "1.2", "name") as stage:
        assert str(await stage.refused(await stage.open(), b"NOTHING\n\n\0")) == "ERROR 'late'"
    assert written == b"NOTHING\n\n\0"


async def test_a_broker_that_carries_on_is_noticed(autojump_clock: MockClock) -> None:
    async with open_broker("takes any command") as broker:
        async with Stage(Target(broker.open_stream), "1.2", "name") as stage:
            peer = await stage.connect()
            with trio.fail_after(60), pytest.raises(Mismatch, match="no ERROR, and the broker carried on"):
                await stage.refused(peer, b"NOTHING\n\n\0")
