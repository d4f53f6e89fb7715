"""docs/stomp.md, its tests and the code cite each other truly."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import pytest

from trio_broker.limits import Limits

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "stomp.md").read_text(encoding="utf-8")
CLAUSES = [int(number) for number in re.findall(r"^- \*\*S-(\d+)\*\* ", TEXT, re.MULTILINE)]
# What the broker promises has a table of its own, which tests/docs/test_promises.py looks at.
PROMISES = TEXT.partition("\n## What the broker promises\n")[2].partition("\n## ")[0]
PROMISED = {int(number) for number in re.findall(r"^- \*\*S-(\d+)\*\* ", PROMISES, re.MULTILINE)}
ROWS = re.findall(r"^\| S-(\d+) \| (.+) \|$", TEXT.replace(PROMISES, ""), re.MULTILINE)
FILES = {
    name: f"tests/wire/test_stomp_{name}.py"
    for name in ("frames", "server", "requests", "messages", "client", "properties")
}


def named_tests(path: str) -> list[str]:
    """The tests of a file."""
    return re.findall(r"^def (test_\w+)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def clauses_in(name: str) -> list[int]:
    """The clauses that a test's name cites."""
    return [int(number) for number in re.findall(r"(?<=_)s(\d+)(?=_)", name)]


def rows() -> list[str]:
    """The table as it follows from the tests' names."""
    lines = []
    for clause in (each for each in CLAUSES if each not in PROMISED):
        groups = []
        for name, path in FILES.items():
            tests = [f"`{test}`" for test in named_tests(path) if clause in clauses_in(test)]
            groups += [f"{name}: {', '.join(tests)}"] if tests else []
        lines.append(f"| S-{clause} | {'; '.join(groups)} |")
    return lines


def test_clauses_are_numbered_without_a_gap() -> None:
    assert list(range(1, len(CLAUSES) + 1)) == CLAUSES
    assert len(CLAUSES) >= 40


def test_every_clause_says_where_it_comes_from() -> None:
    clauses = re.split(r"^- \*\*S-\d+\*\* ", TEXT, flags=re.MULTILINE)[1:]
    sources = [re.search(r"\*\((.+?)\)\*", clause, re.DOTALL) for clause in clauses]
    assert all(sources)


def test_every_clause_has_tests_and_the_table_names_them() -> None:
    assert [f"| S-{number} | {row} |" for number, row in ROWS] == rows()
    assert all(row for _, row in ROWS)


@pytest.mark.parametrize("path", FILES.values())
def test_tests_cite_clauses_that_exist(path: str) -> None:
    cited = {clause for name in named_tests(path) for clause in clauses_in(name)}
    assert cited
    assert cited <= set(CLAUSES)


def test_the_code_cites_clauses_that_exist() -> None:
    sources = (ROOT / "trio_broker").rglob("*.py")
    cited = {int(number) for path in sources for number in re.findall(r"\bS-(\d+)\b", path.read_text(encoding="utf-8"))}
    assert {1, 5, 12, 15, 22, 26, 34, 36, 42} <= cited <= set(CLAUSES)


def test_limits_are_given_with_their_defaults() -> None:
    defaults = dataclasses.asdict(Limits())
    given = re.findall(r"`(\w+_(?:max|min))`\s+\(([\d,]+)\)", TEXT)
    assert len(given) >= 8
    assert given == [
        (name, f"{defaults[name]:,g}" if defaults[name] < 10 else f"{defaults[name]:,}") for name, _ in given
    ]
