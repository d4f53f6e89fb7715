"""``trio-broker explore``: the report, what chooses its runs, and what is seen while it goes on."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.cli.explored_scenarios import SCENARIOS, Explore, line_after
from tests.cli.processes import program
from tests.cli.test_terminal import Terminal
from trio_broker import explorer

# -- the report -------------------------------------------------------------------------------------------------------


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


# -- as a process -----------------------------------------------------------------------------------------------------


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
