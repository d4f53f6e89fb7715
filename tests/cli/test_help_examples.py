"""What --help shows can be run as it is written."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from tests.cli.processes import ROOT
from trio_broker.cli import main
from trio_broker.cli.explore_scenario import find_scenario

EXAMPLES = [
    (name, shlex.split(arguments))
    for name, command in main.commands.items()
    for arguments in re.findall(rf"trio-broker {name}( [^\n|]*)?", command.help or "")
]


def test_every_command_has_examples() -> None:
    assert {name for name, _ in EXAMPLES} == set(main.commands)


@pytest.mark.parametrize(("name", "arguments"), EXAMPLES)
def test_an_example_is_accepted(monkeypatch: pytest.MonkeyPatch, name: str, arguments: list[str]) -> None:
    redirected = arguments.index(">") if ">" in arguments else None
    context = main.commands[name].make_context(name, arguments[:redirected])  # parses, and does not run it
    if name == "explore":
        monkeypatch.chdir(ROOT)
        with click.Context(main.commands[name]):
            scenario = context.params["scenario"]
            assert find_scenario(scenario).__name__ == scenario.partition(":")[2]
