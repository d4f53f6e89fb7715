"""``trio-broker explore``: what cannot be explored, wrong use, and how the scenario that is meant is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.explored_scenarios import Explore, line_after, one_line

# -- what cannot be explored ------------------------------------------------------------------------------------------


def test_a_scenario_that_fails_by_itself_is_shown_with_its_traceback(explore: Explore) -> None:
    result = explore("scenarios:broken")
    assert (result.exit_code, result.stdout) == (1, "")
    first, *others = result.stderr.splitlines()
    assert first.startswith("Error: scenarios:broken cannot be explored: the scenario fails without being disturbed")
    assert first.endswith(": LookupError: of its own")
    assert all(line.startswith("    ") for line in others if line)
    assert any("in broken" in line for line in others)
    assert "LookupError: of its own" in others[-2]


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


# -- wrong use --------------------------------------------------------------------------------------------------------


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
