"""Break our own code in one place after the other and see whether the explorer notices: the mutation score.

``python -m tests.mutations [--only NAME] [--list] [--jobs N] [--seeds N]``
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutations.apply import (
    Control,
    Outcome,
    Settings,
    copy_of_the_tree,
    explore_the_original,
    explore_variant,
)
from tests.mutations.by_hand import chosen
from tests.mutations.marks import UNOBSERVABLE
from tests.mutations.rules import generated
from tests.mutations.variants import Variant

__all__ = ["main"]


def main() -> int:
    """Explore all variants, print a line for each and the score, and return the exit status."""
    options = _options()
    with copy_of_the_tree() as tree:  # others may go on working on the original
        variants = [
            variant
            for variant in [*generated(tree), *chosen(tree)]
            if any(part in f"{variant.name} {variant.path}" for part in options.only or [""])
        ]
        if options.list:
            for variant in variants:
                print(f"{variant.name}  {variant.path}:{variant.line}  {variant.what}")
            print(f"{len(variants)} variants")
            return 0
        settings = Settings(options.seeds, options.seconds, not options.no_double)
        control = _control(tree, settings, options.control, options.jobs)
        for name, why in control.unfit.items():
            print(f"{name}: left out, because it fails on the unchanged tree: {why}", flush=True)
        outcomes = _explore_all(tree, variants, control, settings, options.jobs)
    return _report(outcomes, control)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="variants whose name or path contains this; repeatable"
    )
    parser.add_argument("--list", action="store_true", help="list the variants and explore nothing")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=2, help="shuffled schedules a scenario (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=180, help="processor time for one variant (default: %(default)s)"
    )
    parser.add_argument("--no-double", action="store_true", help="no second cancellations: a quick look")
    parser.add_argument(
        "--control", type=Path, metavar="FILE", help="keep there what the unchanged tree does, for the next time"
    )
    return parser.parse_args()


def _control(tree: Path, settings: Settings, file: Path | None, jobs: int) -> Control:
    """What the unchanged tree does: explored, or known from the last time if nothing has changed since."""
    digest = hashlib.sha256(repr((settings.seeds, settings.double)).encode())
    for path in sorted([*tree.glob("trio_broker/**/*.py"), *tree.glob("tests/scenarios/*.py")]):
        digest.update(path.read_bytes())
    if file is not None and file.exists():
        known = json.loads(file.read_text(encoding="utf-8"))
        if known["digest"] == digest.hexdigest():
            reached = {name: frozenset(functions) for name, functions in known["reached"].items()}
            return Control(reached, known["seconds"], known["unfit"])
    began = time.perf_counter()
    control = explore_the_original(tree, settings, jobs)
    print(f"the unchanged tree: {len(control.reached)} scenarios, {time.perf_counter() - began:.0f} s", flush=True)
    if file is not None:
        facts = {
            "digest": digest.hexdigest(),
            "reached": {name: sorted(functions) for name, functions in control.reached.items()},
            "seconds": control.seconds,
            "unfit": control.unfit,
        }
        file.write_text(json.dumps(facts), encoding="utf-8")
    return control


def _explore_all(
    tree: Path, variants: list[Variant], control: Control, settings: Settings, jobs: int
) -> list[tuple[Variant, Outcome]]:
    """Explore each variant, and print a line for it as soon as it and those before it are done."""

    def explore(variant: Variant) -> tuple[Outcome, float]:
        began = time.perf_counter()
        scenarios = control.scenarios_for(variant)
        outcome = explore_variant(tree, variant, scenarios, settings)
        if not scenarios:
            outcome = dataclasses.replace(outcome, error="no scenario comes there")
        return outcome, time.perf_counter() - began

    outcomes: list[tuple[Variant, Outcome]] = []
    with ThreadPoolExecutor(jobs) as pool:
        for variant, (outcome, seconds) in zip(variants, pool.map(explore, variants), strict=True):
            print(f"{_line(variant, outcome)}  ({seconds:.0f} s)", flush=True)
            outcomes.append((variant, outcome))
    return outcomes


def _line(variant: Variant, outcome: Outcome) -> str:
    """What came of a variant, on one line."""
    head = f"{variant.name}  {variant.path}:{variant.line}  {variant.what}: "
    if outcome.caught:
        error = outcome.error if len(outcome.error) <= 160 else f"{outcome.error[:157]}..."
        return f"{head}caught by {outcome.scenario}, {outcome.axis}, {outcome.token or 'no token'}: {error}"
    proof = UNOBSERVABLE.get(variant.name)
    if proof is not None:
        return f"{head}not observable: {proof}"
    why = outcome.error or (f"{outcome.runs:,} runs" + ("" if outcome.complete else ", and then its time was used up"))
    return f"{head}SURVIVED ({why})"


def _report(outcomes: list[tuple[Variant, Outcome]], control: Control) -> int:
    """Print the score; return the exit status."""
    axes = Counter(outcome.axis for _, outcome in outcomes if outcome.caught)
    survivors = [variant for variant, outcome in outcomes if not outcome.caught]
    marked = [variant for variant in survivors if variant.name in UNOBSERVABLE]
    wrong = [variant for variant, outcome in outcomes if outcome.caught and variant.name in UNOBSERVABLE]
    print()
    print(", ".join(f"{axis}: {count}" for axis, count in axes.most_common()))
    for variant in wrong:
        print(f"{variant.name} is marked as not observable, and was observed")
    for variant in survivors:
        if variant.name not in UNOBSERVABLE:
            print(f"survived: {variant.name}  {variant.path}:{variant.line}")
    observable = len(outcomes) - len(marked)
    caught = axes.total()
    score = 100 * caught / observable if observable else 100.0
    print(f"{caught} of {observable} variants caught: {score:.1f} %; {len(marked)} more are not observable")
    return 1 if caught < observable or wrong or control.unfit else 0


if __name__ == "__main__":
    sys.exit(main())
