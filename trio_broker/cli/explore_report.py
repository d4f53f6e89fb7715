"""The report of ``trio-broker explore``, for people and for programs."""

from __future__ import annotations

import linecache
import shlex
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from rich.console import Console

from trio_broker.explorer import Exploration, Failure
from trio_broker.explorer.excuses import Excuse
from trio_broker.explorer.sites import Site

__all__ = ["as_json", "print_report", "say"]

_AXES: Final = ("schedule", "cancel", "second cancel", "interrupt", "fault")
_STYLES: Final = {"reached": None, "excused": "dim", "missed": "yellow"}
_MACHINERY: Final = ("trio", "outcome", "trio_broker.explorer")
"""What an error passes through, but does not come from."""


def print_report(exploration: Exploration, target: str, watch: str, seconds: float, failures_max: int) -> None:
    """What a person wants to know: what was done, what was reached, and what failed, the worst at the end."""
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.print(f"{target}: {exploration.runs.total():,} runs in {seconds:.2f} s")
    for axis in _AXES:
        console.print(f"  {axis:<13}  {exploration.runs[axis]:>9,}")
    if watch:
        _print_sites(console, exploration, watch)
    console.print()
    for note in exploration.notes:
        console.print(f"Note: {note}", style="yellow")
    if exploration.notes:
        console.print()
    for failure in exploration.failures:
        console.print(failure.token, style="bold red")
        console.print(f"  done    {failure.what}")
        console.print(f"  error   {say(failure.error)}")
        console.print(f"  replay  {_replay_line(target, failure)}\n")
    count = len(exploration.failures)
    stopped = ", and stopped there: --failures-max" if count >= failures_max else ""
    verdict = f"{count or 'No'} failure{'' if count == 1 else 's'}{stopped}"
    console.print(verdict, style="bold red" if count else "bold green")


def _print_sites(console: Console, exploration: Exploration, watch: str) -> None:
    """The await sites, those that were missed at the end."""
    rows = _site_rows(exploration)
    totals = Counter(of.state for _, of in _sites(exploration))
    figures = ", ".join(f"{totals[state]:,} {state}" for state in _STYLES)
    console.print(f"\nAwait sites of {watch}: {figures}")
    if rows:
        console.print("           cancelled  woken    lines")
    for state, style in _STYLES.items():
        for row, lines in rows.items():
            if row.of.state == state:
                places = f"{row.module}:{', '.join(lines)} in {row.function}"
                reason = f": {row.of.excused}" if row.of.excused else ""
                cells = f"{state:<7}  {row.of.cancelled:<9}  {row.of.woken:<7}"
                console.print(f"  {cells}  {places}{reason}", style=style)


class _Reach(NamedTuple):
    """How a site was reached: in each sense ``yes``, ``no``, or ``excused``; and what that is all together."""

    state: str
    cancelled: str
    woken: str
    excused: Excuse | None


class _Row(NamedTuple):
    """What the sites of one line of the report have in common."""

    module: str
    function: str
    of: _Reach


def _site_rows(exploration: Exploration) -> dict[_Row, list[str]]:
    """For each function, the lines of its await sites that were reached in the same way."""
    rows: dict[_Row, list[str]] = {}
    numbered = _numbered(exploration.sites)
    for (site, of), (_, number, count) in zip(_sites(exploration), numbered, strict=True):
        line = f"{site.line}" if count == 1 else f"{site.line}#{number}"
        rows.setdefault(_Row(site.module, site.function, of), []).append(line)
    return rows


def _sites(exploration: Exploration) -> list[tuple[Site, _Reach]]:
    """All sites in order, with how they were reached."""
    excused, reached, missed = exploration.sites_excused, exploration.sites_reached, exploration.sites_missed
    found = []
    for site in sorted(exploration.sites):
        excuse = excused.get(site)
        cancelled = _cell(site in exploration.delivered, is_excused=excuse is not None)
        woken = _cell(site in exploration.woken, is_excused=excuse is Excuse.NEVER_WAITS)
        state = "reached" if site in reached else "missed" if site in missed else "excused"
        found.append((site, _Reach(state, cancelled, woken, excuse)))
    return found


def _cell(was_reached: bool, *, is_excused: bool) -> str:
    return "yes" if was_reached else "excused" if is_excused else "no"


def _numbered(sites: Iterable[Site]) -> Iterator[tuple[Site, int, int]]:
    """Sites in order, each with which of how many of its line it is."""
    ordered: Sequence[Site] = sorted(sites)
    totals = Counter((site.module, site.line, site.function) for site in ordered)
    seen: Counter[tuple[str, int, str]] = Counter()
    for site in ordered:
        line = (site.module, site.line, site.function)
        seen[line] += 1
        yield site, seen[line], totals[line]


def _replay_line(target: str, failure: Failure) -> str:
    return shlex.join(["python", "-m", "trio_broker", "explore", target, "--replay", failure.token])


def as_json(exploration: Exploration, target: str, watch: str, seconds: float) -> dict[str, object]:
    """The same for a program, as one JSON object."""
    return {
        "scenario": target,
        "seconds": round(seconds, 3),
        "runs": {axis: exploration.runs[axis] for axis in _AXES},
        "watch": watch or None,
        "sites": [
            {
                "module": site.module,
                "line": site.line,
                "await": number,
                "function": site.function,
                "cancelled": site in exploration.delivered,
                "woken": site in exploration.woken,
                "state": of.state,
                "excused": of.excused,
            }
            for (site, of), (_, number, _) in zip(_sites(exploration), _numbered(exploration.sites), strict=True)
        ],
        "notes": list(exploration.notes),
        "failures": [
            {
                "token": failure.token,
                "done": failure.what,
                "error": say(failure.error),
                "replay": _replay_line(target, failure),
            }
            for failure in exploration.failures
        ],
    }


def say(error: BaseException) -> str:
    """An error in one line; of a group what is in it, each once."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(say(inner) for inner in error.exceptions))
    name = type(error).__name__
    text = " ".join(str(error).split())
    return f"{name}: {text}" if text else f"{name}{_place(error)}"


def _place(error: BaseException) -> str:
    """The line that raised an error which does not speak for itself."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__", "")
        if not any(f"{module}.".startswith(f"{inner}.") for inner in _MACHINERY):
            path = frame.f_code.co_filename
            place = f" at {module}:{line}: {linecache.getline(path, line).strip()}"
    return place
