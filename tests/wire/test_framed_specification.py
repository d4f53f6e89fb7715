"""docs/framed.md, its tests and the code cite each other truly."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "framed.md").read_text(encoding="utf-8")
CLAUSES = [int(number) for number in re.findall(r"^- \*\*F-(\d+)\*\* ", TEXT, re.MULTILINE)]
ROWS = re.findall(r"^\| F-(\d+) \| (.+) \|$", TEXT, re.MULTILINE)
FILES = {
    name: f"tests/wire/test_framed_{name}.py"
    for name in ("frames", "deliveries", "limits", "violations", "properties", "conformance")
} | {"message": "tests/test_message.py"}


def clauses_in(name: str) -> set[int]:
    """The clauses that a test's name cites."""
    return {int(number) for number in re.findall(r"(?<=_)f(\d+)(?=_)", name)}


def named_tests(path: str) -> set[str]:
    """The tests of a file."""
    return set(re.findall(r"^(?:async )?def (test_\w+)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))


def test_clauses_are_numbered_without_a_gap() -> None:
    assert list(range(1, len(CLAUSES) + 1)) == CLAUSES
    assert len(CLAUSES) >= 20


def test_every_clause_has_a_row_of_tests() -> None:
    assert [int(number) for number, _ in ROWS] == CLAUSES


@pytest.mark.parametrize(("clause", "row"), ROWS)
def test_a_row_names_tests_that_exist(clause: str, row: str) -> None:
    named = 0
    for group in row.split("; "):
        file, _, tests = group.partition(": ")
        for test in re.findall(r"`(\w+)`", tests):
            named += 1
            assert test in named_tests(FILES[file])
    assert named > 0


@pytest.mark.parametrize("path", FILES.values())
def test_tests_cite_clauses_that_exist(path: str) -> None:
    cited = {clause for name in named_tests(path) for clause in clauses_in(name)}
    assert cited
    assert cited <= set(CLAUSES)


def test_the_code_cites_clauses_that_exist() -> None:
    sources = (ROOT / "trio_broker").rglob("*.py")
    cited = {int(number) for path in sources for number in re.findall(r"\bF-(\d+)\b", path.read_text(encoding="utf-8"))}
    assert {1, 3, 4, 5, 6, 7, 9, 12, 13, 20} <= cited <= set(CLAUSES)
