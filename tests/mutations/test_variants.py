"""That the variants are what they claim to be: they apply, compile, differ, and tell that they were entered."""

from __future__ import annotations

import pytest

from tests.mutations.apply import probed
from tests.mutations.by_hand import BY_HAND, chosen
from tests.mutations.marks import UNOBSERVABLE
from tests.mutations.rules import generated
from tests.mutations.tree import program_of
from tests.mutations.variants import ROOT, ByHand, mutated_files

GENERATED = generated()


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
