"""Explore scenarios in a copy of the tree, and say what came of it: run as ``python -m tests.mutations.trial`` there.

It prints one JSON object a line: first where the package came from, then one for each exploration. What the variant is
it does not know; it explores the code that it finds.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import trio_broker
from tests.mutations.variants import OUT_OF_TIME, REACHED
from trio_broker.explorer import NotExplorable, explore
from trio_broker.explorer.plan import Plan
from trio_broker.explorer.result import Scenario

__all__ = ["main", "scenarios"]


class OutOfTime(Exception):
    """The processor time for this variant is used up."""


def scenarios(folder: Path) -> dict[str, Scenario]:
    """All scenarios of the modules in a folder that have a tuple SCENARIOS, by module and name."""
    found: dict[str, Scenario] = {}
    for path in sorted(folder.glob("*.py")):
        if not path.stem.startswith(("_", "test_")):
            module: ModuleType = importlib.import_module(f"tests.scenarios.{path.stem}")
            for scenario in getattr(module, "SCENARIOS", ()):
                if scenario.__module__ == module.__name__:  # one module gathers those of all
                    found[f"{path.stem}:{scenario.__name__}"] = scenario
    return found


def say(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def looks(seeds: int, *, double: bool) -> list[dict[str, Any]]:
    """How each scenario is explored, one look after the other, those that catch the most first. Together they are all
    axes: undisturbed; one cancellation, and interrupts; the network's faults; a second cancellation."""
    nothing: dict[str, Any] = {"turns": False, "faults": False, "double": False, "interrupts": False}
    return [
        {**nothing, "tasks": (), "seeds": seeds},
        {**nothing, "seeds": seeds, "interrupts": True},
        {**nothing, "tasks": (), "seeds": 0, "faults": True},
        *([{**nothing, "seeds": 0, "double": True}] if double else []),
    ]


def try_out(name: str, scenario: Scenario, look: dict[str, Any], hang_seconds: int, until: float) -> str:
    """Explore one scenario until its first failure, and say what came of it; return the axis that failed, or ""."""

    def progress(done: int, planned: int) -> None:
        faulthandler.dump_traceback_later(hang_seconds, exit=True)
        if time.process_time() > until:
            raise OutOfTime

    began = time.process_time()
    faulthandler.dump_traceback_later(hang_seconds, exit=True)
    axis, token, error, runs = "", "", "", 0
    try:
        exploration = explore(scenario, failures_max=1, progress=progress, **look)
        runs = exploration.runs.total()
        for failure in exploration.failures:
            token, error = failure.token, repr(failure.error)
            axis = Plan.parse(token).axis
    except NotExplorable as refusal:
        axis, error = "base run", str(refusal)
        if refusal.__cause__ is not None:
            error += f": {refusal.__cause__!r}"
    except OutOfTime:
        axis = OUT_OF_TIME
    finally:
        faulthandler.cancel_dump_traceback_later()
    seconds = time.process_time() - began
    say(scenario=name, axis=axis, token=token, error=error, runs=runs, seconds=seconds)
    return axis


def main() -> int:
    """Explore the named scenarios, all of them in one look after the other, until one fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--hang-seconds", type=int, default=60)
    parser.add_argument("--no-double", action="store_true")
    parser.add_argument("--all", action="store_true", help="go on after a failure")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), help="of all: each so-many-th, from this one on")
    options = parser.parse_args()
    root = Path(__file__).resolve().parents[2]
    say(package=str(Path(trio_broker.__file__).resolve()))
    found = scenarios(root / "tests" / "scenarios")
    until = time.process_time() + options.seconds
    first, step = options.part
    for look in looks(options.seeds, double=not options.no_double):
        for name in options.names or [*found][first::step]:
            reached: set[str] = eval(REACHED)
            reached.clear()
            axis = try_out(name, found[name], look, options.hang_seconds, until)
            say(scenario=name, reached=sorted(reached))
            if axis and not options.all:
                return 1
    say(complete=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
