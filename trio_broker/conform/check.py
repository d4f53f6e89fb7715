"""What a check is, and what came of one."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, final

from trio_broker.conform.frames import VERSIONS

if TYPE_CHECKING:
    from trio_broker.conform.stage import Stage

__all__ = ["Chapter", "Check", "Level", "Mismatch", "NotShown", "Outcome", "Result", "Run"]

Run = Callable[["Stage"], Awaitable[str]]
"""Tries one thing and says what was seen. Raises `Mismatch`, or `NotShown`."""


class Level(enum.Enum):
    """How much is expected of a broker."""

    MUST = "MUST"
    """The specification demands it of servers."""
    SHOULD = "SHOULD"
    """The specification recommends it, or demands of clients what only a server's refusal can hold."""
    CONVENTION = "convention"
    """The specification leaves it open; most brokers do it, and clients rely on it."""


class Outcome(enum.Enum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_SHOWN = "not shown"
    """The broker gave no occasion: it declined something that is optional."""


class Mismatch(Exception):
    """The broker did something else than what is expected. The text says what was seen."""


class NotShown(Exception):
    """The broker made use of a freedom, so that there is nothing to see. The text says which."""


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One thing that is expected of a broker.

    Attributes:
        number: ``C-1`` and on.
        clause: the section of the specification that it comes from, by its name in 1.2, or in 1.0 for what is only
            there.
        expected: what is expected, in one sentence.
        levels: the versions that it is for, each with how much is expected.
        ours: the clauses of docs/stomp.md that say the same, or an empty text.
        run: tries it.
    """

    number: str
    clause: str
    expected: str
    levels: Mapping[str, Level]
    ours: str
    run: Run


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What came of a check in one version.

    Attributes:
        check: which.
        version: in which.
        outcome: whether the broker did what is expected.
        seen: what it did, in one line.
        seconds: how long that took.
    """

    check: Check
    version: str
    outcome: Outcome
    seen: str
    seconds: float

    @property
    def level(self) -> Level:
        """How much is expected in this version."""
        return self.check.levels[self.version]


@final
class Chapter:
    """Checks that belong together, in their order. The catalogue gives them their numbers."""

    def __init__(self) -> None:
        self._checks: list[Check] = []

    def check(
        self, clause: str, expected: str, *, must: str = "", should: str = "", convention: str = "", ours: str = ""
    ) -> Callable[[Run], Run]:
        """Add a check. Each of the three levels takes the versions for which it holds, with spaces between."""
        of_level = ((must, Level.MUST), (should, Level.SHOULD), (convention, Level.CONVENTION))
        levels = {version: level for versions, level in of_level for version in versions.split()}
        if not levels or not levels.keys() <= set(VERSIONS):
            raise ValueError(f"levels for {sorted(levels)}; at least one of {', '.join(VERSIONS)} is required")

        def add(run: Run) -> Run:
            self._checks.append(Check("", clause, expected, MappingProxyType(levels), ours, run))
            return run

        return add

    def numbered(self, after: int) -> Iterable[Check]:
        """The checks with their numbers, the first of which follows this one."""
        for number, check in enumerate(self._checks, after + 1):
            yield dataclasses.replace(check, number=f"C-{number}")
