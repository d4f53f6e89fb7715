"""The command, as a process of its own, against brokers that are processes too."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cli.processes import PATIENCE_SECONDS, Running, broker, program
from tests.cli.test_terminal import Terminal
from trio_broker import connect

KEYS = {
    "channel",
    "kind",
    "publishers",
    "subscribers",
    "size_bytes",
    "count",
    "rate",
    "complete",
    "partial",
    "faults",
    "seconds",
    "published",
    "delivered",
    "per_subscriber",
    "latency_seconds",
    "late_seconds_max",
    "load_busy",
}


def report_of(bench: Running) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(bench.out)
    assert set(report) == KEYS
    return report


def children_of(bench: Running) -> list[int]:
    """The processes that it has started, from whichever thread."""
    threads = Path(f"/proc/{bench.process.pid}/task").glob("*/children")
    return [int(number) for thread in threads for number in thread.read_text(encoding="ascii").split()]


def has_rates(report: dict[str, Any]) -> bool:
    """Whether all rates are there; some without others would be wrong."""
    rates = [
        report[side][f"{unit}_per_second"] for side in ("published", "delivered") for unit in ("messages", "megabytes")
    ]
    rates.append(report["per_subscriber"]["messages_per_second"])
    assert len({rate is None for rate in rates}) == 1
    return rates[0] is not None


async def test_a_topic_of_a_broker_of_its_own() -> None:
    async with program("bench", "--pub", "2", "--sub", "3", "--count", "2001", "--json") as bench:
        assert await bench.end() == 0
        assert bench.log == []
        report = report_of(bench)
    assert report["channel"].startswith("/topic/bench-")
    assert (report["kind"], report["complete"], report["partial"], report["faults"]) == ("topic", True, False, [])
    assert (report["publishers"], report["subscribers"], report["size_bytes"]) == (2, 3, 128)
    assert report["published"]["messages"] == report["published"]["due"] == report["count"] == 2001
    assert report["delivered"]["messages"] == report["delivered"]["due"] == 3 * 2001
    assert report["per_subscriber"]["messages"] == {"min": 2001, "median": 2001, "max": 2001}
    assert report["latency_seconds"] is report["late_seconds_max"] is report["rate"] is None
    assert has_rates(report)


async def test_a_queue_of_a_running_broker_whose_rest_is_as_it_was() -> None:
    async with broker() as (server, port):
        command = ("bench", "--port", str(port), "--pub", "3", "--sub", "2", "--channel", "/queue/bench")
        async with program(*command, "--count", "2000", "--size", "1KiB", "--json") as bench:
            assert await bench.end() == 0
            report = report_of(bench)
        assert (report["kind"], report["complete"]) == ("queue", True)
        assert report["delivered"]["messages"] == report["delivered"]["due"] == 2000
        assert report["per_subscriber"]["messages"]["median"] == 1000
        await server.event("closed", 5)
        # A connection that was not closed in order would have been told as "disconnected".
        assert {record["event"] for record in server.records} == {"subscribed", "closed"}
        server.signal()
        assert await server.end() == 0
        assert ", 0 discarded, " in server.out.decode()


@pytest.mark.parametrize("channel", ["/topic/bench", "/queue/bench"])
async def test_latencies_with_a_rate(channel: str) -> None:
    command = ("bench", "--rate", "500", "--count", "100", "--pub", "2", "--sub", "2", "--channel", channel, "--json")
    async with program(*command) as bench:
        assert await bench.end() == 0
        report = report_of(bench)
    assert report["complete"] is True
    assert report["rate"] == 500
    assert report["delivered"]["messages"] == (200 if channel.startswith("/topic") else 100)
    latencies = report["latency_seconds"]
    assert list(latencies) == ["p50", "p90", "p99", "p99.9", "max"]
    assert latencies["p50"] > 0
    assert list(latencies.values()) == sorted(latencies.values())
    assert report["seconds"] >= 99 / 500
    assert report["late_seconds_max"] >= 0


async def test_a_report_for_people() -> None:
    # Options in the environment are meant for the commands that they name.
    environment = {"TRIO_BROKER_SERVE_CONNECTIONS_MAX": "1", "TRIO_BROKER_BENCH_COUNT": "50", "COLUMNS": "100"}
    async with program("bench", "--rate", "1000", "--channel", "/topic/a", environment=environment) as bench:
        assert await bench.end() == 0
        text = bench.out.decode()
        assert bench.log == []
    first, second, *_ = text.splitlines()
    assert first == "1 publisher -> /topic/a -> 1 subscriber: 50 messages of 128 bytes, 1,000 a second"
    assert second.startswith("A broker was started for this on 127.0.0.1:")
    for words in (
        "published",
        "delivered",
        "subscriber median",
        "messages/s",
        "MB/s",
        "p99.9",
        "intended send time",
    ):
        assert words in text, words
    assert "partial" not in text.lower()
    assert "\x1b" not in text


async def started(bench: Running, listener: Running) -> None:
    """Wait until messages of the run, not only probes, reach a bystander."""

    def messages() -> int:
        return sum(json.loads(line)["bytes"] == 128 for line in listener.lines)

    await listener.until(lambda: messages() >= 5, "messages of the run")
    assert bench.status is None


def listening(port: int | str) -> tuple[str, ...]:
    return ("listen", "--format", "json", "--port", str(port), "--listen", "/topic/a")


SLOW = ("bench", "--rate", "20", "--count", "1000", "--sub", "2", "--channel", "/topic/a")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_with_what_was_measured(number: signal.Signals) -> None:
    async with broker() as (server, port), program(*listening(port)) as listener:
        await server.event("subscribed", channel="/topic/a")
        async with program(*SLOW, "--port", str(port), "--json") as bench:
            await started(bench, listener)
            bench.signal(number)
            assert await bench.end() == 1
            report = report_of(bench)
            assert len(bench.log) == 1
            assert bench.log[0].startswith(f"Error: stopped by {number.name}; ")
            assert bench.log[0].endswith("so there are no rates")
    assert (report["partial"], report["complete"], report["faults"]) == (True, False, [])
    assert 4 <= report["published"]["messages"] < 1000
    assert 1 <= report["delivered"]["messages"] < 2000
    assert not has_rates(report)
    assert report["latency_seconds"]["max"] > 0


async def test_ctrl_c_ends_the_broker_of_its_own_and_shows_no_rate() -> None:
    async with program(*SLOW) as bench:
        port = (await bench.line(r"A broker was started for this on 127\.0\.0\.1:([0-9]+)"))[1]
        async with program(*listening(port)) as listener:
            await started(bench, listener)
            children = children_of(bench)
            assert len(children) == 1
            assert os.getpgid(children[0]) == children[0]  # Ctrl-C in a terminal does not reach it
            bench.signal()
            assert await bench.end() == 1
            with pytest.raises(ProcessLookupError):
                os.kill(children[0], 0)
        text = bench.out.decode()
        assert "Partial: what there was until it was stopped" in text
        assert "partial: of the messages that had arrived" in text
        for line in text.splitlines():
            if "published" in line or "delivered" in line or "subscriber m" in line:
                assert [cell.strip() for cell in line.strip("│").split("│")][-2:] == ["-", "-"]


async def test_a_signal_before_the_start() -> None:
    async with broker() as (server, port):
        # A queue gives the other listener its share of the probes, so they never all arrive at the benchmark.
        command = ("bench", "--port", str(port), "--channel", "/queue/a", "--idle-seconds-max", "1000")
        async with program("listen", "--port", str(port), "--listen", "/queue/a") as other:
            await server.event("subscribed", channel="/queue/a")
            async with program(*command) as bench:
                await other.line("Received by .*")
                bench.signal()
                assert await bench.end() == 1
                assert bench.log == ["Error: stopped by SIGINT before anything was measured"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_a_broker_that_stops_in_the_middle(number: signal.Signals) -> None:
    async with broker() as (server, port), program(*listening(port)) as listener:
        await server.event("subscribed", channel="/topic/a")
        async with program(*SLOW, "--port", str(port), "--json") as bench:
            await started(bench, listener)
            server.signal(number)
            assert await bench.end() == 1
            report = report_of(bench)
            assert len(bench.log) == 1
            assert "the broker disconnected" in bench.log[0]
            assert " of 2,000 deliveries are missing" in bench.log[0]
    assert (report["partial"], report["complete"]) == (False, False)
    assert report["faults"]
    assert report["latency_seconds"] is None
    assert not has_rates(report)


async def test_a_broker_of_its_own_that_dies() -> None:
    async with program(*SLOW) as bench:
        port = (await bench.line(r"A broker was started for this on 127\.0\.0\.1:([0-9]+)"))[1]
        async with program(*listening(port)) as listener:
            await started(bench, listener)
            os.kill(children_of(bench)[0], signal.SIGKILL)
            assert await bench.end() == 1
        assert "the broker that was started for this ended with status -9" in bench.log[-1]


async def test_a_subscriber_that_the_broker_evicts() -> None:
    """It reads nothing while it is stopped: once the sockets are full, a message waits, and the next one evicts."""
    limits = ("--overflow", "disconnect", "--mailbox-bytes-max", "1")
    async with broker(*limits) as (server, port), connect(port=port, protocol="framed") as client:
        command = ("bench", "--port", str(port), "--size", "64KiB", "--count", "1000000", "--channel", "/topic/a")
        async with client.subscribe("/topic/a") as bystander, program(*command, "--json") as bench:
            name = (await bystander.receive()).body[:-1]  # of the run; its messages repeat it, and so do ours
            with suppress(trio.EndOfChannel, trio.BrokenResourceError):  # evicted too: there is more than probes
                while len((await bystander.receive()).body) < 65_536:
                    pass
            bench.signal(signal.SIGSTOP)
            try:
                with trio.fail_after(PATIENCE_SECONDS):
                    while not any("evicted: " in line for line in server.log):
                        await client.publish("/topic/a", name * (65_536 // len(name)))
            finally:
                bench.signal(signal.SIGCONT)
            assert await bench.end() == 1
            report = report_of(bench)
            assert bench.log[0].startswith("Error: the broker disconnected subscriber 1")
    assert report["complete"] is False
    assert not has_rates(report)


async def test_a_broker_that_is_not_there() -> None:
    async with program("bench", "--port", "1") as bench:
        assert await bench.end() == 1
        assert bench.log == ["Error: cannot connect to localhost:1: Connection refused"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--pub", "0"), "'--pub': 0 is not in the range"),
        (("--sub", "many"), "'--sub': 'many' is not a valid integer range"),
        (("--count", "0"), "'--count': 0 is not in the range"),
        (("--rate", "0"), "'--rate': 0.0 is not in the range"),
        (("--rate", "inf"), "'--rate': inf is not in the range"),
        (("--rate", "nan"), "'--rate': nan is not a number of messages a second"),
        (("--rate", "1", "--size", "15"), "'--size': with --rate a message has at least 16 bytes"),
        (("--size", "16MiB"), "'--size': 16,777,216 bytes are over --frame-bytes-max (16,777,215)"),
        (("--size", "-1"), "'--size': '-1' is not a size"),
        (("--frame-bytes-max", "15", "--size", "1"), "'--frame-bytes-max': 16 bytes are needed"),
        (("--channel", ""), "'--channel': channel '': the name is empty"),
        (("--channel", "/null"), "'--channel': nothing is ever delivered from /null"),
        (("--idle-seconds-max", "0"), "'--idle-seconds-max': it must be more than 0"),
        (("--port", "0"), "'--port': 0 is not in the range"),
        (("extra",), "Got unexpected extra argument (extra)"),
    ],
)
async def test_wrong_use_is_one_line(arguments: tuple[str, ...], error: str) -> None:
    async with program("bench", *arguments) as bench:
        assert await bench.end() == 2
        assert bench.out == b""
        assert len(bench.log) == 1
        assert bench.log[0].startswith("Error: ")
        assert error in bench.log[0]


async def test_progress_is_shown_on_a_terminal() -> None:
    terminal = Terminal()
    process = await terminal.start("bench", "--rate", "1000", "--count", "500", "--json")
    await terminal.read_until(None)
    assert process.stdout is not None
    with trio.fail_after(30):
        report = b"".join([data async for data in process.stdout])
        assert await process.wait() == 0
    assert json.loads(report)["complete"] is True
    assert b"Delivered" in terminal.shown
    assert b"500/500" in terminal.shown
    terminal.close()
    await process.stdout.aclose()
