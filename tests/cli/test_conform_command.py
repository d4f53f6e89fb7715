"""The command, as a process of its own, against our broker and against one with flaws."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.cli.processes import PATIENCE_SECONDS, broker, program
from tests.cli.test_terminal import Terminal
from tests.conform.broker import Broker, open_broker
from trio_broker.conform import CHECKS, VERSIONS


@asynccontextmanager
async def listening(*flaws: str) -> AsyncIterator[str]:
    """The address of a broker with these flaws."""
    async with open_broker(*flaws) as flawed, trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, functools.partial(_bridge, flawed), 0, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(serve)
        yield f"stomp://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def _bridge(inside_broker: Broker, stream: trio.SocketStream) -> None:
    """Carry bytes between a socket and the broker until either ends."""
    inside = await inside_broker.open_stream()

    async def carry(source: trio.abc.ReceiveStream, target: trio.abc.SendStream) -> None:
        try:
            async for data in source:
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(carry, stream, inside)
        nursery.start_soon(carry, inside, stream)
    await trio.aclose_forcefully(inside)


async def test_our_broker_does_everything_right() -> None:
    only = [part for pattern in ("C-?", "C-??", "C-1[0-2]?") for part in ("--only", pattern)]  # no heart-beats
    command = ("conform", *only, "--at-once", "16", "--quiet-seconds", "0.2", "--json")
    async with broker() as (_, port):
        address = f"stomp://127.0.0.1:{port}"
        async with program(*command, address) as conform:
            assert await conform.end() == 0
            assert conform.log == []
            report = json.loads(conform.out)
    assert set(report) == {"address", "server", "conforms", "unspoken", "counts", "results"}
    assert (report["address"], report["server"]) == (address, "trio_broker")
    assert (report["conforms"], report["unspoken"]) == (True, {})
    chosen = [check for check in CHECKS if int(check.number.removeprefix("C-")) < 130]
    assert [(row["check"], row["version"]) for row in report["results"]] == [
        (check.number, version) for check in chosen for version in VERSIONS if version in check.levels
    ]
    assert [row for row in report["results"] if row["outcome"] != "passed"] == []
    for version in VERSIONS:
        demanded = sum(version in check.levels for check in chosen)
        counts = [count for level in report["counts"][version].values() for count in level.values()]
        assert sum(counts) == demanded


async def test_the_table_says_what_is_wrong() -> None:
    flaws = ("trims headers", "errors without message", "no mark on what returns")
    only = [part for number in ("C-1", "C-49", "C-95", "C-124") for part in ("--only", number)]
    async with listening(*flaws) as address, program("conform", address, *only) as conform:
        assert await conform.end() == 1
        text = conform.out.decode()
    assert text.startswith(f"{address}: test/1 a comment\n")
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if "│ C-" in line]
    assert [(row[0], row[1], row[2], row[-1]) for row in rows] == [
        ("C-1", "1.0", "MUST", "passed"),
        ("C-1", "1.1", "MUST", "passed"),
        ("C-1", "1.2", "MUST", "passed"),
        ("C-49", "1.1 1.2", "MUST", "failed"),
        ("C-95", "1.0 1.1 1.2", "convention", "failed"),
        ("C-124", "1.0 1.1 1.2", "SHOULD", "failed"),
    ]
    assert "'x-padded' is 'value'" in text
    assert text.splitlines()[-1] == "Not as the specification demands: C-49"


async def test_what_is_only_recommended_does_not_fail() -> None:
    async with listening("errors without message") as address:
        async with program("conform", address, "--only", "C-124", "--version", "1.2") as conform:
            assert await conform.end() == 0
            assert conform.lines[-1] == "Everything that was checked is as the specification demands."


async def test_versions_and_patterns_choose() -> None:
    command = ("--only", "heart-beat of", "--only", "c-2", "--version", "1.1", "--version", "1.0", "--json")
    async with listening() as address, program("conform", address, *command) as conform:
        assert await conform.end() == 0
        rows = json.loads(conform.out)["results"]
    assert [(row["check"], row["version"]) for row in rows] == [("C-2", "1.0"), ("C-135", "1.1")]


async def test_a_version_that_is_asked_for_has_to_be_spoken() -> None:
    async with listening("connects in another version") as address:
        async with program("conform", address, "--version", "1.2") as conform:
            assert await conform.end() == 1
            assert conform.log == [
                "Error: the broker does not speak what is to be checked: 1.2: CONNECTED speaks 9.9",
            ]
        async with program("conform", address) as conform:
            assert await conform.end() == 1
            assert conform.log[0].startswith("Error: the broker does not speak what is to be checked: 1.0: ")


async def test_a_pattern_for_another_version() -> None:
    async with listening() as address:
        async with program("conform", address, "--version", "1.2", "--only", "C-2") as conform:
            assert await conform.end() == 1
            assert conform.log == ["Error: none of these 1 checks is for a version that is to be checked"]


async def test_a_broker_that_is_not_there() -> None:
    async with program("conform", "stomp://127.0.0.1:1") as conform:
        assert await conform.end() == 1
        assert conform.log == ["Error: cannot connect to 127.0.0.1:1: Connection refused"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("127.0.0.1:61613",), "write stomp://HOST or stomp://HOST:PORT"),
        (("http://127.0.0.1:61613",), "write stomp://HOST or stomp://HOST:PORT"),
        (("stomp://:61613",), "write stomp://HOST or stomp://HOST:PORT"),
        (("stomp://127.0.0.1:no",), "'stomp://127.0.0.1:no': Port could not be cast"),
        (("stomp://127.0.0.1:99999",), "'stomp://127.0.0.1:99999': Port out of range 0-65535"),
        (("stomp://127.0.0.1:0",), "a port is 1 to 65535"),
        (("stomp://guest:guest@127.0.0.1",), "use --login and --passcode"),
        (("stomp://127.0.0.1/vhost",), "use --vhost for a virtual host"),
        (("stomp://127.0.0.1", "--version", "2.0"), "'2.0' is not one of '1.0', '1.1', '1.2'"),
        (("stomp://127.0.0.1", "--only", "C-999"), "'--only': no check has 'C-999' in it"),
        (("stomp://127.0.0.1", "--seconds-max", "0"), "'--seconds-max': it must be more than 0"),
        (("stomp://127.0.0.1", "--quiet-seconds", "-1"), "'--quiet-seconds': it must be more than 0 seconds, not -1"),
        (("stomp://127.0.0.1", "--at-once", "0"), "'--at-once': 0 is not in the range"),
        (("stomp://127.0.0.1", "--vhost", "a\nb"), "'--vhost': CONNECT has no escapes"),
        ((), "Missing argument 'stomp://HOST:PORT'"),
    ],
)
async def test_wrong_use_is_one_line(arguments: tuple[str, ...], error: str) -> None:
    async with program("conform", *arguments) as conform:
        assert await conform.end() == 2
        assert conform.out == b""
        assert len(conform.log) == 1
        assert conform.log[0].startswith("Error: ")
        assert error in conform.log[0]


async def test_progress_is_shown_on_a_terminal() -> None:
    async with listening() as address:
        terminal = Terminal()
        process = await terminal.start("conform", address, "--only", "C-7?", "--json")
        await terminal.read_until(None)
        assert process.stdout is not None
        with trio.fail_after(PATIENCE_SECONDS):
            report = b"".join([data async for data in process.stdout])
            assert await process.wait() == 0
    assert json.loads(report)["conforms"] is True
    assert b"Checks" in terminal.shown
    terminal.close()
    await process.stdout.aclose()
