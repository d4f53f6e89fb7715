"""Results as benchmarks/compare.py writes them, read back: works, rounds, and what may be said of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.brokers import ROOT
from benchmarks.harness.catalogue import all_works
from benchmarks.harness.percentiles import Spread, paired_ratios, spread
from benchmarks.harness.works import Figure

COMMITTED = ROOT / "benchmarks" / "results"

Rounds = tuple[Mapping[str, float], ...]


class ResultsError(Exception):
    """A file is not what compare.py writes, or files do not belong together."""


@dataclass(frozen=True, slots=True)
class Run:
    """Where results come from: one file, and when, where and with what it was made."""

    file: Path
    date: str
    command: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str | None]
    missing: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Measured:
    """One work: the figures of every round of every broker, and who is left out or gave up, and why."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    rounds: Mapping[str, Rounds]
    skipped: Mapping[str, str]
    problems: Mapping[str, str]

    def whole(self, broker: str) -> bool:
        """Whether a broker did the work in every round."""
        return bool(self.rounds.get(broker)) and broker not in self.problems

    def spread(self, broker: str, figure: str) -> Spread | None:
        """Return a broker's figure over the rounds; nothing unless it delivered everything."""
        return spread([each[figure] for each in self.rounds[broker]]) if self.whole(broker) else None

    def ratio(self, broker: str, other: str, figure: str) -> Spread | None:
        """Return a broker's figure over another's, round by round; nothing unless both delivered everything."""
        if broker == other or not self.whole(broker) or not self.whole(other):
            return None
        ours = [each[figure] for each in self.rounds[broker]]
        theirs = [each[figure] for each in self.rounds[other]]
        return spread(paired_ratios(ours, theirs)) if all(value > 0 for value in theirs) else None


@dataclass(frozen=True, slots=True)
class Results:
    """The works of some files, in the order of the catalogue; the first broker is held against the others."""

    runs: tuple[Run, ...] = ()
    labels: Mapping[str, str] | None = None
    works: tuple[Measured, ...] = ()

    @property
    def brokers(self) -> dict[str, str]:
        """The brokers' names and labels, the first one first."""
        return dict(self.labels or {})

    def find(self, name: str) -> Measured | None:
        """Return a work, if it was measured."""
        return next((work for work in self.works if work.name == name), None)


def committed_results() -> list[Path]:
    """Return the files that the page and the pictures are made of when nobody names others."""
    return sorted(COMMITTED.glob("*.json"))


def read_results(paths: Sequence[Path]) -> Results:
    """Read files whose works go together; raise `ResultsError` if a work is in two, or the first broker differs."""
    runs: list[Run] = []
    labels: dict[str, str] = {}
    works: dict[str, Measured] = {}
    for path in paths:
        try:
            content = json.loads(path.read_text())
            run, brokers = _read_run(path, content), dict(content["labels"])
            found = [_read_work(work) for work in content["works"]]
        except (ValueError, KeyError, TypeError) as error:
            message = f"{path} is not what compare.py writes: {error!r}"
            raise ResultsError(message) from error
        if labels and next(iter(brokers)) != next(iter(labels)):
            message = f"{path} holds {next(iter(brokers))} against the others, and the files before it do not"
            raise ResultsError(message)
        twice = [work.name for work in found if work.name in works]
        if twice:
            message = f"{', '.join(twice)} of {path} is in a file before it as well"
            raise ResultsError(message)
        runs.append(run)
        labels |= brokers
        works |= {work.name: work for work in found}
    order = {work.name: place for place, work in enumerate(all_works())}
    ordered = sorted(works.values(), key=lambda work: order.get(work.name, len(order)))
    return Results(tuple(runs), labels, tuple(ordered))


def _read_run(path: Path, content: Mapping[str, Any]) -> Run:
    """Return what a file says of itself."""
    return Run(
        path, content["date"], content["command"], content["machine"], content["versions"], dict(content["missing"])
    )


def _read_work(work: Mapping[str, Any]) -> Measured:
    """Return one work of a file, without the medians and ratios that it has as well."""
    return Measured(
        name=work["work"],
        title=work["title"],
        figures=tuple(Figure(**figure) for figure in work["figures"]),
        rounds={name: tuple(each["figures"] for each in taken) for name, taken in work["rounds"].items()},
        skipped=work["skipped"],
        problems=work["problems"],
    )
