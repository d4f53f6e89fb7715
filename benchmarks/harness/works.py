"""Works: what brokers are compared in. A work is opened for a broker, which warms it up, and then read once a round."""

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.harness.audience import Audience
from benchmarks.harness.brokers import Broker, Recipe
from benchmarks.harness.latency import Latency
from benchmarks.harness.load import Load, LoadError, LoadFactory
from benchmarks.harness.rounds import Sample, find_count, run_load
from benchmarks.harness.shapes import TOPIC, topic_flood

MICRO = 1e6
SPARE_DESCRIPTORS = 100
KIBI = 1024


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that a work yields, its unit, and whether more of it is better."""

    key: str
    unit: str
    more_is_better: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """One broker's figures in one round, and how busy the two sides were, as shares of a CPU."""

    figures: dict[str, float]
    broker_busy: float
    load_busy: float
    details: dict[str, float] = field(default_factory=dict)


Read = Callable[[], Reading]
Run = Callable[[Recipe], AbstractContextManager[Broker]]


class Work(Protocol):
    """Something to compare brokers in. The first figure is the one that is shown first."""

    @property
    def name(self) -> str:
        """What the command line calls it."""
        ...

    @property
    def title(self) -> str:
        """What it is, for a reader."""
        ...

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What it yields."""
        ...

    def obstacle(self, recipe: Recipe) -> str | None:
        """Return why a broker cannot do this work, or nothing."""
        ...

    def open(self, recipe: Recipe, run: Run, seconds: float) -> AbstractContextManager[Read]:
        """Warm the broker up, and give what takes a reading of about so many seconds."""
        ...


RATE = Figure("rate", "deliveries/s", more_is_better=True)
CPU = Figure("broker_cpu", "us CPU each", more_is_better=False)


@dataclass(frozen=True, slots=True)
class RateWork:
    """A load as fast as it goes.

    `keep`: over the same connections in all rounds; otherwise they are made each time, because those of all brokers
    together are too many, or because each are to differ. `queues`: the work is one for a queue. `connections`: how many
    it takes, if they are many. `protocol`: the one that everybody is to speak; otherwise each speaks its own.
    """

    name: str
    title: str
    load: LoadFactory
    unit: str = RATE.unit
    keep: bool = True
    queues: bool = False
    connections: int = 0
    protocol: str | None = None

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The rate, and what the broker's CPU spends on each."""
        return (Figure(RATE.key, self.unit, more_is_better=True), CPU)

    def obstacle(self, recipe: Recipe) -> str | None:
        """Tell of a protocol that does not fit, and of a system that allows too few open files."""
        _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
        if self.connections + SPARE_DESCRIPTORS > allowed:
            return f"{self.connections} connections take more open files than the {allowed} allowed here (ulimit -Hn)"
        wire = recipe.find_wire(self.protocol)
        if wire is not None and self.queues and not wire.has_queues:
            return "its protocol has no queues"
        return recipe.protocol_obstacle(self.protocol)

    @contextmanager
    def open(self, recipe: Recipe, run: Run, seconds: float) -> Iterator[Read]:
        """Find the number of messages that takes about so long."""
        with ExitStack() as stack:
            broker = stack.enter_context(run(recipe))
            kept = stack.enter_context(self._connect(broker)) if self.keep else None

            def take(count: int, *, inspect: bool) -> Sample:
                if kept is not None:
                    return run_load(broker, kept, count, inspect=inspect)
                with self._connect(broker) as load:
                    return run_load(broker, load, count, inspect=inspect)

            if kept is not None:
                count = find_count(lambda each: take(each, inspect=True), seconds)
            else:
                with self._connect(broker) as load:
                    connected = load
                    count = find_count(lambda each: run_load(broker, connected, each, inspect=True), seconds)
            yield lambda: self._read(take(count, inspect=False))

    def _connect(self, broker: Broker) -> Load:
        """Return the load, to be entered."""
        wire = broker.recipe.find_wire(self.protocol)
        if wire is None:
            message = f"{broker.recipe.label}: {broker.recipe.protocol_obstacle(self.protocol)}"
            raise LoadError(message)
        return self.load(broker.address, wire)

    @staticmethod
    def _read(sample: Sample) -> Reading:
        """Return the figures of a complete sample."""
        spent = sample.broker_busy * sample.outcome.elapsed / sample.outcome.delivered * MICRO
        figures = {RATE.key: sample.rate, CPU.key: spent}
        return Reading(figures, sample.broker_busy, sample.load_busy, {"messages": sample.outcome.messages})


@dataclass(frozen=True, slots=True)
class LatencyWork:
    """One-way latency: one message at a time, or at a rate that is a `share` of the broker's own capacity."""

    name: str
    title: str
    size: int
    share: float | None = None
    figures: tuple[Figure, ...] = tuple(Figure(key, "us", more_is_better=False) for key in ("p50", "p99", "p99.9"))

    def obstacle(self, recipe: Recipe) -> str | None:
        """Tell of a broker that is measured over one protocol alone."""
        return recipe.protocol_obstacle(None)

    @contextmanager
    def open(self, recipe: Recipe, run: Run, seconds: float) -> Iterator[Read]:
        """Measure the capacity with a flood of the same messages where the rate is to be a share of it."""
        with ExitStack() as stack:
            broker = stack.enter_context(run(recipe))
            rate = None if self.share is None else self.share * self._capacity(broker, seconds)
            load = Latency(broker.address, recipe.wire, size=self.size, rate=rate)
            stack.enter_context(load)
            if rate is None:
                count = find_count(lambda each: run_load(broker, load, each), seconds)
            else:
                count = max(1, round(rate * seconds))
                run_load(broker, load, count)

            def read() -> Reading:
                sample = run_load(broker, load, count)
                keys = [figure.key for figure in self.figures]
                figures = {key: each * MICRO for key, each in zip(keys, load.percentiles(), strict=True)}
                details = {"messages": float(count), "rate": rate or sample.rate}
                return Reading(figures, sample.broker_busy, sample.load_busy, details)

            yield read

    def _capacity(self, broker: Broker, seconds: float) -> float:
        """Return the rate of a flood 1 -> 1."""
        with topic_flood(1, 1, self.size)(broker.address, broker.recipe.wire) as load:
            count = find_count(lambda each: run_load(broker, load, each, inspect=True), seconds)
            return run_load(broker, load, count).rate


@dataclass(frozen=True, slots=True)
class MemoryWork:
    """What a subscriber who waits costs in memory: the growth of a fresh broker by so many of them, for each.

    Some are connected before the first look, so that what a broker sets up once is not counted. Every subscriber has
    had a small message, which proves its subscription.
    """

    name: str
    title: str
    subscribers: int
    earlier: int = 50
    figures: tuple[Figure, ...] = (Figure("memory", "KiB/subscriber", more_is_better=False),)

    def obstacle(self, recipe: Recipe) -> str | None:
        """Tell of a broker that is measured over one protocol alone."""
        return recipe.protocol_obstacle(None)

    @contextmanager
    def open(self, recipe: Recipe, run: Run, seconds: float) -> Iterator[Read]:
        """Start nothing: each reading takes a broker of its own, since memory once taken is seldom given back."""
        del seconds
        yield lambda: self._read(recipe, run)

    def _read(self, recipe: Recipe, run: Run) -> Reading:
        """Look before and after they come."""
        with run(recipe) as broker:
            address, wire = broker.address, recipe.wire
            with Audience(address, wire, [f"{TOPIC}/earlier"], subscribers=self.earlier, publishers=1):
                before = broker.child.resident_bytes()
                with Audience(address, wire, [TOPIC], subscribers=self.subscribers, publishers=1):
                    after = broker.child.resident_bytes()
        each = (after - before) / self.subscribers / KIBI
        return Reading({"memory": each}, 0.0, 0.0, {"before_KiB": before / KIBI, "after_KiB": after / KIBI})
