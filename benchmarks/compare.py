"""trio_broker beside other brokers, in one run and in turns.

    python benchmarks/compare.py [--only 'flood-*'] [--brokers trio,nats,redis] [--rounds 5] [--seconds 1] [--json FILE]

Every broker that is installed takes part (scripts/bench-peers installs them). For each work there is a table: the
median and the ends of each figure over the rounds, and of the rounds' ratios of the first broker to each other one.
Where a broker did not deliver everything there is no ratio, and the exit status is 1.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # started as a script: the packages are beside us

from benchmarks.harness.brokers import Recipe, running_broker
from benchmarks.harness.catalogue import all_works, choose_works
from benchmarks.harness.children import end_in_order
from benchmarks.harness.comparison import Comparison
from benchmarks.harness.load import allow_descriptors
from benchmarks.harness.placement import Placement, choose_placement
from benchmarks.harness.report import describe_machine, write_json
from benchmarks.harness.tables import describe
from benchmarks.harness.works import Work
from benchmarks.peers import ALL_RECIPES

FEWEST_ROUNDS = 5


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Compare brokers in turns.")
    parser.add_argument("--only", action="append", default=[], metavar="WORK", help="a name or pattern; repeatable")
    parser.add_argument("--brokers", default=",".join(ALL_RECIPES), help="the first is held against the others")
    parser.add_argument("--rounds", type=int, default=FEWEST_ROUNDS, help="paired rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a reading (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, after each work")
    parser.add_argument("--list", action="store_true", help="name works and brokers, and end")
    options = parser.parse_args(arguments)
    names = options.brokers.split(",")
    unknown = [name for name in names if name not in ALL_RECIPES]
    if unknown or len(set(names)) < len(names):
        parser.error(f"brokers are {', '.join(ALL_RECIPES)}, each once")
    if options.seconds <= 0 or options.rounds <= 0:
        parser.error("numbers must be positive")
    if len(names) > 1 and options.rounds < FEWEST_ROUNDS:
        parser.error(f"a median of ratios needs at least {FEWEST_ROUNDS} rounds")
    try:
        options.works = choose_works(options.only)
    except ValueError as error:
        parser.error(str(error))
    options.recipes = [ALL_RECIPES[name] for name in names]
    return options


def show_list() -> None:
    """Print what can be asked for."""
    for work in all_works():
        print(f"{work.name:18} {work.title}")
    print()
    for recipe in ALL_RECIPES.values():
        print(f"{recipe.name:18} {recipe.label}: {recipe.obstacle() or recipe.find_version() or 'installed'}")


def describe_run(recipes: Sequence[Recipe], placement: Placement) -> dict[str, Any]:
    """Return when, where and with what this was run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "machine": describe_machine(placement),
        "labels": {recipe.name: recipe.label for recipe in recipes},
        "versions": {recipe.name: recipe.find_version() for recipe in recipes},
        "missing": {recipe.name: obstacle for recipe in recipes if (obstacle := recipe.obstacle()) is not None},
    }


def compare_all(works: Sequence[Work], options: argparse.Namespace, placement: Placement) -> bool:
    """Go through the works; return whether everybody who took part delivered everything."""
    results: dict[str, Any] = describe_run(options.recipes, placement) | {"works": []}
    complete = True
    for name, obstacle in results["missing"].items():
        print(f"{name}: {obstacle}")
    for number, work in enumerate(works, 1):
        print(f"[{number} of {len(works)}] {work.name} ...", file=sys.stderr)
        comparison = Comparison(work, options.recipes)
        comparison.run(partial(running_broker, placement=placement), rounds=options.rounds, seconds=options.seconds)
        print(f"\n{describe(comparison)}", flush=True)
        results["works"].append(comparison.as_json())
        complete = complete and not comparison.problems
        if options.json:
            write_json(options.json, results)
    return complete


def main() -> int:
    """Compare, print, and tell whether everything was delivered."""
    options = parse_arguments()
    if options.list:
        show_list()
        return 0
    end_in_order()
    allow_descriptors()
    placement = choose_placement()
    placement.settle_load()
    apart = "" if placement.apart else ": SHARED, so the figures say little"
    print(f"brokers on CPU {placement.broker}, load on CPU {placement.load}{apart}; {options.rounds} rounds")
    try:
        return 0 if compare_all(options.works, options, placement) else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
