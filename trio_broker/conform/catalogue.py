"""All checks with their numbers. A number is its place here, so a new check stands at the end of the last chapter."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

from trio_broker.conform.acknowledging import ACKNOWLEDGING
from trio_broker.conform.check import Check
from trio_broker.conform.connecting import CONNECTING
from trio_broker.conform.ending import ENDING
from trio_broker.conform.framing import FRAMING
from trio_broker.conform.headers import HEADERS
from trio_broker.conform.heartbeats import HEARTBEATS
from trio_broker.conform.messages import MESSAGES
from trio_broker.conform.receipts import RECEIPTS
from trio_broker.conform.subscribing import SUBSCRIBING
from trio_broker.conform.transactions import TRANSACTIONS

__all__ = ["CHECKS", "select"]


_CHAPTERS: Final = (
    CONNECTING,
    FRAMING,
    HEADERS,
    MESSAGES,
    SUBSCRIBING,
    RECEIPTS,
    ACKNOWLEDGING,
    TRANSACTIONS,
    ENDING,
    HEARTBEATS,
)


def _numbered() -> Iterable[Check]:
    number = 0
    for chapter in _CHAPTERS:
        for check in chapter.numbered(after=number):
            yield check
            number += 1


CHECKS: Final = tuple(_numbered())


def select(patterns: Iterable[str]) -> tuple[Check, ...]:
    """The checks that any of these patterns finds, in their order; all without a pattern.

    Args:
        patterns: each a number, or a shell pattern for numbers (``C-1?``), or a part of a clause, of what is expected,
            or of the name of a clause of ours, in whatever case.
    """
    wanted = [pattern.lower() for pattern in patterns]
    return tuple(check for check in CHECKS if not wanted or any(_finds(pattern, check) for pattern in wanted))


def _finds(pattern: str, check: Check) -> bool:
    if fnmatchcase(check.number.lower(), pattern):
        return True
    if pattern in check.ours.lower().split():
        return True
    return pattern in f"{check.clause}\n{check.expected}".lower()
