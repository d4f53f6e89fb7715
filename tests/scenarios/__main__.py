"""Explore our own house outside of the tests: ``python -m tests.scenarios [--all]``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.scenarios import core, server
from trio_broker.explorer import explore


def main() -> int:
    """Explore each scenario, print a line for it and for each failure, and return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/explore", description=__doc__)
    parser.add_argument("--all", action="store_true", help="all schedules and second cancels; tens of minutes")
    parser.add_argument("--seeds", type=int, default=5, help="shuffled schedules with --all (default: %(default)s)")
    options = parser.parse_args()
    total: Counter[str] = Counter()
    failures = 0
    for scenario in (*core.SCENARIOS, *server.SCENARIOS):
        name = f"{scenario.__module__}:{scenario.__name__}"
        begin = time.perf_counter()
        seeds = options.seeds if options.all else 1
        exploration = explore(scenario, seeds=seeds, turns=options.all, double=options.all)
        total += exploration.runs
        failures += len(exploration.failures)
        runs = ", ".join(f"{count:,} {axis}" for axis, count in sorted(exploration.runs.items()))
        print(f"{name}: {runs}; {len(exploration.failures)} failures; {time.perf_counter() - begin:.0f} s", flush=True)
        for failure in exploration.failures:
            print(f"    {failure.token}: {failure.what}: {failure.error!r}", flush=True)
    injections = sum(total.values()) - total["schedule"]
    print(f"{injections:,} injections, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
