"""``trio-broker explore --replay``: a run that failed once fails again, and all of it is shown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.explored_scenarios import SCENARIOS, Explore, one_line
from tests.cli.processes import ROOT

# -- replay -----------------------------------------------------------------------------------------------------------


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


# -- as a process -----------------------------------------------------------------------------------------------------


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
