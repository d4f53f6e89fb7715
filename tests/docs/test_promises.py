"""What docs/stomp.md says the broker promises: each clause has tests, those exist, and its limits are the code's.

The clauses about the wire, and their table, are looked at by tests/wire/test_stomp_specification.py.
"""

from __future__ import annotations

import dataclasses
import re

import pytest

from tests.docs.contract import known_tests
from tests.docs.markdown import ROOT
from trio_broker import Limits

PAGE = (ROOT / "docs/stomp.md").read_text()
TESTS = known_tests(ROOT)


def promises(page: str) -> str:
    """The section."""
    return page.partition("\n## What the broker promises\n")[2].partition("\n## ")[0]


def references(cell: str) -> list[str]:
    """The tests that a cell of the table names, as `known_tests` has them."""
    found = []
    for group in cell.split("; "):
        place, _, names = group.partition(": ")
        room, _, name = place.partition("/")
        path = f"tests/scenarios/{name}.py:" if room == "scenarios" else f"tests/{room}/test_{name}.py::"
        found += [path + test.strip("`") for test in names.split(", ")]
    return found


def complaints(page: str, known: set[str]) -> list[str]:
    """Clauses and rows that do not belong together, tests that do not exist, and limits that are not the code's."""
    section = promises(page)
    clauses = re.findall(r"^- \*\*(S-\d+)\*\* ", section, re.MULTILINE)
    rows = re.findall(r"^\| (S-\d+) \| (.*) \|$", section, re.MULTILINE)
    wrong = [] if [clause for clause, _ in rows] == clauses else ["the table has not the clauses of the section"]
    for clause, cell in rows:
        named = references(cell)
        wrong += [f"{clause}: no such test: {name}" for name in named if name not in known]
        wrong += [f"{clause}: twice: {name}" for name in sorted(set(named)) if named.count(name) > 1]
    defaults = dataclasses.asdict(Limits())
    for name, seconds in re.findall(r"`(\w+_seconds_\w+)`\s+\((.+?) s\)", section):
        if seconds != f"{defaults[name]:g}":
            wrong.append(f"{name} is {defaults[name]:g} s, not {seconds}")
    return wrong


def test_every_promise_has_tests_and_they_exist() -> None:
    assert len(re.findall(r"^- \*\*S-\d+\*\* ", promises(PAGE), re.MULTILINE)) >= 20
    assert complaints(PAGE, TESTS) == []


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("- **S-52** ", "- **S-520** ", "the table has not the clauses of the section"),
        ("\n| S-52 | ", "\n| S-53 | ", "the table has not the clauses of the section"),
        ("`test_credit`", "`test_debit`", "S-54: no such test: tests/server/test_stomp_settling.py::test_debit"),
        ("`test_credit`", "", "S-54: no such test: tests/server/test_stomp_settling.py::"),
        ("core/topic: ", "core/queue: ", "S-49: no such test: tests/core/test_queue.py::test_all_get_all_in_order"),
        ("`settling_together`", "`settle`", "S-51: no such test: tests/scenarios/stomp.py:settle"),
        (
            "`test_ack_auto`",
            "`test_ack_auto`, `test_ack_auto`",
            "S-50: twice: tests/interop/test_stomp_py.py::test_ack_auto",
        ),
        ("`stall_seconds_max` (10 s)", "`stall_seconds_max` (11 s)", "stall_seconds_max is 10 s, not 11"),
    ],
)
def test_a_section_that_is_wrong_is_noticed(right: str, wrong: str, complaint: str) -> None:
    section = promises(PAGE)
    assert right in section
    assert complaint in complaints(PAGE.replace(section, section.replace(right, wrong, 1)), TESTS)
