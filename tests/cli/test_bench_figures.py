"""What the load reckons: percentiles, rates, spreads, and what is missing."""

from __future__ import annotations

import dataclasses
import random

import pytest

from tests.cli.bench_broker import work_of
from trio_broker.cli.bench_measure import PERCENTILES, Latencies, Measured, spread
from trio_broker.cli.bench_report import as_json, shortfall


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_those_of_the_sorted_values_rounded_up_a_little(seed: int) -> None:
    source = random.Random(seed)
    values = [source.lognormvariate(-9, 2) for _ in range(1 + 1000 * seed)]
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    ordered = sorted(values)
    for thousandths in (1, *PERCENTILES.values(), 1000):
        exact = ordered[max(1, -(-thousandths * len(values) // 1000)) - 1]
        assert exact - 1e-9 <= latencies.percentile(thousandths) <= exact * 1.008 + 1e-9
    assert latencies.max == pytest.approx(ordered[-1], abs=1e-9)
    assert latencies.count == len(values)


def test_small_latencies_are_exact() -> None:
    latencies = Latencies()
    for latency_ns in range(1, 101):
        latencies.add(latency_ns / 1e9)
    assert latencies.as_dict() == {"p50": 50e-9, "p90": 90e-9, "p99": 99e-9, "p99.9": 100e-9, "max": 100e-9}


def test_without_latencies_there_are_no_percentiles() -> None:
    assert Latencies().as_dict() == {}
    with pytest.raises(ValueError, match="nothing"):
        Latencies().percentile(500)


def test_a_spread_is_least_middle_and_greatest() -> None:
    assert spread([3, 1, 2]) == {"min": 1, "median": 2, "max": 3}
    assert spread([4, 1, 2, 3]) == {"min": 1, "median": 2.5, "max": 4}
    assert spread([5]) == {"min": 5, "median": 5, "max": 5}


def test_rates_are_reckoned_from_counts_and_times() -> None:
    measured = Measured(
        work_of("/topic/a", 1000, subscribers=2, size=500),
        seconds=4.0,
        published=1000,
        published_seconds=2.0,
        received=[1000, 1000],
        received_seconds=[2.5, 4.0],
        faults=(),
        stopped=None,
        latencies=Latencies(),
        late_seconds=0.0,
        load_busy=0.5,
    )
    assert as_json(measured) == {
        "channel": "/topic/a",
        "kind": "topic",
        "publishers": 1,
        "subscribers": 2,
        "size_bytes": 500,
        "count": 1000,
        "rate": None,
        "complete": True,
        "partial": False,
        "faults": [],
        "seconds": 4.0,
        "published": {
            "messages": 1000,
            "due": 1000,
            "seconds": 2.0,
            "messages_per_second": 500.0,
            "megabytes_per_second": 0.25,
        },
        "delivered": {
            "messages": 2000,
            "due": 2000,
            "seconds": 4.0,
            "messages_per_second": 500.0,
            "megabytes_per_second": 0.25,
        },
        "per_subscriber": {
            "messages": {"min": 1000, "median": 1000, "max": 1000},
            "messages_per_second": {"min": 250.0, "median": 325.0, "max": 400.0},
        },
        "latency_seconds": None,
        "late_seconds_max": None,
        "load_busy": 0.5,
    }
    assert not dataclasses.replace(measured, stopped="SIGINT").complete
    assert not dataclasses.replace(measured, faults=["one"]).complete
    assert not dataclasses.replace(measured, received=[1000, 999]).complete
    assert not dataclasses.replace(measured, received=[1000, 1001]).complete


def test_what_is_missing_is_named_but_not_all_of_it() -> None:
    measured = Measured(
        work_of("/topic/a", 1000, subscribers=6),
        seconds=1.0,
        published=1000,
        published_seconds=1.0,
        received=[1000, 1, 2, 3, 4, 5],
        received_seconds=[1.0] * 6,
        faults=["one", "two", "three", "four"],
        stopped="SIGINT",
        latencies=Latencies(),
        late_seconds=0.0,
        load_busy=0.5,
    )
    assert shortfall(measured) == (
        "stopped by SIGINT; one; two; three; 4,985 of 6,000 deliveries are missing; of 1,000 messages, "
        "subscriber 2 has 1, 3 has 2, 4 has 3 and 2 more are short; so there are no rates"
    )
