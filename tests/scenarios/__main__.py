"""Explore our own house outside of the tests: ``python -m tests.scenarios [--all]``."""

from __future__ import annotations

import argparse
import operator
import sys
from functools import reduce

from tests.scenarios.all import ROOMS, SCENARIOS, name_of
from tests.scenarios.pool import explorations


def main() -> int:
    """Explore each scenario, print a line for it and for each failure, and return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/explore", description=__doc__)
    parser.add_argument("--all", action="store_true", help="all schedules and second cancels; tens of minutes")
    parser.add_argument("--seeds", type=int, default=3, help="shuffled schedules with --all (default: %(default)s)")
    parser.add_argument(
        "--only", action="append", metavar="TEXT", help="scenarios whose name contains this; repeatable"
    )
    options = parser.parse_args()
    chosen = [each for each in SCENARIOS if any(text in name_of(each) for text in options.only or [""])]
    if not chosen:
        parser.error(f"no scenario has a name that contains {' or '.join(options.only)}")
    found = []
    with explorations(chosen, options.seeds if options.all else None) as futures:
        for name, future in futures.items():
            exploration = future.result()
            found.append(exploration)
            runs = ", ".join(f"{count:,} {axis}" for axis, count in sorted(exploration.runs.items()))
            print(f"{name}: {runs}; {len(exploration.failures)} failures", flush=True)
            for failure in exploration.failures:
                print(f"    {failure.token}: {failure.what}: {failure.error}", flush=True)
    together = reduce(operator.add, found)
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
