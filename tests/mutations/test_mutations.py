"""The tool itself: that its variants are what they claim to be, and that what it says of them is true."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from textwrap import dedent

import pytest

from tests.mutations.apply import (
    Control,
    Settings,
    copy_of_the_tree,
    explore_the_original,
    explore_variant,
    probed,
)
from tests.mutations.by_hand import BY_HAND, chosen
from tests.mutations.marks import UNOBSERVABLE
from tests.mutations.rules import RULES, apply_rules, generated
from tests.mutations.tree import program_of
from tests.mutations.variants import ROOT, ByHand, Variant, mutated_files

GENERATED = generated()
QUICK = Settings(seeds=1, seconds=60, double=False, hang_seconds=5)
CHEAP = "core:subscribe_and_leave"


@pytest.mark.parametrize("entry", BY_HAND, ids=lambda entry: entry.name)
def test_a_variant_chosen_by_hand_still_applies(entry: ByHand) -> None:
    original = (ROOT / entry.path).read_text(encoding="utf-8")
    assert original.count(entry.old) == 1
    variant = entry.apply(original)
    compile(variant.source, variant.path, "exec")
    assert variant.source != original
    assert variant.function.count(".") >= 2  # it changes a function, so that is known who comes there


def test_there_are_enough_of_both_kinds() -> None:
    assert len(GENERATED) >= 30
    assert len(BY_HAND) >= 35
    assert len(GENERATED) + len(BY_HAND) >= 60


def test_no_two_variants_are_the_same() -> None:
    variants = [*GENERATED, *chosen()]
    names = [variant.name for variant in variants]
    assert len(set(names)) == len(names)
    programs: dict[str, str] = {}
    for variant in variants:
        program = program_of(variant.source)
        assert programs.setdefault(program, variant.name) == variant.name
    originals = {program_of((ROOT / path).read_text(encoding="utf-8")) for path in mutated_files()}
    assert not originals & set(programs)


def test_generated_variants_compile() -> None:
    for variant in GENERATED:
        compile(variant.source, variant.path, "exec")


def test_marks_are_for_variants_that_exist() -> None:
    assert set(UNOBSERVABLE) <= {variant.name for variant in [*GENERATED, *chosen()]}
    assert all(len(proof) > 20 for proof in UNOBSERVABLE.values())


def test_an_old_text_that_is_gone_or_ambiguous_is_an_error() -> None:
    entry = ByHand("x", "trio_broker/core/line.py", "a = 1\n", "a = 2\n", "wrong")
    assert entry.apply("a = 1\nb = 1\n").source == "a = 2\nb = 1\n"
    with pytest.raises(ValueError, match="0 times"):
        entry.apply("b = 1\n")
    with pytest.raises(ValueError, match="2 times"):
        entry.apply("a = 1\na = 1\n")


SNIPPETS: list[tuple[str, str, list[str]]] = [
    (
        "drop-finally",
        """
        async def f():
            try:
                g()
            finally:
                h()
        """,
        [
            """
        async def f():
            try:
                g()
            finally:
                if __import__('sys').exception() is None:
                    h()
        """,
            """
        async def f():
            try:
                g()
            finally:
                pass
        """,
        ],
    ),
    (
        "drop-shield",
        "with trio.move_on_after(5, shield=True): pass\n",
        ["with trio.move_on_after(5, shield=False): pass\n"],
    ),
    (
        "async-with",
        """
        async def f():
            send, receive = trio.open_memory_channel(0)
            with send:
                pass
            with scope:
                pass
        """,
        [
            """
        async def f():
            send, receive = trio.open_memory_channel(0)
            async with send:
                pass
            with scope:
                pass
        """
        ],
    ),
    (
        "await-before-try",
        """
        async def f():
            held = take()
            try:
                g()
            finally:
                held.close()
        def synchronous():
            held = take()
            try:
                g()
            finally:
                held.close()
        """,
        [
            """
        async def f():
            held = take()
            await trio.lowlevel.checkpoint()
            try:
                g()
            finally:
                held.close()
        def synchronous():
            held = take()
            try:
                g()
            finally:
                held.close()
        """
        ],
    ),
    (
        "await-at-put",
        """
        async def f(self):
            self.log.info()
            self._accept(batch)
        """,
        [
            """
        async def f(self):
            self.log.info()
            await trio.lowlevel.checkpoint()
            self._accept(batch)
        """,
            """
        async def f(self):
            self.log.info()
            self._accept(batch)
            await trio.lowlevel.checkpoint()
        """,
        ],
    ),
    (
        "await-at-put",
        """
        async def f(self):
            self._open[key] = None
            self.log.info()
        """,
        [
            """
        async def f(self):
            await trio.lowlevel.checkpoint()
            self._open[key] = None
            self.log.info()
        """,
            """
        async def f(self):
            self._open[key] = None
            await trio.lowlevel.checkpoint()
            self.log.info()
        """,
        ],
    ),
    (
        "await-before-return",
        """
        async def f(self):
            return self._waiting.popleft()
        async def nothing_taken(self):
            return 3
        """,
        [
            """
        async def f(self):
            taken = self._waiting.popleft()
            await trio.lowlevel.checkpoint()
            return taken
        async def nothing_taken(self):
            return 3
        """
        ],
    ),
    (
        "drop-deadline",
        """
        def f():
            with trio.move_on_after(3):
                with trio.CancelScope(deadline=4):
                    scope.deadline = 5
        """,
        [
            """
        def f():
            with trio.CancelScope():
                with trio.CancelScope(deadline=4):
                    scope.deadline = 5
        """,
            """
        def f():
            with trio.move_on_after(3):
                with trio.CancelScope(deadline=float('inf')):
                    scope.deadline = 5
        """,
            """
        def f():
            with trio.move_on_after(3):
                with trio.CancelScope(deadline=4):
                    pass
        """,
        ],
    ),
    ("drop-deadline", "with trio.fail_after(3, shield=True): pass\n", ["with trio.CancelScope(shield=True): pass\n"]),
    ("cancel-called", "if scope.cancelled_caught: pass\n", ["if scope.cancel_called: pass\n"]),
    (
        "drop-except",
        "try: f()\nexcept (trio.BrokenResourceError, OSError): pass\nexcept ValueError: pass\n",
        ["try: f()\nexcept (): pass\nexcept ValueError: pass\n"],
    ),
    ("swallow", "try: f()\nexcept Exception: g()\n", ["try: f()\nexcept BaseException: g()\n"]),
    ("swallow", "try: f()\nexcept trio.Cancelled: raise\n", ["try: f()\nexcept trio.Cancelled: pass\n"]),
    (
        "drop-cleanup",
        """
        async def f():
            await stream.aclose()
            parked.unpark_all()
            go()
        """,
        [
            """
        async def f():
            pass
            parked.unpark_all()
            go()
        """,
            """
        async def f():
            await stream.aclose()
            pass
            go()
        """,
        ],
    ),
]


@pytest.mark.parametrize(("rule", "original", "expected"), SNIPPETS)
def test_a_rule_finds_what_it_should(rule: str, original: str, expected: list[str]) -> None:
    found = [
        variant.source
        for variant in apply_rules("trio_broker/core/x.py", dedent(original))
        if variant.name.startswith(f"{rule}/")
    ]
    assert found == [dedent(text) for text in expected]


def test_every_rule_has_a_snippet() -> None:
    assert {rule for rule, _, _ in SNIPPETS} == set(RULES)


def test_names_say_the_rule_and_the_function() -> None:
    text = "class A:\n    def f(self):\n        self.x.close()\n        self.y.close()\n"
    variants = list(apply_rules("trio_broker/core/x.py", text))
    assert [(variant.name, variant.function, variant.line) for variant in variants] == [
        ("drop-cleanup/core.x.A.f#1", "core.x.A.f", 3),
        ("drop-cleanup/core.x.A.f#2", "core.x.A.f", 4),
    ]


def test_a_probe_in_each_function_says_that_it_was_entered() -> None:
    text = '''def f():\n    """Say."""\n    return 1\n\nclass A:\n    @property\n    def g(self):\n        return 2\n'''
    names: dict[str, object] = {}
    exec(compile(probed("trio_broker/core/x.py", text), "x", "exec"), names)
    import builtins  # noqa: PLC0415  only here: what a probe writes to

    reached: set[str] = builtins.__dict__.setdefault("_reached", set())
    reached.clear()
    assert names["f"]() == 1  # type: ignore[operator]  # what was just defined
    assert reached == {"core.x.f"}
    assert names["A"]().g == 2  # type: ignore[operator]  # what was just defined
    assert reached == {"core.x.f", "core.x.A.g"}


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
