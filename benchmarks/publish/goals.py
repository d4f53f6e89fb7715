"""What is to be reached, in one place, and how a figure is judged by it."""

from dataclasses import dataclass
from enum import Enum

from benchmarks.harness.catalogue import GROWTH, VARIED, all_works
from benchmarks.publish.results import Results
from trio_broker.limits import MIB, Limits

NATS = "nats"
RABBITMQ_STOMP = "rabbitmq-stomp"
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

    @property
    def key(self) -> str:
        """What the page calls it where it says why it is not reached."""
        return f"{self.work}/{self.figure}"

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
    Goal("stomp-128", "rate", Bound.AT_LEAST, 8.0, against=RABBITMQ_STOMP),
    # Nothing that is on its way to the one who is stuck may take more memory than its mailbox may hold.
    Goal("stuck", "peak", Bound.AT_MOST, Limits().mailbox_bytes_max / MIB, against=None),
    # As fast as before; so much less is what two medians of one rate differ by.
    Goal("stuck", "after", Bound.AT_LEAST, 0.95, against=None),
)


@dataclass(frozen=True, slots=True)
class Likeness:
    """A work done again with names, payloads and sizes that vary: its ratio to nats-server over that of the plain one.

    The goal has its tolerance in it, so it has no floor. More than the plain one is no fault.
    """

    plain: str
    varied: str
    figure: str = "rate"
    value: float = 0.75

    @property
    def key(self) -> str:
        """What the page calls it where it says why it is not reached."""
        return f"{self.varied}/likeness"

    def find(self, results: Results) -> tuple[float, float] | None:
        """Return the plain ratio and the varied one, if both were measured."""
        works = results.find(self.plain), results.find(self.varied)
        first = next(iter(results.brokers), "")
        found = [None if work is None else work.ratio(first, NATS, self.figure) for work in works]
        medians = [ratio.median for ratio in found if ratio is not None and ratio.median > 0]
        return (medians[0], medians[1]) if len(medians) == len(works) else None

    def judge(self, results: Results) -> Verdict:
        """Return how the first broker does."""
        found = self.find(results)
        if found is None:
            return Verdict.UNKNOWN
        plain, varied = found
        return Verdict.REACHED if varied / plain >= self.value else Verdict.MISSED


LIKENESSES = tuple(
    Likeness(work.name.removeprefix(VARIED), work.name) for work in all_works() if work.name.startswith(VARIED)
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


def all_verdicts(results: Results) -> list[tuple[str, Verdict]]:
    """Return the key of each goal and how the first broker does."""
    first = next(iter(results.brokers), "")
    found = [(goal.key, goal.judge(results)) for goal in GOALS]
    found += [(likeness.key, likeness.judge(results)) for likeness in LIKENESSES]
    for growth in GROWTHS:
        verdict = growth.judge(results, first)
        if verdict is not None:
            found.append((f"growth/{growth.key}", verdict))
    return found


def all_keys() -> set[str]:
    """Return the keys of all goals."""
    return {key for key, _ in all_verdicts(Results())}


def unreached_keys(results: Results) -> list[str]:
    """Return the keys of the goals that were measured and not reached, the floor or not."""
    verdicts = all_verdicts(results)
    return list(dict.fromkeys(key for key, verdict in verdicts if verdict in {Verdict.FLOOR, Verdict.MISSED}))
