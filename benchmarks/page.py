"""The tables of docs/performance.md, from results that benchmarks/compare.py has written.

    python benchmarks/page.py [RESULTS.json ...] [--page docs/performance.md] [--check]

Without a file it takes all in benchmarks/results. Only what stands between the two marks is written. `--check` writes
nothing and exits with 1 where the page says something else than the results. With or without it the exit status is 1
where a goal is not reached and the page has no text that says why (publish/reasons.py).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # started as a script: the packages are beside us

from benchmarks.harness.brokers import ROOT
from benchmarks.publish.reasons import find_silence
from benchmarks.publish.results import ResultsError, committed_results, read_results
from benchmarks.publish.table import PageError, render, replace_generated

PAGE = ROOT / "docs" / "performance.md"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Write results into a page.")
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULTS.json", help="default: benchmarks/results")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: docs/performance.md")
    parser.add_argument("--check", action="store_true", help="write nothing; tell whether the page matches")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; tell whether that went well."""
    options = parse_arguments(arguments)
    try:
        results = read_results(options.results or committed_results())
        before = options.page.read_text()
        after = replace_generated(before, render(results, options.page.parent))
    except (ResultsError, PageError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if not options.check:
        options.page.write_text(after)
    faults = find_silence(after, results)
    if options.check and after != before:
        faults.append("the page does not match the results; benchmarks/page.py writes it anew")
    for fault in faults:
        print(f"{options.page}: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
