"""One figure for one broker under one shape of work, for comparing before and after a change.

    python benchmarks/flood.py --broker trio --shape fanout --subscribers 100 --size 128

The last line printed is the result: the median of the rounds, their spread, and how busy broker and load were.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # started as a script: the packages are beside us

from benchmarks.harness.brokers import running_broker
from benchmarks.harness.children import ChildError, end_in_order
from benchmarks.harness.load import LoadError, allow_descriptors
from benchmarks.harness.placement import choose_placement
from benchmarks.harness.report import format_rate
from benchmarks.harness.rounds import IncompleteError, Sample, calibrate, median_rate, take_sample
from benchmarks.harness.shapes import SHAPES, Shape
from benchmarks.peers import ALL_RECIPES

SATURATED = 0.95


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Measure one broker under one shape of work.")
    parser.add_argument("--broker", choices=sorted(ALL_RECIPES), default="trio")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="flood")
    parser.add_argument("--size", type=int, default=128, help="payload bytes (default: %(default)s)")
    parser.add_argument("--publishers", type=int, help="default: 1; 10 for queue; 400 for unbatched")
    parser.add_argument("--subscribers", type=int, help="default: 1; 10 for fanout and queue; no matter for unbatched")
    parser.add_argument("--count", type=int, help="messages a round (default: as many as take --seconds)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds to take the median of (default: %(default)s)")
    options = parser.parse_args(arguments)
    positive = (options.publishers, options.subscribers, options.count, options.seconds, options.rounds)
    if options.size < 0 or any(value is not None and value <= 0 for value in positive):
        parser.error("numbers must be positive")
    return options


def measure(options: argparse.Namespace, publishers: int, subscribers: int, shape: Shape) -> list[Sample]:
    """Return the samples of all rounds."""
    placement = choose_placement()
    placement.settle_load()
    if not placement.apart:
        print("only one CPU: broker and load share it, and the rate is of both together", file=sys.stderr)
    load = shape.make(publishers, subscribers, options.size)
    with running_broker(ALL_RECIPES[options.broker], placement) as broker:
        calibrated = calibrate(broker, load, options.seconds)
        return [take_sample(broker, load, options.count or calibrated) for _ in range(options.rounds)]


def summarize(samples: Sequence[Sample], work: str, unit: str) -> str:
    """Return the result as one line."""
    rates = [sample.rate for sample in samples]
    broker_busy = statistics.median(sample.broker_busy for sample in samples)
    load_busy = statistics.median(sample.load_busy for sample in samples)
    limit = "; THE LOAD WAS THE LIMIT" if load_busy > SATURATED > broker_busy else ""
    return (
        f"{samples[0].broker} {work}: {format_rate(median_rate(samples))} {unit}"
        f" ({format_rate(min(rates))} to {format_rate(max(rates))} in {len(samples)} rounds;"
        f" broker {broker_busy:.0%} busy, load {load_busy:.0%}{limit})"
    )


def main() -> int:
    """Measure, print one line, and tell whether everything was delivered."""
    options = parse_arguments()
    shape = SHAPES[options.shape]
    publishers = options.publishers or shape.publishers
    subscribers = publishers if options.shape == "unbatched" else options.subscribers or shape.subscribers
    end_in_order()
    allow_descriptors()
    try:
        samples = measure(options, publishers, subscribers, shape)
    except (IncompleteError, LoadError, ChildError) as error:
        print(f"no rate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(summarize(samples, f"{options.shape} {publishers}->{subscribers} {options.size} B", shape.unit))
    return 0


if __name__ == "__main__":
    sys.exit(main())
