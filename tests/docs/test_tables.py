"""Tables in the pages that repeat what the code says agree with it."""

from __future__ import annotations

import dataclasses
import re

from tests.docs.markdown import ROOT, rows
from trio_broker import BrokerStatistics, Limits, Overflow
from trio_broker.limits import BATCH_COST, MESSAGE_COST

ARCHITECTURE = ROOT / "docs/architecture.md"
CONNECTION = ROOT / "trio_broker/server/connection.py"
KIB = 1024


def show(name: str, value: object) -> str:
    """A default as the table writes it: with the unit that its name has."""
    if isinstance(value, Overflow):
        return value.value
    assert isinstance(value, int | float)
    if "_seconds_" in name:
        return f"{value:g} s"
    if "_bytes_" in name:
        for unit, size in (("GiB", KIB**3), ("MiB", KIB**2), ("KiB", KIB)):
            if value % size == 0:
                return f"{value // size:,} {unit}"
        return f"{value:,} bytes"
    return f"{value:,}"


def test_the_table_of_limits_has_every_limit_with_its_default() -> None:
    table = [(name.strip("`"), default) for name, default, _ in rows(ARCHITECTURE, "How everything is bounded")]
    assert table == [(field.name, show(field.name, field.default)) for field in dataclasses.fields(Limits)]


def test_the_costs_in_the_pages_are_those_of_the_code() -> None:
    for page, words in (
        ("docs/architecture.md", f"its bytes, {MESSAGE_COST} a message and {BATCH_COST} a batch"),
        ("docs/backpressure.md", f"{MESSAGE_COST} for each message and {BATCH_COST} for each batch"),
        ("examples/overflow.py", f"its bytes and {MESSAGE_COST + BATCH_COST} more"),
    ):
        assert words in (ROOT / page).read_text(), page


def test_limits_are_called_by_their_names() -> None:
    """Whatever looks like a limit in a page is one."""
    fields = {field.name for field in dataclasses.fields(Limits)}
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        named = set(re.findall(r"\b(?!x_)[a-z]+(?:_[a-z]+)*_(?:max|min)\b", page.read_text()))
        assert named - {"seconds_max"} <= fields, page  # which is a parameter, in a table of expressions


def test_the_table_of_policies_has_every_policy() -> None:
    table = [re.findall("`(.+?)`", cells[0])[0] for cells in rows(ROOT / "README.md", "Overflow policies of topics")]
    assert table == [policy.value for policy in Overflow]


def test_the_table_of_endings_is_the_one_in_the_code() -> None:
    """The module's docstring has the same table; its long lines may be cut differently."""
    for cause, still_said in rows(ROOT / "docs/shutdown.md", "How a connection ends"):
        line = rf"^{re.escape(cause)} +{re.escape(still_said)}$"
        assert re.search(line, CONNECTION.read_text().replace("``", "`"), re.MULTILINE), cause


def test_every_counter_that_a_page_names_exists() -> None:
    fields = {field.name for field in dataclasses.fields(BrokerStatistics)}
    named = {name for page in (ROOT / "docs").glob("*.md") for name in _counters(page.read_text())}
    assert named
    assert named <= fields


def _counters(text: str) -> list[str]:
    return re.findall(r"BrokerStatistics\.(\w+)", text)


def test_the_glossary_is_in_order_and_says_each_word_once() -> None:
    words = [cells[0] for cells in rows(ROOT / "docs/glossary.md", "Glossary")]
    assert words == sorted(set(words))


def test_each_file_of_the_glossary_exists_and_has_its_word() -> None:
    for word, _, file in rows(ROOT / "docs/glossary.md", "Glossary"):
        match = re.fullmatch(r"\[`(.+)`\]\(\.\./(trio_broker/|)(.+)\)", file)  # in full where it is not of the package
        assert match is not None, word
        assert match[1] == match[3], word
        source = (ROOT / match[2] / match[1]).read_text().lower()
        assert word.split()[0] in source, f"{word} does not occur in {file}"


def test_each_pattern_names_a_file_by_its_path() -> None:
    for pattern, files in rows(ROOT / "README.md", "Structured concurrency, and the file that shows it"):
        found = re.findall(r"\[(.+?)\]\(trio_broker/(.+?)\)", files)
        assert found, pattern
        assert all(label == path for label, path in found), pattern
