"""What docs/explorer.md and examples/explore/ show is so: the excerpts, the commands, and what they print."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from tests.docs.markdown import ROOT, Block, blocks
from trio_broker.cli import main
from trio_broker.explorer import explore

PAGE = ROOT / "docs/explorer.md"
DIRECTORY = ROOT / "examples/explore"
LOST_JOB = DIRECTORY / "lost_job.py"
COMMAND = "python -m trio_broker "
SHOWN = [
    (command, output)
    for command, output in pairwise(blocks(PAGE))
    if command.info == "sh" and command.text.startswith(COMMAND) and output.info == "text"
]


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the project's directory; what is imported is forgotten at the end."""
    modules, path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(ROOT)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def lost_job() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lost_job", LOST_JOB)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_bug_is_found_and_its_cure_holds(lost_job: ModuleType) -> None:
    careless = explore(lost_job.careless, seeds=1, failures_max=1000)
    assert {type(failure.error) for failure in careless.failures} == {AssertionError}
    assert all(str(failure.error).startswith("lost: ") for failure in careless.failures)
    careful = explore(lost_job.careful)
    assert careful.failures == []
    assert careful.runs["interrupt"] > 0


def test_the_page_shows_the_bug_its_replay_and_its_cure() -> None:
    assert len(SHOWN) == 3
    assert len([block for block in blocks(PAGE) if block.info == "text"]) == len(SHOWN)


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=str)
@pytest.mark.usefixtures("at_home")
def test_a_command_of_the_page_prints_what_the_page_says(command: Block, output: Block) -> None:
    """Seconds may differ, and lines that are left out are a line of three dots."""
    (line,) = command.text.splitlines()
    # click's older versions mix the two streams unless asked not to; its newer ones cannot be asked.
    separate: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
    result = CliRunner(**separate).invoke(main, shlex.split(line.removeprefix(COMMAND)))
    assert result.stderr == ""
    assert result.exit_code == (0 if ":careful" in line else 1)
    printed = re.sub(
        r"^ [ ~^]+\n", "", result.stdout, flags=re.MULTILINE
    )  # newer Pythons mark where in the line it was
    pattern = re.escape(output.text).replace(re.escape("    ...\n"), r"(?: .*\n)*")
    pattern = re.sub(r"in\\ \d+\\\.\d\d\\ s", r"in \\d+\\.\\d\\d s", pattern)
    assert re.fullmatch(pattern, printed), printed


@pytest.mark.parametrize("block", [block for block in blocks(PAGE) if block.info == "python fragment"], ids=str)
def test_an_excerpt_is_in_the_example(block: Block) -> None:
    assert block.text in LOST_JOB.read_text()


def test_the_lines_and_the_sites_that_the_page_explains_are_those_of_the_example() -> None:
    page, lines = PAGE.read_text(), LOST_JOB.read_text().splitlines()
    assert "line 38,\n`async with office.book`" in page
    for number, text in (
        (29, "async with self.book:"),
        (38, "async with office.book:"),
        (45, "async with office.book:"),
        (54, "async with trio.open_nursery() as nursery:"),
        (66, "await work(careful_worker)"),
    ):
        assert lines[number - 1].strip() == text


def test_the_index_names_every_example_and_the_page_leads_there() -> None:
    index = (DIRECTORY / "README.md").read_text()
    assert [path.name for path in DIRECTORY.glob("*.py") if f"({path.name})" not in index] == []
    assert "(../examples/explore/lost_job.py)" in PAGE.read_text()


@pytest.mark.parametrize("path", [path for path in sorted(DIRECTORY.glob("*.py")) if path != LOST_JOB], ids=str)
@pytest.mark.usefixtures("at_home")
def test_an_example_with_a_library_can_be_explored(path: Path) -> None:
    """Where the library is installed. Everywhere: it is Python, the extra has what it needs, its command is its own."""
    source = path.read_text()
    compile(source, path, "exec")
    names = {module.partition(".")[0] for module in imported_modules(source)}
    others = names - sys.stdlib_module_names - {"trio", "trio_broker"}
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["explore-examples"]
    assert others
    assert others <= {requirement.partition(">=")[0].replace("-", "_") for requirement in extra}
    command = f"{COMMAND}explore {path.relative_to(ROOT)}:scenario "
    assert command in source
    if all(importlib.util.find_spec(name) for name in others):
        result = CliRunner().invoke(main, ["explore", f"{path}:scenario", "--replay", "spawn"])
        assert result.exit_code == 0, result.output


def imported_modules(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_page_names_every_option_of_the_command() -> None:
    page = PAGE.read_text()
    for option in (
        "--watch",
        "--seeds",
        "--task",
        "--replay",
        "--json",
        "--no-double",
        "--no-interrupts",
        "--no-faults",
        "--no-turns",
        "--step-seconds-max",
    ):
        assert option in page
