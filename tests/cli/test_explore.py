"""``trio-broker explore``: finding the scenario, the report, replays, and what cannot be explored."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.cli.processes import ROOT, program
from tests.cli.test_terminal import Terminal
from trio_broker import explorer
from trio_broker.cli import main

SCENARIOS = """
import itertools
import sys
import time

import trio

from trio_broker.explorer import afterwards

counter = itertools.count()


async def safe():
    print("a line of the scenario")
    await trio.lowlevel.checkpoint()


async def two_awaits():
    with trio.CancelScope():
        await trio.lowlevel.checkpoint(); await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


async def lost():
    held = []

    async def check():
        assert not held, "what is held\\nis lost"

    afterwards(check)
    held.append(1)
    await trio.lowlevel.checkpoint()
    held.clear()


async def lost_without_words():
    held = [1]

    async def check():
        assert not held

    afterwards(check)
    await trio.lowlevel.checkpoint()
    held.clear()


async def worker(name):
    try:
        await trio.lowlevel.checkpoint()
    except trio.Cancelled:
        raise ValueError(name)


async def group():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker, "one")
        nursery.start_soon(worker, "two")


async def quiet_group():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)


async def broken():
    async with trio.open_nursery():
        raise LookupError("of its own")


async def swallows():
    try:
        await trio.sleep(1)
    except trio.Cancelled:
        pass


async def moody():
    for _ in range(next(counter) % 2):
        await trio.lowlevel.checkpoint()


async def slow():
    for number in range(200):
        if number == 50:
            print("in full flow", file=sys.stderr, flush=True)
        sum(range(200_000))  # a step that takes real time, so that a person could interrupt it
        await trio.lowlevel.checkpoint()


async def hangs():
    await trio.lowlevel.checkpoint()
    while True:
        pass


async def hangs_when_cancelled():
    try:
        await trio.sleep(1)
    except trio.Cancelled:
        while True:
            pass


async def sleeps():
    time.sleep(1)


async def tells_the_time():
    time.time()
    await trio.lowlevel.checkpoint()


async def with_arguments(one, two=2):
    await trio.lowlevel.checkpoint()


def plain():
    pass


class Holder:
    @staticmethod
    async def inside():
        await trio.lowlevel.checkpoint()


number = 1
"""

Explore = Callable[..., Result]


@pytest.fixture
def explore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Explore]:
    """Run the command in a directory that has ``scenarios.py``; forget the modules that it imports."""
    modules, path = set(sys.modules), list(sys.path)
    (tmp_path / "scenarios.py").write_text(SCENARIOS)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    # click's older versions mix the two streams unless asked not to; its newer ones cannot be asked.
    separate: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
    runner = CliRunner(**separate)
    yield lambda *arguments, **environment: runner.invoke(main, ["explore", *arguments], env=environment)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def one_line(result: Result, status: int) -> str:
    """The one line on stderr of a command that ended with this status and printed nothing else."""
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.count("\n") == 1
    return result.stderr


# -- the report --------------------------------------------------------------------------------------------------------


def test_a_scenario_without_failures(explore: Explore) -> None:
    result = explore("scenarios:safe", "--seeds", "0", "--no-turns")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert re.fullmatch(
        r"scenarios:safe: 5 runs in \d+\.\d\d s\n"
        r"  schedule +2\n"
        r"  cancel +2\n"
        r"  second cancel +0\n"
        r"  interrupt +1\n"
        r"  fault +0\n"
        r"\n"
        r"No failures\n",
        result.stdout,
    ), result.stdout


def test_a_failure_is_shown_with_all_that_is_known_of_it(explore: Explore) -> None:
    result = explore("scenarios.py:lost", "--seeds", "0", "--no-turns", "--no-interrupts")
    assert result.exit_code == 1
    line = SCENARIOS.splitlines().index("    held.append(1)") + 2
    assert (
        "\nspawn/t0:1:after:0\n"
        f"  done    task 0 (lost), step 1, parked at scenarios:{line} in lost: the innermost scope cancelled\n"
        "  error   AssertionError: what is held is lost\n"
        "  replay  python -m trio_broker explore scenarios.py:lost --replay spawn/t0:1:after:0\n"
    ) in result.stdout
    assert result.stdout.endswith("\n2 failures\n")


def test_it_stops_at_so_many_failures_and_says_so(explore: Explore) -> None:
    result = explore("scenarios:group", "--failures-max", "2")
    assert result.exit_code == 1
    assert result.stdout.count("  replay  ") == 2
    assert result.stdout.endswith("2 failures, and stopped there: --failures-max\n")


def test_an_error_without_words_says_where_it_was_raised(explore: Explore) -> None:
    line = SCENARIOS.splitlines().index("        assert not held") + 1
    result = explore("scenarios:lost_without_words", "--failures-max", "1")
    assert f"  error   AssertionError at scenarios:{line}: assert not held\n" in result.stdout


def test_of_a_group_every_error_is_said(explore: Explore) -> None:
    result = explore("scenarios:group", "--failures-max", "1")
    assert "  error   ValueError: one; ValueError: two\n" in result.stdout


def test_await_sites_are_listed_with_the_senses_in_which_they_were_reached(explore: Explore) -> None:
    result = explore("scenarios:two_awaits", "--watch", "scenarios")
    line = next(number for number, text in enumerate(SCENARIOS.splitlines(), 1) if ";" in text)
    assert result.exit_code == 0
    assert re.search(r"^Await sites of scenarios: 3 reached, 0 excused, \d+ missed$", result.stdout, re.MULTILINE)
    assert f"\n  reached  yes        yes      scenarios:{line}#1, {line}#2, {line + 1} in two_awaits\n" in result.stdout
    assert re.search(r"^  missed   no         no       scenarios:\d+ in worker$", result.stdout, re.MULTILINE)


def test_await_sites_that_nobody_can_reach_are_listed_with_the_reason(explore: Explore) -> None:
    line = line_after("async def quiet_group")
    result = explore("scenarios:quiet_group", "--watch", "scenarios", "--seeds", "0")
    assert re.search(r"^Await sites of scenarios: 1 reached, 1 excused, \d+ missed$", result.stdout, re.MULTILINE)
    never, nursery = "it never waits", "it waits only at a nursery's end, where Trio delivers nothing"
    where = "in quiet_group"
    rows = [row for row in result.stdout.splitlines() if row.endswith((never, nursery))]
    assert rows == [
        f"  reached  excused    yes      scenarios:{line}#2 {where}: {nursery}",
        f"  excused  excused    excused  scenarios:{line}#1 {where}: {never}",
        f"  missed   excused    no       scenarios:{line}#3 {where}: {nursery}",
    ]
    sites = json.loads(explore("scenarios:quiet_group", "--watch", "scenarios", "--seeds", "0", "--json").stdout)[
        "sites"
    ]
    assert [
        (site["await"], site["cancelled"], site["woken"], site["state"], site["excused"])
        for site in sites
        if site["line"] == line
    ] == [
        (1, False, False, "excused", never),
        (2, False, True, "reached", nursery),
        (3, False, False, "missed", nursery),
    ]
    assert {site["excused"] for site in sites if site["line"] != line} == {None}


def test_the_figures_are_those_of_the_exploration(explore: Explore) -> None:
    result = explore("scenarios:quiet_group", "--watch", "scenarios", "--seeds", "0")
    found = explorer.explore(sys.modules["scenarios"].quiet_group, watch="scenarios", seeds=0)
    figures = re.search(r"(\d+) reached, (\d+) excused, (\d+) missed$", result.stdout, re.MULTILINE)
    assert figures is not None
    reached, excused, missed = (int(figure) for figure in figures.groups())
    assert (reached, missed) == (len(found.sites_reached), len(found.sites_missed))
    assert reached + excused + missed == len(found.sites)


@pytest.mark.parametrize(
    ("argument", "axis", "others"),
    [
        ("--no-double", "second cancel", "cancel"),
        ("--no-interrupts", "interrupt", "cancel"),
        ("--no-faults", "fault", "cancel"),
    ],
)
def test_an_axis_can_be_left_out(explore: Explore, argument: str, axis: str, others: str) -> None:
    result = explore("scenarios:two_awaits", "--json", argument)
    runs = json.loads(result.stdout)["runs"]
    assert runs[axis] == 0
    assert runs[others] > 0


def test_seeds_are_schedules(explore: Explore) -> None:
    def schedules(seeds: str) -> int:
        return int(json.loads(explore("scenarios:safe", "--json", "--seeds", seeds).stdout)["runs"]["schedule"])

    assert schedules("7") - schedules("0") == 14


def test_turns_are_schedules(explore: Explore) -> None:
    def schedules(*arguments: str) -> int:
        result = explore("scenarios:group", "--json", "--seeds", "0", "--failures-max", "1000", *arguments)
        return int(json.loads(result.stdout)["runs"]["schedule"])

    assert schedules("--no-turns") == 2
    assert schedules() > 2


def test_tasks_can_be_chosen(explore: Explore) -> None:
    result = explore("scenarios:group", "--task", "nothing", "--task", "worker", "--no-interrupts", "--json")
    failures = json.loads(result.stdout)["failures"]
    assert failures
    assert all(failure["done"].startswith(("task 1 (", "task 2 (")) for failure in failures)


def test_options_stand_in_the_environment_under_their_own_names(explore: Explore) -> None:
    environment = {"TRIO_BROKER_EXPLORE_JSON": "1", "TRIO_BROKER_EXPLORE_TASK": "nobody worker"}
    result = explore("scenarios:group", "--no-interrupts", **environment)
    assert json.loads(result.stdout)["failures"][0]["token"].startswith("spawn/t1:")


def test_json(explore: Explore) -> None:
    result = explore(
        "scenarios:lost", "--json", "--watch", "scenarios", "--seeds", "0", "--no-turns", "--no-interrupts"
    )
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert list(found) == ["scenario", "seconds", "runs", "watch", "sites", "notes", "failures"]
    assert (found["scenario"], found["watch"]) == ("scenarios:lost", "scenarios")
    assert found["runs"] == {"schedule": 2, "cancel": 2, "second cancel": 0, "interrupt": 0, "fault": 0}
    assert [site["await"] for site in found["sites"] if site["function"] == "two_awaits"] == [1, 2, 1]
    assert next(site for site in found["sites"] if site["cancelled"])["function"] == "lost"
    assert {site["state"] for site in found["sites"]} == {"reached", "missed"}
    failure, _ = found["failures"]
    assert set(failure) == {"token", "done", "error", "replay"}
    assert failure["error"] == "AssertionError: what is held is lost"


# -- replay ------------------------------------------------------------------------------------------------------------


def test_a_replay_shows_the_whole_traceback(explore: Explore) -> None:
    result = explore("scenarios:lost", "--replay", "spawn/t0:1:after:0")
    assert result.exit_code == 1
    assert result.stdout.startswith(
        "spawn/t0:1:after:0 of scenarios:lost failed:\n\nTraceback (most recent call last):\n"
    )
    assert "in check\n" in result.stdout
    assert result.stdout.endswith("AssertionError: what is held\nis lost\n")


def test_a_replay_that_does_not_fail_says_so_after_what_the_scenario_prints(explore: Explore) -> None:
    """Which it does once: of the run without the disturbance, which comes first, nothing is seen."""
    result = explore("scenarios:safe", "--replay", "spawn/t0:1:after:0")
    assert result.exit_code == 0
    assert result.stdout == "a line of the scenario\n" + "spawn/t0:1:after:0 of scenarios:safe did not fail.\n"


def test_a_failure_that_the_explorer_saw_can_be_replayed(explore: Explore) -> None:
    (failure, *_) = json.loads(explore("scenarios:swallows", "--json").stdout)["failures"]
    result = explore("scenarios:swallows", "--replay", failure["token"])
    assert result.exit_code == 1
    assert "Swallowed: a cancellation was swallowed: task 0 (swallows) met it at scenarios:" in result.stdout


@pytest.mark.parametrize("scenario", ["lost", "safe"])
def test_a_replay_as_json(explore: Explore, scenario: str) -> None:
    result = explore(f"scenarios:{scenario}", "--json", "--replay", "spawn/t0:1:after:0")
    found = json.loads(result.stdout)
    assert found["scenario"] == f"scenarios:{scenario}"
    assert found["token"] == "spawn/t0:1:after:0"
    if scenario == "safe":
        assert result.exit_code == 0
        assert (found["failed"], found["error"], found["traceback"]) == (False, None, None)
    else:
        assert result.exit_code == 1
        assert (found["failed"], found["error"]) == (True, "AssertionError: what is held is lost")
        assert found["traceback"].startswith("Traceback")


def test_a_token_that_means_nothing_any_more(explore: Explore) -> None:
    line = one_line(explore("scenarios:lost", "--replay", "spawn/t0:100:after:0"), 1)
    assert line.startswith("Error: scenarios:lost cannot be explored: spawn/t0:100:after:0: ")


# -- what cannot be explored -------------------------------------------------------------------------------------------


def test_a_scenario_that_fails_by_itself_is_shown_with_its_traceback(explore: Explore) -> None:
    result = explore("scenarios:broken")
    assert (result.exit_code, result.stdout) == (1, "")
    first, *others = result.stderr.splitlines()
    assert first.startswith("Error: scenarios:broken cannot be explored: the scenario fails without being disturbed")
    assert first.endswith(": LookupError: of its own")
    assert all(line.startswith("    ") for line in others if line)
    assert any("in broken" in line for line in others)
    assert "LookupError: of its own" in others[-2]


def line_after(text: str) -> int:
    """The number of the line that comes after the line with this text."""
    return next(number for number, line in enumerate(SCENARIOS.splitlines(), 2) if text in line)


def test_a_scenario_that_fails_by_itself_is_named_with_its_task_and_line(explore: Explore) -> None:
    first = explore("scenarios:broken").stderr.splitlines()[0]
    where = f"in task 0 (broken) at scenarios:{line_after('async with trio.open_nursery():')} in broken"
    assert first.endswith(f"the scenario fails without being disturbed, {where}: LookupError: of its own")


def test_a_step_that_never_ends(explore: Explore) -> None:
    line = one_line(explore("scenarios:hangs", "--step-seconds-max", "0.2"), 1)
    assert "fails without being disturbed: Endless: a step took more than 0.2 s of real time: task 0 (hangs) at" in line


def test_a_step_that_never_ends_when_disturbed_is_a_failure_with_a_token(explore: Explore) -> None:
    arguments = "scenarios:hangs_when_cancelled", "--step-seconds-max", "0.2"
    result = explore(*arguments, "--failures-max", "1")
    assert result.exit_code == 1
    assert "\nspawn/t0:1:after:0\n" in result.stdout
    assert (
        "  error   Endless: a step took more than 0.2 s of real time: task 0 (hangs_when_cancelled) at" in result.stdout
    )
    again = explore(*arguments, "--replay", "spawn/t0:1:after:0")
    assert again.exit_code == 1
    assert "Endless: a step took more than 0.2 s of real time: task 0 (hangs_when_cancelled) at" in again.stdout


def test_a_scenario_that_sleeps_in_real_time(explore: Explore) -> None:
    where = f"task 0 (sleeps) at scenarios:{line_after('async def sleeps')} in sleeps"
    assert one_line(explore("scenarios:sleeps"), 1) == (
        f"Error: scenarios:sleeps cannot be explored: the scenario sleeps in real time: {where}\n"
    )


def test_reading_the_real_clock_is_noted(explore: Explore) -> None:
    line = line_after("async def tells_the_time")
    note = f"task 0 (tells_the_time) reads the real clock (time.time) at scenarios:{line} in tells_the_time"
    result = explore("scenarios:tells_the_time", "--seeds", "1")
    assert result.exit_code == 0
    assert f"\n\nNote: {note}\n\nNo failures\n" in result.stdout
    assert json.loads(explore("scenarios:tells_the_time", "--seeds", "1", "--json").stdout)["notes"] == [note]


def test_a_scenario_that_is_not_deterministic(explore: Explore) -> None:
    assert "cannot be explored: the scenario is not deterministic" in one_line(explore("scenarios:moody"), 1)


# -- wrong use ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["scenarios"], "'scenarios' is not MODULE:SCENARIO"),
        (["scenarios:"], "'scenarios:' is not MODULE:SCENARIO"),
        ([":lost"], "':lost' is not MODULE:SCENARIO"),
        (["no_such_module:lost"], "there is no module no_such_module"),
        (["scenarios.inner:lost"], "there is no module scenarios.inner"),
        (["no/such:lost"], "no/such is neither the name of a module nor the path of a .py file"),
        ([".scenarios:lost"], ".scenarios is neither the name of a module"),
        (["no_such.py:lost"], "there is no file "),
        (["trio.py:lost"], "there already is a module trio"),
        (["scenarios:nobody"], "scenarios has no nobody"),
        (["scenarios:Holder.nobody"], "scenarios has no Holder.nobody"),
        (["scenarios:plain"], "plain of scenarios is not an async function"),
        (["scenarios:number"], "number of scenarios is not an async function"),
        (["scenarios:Holder"], "Holder of scenarios is not an async function"),
        (["scenarios:with_arguments"], "with_arguments of scenarios does: missing a required argument: 'one'"),
        (["scenarios:safe", "--watch", "no_such_package"], "there is no module no_such_package"),
        (["scenarios:safe", "--task", "nobody"], "no task of scenarios:safe has a name that contains nobody"),
        (["scenarios:safe", "--replay", "nonsense"], "'nonsense' is not a replay token"),
        (["scenarios:safe", "--replay", "spawn/nonsense"], "'spawn/nonsense' is not a replay token"),
        (["scenarios:safe", "--seeds", "-1"], "-1 is not in the range x>=0"),
        (["scenarios:safe", "--failures-max", "0"], "0 is not in the range x>=1"),
        (["scenarios:safe", "--step-seconds-max", "0"], "0.0 is not in the range x>0"),
        ([], "Missing argument 'MODULE:SCENARIO'"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    explore: Explore, tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    (tmp_path / "trio.py").touch()
    line = one_line(explore(*arguments), 2)
    assert line.startswith("Error: ")
    assert complaint in line


@pytest.mark.parametrize("name", ["faulty", "faulty.py"])
@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError: invalid syntax"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    explore: Explore, tmp_path: Path, name: str, source: str, complaint: str
) -> None:
    (tmp_path / "faulty.py").write_text(source)
    assert one_line(explore(f"{name}:lost"), 1).startswith(f"Error: cannot import {name}: {complaint}")


def test_a_scenario_in_a_class_and_a_file_elsewhere_with_its_neighbour(explore: Explore, tmp_path: Path) -> None:
    assert explore("scenarios:Holder.inside", "--seeds", "0").exit_code == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "neighbour.py").write_text("from trio.lowlevel import checkpoint as scenario")
    (elsewhere / "borrower.py").write_text("from neighbour import scenario")
    assert explore("elsewhere/borrower.py:scenario", "--seeds", "0").exit_code == 0


# -- as a process ------------------------------------------------------------------------------------------------------


def test_the_replay_line_of_a_report_replays(tmp_path: Path) -> None:
    directory = tmp_path / "with a space"
    directory.mkdir()
    (directory / "scenarios.py").write_text(SCENARIOS)

    def run(command: str) -> subprocess.CompletedProcess[str]:
        command = command.replace("python", f"'{sys.executable}'", 1)
        environment = {"PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    report = run("python -m trio_broker explore 'with a space/scenarios.py:lost' --seeds 0")
    assert (report.returncode, report.stderr) == (1, "")
    match = re.search(r"^  replay  (.+)$", report.stdout, re.MULTILINE)
    assert match is not None
    replay = run(match[1])
    assert (replay.returncode, replay.stderr) == (1, "")
    assert replay.stdout.endswith("AssertionError: what is held\nis lost\n")


async def test_ctrl_c_ends_an_exploration(tmp_path: Path) -> None:
    path = tmp_path / "scenarios.py"
    path.write_text(SCENARIOS)
    async with program("explore", f"{path}:slow") as exploration:
        await exploration.log_line("in full flow")  # between two runs Python itself may complain of a closed wakeup fd
        exploration.signal(signal.SIGINT)
        assert await exploration.end() == 1
        assert exploration.lines[-1] == "Bye!"


async def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "scenarios.py"
    path.write_text(SCENARIOS)
    terminal = Terminal()
    process = await terminal.start("explore", f"{path}:slow", "--seeds", "0", "--no-interrupts", "--task", "slow")
    await terminal.read_until(b"Runs")
    process.send_signal(signal.SIGINT)
    await terminal.read_until(None)
    assert await process.wait() == 1
    terminal.close()
    assert process.stdout is not None
    await process.stdout.aclose()
