"""The page about the suite lists the checks as they are."""

from __future__ import annotations

import re

from tests.docs.markdown import ROOT, rows
from trio_broker.cli.conform import conform_command
from trio_broker.conform import CHECKS, Check, Level, Outcome

PAGE = ROOT / "docs/conformance.md"


def levels(check: Check) -> str:
    """As the page writes them: each level with its versions, the strongest first."""
    found = {level: [version for version in check.levels if check.levels[version] is level] for level in Level}
    return "; ".join(f"{level.value} {' '.join(sorted(versions))}" for level, versions in found.items() if versions)


def test_the_table_has_every_check() -> None:
    table = [tuple(cells[:5]) for cells in rows(PAGE, "The checks")]
    assert table == [(check.number, levels(check), check.clause, check.expected, check.ours) for check in CHECKS]


def test_the_clauses_of_ours_exist() -> None:
    ours = set(re.findall(r"^- \*\*(S-[0-9]+)\*\*", (ROOT / "docs/stomp.md").read_text(), re.MULTILINE))
    assert {clause for check in CHECKS for clause in check.ours.split()} <= ours


def test_the_figures_are_sums_of_the_table() -> None:
    """How many checks each broker passed is what its column says."""
    brokers = ["RabbitMQ", "ActiveMQ", "CoilMQ", "trio_broker"]
    columns = {
        broker: {cells[0]: cells[5 + index] for cells in rows(PAGE, "The checks")}
        for index, broker in enumerate(brokers)
    }
    for broker, version, *cells in rows(PAGE, "Figures"):
        for level, cell in zip(Level, cells, strict=True):
            seen = [
                outcome(columns[broker][check.number], version)
                for check in CHECKS
                if check.levels.get(version) is level
            ]
            dashes = f", {seen.count('-')} not shown" if "-" in seen else ""
            assert cell == f"{seen.count('yes')} of {len(seen)}{dashes}", (broker, version, level)


def outcome(cell: str, version: str) -> str:
    """What a cell says of one version."""
    if cell in {"yes", "**no**", "-"}:
        return cell
    for part in cell.split("; "):
        kind, versions = re.fullmatch(r"(\*\*not|-) ([0-9. ]+?)(?:\*\*)?", part).groups()  # type: ignore[union-attr]  # None is a wrong page
        if version in versions.split():
            return "**no**" if kind == "**not" else "-"
    return "yes"


def test_every_option_and_outcome_is_explained() -> None:
    text = PAGE.read_text()
    for parameter in conform_command.params:
        for name in parameter.opts:
            assert name in text or name in {"--json", "address"}, name
    for word in (*Level, *Outcome):
        assert f"\n| {word.value} | " in text
