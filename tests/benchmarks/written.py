"""Results files for tests, written by the code that writes those of a comparison; only the readings are made up."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.compare import describe_run
from benchmarks.harness.brokers import Broker, Recipe
from benchmarks.harness.catalogue import choose_works
from benchmarks.harness.children import ChildError
from benchmarks.harness.comparison import Comparison
from benchmarks.harness.placement import Placement
from benchmarks.harness.report import write_json
from benchmarks.harness.wire import FRAMED
from benchmarks.harness.works import Figure, Read, Reading, Run

DATE = "2020-02-20T20:20:20+00:00"
LABELS = {"trio": "trio_broker", "nats": "nats-server", "redis": "Redis pub/sub"}
ROUNDS = 3

# For each broker, for each figure, three rounds. With fewer it broke down after them; with no figures, at once.
Readings = Mapping[str, Mapping[str, Sequence[float]]]


@dataclass
class MadeUpWork:
    """A work of the catalogue that gives each broker the readings it was told."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    readings: Readings

    def obstacle(self, recipe: Recipe) -> str | None:
        return None if recipe.name in self.readings else "not asked"

    @contextmanager
    def open(self, recipe: Recipe, run: Run, seconds: float) -> Iterator[Read]:
        rounds = iter(range(ROUNDS))

        def read() -> Reading:
            number = next(rounds)
            figures = self.readings[recipe.name]
            if not figures or any(number == len(values) for values in figures.values()):
                message = "broke down"
                raise ChildError(message)
            return Reading({key: values[number] for key, values in figures.items()}, 1.0, 0.1)

        yield read


def no_broker(recipe: Recipe) -> AbstractContextManager[Broker]:
    raise AssertionError(recipe)


def write_results(path: Path, works: Mapping[str, Readings], brokers: Sequence[str] = tuple(LABELS)) -> Path:
    """Write a comparison of these works to a file; return the file."""
    recipes = [Recipe(name, LABELS[name], ("python3",), FRAMED) for name in brokers]
    written = []
    for name, readings in works.items():
        (work,) = choose_works([name])
        comparison = Comparison(MadeUpWork(work.name, work.title, work.figures, readings), recipes)
        comparison.run(no_broker, rounds=ROUNDS, seconds=1.0)
        written.append(comparison.as_json())
    head = describe_run(recipes, Placement(broker=0, load=1)) | {
        "date": DATE,
        "command": "python benchmarks/compare.py",
    }
    write_json(path, head | {"works": written})
    return path


def rates(*values: float, cost: float = 1.0) -> dict[str, Sequence[float]]:
    """Return the readings of a work that has a rate and a cost."""
    return {"rate": values, "broker_cpu": [cost] * len(values)}


def percentiles(p50: float, p99: float) -> dict[str, Sequence[float]]:
    """Return the readings of a latency that is the same in every round."""
    return {"p50": [p50] * ROUNDS, "p99": [p99] * ROUNDS, "p99.9": [2 * p99] * ROUNDS}


EVERYTHING: Mapping[str, Readings] = {
    "flood-16": {"trio": rates(20, 5, 30), "nats": rates(10, 5, 10), "redis": rates(5, 5)},
    "flood-1m": {"trio": rates(1, 1, 1), "nats": {}, "redis": {}},
    "fanout-1": {"trio": rates(1, 1, 1), "nats": rates(2, 2, 2), "redis": rates(1, 2, 4)},
    "latency-idle": {"trio": percentiles(60, 90), "nats": percentiles(50, 50)},
    "latency-half": {"trio": percentiles(120, 180), "nats": percentiles(100, 100)},
    "memory": {"trio": {"memory": [15.0] * ROUNDS}, "nats": {"memory": [30.0] * ROUNDS}},
    "channels-1": {"trio": rates(1, 1, 1, cost=1.5), "nats": rates(1, 1, 1, cost=1.0)},
    "channels-10": {"trio": rates(1, 1, 1, cost=2.5), "nats": rates(1, 1, 1, cost=1.0)},
}
