"""Explore our own house outside of the tests: ``python -m tests.scenarios [--all]``."""

from __future__ import annotations

import argparse
import operator
import sys
import time
from functools import reduce

from tests.scenarios.all import ROOMS, SCENARIOS, in_full, name_of, share


def main() -> int:
    """Explore each scenario, print a line for it and for each failure, and return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/explore", description=__doc__)
    parser.add_argument("--all", action="store_true", help="all schedules and second cancels; tens of minutes")
    parser.add_argument("--seeds", type=int, default=3, help="shuffled schedules with --all (default: %(default)s)")
    parser.add_argument(
        "--only", action="append", metavar="TEXT", help="scenarios whose name contains this; repeatable"
    )
    options = parser.parse_args()
    explorations = []
    for scenario in SCENARIOS:
        if not any(text in name_of(scenario) for text in options.only or [""]):
            continue
        begin = time.perf_counter()
        exploration = in_full(scenario, options.seeds) if options.all else share(scenario)
        explorations.append(exploration)
        runs = ", ".join(f"{count:,} {axis}" for axis, count in sorted(exploration.runs.items()))
        seconds = time.perf_counter() - begin
        print(f"{name_of(scenario)}: {runs}; {len(exploration.failures)} failures; {seconds:.0f} s", flush=True)
        for failure in exploration.failures:
            print(f"    {failure.token}: {failure.what}: {failure.error!r}", flush=True)
    if not explorations:
        parser.error(f"no scenario has a name that contains {' or '.join(options.only)}")
    together = reduce(operator.add, explorations)
    sites = {site for site in together.sites if site.module.startswith(ROOMS)}
    excused = sites & together.sites_excused.keys()
    missed = sorted(together.sites_missed & sites)
    print(f"await sites: {len(sites)}, of which {len(excused)} are excused, and {len(missed)} were missed")
    for site in missed:
        print(f"    missed: {site}, offset {site.offset}")
    injections = together.runs.total() - together.runs["schedule"]
    print(f"{injections:,} injections, {len(together.failures)} failures")
    return 1 if together.failures or missed else 0


if __name__ == "__main__":
    sys.exit(main())
