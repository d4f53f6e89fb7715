"""Await sites that no scenario can reach in both senses, recognised from the code.

Two kinds of awaits cannot be cancelled where they stand, whatever a program does:

- one that never waits: entering a nursery, or leaving a lock, is a coroutine without an await in it;
- the end of a nursery. Trio never delivers `trio.Cancelled` to a task that waits there: it passes the cancellation to
  the nursery's tasks, and wakes the task when they have ended. The same holds for an await of a function that waits
  nowhere else, such as ``nursery.start``.

Nobody lists them. The frames of the tasks that were seen waiting tell which function stands behind a site, and the
function's code tells the rest.
"""

from __future__ import annotations

import enum
import inspect
import types
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import final

from trio_broker.explorer.internals import NURSERY_MANAGER
from trio_broker.explorer.sites import Await, Kind, Site, Suspension, all_awaits, awaits_of

__all__ = ["Excuse", "excuses"]


class Excuse(enum.StrEnum):
    """Why a site cannot be reached in both senses."""

    NEVER_WAITS = "it never waits"
    NURSERY = "it waits only at a nursery's end, where Trio delivers nothing"


def excuses(package: str, suspensions: Iterable[Suspension]) -> dict[Site, Excuse]:
    """The sites of a package that are excused, each with the reason.

    Args:
        package: the package.
        suspensions: what was seen in all runs.
    """
    return _Excuses(suspensions).of(all_awaits(package))


@final
class _Excuses:
    """What was seen, and what follows from it."""

    def __init__(self, suspensions: Iterable[Suspension]) -> None:
        self._seen: defaultdict[Site, list[Suspension]] = defaultdict(list)
        for suspension in suspensions:
            self._seen[suspension.site].append(suspension)
        self._known: dict[types.CodeType, bool] = {}

    def of(self, awaits: Sequence[Await]) -> dict[Site, Excuse]:
        """The excuses among the sites of some functions; all sites of an ``async with`` must be given together."""
        statements: defaultdict[object, list[Await]] = defaultdict(list)
        found: dict[Site, Excuse] = {}
        for wait in awaits:
            if wait.kind is Kind.OTHER:
                if self._leads_to_nurseries(wait.site):
                    found[wait.site] = Excuse.NURSERY
            else:
                statements[wait.statement].append(wait)
        for statement in statements.values():
            found.update(self._of_statement(statement))
        return found

    def _of_statement(self, statement: Sequence[Await]) -> dict[Site, Excuse]:
        """The excuses within one ``async with``, which may have several managers."""
        enters = [wait.site for wait in statement if wait.kind is Kind.ENTER]
        exits = [wait.site for wait in statement if wait.kind is Kind.EXIT]
        found: dict[Site, Excuse] = {}
        left = {manager for site in exits for manager in self._managers(site)}
        if len(enters) == 1:  # then whatever was left is what was entered
            if left and not any(_can_wait(manager, "__aenter__") for manager in left):
                found[enters[0]] = Excuse.NEVER_WAITS
            if left == {NURSERY_MANAGER}:
                found.update((site, Excuse.NURSERY) for site in exits)
        entered = [self._managers(site) for site in enters]
        if all(entered) and not any(_can_wait(manager, "__aexit__") for managers in entered for manager in managers):
            found.update((site, Excuse.NEVER_WAITS) for site in exits)
        return found

    def _managers(self, site: Site) -> set[type]:
        return {seen.manager for seen in self._seen[site] if seen.manager is not None}

    def _leads_to_nurseries(self, site: Site) -> bool:
        """Whether all that was ever awaited at a site waits at the ends of nurseries and nowhere else."""
        seen = self._seen[site]
        return bool(seen) and all(self._waits_at_nurseries(each) for each in seen)

    def _waits_at_nurseries(self, suspension: Suspension) -> bool:
        code = suspension.code
        if code not in self._known:
            self._known[code] = False  # what calls itself is not known to
            awaits = awaits_of(suspension.module, code)
            found = self.of(awaits)
            ends = [site for site, excuse in found.items() if excuse is Excuse.NURSERY]
            self._known[code] = bool(ends) and len(found) == len(awaits)
        return self._known[code]


def _can_wait(manager: type, method: str) -> bool:
    """Whether a context manager's method can be suspended, as far as its code tells."""
    code: types.CodeType | None = getattr(getattr(manager, method), "__code__", None)
    return code is None or not code.co_flags & inspect.CO_COROUTINE or bool(awaits_of("", code))
