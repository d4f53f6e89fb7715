import os
import re
import signal
from pathlib import Path

import pytest

from tests.cli.processes import Running, program
from trio_broker.cli.verdict import fan_out_fault, rotation_fault

NAMES = ["queue listener 1", "queue listener 2", "topic listener 1", "topic listener 2"]


def numbers_in_the_table(text: str) -> dict[str, list[int]]:
    rows = re.findall(r"│ /\w+/\w+ +│ ([\w ]+?) +│ +([0-9]+) │ ([0-9 ]*)│", text)
    table = {name: [int(number) for number in numbers.split()] for name, _, numbers in rows}
    assert {name: len(numbers) for name, numbers in table.items()} == {name: int(count) for name, count, _ in rows}
    return table


async def test_it_shows_the_rotation_and_the_fan_out_and_proves_them() -> None:
    # Options in the environment are not meant for its processes.
    environment = {"TRIO_BROKER_SERVE_CONNECTIONS_MAX": "1", "TRIO_BROKER_SEND_SIZE": "5", "COLUMNS": "100"}
    async with program("demo", "--interval", "0.01", environment=environment) as demo:
        assert await demo.end() == 0
        assert demo.log == []
        text = demo.out.decode()
        table = numbers_in_the_table(text)
        assert sorted(table) == NAMES
        assert sorted([table["queue listener 1"], table["queue listener 2"]]) == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
        assert table["topic listener 1"] == table["topic listener 2"] == [0, 1, 2, 3, 4, 5]
        assert "/queue/blah: right" in text
        assert "/topic/foo: right" in text
        for name in NAMES:
            assert re.search(rf"^{name} +Received by ", text, re.MULTILINE)
            assert re.search(rf"^{name} +Server closed\.$", text, re.MULTILINE)
        assert re.search(r"^broker +Drained: 4 connections closed, ", text, re.MULTILINE)
        assert "\x1b" not in text


async def test_counts_are_options() -> None:
    async with program("demo", "--queue-count", "31", "--topic-count", "1", "--interval", "0") as demo:
        assert await demo.end() == 0


def children_of(demo: Running) -> list[int]:
    """The processes that it has started, from whichever thread."""
    threads = Path(f"/proc/{demo.process.pid}/task").glob("*/children")
    return [int(number) for thread in threads for number in thread.read_text(encoding="ascii").split()]


def name_of(child: int) -> str:
    return Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def all_gone(children: list[int]) -> None:
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


@pytest.mark.parametrize("victim", ["serve", "send", "listen"])
async def test_a_process_that_dies_fails_it_and_no_process_stays(victim: str) -> None:
    async with program("demo", "--queue-count", "100", "--interval", "0.2") as demo:
        await demo.line("topic sender +I am .*")
        children = children_of(demo)
        assert len(children) == 7
        os.kill(next(child for child in children if f"trio_broker {victim} " in name_of(child)), signal.SIGKILL)
        assert await demo.end() == 1
        assert len(demo.log) == 1
        assert demo.log[0].startswith("Error: ")
        assert "ended with status" in demo.log[0]
        all_gone(children)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_and_no_process_stays(number: signal.Signals) -> None:
    async with program("demo", "--queue-count", "100", "--interval", "0.2") as demo:
        await demo.line("topic sender +I am .*")
        children = children_of(demo)
        assert len(children) == 7
        demo.signal(number)
        assert await demo.end() == 1
        assert demo.log == [f"Error: stopped by {number.name}"]
        all_gone(children)


# -- the verdict -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        ([0, 2, 4], [1, 3, 5], None),
        ([1, 3, 5], [0, 2, 4], None),
        ([0, 2], [1, 3, 5], "message 4 was received 0 times"),
        ([0, 2, 4, 4], [1, 3, 5], "message 4 was received 2 times"),
        ([0, 1, 2], [3, 4, 5], "first did not get every 2nd message"),
        ([0, 1, 2, 3, 4, 5], [], "first did not get every 2nd message"),
        ([2, 0, 4], [1, 3, 5], "first did not get every 2nd message in order, but 2 0 4"),
        ([0, 2, 4, 6], [1, 3, 5], "first did not get every 2nd message"),
    ],
)
def test_the_verdict_on_a_rotation(first: list[int], second: list[int], fault: str | None) -> None:
    found = rotation_fault({"first": first, "second": second}, 6)
    assert found is None if fault is None else fault in str(found)


@pytest.mark.parametrize(
    ("second", "right"), [([0, 1, 2], True), ([0, 2, 1], False), ([0, 1], False), ([0, 1, 2, 2], False), ([], False)]
)
def test_the_verdict_on_a_fan_out(second: list[int], right: bool) -> None:
    found = fan_out_fault({"first": [0, 1, 2], "second": second}, 3)
    assert (found is None) is right
    assert right or "second did not get all 3 messages" in str(found)
