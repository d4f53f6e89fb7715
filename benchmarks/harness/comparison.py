"""A work done by several brokers in turns, and what may be said about it afterwards.

The brokers of a work are all started before the first round and stopped after the last. Within a round they are read
straight after one another, and who goes first is turned every other round. A broker that does not deliver everything is
out of the work: its figures are kept, nothing is said of them, and no ratio is formed.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from benchmarks.harness.brokers import Recipe
from benchmarks.harness.children import ChildError
from benchmarks.harness.load import LoadError
from benchmarks.harness.percentiles import Spread, paired_ratios, spread
from benchmarks.harness.rounds import IncompleteError
from benchmarks.harness.works import Figure, Read, Reading, Run, Work


class Comparison:
    """One work and the brokers that do it; the first broker is the one that all others are held against."""

    def __init__(self, work: Work, recipes: Sequence[Recipe]) -> None:
        """Sort out who cannot take part."""
        self.work = work
        self.recipes = list(recipes)
        self.skipped: dict[str, str] = {}
        self.problems: dict[str, str] = {}
        self.readings: dict[str, list[Reading]] = {}
        for recipe in recipes:
            obstacle = recipe.obstacle() or work.obstacle(recipe)
            if obstacle is not None:
                self.skipped[recipe.name] = obstacle

    def run(self, run: Run, *, rounds: int, seconds: float) -> None:
        """Warm everybody up, then take the rounds."""
        with ExitStack() as stack:
            takers: dict[str, Read] = {}
            for recipe in self.recipes:
                if recipe.name in self.skipped:
                    continue
                self.readings[recipe.name] = []
                try:
                    takers[recipe.name] = stack.enter_context(self.work.open(recipe, run, seconds))
                except (IncompleteError, LoadError, ChildError) as error:
                    self._give_up(recipe.name, error)
            for number in range(rounds):
                names = [name for name in takers if name not in self.problems]
                for name in reversed(names) if number % 2 else names:
                    self._take(name, takers[name])

    def _take(self, name: str, read: Read) -> None:
        """Read one broker once."""
        try:
            self.readings[name].append(read())
        except (IncompleteError, LoadError, ChildError) as error:
            self._give_up(name, error)

    def _give_up(self, name: str, error: Exception) -> None:
        """Note why a broker is out of this work."""
        self.problems[name] = str(error)
        print(f"{self.work.name}, {name}: {error}", file=sys.stderr)

    def whole(self, name: str) -> bool:
        """Whether a broker did the work in every round."""
        return name in self.readings and name not in self.problems

    def figure(self, name: str, figure: Figure) -> Spread | None:
        """Return a broker's figure over the rounds; nothing unless it delivered everything."""
        if not self.whole(name):
            return None
        return spread([reading.figures[figure.key] for reading in self.readings[name]])

    def ratios(self, other: str, figure: Figure) -> list[float] | None:
        """Return the first broker's figure over another's, round by round; nothing unless both delivered everything."""
        first = self.recipes[0].name
        if other == first or not self.whole(first) or not self.whole(other):
            return None
        ours = [reading.figures[figure.key] for reading in self.readings[first]]
        theirs = [reading.figures[figure.key] for reading in self.readings[other]]
        return paired_ratios(ours, theirs) if all(value > 0 for value in theirs) else None

    def as_json(self) -> dict[str, Any]:
        """Return everything; a figure or ratio that nothing may be said of is null."""
        return {
            "work": self.work.name,
            "title": self.work.title,
            "figures": [asdict(figure) for figure in self.work.figures],
            "skipped": self.skipped,
            "problems": self.problems,
            "rounds": {name: [asdict(reading) for reading in taken] for name, taken in self.readings.items()},
            "brokers": {
                name: {figure.key: _as_json(self.figure(name, figure)) for figure in self.work.figures}
                for name in self.readings
            },
            "ratios": {
                name: {figure.key: self._ratio_as_json(name, figure) for figure in self.work.figures}
                for name in self.readings
                if name != self.recipes[0].name
            },
        }

    def _ratio_as_json(self, name: str, figure: Figure) -> dict[str, Any] | None:
        """Return the ratios' middle and ends."""
        ratios = self.ratios(name, figure)
        return _as_json(spread(ratios)) if ratios else None


def _as_json(found: Spread | None) -> dict[str, Any] | None:
    """Return a spread as a dictionary, and nothing as null."""
    return None if found is None else asdict(found)
