"""How much faster than the seed: a flood of trio_broker and of the seed's asyncio broker, in turns in one run.

    python benchmarks/seed_flood.py [--size 128] [--count N] [--rounds 5] [--json results.json]

One publisher floods one subscriber on a topic. Prints a line for each round, the median rates and the median of the
rounds' ratios. Where anything was not delivered it says what was missing, prints no ratio and exits with 1.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # started as a script: the packages are beside us

from benchmarks.harness.brokers import RECIPES, SEED, TRIO, Broker, Recipe, running_broker
from benchmarks.harness.children import ChildError, end_in_order
from benchmarks.harness.load import LoadError, LoadFactory
from benchmarks.harness.placement import Placement, choose_placement
from benchmarks.harness.report import describe_machine, format_busy, format_rate, format_table, write_json
from benchmarks.harness.rounds import IncompleteError, Sample, calibrate, median_rate, median_ratio, take_turns
from benchmarks.harness.shapes import topic_flood

FEWEST_ROUNDS = 5


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Flood trio_broker and the seed's broker in turns.")
    parser.add_argument("--size", type=int, default=128, help="payload bytes (default: %(default)s)")
    parser.add_argument("--count", type=int, help="messages a round for the fastest; slower ones get as much time")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a sample (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=FEWEST_ROUNDS, help="paired rounds (default: %(default)s)")
    parser.add_argument("--broker", choices=sorted(RECIPES), default=TRIO.name, help="what is held against the seed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args(arguments)
    if options.size < 0 or options.seconds <= 0 or (options.count is not None and options.count <= 0):
        parser.error("numbers must be positive")
    if options.rounds < FEWEST_ROUNDS:
        parser.error(f"a median of ratios needs at least {FEWEST_ROUNDS} rounds")
    return options


class Comparison:
    """A broker held against the seed: the rounds so far, and what to say of them."""

    def __init__(self, recipe: Recipe, options: argparse.Namespace, placement: Placement) -> None:
        """Note what will be compared."""
        self._recipes = (recipe, SEED)
        self._options = options
        self._placement = placement
        self._rounds: list[list[Sample]] = []
        self._problem: str | None = None

    def run(self) -> bool:
        """Take and print all rounds; return whether everything was delivered."""
        try:
            with ExitStack() as stack:
                brokers = [stack.enter_context(running_broker(each, self._placement)) for each in self._recipes]
                self._take_rounds(brokers, topic_flood(1, 1, self._options.size))
        except (IncompleteError, LoadError, ChildError) as error:
            self._problem = str(error)
        return self._problem is None

    def _take_rounds(self, brokers: Sequence[Broker], load: LoadFactory) -> None:
        """Calibrate each broker, which warms it up, then let them take turns."""
        counts = [calibrate(broker, load, self._options.seconds) for broker in brokers]
        if self._options.count:
            largest = max(counts)
            counts = [max(1, round(count * self._options.count / largest)) for count in counts]
        for number in range(self._options.rounds):
            self._rounds.append(take_turns(brokers, load, counts, number))
            print(f"round {number + 1} of {self._options.rounds} done", file=sys.stderr)

    def _columns(self) -> list[list[Sample]]:
        """Return the samples of each broker."""
        return [[samples[place] for samples in self._rounds] for place in range(len(self._recipes))]

    def report(self) -> str:
        """Return the table of the rounds, and the medians if everything was delivered."""
        rows = [["round"]]
        for recipe in self._recipes:
            rows[0] += [recipe.label, "broker / load busy"]
        rows[0].append("ratio")
        for number, samples in enumerate(self._rounds, 1):
            cells = [cell for sample in samples for cell in (format_rate(sample.rate), format_busy(sample))]
            rows.append([str(number), *cells, "" if self._problem else f"{samples[0].rate / samples[1].rate:.1f}"])
        if self._problem is not None:
            return f"{format_table(rows)}\n\nno ratio, because not everything was delivered\n{self._problem}"
        rates = [
            f"{recipe.label}: {format_rate(median_rate(samples))} deliveries/s"
            for recipe, samples in zip(self._recipes, self._columns(), strict=True)
        ]
        ratio = f"median of the rounds' ratios: {median_ratio(*self._columns()):.1f}"
        return "\n".join([format_table(rows), "", *rates, ratio])

    def as_json(self) -> dict[str, Any]:
        """Return the results; medians and ratio are null unless everything was delivered."""
        columns = self._columns()
        whole = self._problem is None
        return {
            "work": {"shape": "flood", "publishers": 1, "subscribers": 1, "size": self._options.size},
            "machine": describe_machine(self._placement),
            "rounds": [[sample.as_json() for sample in samples] for samples in self._rounds],
            "problem": self._problem,
            "median_rates": [median_rate(samples) for samples in columns] if whole else None,
            "median_ratio": median_ratio(*columns) if whole else None,
        }


def main() -> int:
    """Compare, print, and tell whether everything was delivered."""
    options = parse_arguments()
    end_in_order()
    placement = choose_placement()
    placement.settle_load()
    apart = "" if placement.apart else ": SHARED, so the rates say little"
    print(
        f"flood 1 -> 1, {options.size} B, {options.rounds} rounds;"
        f" broker on CPU {placement.broker}, load on CPU {placement.load}{apart}"
    )
    comparison = Comparison(RECIPES[options.broker], options, placement)
    try:
        complete = comparison.run()
    except KeyboardInterrupt:
        return 130
    print(comparison.report())
    if options.json:
        write_json(options.json, comparison.as_json())
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
