"""Samples of a broker under a load: sized so that each takes about as long, and taken in turns.

Rates on a shared machine drift from minute to minute. Two brokers are therefore compared within a round, one straight
after the other, who goes first alternating; the ratio reported is the median of the rounds' ratios.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.harness.brokers import Broker
from benchmarks.harness.load import Load, LoadFactory, Outcome

FIRST_COUNT = 500
LARGEST_STEP = 10.0
CALIBRATED_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured run: what happened, and how busy the two sides were, as shares of a CPU."""

    broker: str
    outcome: Outcome
    broker_busy: float
    load_busy: float

    @property
    def rate(self) -> float:
        """Deliveries a second; only a complete sample has one that means anything."""
        return self.outcome.delivered / self.outcome.elapsed

    def problem(self) -> str | None:
        """Return what was missing or wrong, or nothing."""
        if self.outcome.complete:
            return None
        faults = "; ".join(self.outcome.faults) or "nothing else was noticed"
        return f"{self.broker}: {self.outcome.delivered} of {self.outcome.expected} delivered ({faults})"

    def as_json(self) -> dict[str, Any]:
        """Return everything about the sample; the rate is null where it was incomplete."""
        return {
            "broker": self.broker,
            **asdict(self.outcome),
            "complete": self.outcome.complete,
            "rate": self.rate if self.outcome.complete else None,
            "broker_busy": self.broker_busy,
            "load_busy": self.load_busy,
        }


class IncompleteError(Exception):
    """A sample did not deliver exactly what was due, so there is nothing to compare."""

    def __init__(self, sample: Sample) -> None:
        """Keep the sample; the message tells what was missing."""
        super().__init__(sample.problem())
        self.sample = sample


def run_load(broker: Broker, load: Load, count: int, *, inspect: bool = False) -> Sample:
    """Run a connected load once; raise `IncompleteError` unless all was delivered."""
    cpu = broker.child.cpu_seconds()
    outcome = load.run(count, inspect=inspect)
    cpu = broker.child.cpu_seconds() - cpu
    sample = Sample(broker.recipe.name, outcome, cpu / outcome.elapsed, outcome.load_cpu / outcome.elapsed)
    if not outcome.complete:
        raise IncompleteError(sample)
    return sample


def take_sample(broker: Broker, load: LoadFactory, count: int, *, inspect: bool = False) -> Sample:
    """Run a load once over fresh connections; raise `IncompleteError` unless all was delivered."""
    with load(broker.address, broker.recipe.wire) as session:
        return run_load(broker, session, count, inspect=inspect)


def calibrate(broker: Broker, load: LoadFactory, seconds: float) -> int:
    """Return how many messages keep the broker busy for about `seconds`, over fresh connections; this warms it up."""
    return find_count(lambda count: take_sample(broker, load, count, inspect=True), seconds)


def find_count(take: Callable[[int], Sample], seconds: float) -> int:
    """Return how many messages take about `seconds`, by taking samples of more and more, which inspect what comes back.

    Every byte that comes back is compared with what was sent. That makes the warm-up a little slower than the rounds,
    which count bytes only.
    """
    count = FIRST_COUNT
    while True:
        sample = take(count)
        elapsed = sample.outcome.elapsed
        if elapsed >= CALIBRATED_SHARE * seconds:
            return max(1, round(sample.outcome.messages * seconds / elapsed))
        count = round(count * min(LARGEST_STEP, max(2.0, 0.6 * seconds / elapsed)))


def take_turns(brokers: Sequence[Broker], load: LoadFactory, counts: Sequence[int], number: int) -> list[Sample]:
    """Take one round: a sample of each broker, in the brokers' order, taken in turned order every other round."""
    order = list(range(len(brokers)))
    if number % 2:
        order.reverse()
    taken = {place: take_sample(brokers[place], load, counts[place]) for place in order}
    return [taken[place] for place in range(len(brokers))]


def median_rate(samples: Sequence[Sample]) -> float:
    """Return the median rate of one broker's samples."""
    return statistics.median(sample.rate for sample in samples)


def median_ratio(samples: Sequence[Sample], against: Sequence[Sample]) -> float:
    """Return the median of the ratios within each round."""
    return statistics.median(one.rate / other.rate for one, other in zip(samples, against, strict=True))
