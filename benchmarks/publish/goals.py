"""What is to be reached, in one place, and how a figure is judged by it."""

from dataclasses import dataclass
from enum import Enum

from benchmarks.harness.catalogue import GROWTH
from benchmarks.publish.results import Results

NATS = "nats"
# A goal for at least so much has its floor at 0.8 of it, one for at most so much at 1 / 0.8 of it.
FLOOR = 0.8


class Verdict(Enum):
    """How far a figure comes."""

    REACHED = "reached"
    FLOOR = "floor"
    MISSED = "missed"
    UNKNOWN = "not measured"


class Bound(Enum):
    """On which side of the goal a figure should be."""

    AT_LEAST = ">="
    AT_MOST = "<="


def judge(value: float | None, bound: Bound, goal: float) -> Verdict:
    """Return how a figure does against a goal; `None` is one that was not measured."""
    if value is None:
        return Verdict.UNKNOWN
    share = value / goal if bound is Bound.AT_LEAST else goal / value
    if share >= 1:
        return Verdict.REACHED
    return Verdict.FLOOR if share >= FLOOR else Verdict.MISSED


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal for the first broker: for its ratio to the broker `against`, or without one for the figure itself."""

    work: str
    figure: str
    bound: Bound
    value: float
    against: str | None = NATS

    def find(self, results: Results) -> float | None:
        """Return the median that counts, if there is one."""
        work, first = results.find(self.work), next(iter(results.brokers), "")
        if work is None:
            return None
        found = work.spread(first, self.figure)
        if self.against is not None:
            found = work.ratio(first, self.against, self.figure)
        return None if found is None else found.median

    def judge(self, results: Results) -> Verdict:
        """Return how the first broker does."""
        return judge(self.find(results), self.bound, self.value)


def _rate(work: str, value: float) -> Goal:
    """Return a goal for a rate, in rates of nats-server."""
    return Goal(work, "rate", Bound.AT_LEAST, value)


GOALS = (
    _rate("flood-16", 1.1),
    _rate("flood-128", 1.2),
    _rate("flood-4k", 1.5),
    _rate("flood-64k", 1.5),
    _rate("fanout-10-small", 4.0),
    _rate("fanout-100", 5.0),
    _rate("queue-10", 1.0),
    _rate("interleaved-2", 0.7),
    _rate("interleaved-16", 0.7),
    _rate("unbatched-400", 0.8),
    Goal("latency-idle", "p50", Bound.AT_MOST, 1.2),
    Goal("latency-idle", "p99", Bound.AT_MOST, 1.5),
    Goal("memory", "memory", Bound.AT_MOST, 1.0),
    Goal("memory", "memory", Bound.AT_MOST, 14.0, against=None),
)


@dataclass(frozen=True, slots=True)
class Growth:
    """The cost of a delivery over a number of something; `factor` is how much the dearest may cost of the cheapest."""

    key: str
    title: str
    works: tuple[tuple[int, str], ...]
    factor: float | None

    @property
    def range(self) -> str:
        """From where to where."""
        return f"1 to {self.works[-1][0]:,} {self.title}"

    def find(self, results: Results, broker: str) -> float | None:
        """Return the highest median over the lowest; nothing unless every number was measured."""
        works = [results.find(name) for _, name in self.works]
        costs = [None if work is None else work.spread(broker, COST) for work in works]
        medians = [cost.median for cost in costs if cost is not None]
        if len(medians) < len(self.works) or min(medians) <= 0:
            return None
        return max(medians) / min(medians)

    def judge(self, results: Results, broker: str) -> Verdict | None:
        """Return how a broker does, if this has a goal."""
        return None if self.factor is None else judge(self.find(results, broker), Bound.AT_MOST, self.factor)


COST = "broker_cpu"
GROWTHS = (
    Growth("connections", "connections", tuple((number, f"connections-{number}") for number in GROWTH), 2.0),
    Growth("channels", "channels", tuple((number, f"channels-{number}") for number in GROWTH), 2.0),
    Growth(
        "subscribers", "subscribers", tuple((number, f"fanout-{number}") for number in GROWTH if number <= 1000), None
    ),
)

# Goals that are no figure of any work, and why.
ELSEWHERE = (
    (
        "STOMP 1 -> 1, 128 B: >= 8 x RabbitMQ's STOMP",
        "no work measures STOMP; RabbitMQ is measured with MQTT",
    ),
    (
        "1 -> 1 beside a stuck subscriber: memory within the mailbox mark, the other unaffected once that is evicted",
        "a bound and not a rate; `tests/server/test_memory_growth.py` looks at the memory of a process",
    ),
)
