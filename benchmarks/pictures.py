"""Bars and curves of results that benchmarks/compare.py has written, as SVG and PNG.

    python benchmarks/pictures.py [RESULTS.json ...] [--into docs/pictures] [--check]

Without a file it takes all in benchmarks/results. Drawing needs matplotlib (scripts/bench-peers installs it into
.venv-bench). `--check` needs nothing: it compares the digest that each picture carries with that of the results, and
exits with 1 where one is missing, has other numbers, or belongs to no result.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # started as a script: the packages are beside us

from benchmarks.harness.brokers import ROOT
from benchmarks.publish.results import ResultsError, committed_results, read_results
from benchmarks.publish.series import Picture, make_pictures

try:
    from benchmarks.publish.drawing import draw
except ModuleNotFoundError as error:
    WITHOUT_DRAWING: str | None = f"{error}; scripts/bench-peers installs it"
else:
    WITHOUT_DRAWING = None

PICTURES = ROOT / "docs" / "pictures"
KINDS = {".svg", ".png"}


def find_faults(pictures: Sequence[Picture], folder: Path) -> list[str]:
    """Return what is wrong with the files in a folder that should have these pictures; compares digests."""
    due = {f"{picture.name}{kind}": picture.digest() for picture in pictures for kind in sorted(KINDS)}
    there = {path.name for path in folder.glob("*") if path.suffix in KINDS}
    faults = [f"{name} is missing" for name in due if name not in there]
    faults += [f"{name} belongs to no result" for name in sorted(there - set(due))]
    faults += [
        f"{name} has other numbers than the results"
        for name, digest in due.items()
        if name in there and digest.encode() not in (folder / name).read_bytes()
    ]
    return faults


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Draw results as SVG and PNG.")
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULTS.json", help="default: benchmarks/results")
    parser.add_argument("--into", type=Path, default=PICTURES, metavar="FOLDER", help="default: docs/pictures")
    parser.add_argument("--check", action="store_true", help="draw nothing; tell whether the pictures match")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw or check; tell whether that went well."""
    options = parse_arguments(arguments)
    try:
        pictures = make_pictures(read_results(options.results or committed_results()))
    except (ResultsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.check:
        faults = find_faults(pictures, options.into)
        print(*faults, sep="\n", end="\n" if faults else "", file=sys.stderr)
        return 1 if faults else 0
    if not pictures or WITHOUT_DRAWING:
        print(WITHOUT_DRAWING or "nothing to draw: no results, or none beside nats-server", file=sys.stderr)
        return 1
    for picture in pictures:
        print(*draw(picture, options.into), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
