"""Each check passes on a broker that does everything right, and fails on one that does what it is about wrong."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from tests.conform.broker import Broker, open_broker
from trio_broker.conform import CHECKS, VERSIONS, Level, Outcome, Report, Target, run_checks, select
from trio_broker.conform.stage import Stage
from trio_broker.conform.suite import run_check

FLAWS = {
    "1.1 by default": "C-2",
    "ABORT commits": "C-106 C-110 C-114",
    "ACK does nothing": "C-88 C-92 C-94 C-97 C-100 C-113",
    "ACK without id": "C-101",
    "ACK without message-id": "C-101",
    "ACK without subscription": "C-102",
    "ASCII alone": "C-48 C-54",
    "BEGIN without transaction": "C-116",
    "COMMIT does nothing": "C-56 C-105 C-110 C-111 C-112 C-113",
    "NACK is an error": "C-83 C-96 C-97",
    "SEND without destination": "C-63 C-120 C-123 C-124 C-125 C-126 C-128 C-129",
    "SUBSCRIBE without destination": "C-67 C-121",
    "SUBSCRIBE without id": "C-68",
    "UNSUBSCRIBE of anything": "C-78",
    "UNSUBSCRIBE without id": "C-79",
    "a receipt for CONNECT": "C-10",
    "a wrong heart-beat": "C-135",
    "a wrong server": "C-12",
    "acknowledges all of the connection": "C-93",
    "always beats": "C-136",
    "another destination": "C-59",
    "auto returns": "C-86 C-87",
    "beats late": "C-137",
    "beats with frames": "C-138",
    "client by default": "C-87",
    "closes without a receipt": "C-85 C-96",
    "closes without an error": "C-5 C-63 C-67 C-119",
    "commands in any case": "C-33",
    "connects in another version": "C-1",
    "drops empty headers": "C-55",
    "drops headers": "C-18 C-37 C-38 C-39 C-40 C-41 C-42 C-43 C-49 C-50 C-52 C-54 C-55",
    "ends any transaction": "C-117 C-118 C-122 C-127",
    "errors do not close": "C-5 C-44 C-45 C-46 C-120 C-121 C-122 C-129",
    "errors without content-type": "C-126",
    "errors without escapes": "C-127",
    "errors without message": "C-124",
    "errors without receipt-id": "C-125",
    "escapes in CONNECT": "C-11",
    "escapes one after the other": "C-41",
    "forgives silence": "C-140",
    "headers in any case": "C-34",
    "hides its versions": "C-6",
    "ignores UNSUBSCRIBE": "C-74 C-75 C-76 C-77 C-78",
    "individual is cumulative": "C-94 C-97",
    "is impatient": "C-139",
    "fills empty bodies": "C-24",
    "last in, first out": "C-92 C-105 C-112",
    "loses every message": "C-18 C-22 C-58 C-62 C-70 C-71 C-73 C-84 C-133 C-134",
    "loses what a break leaves": "C-90",
    "messages without ack": "C-60",
    "messages without subscription": "C-58",
    "mixes messages up": "C-62",
    "needs a content-length": "C-23",
    "needs whole reads": "C-20",
    "never ignores a body": "C-32",
    "no CR LF": "C-15 C-18 C-19",
    "no STOMP": "C-7",
    "no content-length": "C-28",
    "no mark on what returns": "C-95",
    "no receipt for ABORT": "C-81",
    "no receipt for ACK": "C-82",
    "no receipt for BEGIN": "C-81",
    "no receipt for COMMIT": "C-81",
    "no receipt for DISCONNECT": "C-130 C-131",
    "no receipt for NACK": "C-83",
    "no receipt for SEND": "C-80",
    "no receipt for SUBSCRIBE": "C-80",
    "no receipt for UNSUBSCRIBE": "C-80",
    "no transactions": "C-104 C-106 C-107 C-108 C-109 C-110 C-114",
    "nothing is cumulative": "C-92",
    "nothing returns": "C-89 C-90 C-91 C-92 C-93 C-94 C-95 C-114",
    "one frame a read": "C-21 C-128",
    "one message-id": "C-61",
    "one session": "C-13",
    "passes everything on": "C-56",
    "queues are topics": "C-65",
    "queues keep nothing": "C-64 C-76 C-84 C-128 C-133 C-134",
    "reads no escapes": "C-39 C-40 C-41 C-42 C-43 C-44 C-45 C-46 C-48",
    "receipts for everything": "C-85",
    "resets after DISCONNECT": "C-131",
    "resets after errors": "C-123",
    "sends no heart-beats": "C-137 C-138",
    "settles anything": "C-98 C-99 C-100",
    "small receipts": "C-47",
    "stays after DISCONNECT": "C-131 C-132",
    "stops at NUL": "C-22 C-25 C-27 C-29",
    "stumbles over carriage returns": "C-17",
    "stumbles over line ends": "C-16 C-17",
    "takes a duplicate id": "C-69",
    "takes a duplicate transaction": "C-115",
    "takes a second CONNECT": "C-9",
    "takes any body": "C-31",
    "takes any command": "C-36 C-103",
    "takes any content-length": "C-30",
    "takes any escape": "C-44 C-45 C-46",
    "takes any heart-beat": "C-141",
    "takes any mode": "C-72",
    "takes any transaction": "C-119",
    "takes any version": "C-5 C-6",
    "takes anything before CONNECT": "C-8 C-15",
    "takes lines without a colon": "C-35",
    "takes longer bodies": "C-29",
    "the end commits": "C-107 C-108",
    "the escapes of 1.2 always": "C-45 C-47",
    "the first version": "C-3",
    "the last header wins": "C-52 C-53",
    "the lowest version": "C-3 C-4",
    "tires": "C-14",
    "topics are queues": "C-66",
    "topics give everything to the first": "C-66",
    "trims bodies": "C-26",
    "trims headers": "C-49 C-50",
    "pads nothing": "C-51",
    "writes no escapes": "C-42 C-57",
}


def target(broker: Broker) -> Target:
    return Target(broker.open_stream)


async def report_on(*flaws: str) -> Report:
    async with open_broker(*flaws) as broker:
        return await run_checks(target(broker), CHECKS, VERSIONS)


async def failed_versions(number: str, flaw: str) -> list[str]:
    """The versions in which this one check fails, each on a broker of its own."""
    (check,) = select([number])
    failed = []
    asked = set()
    for version in check.levels:
        async with open_broker(flaw) as broker:
            result = await run_check(check, Stage(target(broker), version, "alone"))
        asked |= broker.asked
        if result.outcome is Outcome.FAILED:
            failed.append(version)
    assert flaw in asked, "nothing in the broker has this flaw"
    return failed


async def test_a_broker_that_does_everything_right_passes_every_check(autojump_clock: MockClock) -> None:
    report = await report_on()
    assert [result for result in report.results if result.outcome is not Outcome.PASSED] == []
    assert {(result.check.number, result.version) for result in report.results} == {
        (check.number, version) for check in CHECKS for version in check.levels
    }
    assert (report.conforms, report.server, report.unspoken) == (True, "test/1 a comment", {})


@pytest.mark.parametrize(("flaw", "numbers"), FLAWS.items())
async def test_a_flaw_fails_the_checks_that_are_about_it(autojump_clock: MockClock, flaw: str, numbers: str) -> None:
    for number in numbers.split():
        assert await failed_versions(number, flaw), number


def test_every_check_is_seen_to_fail() -> None:
    seen = {number for numbers in FLAWS.values() for number in numbers.split()}
    assert seen >= {check.number for check in CHECKS}, {check.number for check in CHECKS} - seen


@pytest.mark.parametrize(
    "flaw", ["takes any escape", "no mark on what returns", "trims headers", "resets after errors", "beats late"]
)
async def test_a_flaw_fails_no_other_checks(autojump_clock: MockClock, flaw: str) -> None:
    report = await report_on(flaw)
    failed = {result.check.number for result in report.results if result.outcome is Outcome.FAILED}
    assert failed == set(FLAWS[flaw].split())


async def test_only_what_is_demanded_decides(autojump_clock: MockClock) -> None:
    recommended = await report_on("errors without message", "no mark on what returns")
    assert {result.level for result in recommended.results if result.outcome is Outcome.FAILED} == {
        Level.SHOULD,
        Level.CONVENTION,
    }
    assert recommended.conforms
    assert not (await report_on("trims headers")).conforms


@pytest.mark.parametrize(
    ("number", "flaw", "seen"),
    [
        ("C-3", "the lowest version", "CONNECTED '1.0' for accept-version 1.0,1.1,1.2,9.9"),
        ("C-6", "hides its versions", "ERROR 'no common version' without a version header"),
        ("C-22", "stops at NUL", "a body of 1 bytes instead of "),
        ("C-49", "trims headers", "'x-padded' is 'value'"),
        ("C-44", "takes any escape", "RECEIPT 'fatal' instead of an ERROR"),
        ("C-63", "closes without an error", "connection closed without an ERROR"),
        ("C-80", "no receipt for UNSUBSCRIBE", "the RECEIPT for UNSUBSCRIBE did not come within 10 s"),
        ("C-83", "NACK is an error", "ERROR 'not built' instead of the RECEIPT for NACK"),
        ("C-120", "errors do not close", "but the connection is still open after 2 s"),
        ("C-131", "resets after DISCONNECT", "RECEIPT, connection reset"),
        ("C-137", "beats late", "nothing for 1.75 s, with 1 s agreed"),
        ("C-57", "writes no escapes", "MESSAGE: a colon without an escape in 'x-user:a:b'"),
    ],
)
async def test_what_was_seen_is_said(autojump_clock: MockClock, number: str, flaw: str, seen: str) -> None:
    (check,) = select([number])
    async with open_broker(flaw) as broker:
        result = await run_check(check, Stage(target(broker), "1.2", "alone"))
    assert seen in result.seen


async def test_a_broker_may_answer_http_in_kind(autojump_clock: MockClock) -> None:
    (check,) = select(["C-15"])
    async with open_broker("speaks HTTP") as broker:
        result = await run_check(check, Stage(target(broker), "1.2", "alone"))
    assert result.outcome is Outcome.PASSED
    assert result.seen == "not a frame: 'HTTP/1.1 400 Bad Request' is no frame of a server; then the end"


async def test_a_broker_may_send_one_message_at_a_time(autojump_clock: MockClock) -> None:
    (check,) = select(["C-92"])
    async with open_broker("one message at a time") as broker:
        result = await run_check(check, Stage(target(broker), "1.2", "alone"))
    assert (result.outcome, result.seen) == (
        Outcome.NOT_SHOWN,
        "the broker sends one message, and the next when that was acknowledged",
    )


@pytest.mark.parametrize("number", ["C-137", "C-138"])
async def test_a_broker_may_have_no_heart_beats(autojump_clock: MockClock, number: str) -> None:
    (check,) = select([number])
    async with open_broker("declines heart-beats") as broker:
        result = await run_check(check, Stage(target(broker), "1.2", "alone"))
    assert (result.outcome, result.seen) == (Outcome.NOT_SHOWN, "the broker sends no heart-beats")
