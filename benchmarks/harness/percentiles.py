"""Percentiles, and what is said of figures that were taken in pairs."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def percentiles_of_sorted(values: Sequence[float], wanted: Sequence[float]) -> list[float]:
    """Return for each wanted percentile the least value that at least so many of 100 do not exceed (nearest rank)."""
    if not values:
        message = "no values, no percentiles"
        raise ValueError(message)
    # Rounded first: 99.9 % of 41,000 values computes to a little more than 40,959, which would be the next rank.
    ranks = [max(1, math.ceil(round(len(values) * each / 100, 6))) for each in wanted]
    return [values[rank - 1] for rank in ranks]


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of a figure over the rounds."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return median, lowest and highest."""
    return Spread(statistics.median(values), min(values), max(values))


def paired_ratios(values: Sequence[float], against: Sequence[float]) -> list[float]:
    """Return the ratio within each round; what slows a machine down for a while slows both halves of a round."""
    return [one / other for one, other in zip(values, against, strict=True)]
