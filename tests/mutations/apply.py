"""Copy the tree, put a variant into the copy, and let the explorer loose on it in a process of its own.

Before any variant the unchanged tree is explored in the same way: what fails there cannot judge a variant and is left
out. In that copy each function notes that it was entered; a scenario in none of whose runs a variant's function was
entered cannot tell the variant from the original, and is not tried.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

from tests.mutations.tree import Module, insert_before
from tests.mutations.variants import OUT_OF_TIME, REACHED, ROOT, Variant, mutated_files

__all__ = ["Control", "Outcome", "Settings", "copy_of_the_tree", "explore_the_original", "explore_variant", "probed"]

_ROOMS: Final = {
    "core": ("core",),
    "server": ("server", "ending", "goodbye", "tcp", "tcp_ends"),
    "client": ("client", "tcp_ends"),
}
"""In which module of scenarios a room's variants are looked for first."""


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How far to look.

    Attributes:
        seeds: shuffled schedules a scenario.
        seconds: of processor time for one variant.
        double: whether to cancel twice.
        hang_seconds: so long in real time without a finished run, and the run is called a hang.
    """

    seeds: int = 2
    seconds: float = 180
    double: bool = True
    hang_seconds: int = 60

    @property
    def arguments(self) -> list[str]:
        double = [] if self.double else ["--no-double"]
        numbers = {"seeds": self.seeds, "seconds": self.seconds, "hang-seconds": self.hang_seconds}
        return [*(f"--{name}={number}" for name, number in numbers.items()), *double]


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a variant.

    Attributes:
        axis: which axis caught it: ``cancel``, ``second cancel``, ``interrupt``, ``fault``, ``schedule``, ``base
            run`` or ``hang``; empty if nothing did.
        scenario: in which scenario.
        token: the token with which that run can be replayed, on the variant.
        error: what was raised there.
        runs: how many runs there were before, in scenarios that found nothing.
        complete: everything was tried that the settings ask for.
    """

    axis: str
    scenario: str = ""
    token: str = ""
    error: str = ""
    runs: int = 0
    complete: bool = True

    @property
    def caught(self) -> bool:
        return bool(self.axis)


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Control:
    """What the unchanged tree does.

    Attributes:
        reached: for each scenario that can judge, which functions were entered in any of its runs.
        seconds: what its exploration took, in processor time.
        unfit: the scenarios that fail on the unchanged tree, and why.
    """

    reached: dict[str, frozenset[str]]
    seconds: dict[str, float]
    unfit: dict[str, str]

    def scenarios_for(self, variant: Variant) -> list[str]:
        """Which scenarios to try, in order: those it asks for, then its room's, and the cheap before the dear."""

        def rank(name: str) -> tuple[bool, bool, float]:
            module, _, scenario = name.partition(":")
            return scenario not in variant.first, module not in _ROOMS[variant.room], self.seconds[name]

        return sorted((name for name, reached in self.reached.items() if variant.function in reached), key=rank)


@contextmanager
def copy_of_the_tree(root: Path = ROOT) -> Iterator[Path]:
    """The package and the tests, copied to a folder that is there for the length of a block."""
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        for part in ("trio_broker", "tests"):
            shutil.copytree(root / part, Path(folder, part), ignore=shutil.ignore_patterns("__pycache__", ".*"))
        yield Path(folder)


def probed(path: str, text: str) -> str:
    """The text of a file, each of whose functions notes that it was entered."""
    module = Module(path, text)
    edits = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body and body[0].lineno > node.lineno and ast.unparse(body[0]) != "...":  # as overloads have
                edits.append(insert_before(body[0], f"{REACHED}.add({module.qualified_name(node)!r})"))
    return module.apply(tuple(edits))


def explore_the_original(tree: Path, settings: Settings, jobs: int = 1) -> Control:
    """Explore the unchanged tree with all scenarios, in so many processes."""
    patient = dataclasses.replace(settings, seconds=7200)

    def explore_part(part: int) -> tuple[list[dict[str, Any]], str]:
        return _run_trial(folder, ["--all", "--part", str(part), str(jobs), *patient.arguments], 7200)

    with copy_of_the_tree(tree) as folder:
        for path in mutated_files(folder):
            file = folder / path
            file.write_text(probed(path, file.read_text(encoding="utf-8")), encoding="utf-8")
        with ThreadPoolExecutor(jobs) as pool:
            parts = [*pool.map(explore_part, range(jobs))]
    for said, errors in parts:
        if not said or "complete" not in said[-1]:
            raise RuntimeError(f"the unchanged tree cannot be explored: {errors}")
    lines = [line for said, _ in parts for line in said]
    reached: dict[str, frozenset[str]] = {}
    seconds: dict[str, float] = {}
    unfit: dict[str, str] = {}
    for line in lines:
        name = line.get("scenario", "")
        if "reached" in line:
            reached[name] = reached.get(name, frozenset()) | frozenset(line["reached"])
        elif name:
            seconds[name] = seconds.get(name, 0.0) + line["seconds"]
            if line["axis"]:
                unfit[name] = f"{line['axis']} {line['token']} {line['error']}"
    return Control({name: found for name, found in reached.items() if name not in unfit}, seconds, unfit)


def explore_variant(tree: Path, variant: Variant, scenarios: Sequence[str], settings: Settings) -> Outcome:
    """Explore one variant with these scenarios, in their order, until one fails.

    Raises:
        RuntimeError: the exploration itself failed, so nothing is known.
    """
    if not scenarios:
        return Outcome("")
    with copy_of_the_tree(tree) as folder:
        (folder / variant.path).write_text(variant.source, encoding="utf-8")
        try:
            lines, errors = _run_trial(folder, [*settings.arguments, "--", *scenarios], 10 * settings.seconds + 120)
        except subprocess.TimeoutExpired:  # others have the processor; a hang would have been told
            return Outcome("", complete=False)
    results = [line for line in lines if "axis" in line]
    runs = sum(result["runs"] for result in results)
    last = results[-1] if results else None
    if last is not None and last["axis"] == OUT_OF_TIME:
        return Outcome("", runs=runs, complete=False)
    if last is not None and last["axis"]:
        return Outcome(last["axis"], last["scenario"], last["token"], last["error"], runs)
    if lines and "complete" in lines[-1]:
        return Outcome("", runs=runs)
    if "Timeout (" in errors:  # the words of faulthandler, and then where each thread stood
        places = [line.strip() for line in errors.splitlines() if "trio_broker" in line]
        where = [
            place for place in places if "trio_broker/explorer/" not in place
        ]  # whose watchdog may have run just then
        return Outcome("hang", scenarios[len(results) % len(scenarios)], "", where[0] if where else "", runs)
    raise RuntimeError(f"{variant.name}: the exploration failed: {errors[-2000:]}")


def _run_trial(folder: Path, arguments: list[str], seconds: float) -> tuple[list[dict[str, Any]], str]:
    """What a trial in this folder said, and what it wrote to stderr. Checks that it explored what is in the folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryFile("w+") as errors:
        finished = subprocess.run(
            [sys.executable, "-m", "tests.mutations.trial", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=False,
            timeout=seconds,
        )
        errors.seek(0)
        said = errors.read()
    lines: list[dict[str, Any]] = [json.loads(line) for line in finished.stdout.splitlines() if line.startswith("{")]
    if lines:
        package = Path(lines[0]["package"])
        if package != (folder / "trio_broker" / "__init__.py").resolve():
            raise RuntimeError(f"the trial explored {package}, not the copy in {folder}")
    return lines, said
