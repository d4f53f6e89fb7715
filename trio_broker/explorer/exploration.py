"""What came of all runs of a scenario: failures, and the await sites that were reached."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import final

from trio_broker.explorer.excuses import Excuse, excuses
from trio_broker.explorer.sites import Site, Suspension

__all__ = ["Exploration", "Failure"]


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A run in which an invariant did not hold.

    Attributes:
        token: for `replay`.
        error: what was raised.
        what: what was done to the scenario, and where, for people.
    """

    token: str
    error: BaseException
    what: str


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Exploration:
    """What came of all runs.

    Attributes:
        runs: how many runs there were, by axis: ``schedule``, ``cancel``, ``second cancel``, ``interrupt``, ``fault``.
        failures: those in which an invariant did not hold, in the order in which they were found.
        delivered: the watched package's await sites where a task met `trio.Cancelled`.
        woken: those where a task had been woken with a result when the cancellation fired.
        sites: all of the watched package's await sites.
        suspensions: what tasks were seen to wait for; `sites_excused` is drawn from it.
        watch: the watched package.
        notes: what the scenario did that need not be the same in every run, such as reading the real clock; for people.

    Explorations of several scenarios that watch the same package can be added, for what they reached together.
    """

    runs: Counter[str]
    failures: list[Failure]
    delivered: frozenset[Site]
    woken: frozenset[Site]
    sites: frozenset[Site]
    suspensions: frozenset[Suspension] = frozenset()
    watch: str = ""
    notes: tuple[str, ...] = ()

    def __add__(self, other: Exploration) -> Exploration:
        if self.watch != other.watch:
            raise ValueError(f"they watched {self.watch!r} and {other.watch!r}")
        return Exploration(
            self.runs + other.runs,
            self.failures + other.failures,
            self.delivered | other.delivered,
            self.woken | other.woken,
            self.sites | other.sites,
            self.suspensions | other.suspensions,
            self.watch,
            tuple(dict.fromkeys(self.notes + other.notes)),
        )

    @property
    def sites_excused(self) -> dict[Site, Excuse]:
        """The sites that no scenario can reach in both senses, with the reason: those that never wait, and the ends of
        nurseries, where nothing is delivered."""
        return excuses(self.watch, self.suspensions) if self.watch else {}

    @property
    def sites_reached(self) -> frozenset[Site]:
        """The sites that were reached in both senses, or in the one in which they can be."""
        ends = {site for site, excuse in self.sites_excused.items() if excuse is Excuse.NURSERY}
        return self.sites & self.woken & (self.delivered | ends)

    @property
    def sites_missed(self) -> frozenset[Site]:
        """The sites that were not, without those that never wait."""
        never = {site for site, excuse in self.sites_excused.items() if excuse is Excuse.NEVER_WAITS}
        return self.sites - self.sites_reached - never
