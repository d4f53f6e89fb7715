"""Does the broker's memory grow under a flood that does not end?

    python benchmarks/soak.py [--minutes 10] [--broker trio] [--size 128] [--subscribers 10]

Floods a topic without a pause and looks at the broker's memory every few seconds. What it took in the first tenth of
the time is its warm-up; after that no look may exceed the largest of the second tenth by more than 5 % and a MiB. The
exit status is 1 if one does, or if anything was not delivered.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # started as a script: the packages are beside us

from benchmarks.harness.brokers import Broker, running_broker
from benchmarks.harness.children import ChildError, end_in_order
from benchmarks.harness.load import LoadError, allow_descriptors
from benchmarks.harness.placement import choose_placement
from benchmarks.harness.rounds import IncompleteError, find_count, run_load
from benchmarks.harness.shapes import topic_flood
from benchmarks.peers import ALL_RECIPES

MIB = 1 << 20
LOOK_SECONDS = 3.0
SHARE_ALLOWED = 1.05
GRAIN = MIB
LOOKS_MIN = 20


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Flood a broker for minutes, and watch its memory.")
    parser.add_argument("--minutes", type=float, default=10.0, help="default: %(default)s")
    parser.add_argument("--broker", choices=sorted(ALL_RECIPES), default="trio")
    parser.add_argument("--size", type=int, default=128, help="payload bytes (default: %(default)s)")
    parser.add_argument("--subscribers", type=int, default=10, help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.size < 0 or options.subscribers <= 0:
        parser.error("numbers must be positive")
    if options.minutes * 60 < LOOKS_MIN * LOOK_SECONDS:
        parser.error(f"{LOOKS_MIN} looks take at least {LOOKS_MIN * LOOK_SECONDS / 60:g} minutes")
    return options


def find_growth(looks: Sequence[int]) -> str | None:
    """Return what grew, or nothing: each look after the second tenth is held against the largest of that tenth."""
    tenth = len(looks) // 10
    settled = max(looks[tenth : 2 * tenth])
    largest = max(looks[2 * tenth :])
    if largest <= settled * SHARE_ALLOWED + GRAIN:
        return None
    return f"{largest / MIB:.1f} MiB, after {settled / MIB:.1f} MiB in the second tenth of the time"


def flood(broker: Broker, options: argparse.Namespace) -> tuple[list[int], int]:
    """Flood until the time is over; return the broker's memory at each look, and the deliveries."""
    looks: list[int] = []
    delivered = 0
    with topic_flood(1, options.subscribers, options.size)(broker.address, broker.recipe.wire) as load:
        count = find_count(lambda each: run_load(broker, load, each, inspect=True), LOOK_SECONDS)
        began = time.monotonic()
        while (passed := time.monotonic() - began) < options.minutes * 60:
            sample = run_load(broker, load, count)
            delivered += sample.outcome.delivered
            looks.append(broker.child.resident_bytes())
            print(f"\r{passed:5.0f} s  {sample.rate:12,.0f} deliveries/s  {looks[-1] / MIB:7.1f} MiB", end="")
    print()
    return looks, delivered


def main() -> int:
    """Flood, print what the memory did, and tell whether it grew."""
    options = parse_arguments()
    end_in_order()
    allow_descriptors()
    placement = choose_placement()
    placement.settle_load()
    try:
        with running_broker(ALL_RECIPES[options.broker], placement) as broker:
            looks, delivered = flood(broker, options)
    except (ChildError, LoadError, IncompleteError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    growth = find_growth(looks)
    print(
        f"{options.broker}: {delivered:,} deliveries of {options.size} B to {options.subscribers} in "
        f"{options.minutes:g} minutes; memory {looks[0] / MIB:.1f} MiB at first, {max(looks) / MIB:.1f} MiB at most, "
        f"{looks[-1] / MIB:.1f} MiB at last; {'it GREW: ' + growth if growth else 'no growth'}"
    )
    return 1 if growth else 0


if __name__ == "__main__":
    sys.exit(main())
