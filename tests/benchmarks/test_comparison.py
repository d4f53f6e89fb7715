from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import pytest

from benchmarks.harness.brokers import Broker, Recipe
from benchmarks.harness.children import ChildError
from benchmarks.harness.comparison import Comparison
from benchmarks.harness.load import LoadError, Outcome
from benchmarks.harness.percentiles import Spread
from benchmarks.harness.rounds import IncompleteError, Sample
from benchmarks.harness.tables import describe
from benchmarks.harness.wire import FRAMED
from benchmarks.harness.works import Figure, Read, Reading, Run
from benchmarks.protocols.mqtt import MQTT

RATE = Figure("rate", "deliveries/s", more_is_better=True)
PYTHON = "python3"
OURS = Recipe("ours", "ours", (PYTHON,), FRAMED)
THEIRS = Recipe("theirs", "theirs", (PYTHON,), FRAMED)
ABSENT = Recipe("absent", "absent", ("no-such-program-b1f7",), FRAMED)
WITHOUT_QUEUES = Recipe("mqtt", "mqtt", (PYTHON,), MQTT)


def lost_one() -> IncompleteError:
    return IncompleteError(Sample("theirs", Outcome(10, 10, 9, 1.0, 0.0, ()), 1.0, 0.1))


@dataclass
class ScriptedWork:
    """Gives each broker the rates, or raises the errors, that it was told; notes who was read when."""

    script: dict[str, list[float | Exception]]
    unable: str | None = None
    name: str = "scripted"
    title: str = "scripted"
    figures: tuple[Figure, ...] = (RATE,)
    log: list[str] = field(default_factory=list)

    def obstacle(self, recipe: Recipe) -> str | None:
        return None if recipe.wire.has_queues else "its protocol has no queues"

    @contextmanager
    def open(self, recipe: Recipe, run: Run, seconds: float) -> Iterator[Read]:
        if recipe.name == self.unable:
            message = "did not start"
            raise ChildError(message)
        results = iter(self.script[recipe.name])

        def read() -> Reading:
            self.log.append(recipe.name)
            result = next(results)
            if isinstance(result, Exception):
                raise result
            return Reading({"rate": result}, 1.0, 0.1)

        yield read
        self.log.append(f"{recipe.name} stopped")


def no_broker(recipe: Recipe) -> AbstractContextManager[Broker]:
    raise AssertionError(recipe)


def compare(work: ScriptedWork, *recipes: Recipe, rounds: int = 3) -> Comparison:
    comparison = Comparison(work, recipes)
    comparison.run(no_broker, rounds=rounds, seconds=1.0)
    return comparison


def test_ratios_are_those_of_the_rounds_and_who_goes_first_is_turned() -> None:
    work = ScriptedWork({"ours": [20.0, 5.0, 30.0], "theirs": [10.0, 5.0, 10.0]})
    comparison = compare(work, OURS, THEIRS)
    assert comparison.ratios("theirs", RATE) == [2.0, 1.0, 3.0]
    assert comparison.figure("ours", RATE) == Spread(20.0, 5.0, 30.0)
    assert work.log[:6] == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert sorted(work.log[6:]) == ["ours stopped", "theirs stopped"]


@pytest.mark.parametrize("make_error", [lost_one, lambda: LoadError("cannot connect"), lambda: ChildError("gone")])
def test_one_incomplete_round_is_the_end_of_figure_and_ratio(make_error: Callable[[], Exception]) -> None:
    work = ScriptedWork({"ours": [20.0, 20.0, 20.0], "theirs": [10.0, make_error(), 10.0]})
    comparison = compare(work, OURS, THEIRS)
    assert comparison.ratios("theirs", RATE) is None
    assert comparison.figure("theirs", RATE) is None
    assert comparison.figure("ours", RATE) == Spread(20.0, 20.0, 20.0)
    assert work.log.count("theirs") == 2
    result = comparison.as_json()
    assert result["ratios"] == {"theirs": {"rate": None}}
    assert result["brokers"]["theirs"] == {"rate": None}
    text = describe(comparison)
    assert "theirs, no ratio:" in text
    assert "2.00" not in text


def test_when_the_first_broker_is_incomplete_nobody_has_a_ratio() -> None:
    comparison = compare(ScriptedWork({"ours": [20.0, 20.0, lost_one()], "theirs": [10.0] * 3}), OURS, THEIRS)
    assert comparison.ratios("theirs", RATE) is None
    assert comparison.figure("theirs", RATE) == Spread(10.0, 10.0, 10.0)


def test_a_broker_that_does_not_start_leaves_the_others_to_go_on() -> None:
    work = ScriptedWork({"ours": [20.0] * 3, "theirs": []}, unable="theirs")
    comparison = compare(work, OURS, THEIRS)
    assert comparison.problems == {"theirs": "did not start"}
    assert comparison.figure("ours", RATE) == Spread(20.0, 20.0, 20.0)


def test_what_is_not_installed_or_cannot_do_it_is_named_and_no_problem() -> None:
    comparison = compare(ScriptedWork({"ours": [20.0] * 3}), OURS, ABSENT, WITHOUT_QUEUES)
    assert comparison.problems == {}
    assert "no-such-program-b1f7 was not found" in comparison.skipped["absent"]
    assert comparison.skipped["mqtt"] == "its protocol has no queues"
    text = describe(comparison)
    assert "absent left out: not installed" in text
    assert "mqtt left out: its protocol has no queues" in text


def test_nothing_is_divided_by_nothing() -> None:
    comparison = compare(ScriptedWork({"ours": [20.0] * 3, "theirs": [10.0, 0.0, 10.0]}), OURS, THEIRS)
    assert comparison.ratios("theirs", RATE) is None
