"""A variant: our own code with one defect, for the explorer to find."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final, final

from tests.mutations.tree import Module

__all__ = ["MUTATED", "OUT_OF_TIME", "REACHED", "ROOT", "ByHand", "Variant", "mutated_files"]

ROOT: Final = Path(__file__).resolve().parents[2]
MUTATED: Final = ("core", "server", "client")
"""The rooms whose promises the scenarios check."""

OUT_OF_TIME: Final = "out of time"
"""What a trial says for an axis when its processor time is used up."""

REACHED: Final = "__import__('builtins').__dict__.setdefault('_reached', set())"
"""An expression for the set of functions that were entered, in the copy of the unchanged tree."""


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """One file of ours, changed in one place.

    Attributes:
        name: unique, and the same as long as the function that it changes keeps its name and shape.
        path: the file, from the root of the tree.
        function: the function that it changes, by its qualified name without the package: ``core.line.Line.place``.
        line: where the change begins, in the original.
        what: what was changed, or why it is a defect, for people.
        source: the whole file with the change.
        first: names of scenarios that are the most likely to catch it.
    """

    name: str
    path: str
    function: str
    line: int
    what: str
    source: str
    first: tuple[str, ...] = ()

    @property
    def room(self) -> str:
        """The room that it changes: ``core``, ``server`` or ``client``."""
        return Path(self.path).parts[1]


@final
@dataclasses.dataclass(frozen=True, slots=True)
class ByHand:
    """A defect to plant.

    Attributes:
        name: unique.
        path: the file, from the root of the tree.
        old: text that occurs exactly once in it.
        new: what stands there instead.
        why: what goes wrong.
        first: scenarios that are the most likely to catch it.
    """

    name: str
    path: str
    old: str
    new: str
    why: str
    first: tuple[str, ...] = ()

    def apply(self, text: str) -> Variant:
        """The variant of a file with this text. Raises ``ValueError`` if the old text is not there exactly once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: its old text occurs {text.count(self.old)} times in {self.path}")
        before, _, after = text.partition(self.old)
        shared = 0  # lines that the old and the new text begin with: the change is after them
        for old, new in zip(self.old.splitlines(), self.new.splitlines(), strict=False):
            if old != new:
                break
            shared += 1
        line = before.count("\n") + 1 + shared
        function = Module(self.path, text).qualified_name_at(line)
        return Variant(
            f"by-hand/{self.name}", self.path, function, line, self.why, before + self.new + after, self.first
        )


def mutated_files(root: Path = ROOT) -> list[str]:
    """The files of the mutated rooms, as paths from the root."""
    package = root / "trio_broker"
    return [path.relative_to(root).as_posix() for room in MUTATED for path in sorted((package / room).glob("*.py"))]
