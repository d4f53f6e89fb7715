"""That what is said of a variant is true: caught, survived, hung or in error."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.mutations.apply import Control, Settings, copy_of_the_tree, explore_the_original, explore_variant
from tests.mutations.variants import ByHand, Variant

QUICK = Settings(seeds=1, seconds=60, double=False, hang_seconds=5)
CHEAP = "core:subscribe_and_leave"


def test_scenarios_that_cannot_tell_are_not_tried_and_the_likely_come_first() -> None:
    control = Control(
        reached={
            "core:cheap": frozenset({"server.x.f"}),
            "core:elsewhere": frozenset(),
            "server:dear": frozenset({"server.x.f"}),
            "server:cheap": frozenset({"server.x.f"}),
            "client:wanted": frozenset({"server.x.f"}),
        },
        seconds={"core:cheap": 1, "core:elsewhere": 1, "server:dear": 9, "server:cheap": 2, "client:wanted": 5},
        unfit={},
    )
    variant = Variant("x", "trio_broker/server/x.py", "server.x.f", 1, "", "", first=("wanted",))
    assert control.scenarios_for(variant) == ["client:wanted", "server:cheap", "server:dear", "core:cheap"]


def test_the_unchanged_tree_is_explored_and_nothing_fails() -> None:
    with copy_of_the_tree() as tree:
        _keep_only(tree, "core", "subscribe_and_leave")
        control = explore_the_original(tree, QUICK)
    assert list(control.reached) == [CHEAP]
    assert not control.unfit
    assert "core.broker.Broker.subscribe" in control.reached[CHEAP]
    assert "core.queue.Queue._deal" not in control.reached[CHEAP]


def test_a_scenario_that_fails_on_the_unchanged_tree_judges_nothing() -> None:
    with copy_of_the_tree() as tree:
        (tree / "tests/scenarios/bad.py").write_text(
            "async def bad():\n    assert False, 'always'\n\n\nSCENARIOS = (bad,)\n", encoding="utf-8"
        )
        _keep_only(tree, "core", "subscribe_and_leave")
        control = explore_the_original(tree, QUICK)
    assert list(control.reached) == [CHEAP]
    assert "always" in control.unfit["bad:bad"]


def test_a_variant_is_caught_by_the_axis_that_shows_it() -> None:
    with copy_of_the_tree() as tree:
        outcome = explore_variant(tree, _of_subscribe(tree, "subscription.close()", "pass"), [CHEAP], QUICK)
        assert (outcome.axis, outcome.scenario) == ("base run", CHEAP)
        # Cancelled while entering, the subscription stays.
        variant = _of_subscribe(
            tree,
            "        try:\n            yield subscription\n",
            "        await trio.lowlevel.checkpoint()\n        try:\n            yield subscription\n",
        )
        outcome = explore_variant(tree, variant, [CHEAP], QUICK)
        assert (outcome.axis, outcome.scenario) == ("cancel", CHEAP)
        assert outcome.token.startswith("spawn/t")


def test_a_variant_that_changes_nothing_survives_and_says_whether_all_was_tried() -> None:
    with copy_of_the_tree() as tree:
        variant = _of_subscribe(tree, "subscription.close()", "subscription.close()  # the same")
        outcome = explore_variant(tree, variant, [CHEAP], QUICK)
        assert not outcome.caught
        assert outcome.complete
        assert outcome.runs > 100
        outcome = explore_variant(tree, variant, [CHEAP], dataclasses.replace(QUICK, seconds=0.001))
        assert not outcome.caught
        assert not outcome.complete


def test_a_step_that_never_ends_is_a_hang() -> None:
    with copy_of_the_tree() as tree:
        variant = _of_subscribe(tree, "subscription.close()", "while True: pass")
        outcome = explore_variant(tree, variant, [CHEAP], QUICK)
    assert outcome.axis == "hang"
    assert "broker.py" in outcome.error
    assert "in subscribe" in outcome.error


def test_an_exploration_that_fails_by_itself_is_an_error_and_no_success() -> None:
    with copy_of_the_tree() as tree:
        variant = _of_subscribe(tree, "subscription.close()", "subscription.close()\n\nraise ImportError('broken')")
        variant = dataclasses.replace(variant, source="raise ImportError('broken')\n")
        with pytest.raises(RuntimeError, match="broken"):
            explore_variant(tree, variant, [CHEAP], QUICK)


def test_exploring_another_package_than_the_copy_is_an_error() -> None:
    with copy_of_the_tree() as tree:
        variant = _of_subscribe(tree, "subscription.close()", "pass")
        with copy_of_the_tree() as other:
            # What a wrong search path would do: the trial of one copy finds the package of another.
            trial = other / "tests/mutations/trial.py"
            text = trial.read_text(encoding="utf-8")
            trial.write_text(
                text.replace(
                    "import argparse\n", f"import argparse\nimport sys\n\nsys.path.insert(0, {str(tree)!r})\n"
                ),
                encoding="utf-8",
            )
            with pytest.raises(RuntimeError, match="not the copy in"):
                explore_variant(other, variant, [CHEAP], QUICK)


def _keep_only(tree: Path, module: str, scenario: str) -> None:
    """Leave one scenario in that module, and of the others none but ``bad``."""
    for path in (tree / "tests/scenarios").glob("*.py"):
        if path.stem == module:
            text = path.read_text(encoding="utf-8")
            path.write_text(f"{text}\nSCENARIOS = ({scenario},)\n", encoding="utf-8")
        elif path.stem != "bad":
            text = path.read_text(encoding="utf-8")
            path.write_text(f"{text}\nSCENARIOS = ()\n", encoding="utf-8")


def _of_subscribe(tree: Path, old: str, new: str) -> Variant:
    path = "trio_broker/core/broker.py"
    return ByHand("x", path, old, new, "for this test").apply((tree / path).read_text(encoding="utf-8"))
