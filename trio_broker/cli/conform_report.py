"""The report of ``trio-broker conform``, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trio_broker.conform import Level, Outcome, Report, Result

__all__ = ["as_json", "print_report"]

_STYLES: Final = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.NOT_SHOWN: "dim"}
_WIDTH_MIN: Final = 120
"""Where nobody looks on, as in a file, lines of this length."""


def print_report(report: Report, address: str) -> None:
    """A row for what was seen in one or several versions alike, and the sums."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=_WIDTH_MIN)
    console.print(f"{address}: {report.server or 'a broker without a name'}")
    for version, said in report.unspoken.items():
        console.print(f"STOMP {version} is not spoken: {said}")
    table = Table()
    for name in ("check", "version", "level"):
        table.add_column(name, no_wrap=True)
    for name, ratio in (("clause", 2), ("expected", 4), ("seen", 4)):
        table.add_column(name, ratio=ratio)
    table.add_column("outcome", no_wrap=True)
    for results in _alike(report.results):
        result = results[0]
        versions = " ".join(each.version for each in results)
        outcome = Text(result.outcome.value, style=_STYLES[result.outcome])
        check = result.check
        cells = (check.number, versions, result.level.value, check.clause, check.expected, result.seen)
        table.add_row(*map(Text, cells), outcome)
    if report.results:
        console.print(table)
        console.print(_sums(report.results))
        console.print(verdict(report), style="bold green" if report.conforms else "bold red")


def verdict(report: Report) -> str:
    """One line about what the specification demands."""
    failed = [result for result in report.results if result.level is Level.MUST and result.outcome is Outcome.FAILED]
    if not failed:
        return "Everything that was checked is as the specification demands."
    named = dict.fromkeys(result.check.number for result in failed)
    return f"Not as the specification demands: {', '.join(named)}"


def as_json(report: Report, address: str) -> dict[str, object]:
    """Everything, as one JSON object."""
    return {
        "address": address,
        "server": report.server or None,
        "conforms": report.conforms,
        "unspoken": report.unspoken,
        "counts": {
            version: {level.value: _counts(report.results, version, level) for level in Level}
            for version in dict.fromkeys(result.version for result in report.results)
        },
        "results": [
            {
                "check": result.check.number,
                "version": result.version,
                "level": result.level.value,
                "clause": result.check.clause,
                "expected": result.check.expected,
                "seen": result.seen,
                "outcome": result.outcome.value,
                "ours": result.check.ours.split(),
                "seconds": round(result.seconds, 3),
            }
            for result in report.results
        ],
    }


def _counts(results: Iterable[Result], version: str, level: Level) -> dict[str, int]:
    counts = Counter(result.outcome for result in results if result.version == version and result.level is level)
    return {outcome.value: counts[outcome] for outcome in Outcome}


def _alike(results: Iterable[Result]) -> list[list[Result]]:
    """Results that differ in nothing but the version, together, in the order of the first of each."""
    found: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        found.setdefault((result.check.number, result.level, result.outcome, result.seen), []).append(result)
    return list(found.values())


def _sums(results: Iterable[Result]) -> Table:
    table = Table("version", "level")
    for outcome in Outcome:
        table.add_column(outcome.value, justify="right")
    results = list(results)
    for version in dict.fromkeys(sorted(result.version for result in results)):
        for level in Level:
            counts = _counts(results, version, level)
            if any(counts.values()):
                table.add_row(version, level.value, *(f"{count:,}" for count in counts.values()))
    return table
