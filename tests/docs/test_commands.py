"""Every line in the pages that names our command is one that the command accepts."""

from __future__ import annotations

import os
import re
import shlex

import pytest

from tests.docs.markdown import ROOT, blocks, pages
from trio_broker.cli import main

SHELLS = {"sh", "shell", "bash", "console"}
LINES = [
    (f"{block.path.relative_to(ROOT)}: {line}", line)
    for page in pages()
    for block in blocks(page)
    if block.info in SHELLS
    for line in block.text.splitlines()
]
COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:python -m trio_broker|trio-broker|\./scripts/demo)(?P<rest>.*)$")


def commands() -> list[tuple[str, list[str]]]:
    """Each line that calls the command, and its arguments."""
    found = []
    for label, line in LINES:
        match = COMMAND.match(line)
        if match is not None:
            demo = ["demo"] if "./scripts/demo" in line else []
            found.append((label, demo + shlex.split(match["rest"], comments=True)))
    return found


@pytest.mark.parametrize(("label", "arguments"), commands())
def test_a_command_in_a_page_is_accepted(label: str, arguments: list[str]) -> None:
    name, *rest = arguments
    context = main.commands[name].make_context(name, rest)  # parses, and does not run it
    assert context.params


def test_the_pages_show_every_command() -> None:
    assert {arguments[0] for _, arguments in commands()} == set(main.commands)


def test_the_scripts_in_the_pages_exist_and_can_be_run() -> None:
    scripts = {word for _, line in LINES for word in line.split() if word.startswith("./")}
    assert {"./scripts/demo", "./scripts/test"} <= scripts
    assert [script for script in scripts if not os.access(ROOT / script, os.X_OK)] == []
