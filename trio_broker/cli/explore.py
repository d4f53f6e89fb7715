"""``trio-broker explore``: cancel a scenario at every checkpoint, say what came of it, replay one of the runs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import json
import linecache
import os
import shlex
import sys
import textwrap
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trio_broker.cli.options import option
from trio_broker.explorer import Exploration, Failure, NotExplorable, explore, replay
from trio_broker.explorer.plan import Plan
from trio_broker.explorer.result import Scenario
from trio_broker.explorer.sites import Site

__all__ = ["explore_command"]

_AXES: Final = ("schedule", "cancel", "second cancel", "interrupt", "fault")
_TARGET: Final = "'MODULE:SCENARIO'"
_UNDISTURBED: Final = "without being disturbed"  # so the explorer says that a scenario fails all by itself
_MACHINERY: Final = ("trio", "outcome", "trio_broker.explorer")
"""What an error passes through, but does not come from."""


@click.command("explore", short_help="Cancel a scenario at every checkpoint.")
@option(
    "--watch",
    default="",
    show_default=False,
    metavar="PACKAGE",
    help="Say which await sites of this package were reached.",
)
@option("--seeds", type=click.IntRange(min=0), default=20, metavar="N", help="How many shuffled schedules.")
@option(
    "--task",
    "tasks",
    multiple=True,
    metavar="NAME",
    envvar="TRIO_BROKER_EXPLORE_TASK",
    help="Disturb only tasks whose name contains this; can be repeated.",
)
@option("--turns/--no-turns", default=True, help="Schedules that differ in one round from the order of spawning.")
@option("--faults/--no-faults", default=True, help="Faults of the explorer's in-memory network.")
@option("--double/--no-double", default=True, help="A second cancellation soon after the first.")
@option("--interrupts/--no-interrupts", default=True, help="SIGINT after each step.")
@option("--failures-max", type=click.IntRange(min=1), default=20, metavar="N", help="Stop at so many failures.")
@option(
    "--replay",
    "token",
    default=None,
    metavar="TOKEN",
    envvar="TRIO_BROKER_EXPLORE_REPLAY",
    help="Run only the run that a failure's token stands for, and show all of its error.",
)
@option("--json", "as_json", is_flag=True, envvar="TRIO_BROKER_EXPLORE_JSON", help="Print one JSON object.")
@click.argument("scenario", metavar="MODULE:SCENARIO")
def explore_command(
    watch: str,
    seeds: int,
    tasks: tuple[str, ...],
    turns: bool,
    faults: bool,
    double: bool,
    interrupts: bool,
    failures_max: int,
    token: str | None,
    as_json: bool,
    scenario: str,
) -> int:
    """Run an async function again and again, each time cancelled, interrupted or failed at another moment, and report
    the runs in which it raised. MODULE is a dotted name or the path of a .py file; SCENARIO takes no arguments.

    \b
    Examples:
      trio-broker explore tests.scenarios:pipeline --watch my_package
      trio-broker explore examples/explore/lost_job.py:careless
      trio-broker explore examples/explore/lost_job.py:careless --replay spawn/t1:1:after:0

    What a scenario prints is shown with --replay only, which runs it undisturbed first. docs/explorer.md explains how
    one is written, and the report.

    The status is 0 if nothing failed; 1 if something did, or if the scenario cannot be explored; 2 if there is no such
    scenario.
    """
    function = _find(scenario)
    if token is not None:
        return _replay(function, scenario, token, as_json=as_json)
    if watch and watch not in sys.modules:  # its await sites are to be known, whether or not the scenario comes there
        _load_module(watch, "'--watch'")
    began = time.perf_counter()
    try:
        with _progress() as progress, _silence():
            exploration = explore(
                function,
                watch=watch,
                tasks=tasks or None,
                seeds=seeds,
                turns=turns,
                faults=faults,
                double=double,
                interrupts=interrupts,
                failures_max=failures_max,
                progress=progress,
            )
    except NotExplorable as error:
        return _cannot_explore(scenario, error)
    seconds = time.perf_counter() - began
    if tasks and not exploration.runs["cancel"]:
        _refuse(f"no task of {scenario} has a name that contains {' or '.join(tasks)}", "'--task'")
    if as_json:
        click.echo(json.dumps(_as_json(exploration, scenario, watch, seconds), indent=2))
    else:
        _report(exploration, scenario, watch, seconds, failures_max)
    return 1 if exploration.failures else 0


# -- the scenario ------------------------------------------------------------------------------------------------------


def _find(target: str) -> Scenario:
    """The async function that MODULE:SCENARIO names."""
    module_name, _, name = target.rpartition(":")
    if not module_name or not name:
        _refuse(f"{target!r} is not MODULE:SCENARIO, as in package.module:scenario or path/to/file.py:scenario")
    module = _load_file(Path(module_name)) if module_name.endswith(".py") else _load_module(module_name)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            _refuse(f"{module_name} has no {name}")
        found = getattr(found, part)
    if not inspect.iscoroutinefunction(found):
        _refuse(f"{name} of {module_name} is not an async function")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        _refuse(f"a scenario takes no arguments, and {name} of {module_name} does: {error}")
    return found  # type: ignore[no-any-return]  # it is what was just checked


def _load_module(name: str, hint: str = _TARGET) -> ModuleType:
    """The module of a dotted name, which may be one of the current directory."""
    if not all(part.isidentifier() for part in name.split(".")):
        _refuse(f"{name} is neither the name of a module nor the path of a .py file", hint)
    _import_from(Path.cwd())
    try:
        with _errors_of_import(name):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise click.ClickException(f"cannot import {name}: {_say(error)}") from None
        _refuse(f"there is no module {name}", hint)


def _load_file(path: Path) -> ModuleType:
    """A file as a module that has its name, with the modules beside it at hand, as if Python ran it."""
    path = path.resolve()
    name = path.stem
    if not path.is_file():
        _refuse(f"there is no file {path}")
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) != str(path):
        _refuse(f"{path.name} cannot be imported: there already is a module {name}; give the file another name")
    _import_from(Path.cwd())
    _import_from(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # as it is for every name that ends in .py
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        with _errors_of_import(path.name):
            spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise click.ClickException(f"cannot import {path.name}: {_say(error)}") from None
    return module


@contextmanager
def _errors_of_import(name: str) -> Iterator[None]:
    """Whatever a module raises as it is imported becomes one line, except that it, or another, does not exist."""
    try:
        yield
    except ModuleNotFoundError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  it is another's module
        raise click.ClickException(f"cannot import {name}: {_say(error)}") from None


def _import_from(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _refuse(message: str, hint: str = _TARGET) -> NoReturn:
    raise click.BadParameter(message, ctx=click.get_current_context(), param_hint=hint)


# -- running it --------------------------------------------------------------------------------------------------------


def _replay(scenario: Scenario, target: str, token: str, *, as_json: bool) -> int:
    """Run one run alone and show how it failed; returns the exit status."""
    try:
        Plan.parse(token)
    except ValueError as error:
        _refuse(str(error), "'--replay'")
    failure: BaseException | None = None
    try:
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            replay(scenario, token)
    except NotExplorable as error:
        return _cannot_explore(target, error)
    except KeyboardInterrupt:  # the explorer's own is never a failure by itself, so this is the user's
        raise
    except BaseException as error:  # noqa: BLE001, ASYNC103  whatever it is, it is what the scenario raised
        failure = error
    shown = "" if failure is None else "".join(traceback.format_exception(failure))
    if as_json:
        error_line = None if failure is None else _say(failure)
        found = {"scenario": target, "token": token, "failed": failure is not None, "error": error_line}
        click.echo(json.dumps({**found, "traceback": shown or None}, indent=2))
    elif failure is None:
        click.echo(f"{token} of {target} did not fail.")
    else:
        click.echo(f"{token} of {target} failed:\n\n{shown}", nl=False)
    return 0 if failure is None else 1


def _cannot_explore(target: str, error: NotExplorable) -> int:
    """Say why not, in one line; and where the scenario itself is at fault, how it failed."""
    cause = error.__cause__
    why = " ".join(str(error).split()) if cause is None else f"{error}: {_say(cause)}"
    click.echo(f"Error: {target} cannot be explored: {why}", err=True)
    if cause is not None and _UNDISTURBED in str(error):
        click.echo(textwrap.indent("".join(traceback.format_exception(cause)), "    "), err=True, nl=False)
    return 1


@contextmanager
def _progress() -> Iterator[Callable[[int, int], object] | None]:
    """A bar on stderr if that is a terminal; the total grows while runs are planned."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("Runs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False, transient=True) as progress:
        task = progress.add_task("Runs", total=None)
        yield lambda done, planned: progress.update(task, completed=done, total=planned)


@contextmanager
def _silence() -> Iterator[None]:
    """What a scenario prints would be printed in every run."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


# -- the report --------------------------------------------------------------------------------------------------------


def _report(exploration: Exploration, target: str, watch: str, seconds: float, failures_max: int) -> None:
    """What a person wants to know: what was done, what was reached, and what failed, the worst at the end."""
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.print(f"{target}: {exploration.runs.total():,} runs in {seconds:.2f} s")
    for axis in _AXES:
        console.print(f"  {axis:<13}  {exploration.runs[axis]:>9,}")
    if watch:
        reached, total = len(exploration.sites_reached), len(exploration.sites)
        console.print(f"\nAwait sites of {watch}: {reached:,} of {total:,} reached in both senses")
        console.print("  cancelled  woken  lines")
        for cancelled, woken, lines in _site_rows(exploration):
            style = None if cancelled and woken else "yellow"
            console.print(f"  {_yes(cancelled):<9}  {_yes(woken):<5}  {lines}", style=style)
    console.print()
    for failure in exploration.failures:
        console.print(failure.token, style="bold red")
        console.print(f"  done    {failure.what}")
        console.print(f"  error   {_say(failure.error)}")
        console.print(f"  replay  {_replay_line(target, failure)}\n")
    count = len(exploration.failures)
    stopped = ", and stopped there: --failures-max" if count >= failures_max else ""
    verdict = f"{count or 'No'} failure{'' if count == 1 else 's'}{stopped}"
    console.print(verdict, style="bold red" if count else "bold green")


def _site_rows(exploration: Exploration) -> Iterator[tuple[bool, bool, str]]:
    """For each function, its await sites that were reached in the same senses."""
    rows: dict[tuple[str, str, bool, bool], list[str]] = {}
    for site, number, of in _numbered(exploration.sites):
        key = (site.module, site.function, site in exploration.delivered, site in exploration.woken)
        rows.setdefault(key, []).append(f"{site.line}" if of == 1 else f"{site.line}#{number}")
    for (module, function, cancelled, woken), lines in rows.items():
        yield cancelled, woken, f"{module}:{', '.join(lines)} in {function}"


def _numbered(sites: Iterable[Site]) -> Iterator[tuple[Site, int, int]]:
    """Sites in order, each with which of how many of its line it is."""
    ordered: Sequence[Site] = sorted(sites)
    totals = Counter((site.module, site.line, site.function) for site in ordered)
    seen: Counter[tuple[str, int, str]] = Counter()
    for site in ordered:
        line = (site.module, site.line, site.function)
        seen[line] += 1
        yield site, seen[line], totals[line]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _replay_line(target: str, failure: Failure) -> str:
    return shlex.join(["python", "-m", "trio_broker", "explore", target, "--replay", failure.token])


def _as_json(exploration: Exploration, target: str, watch: str, seconds: float) -> dict[str, object]:
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
            }
            for site, number, _ in _numbered(exploration.sites)
        ],
        "failures": [
            {
                "token": failure.token,
                "done": failure.what,
                "error": _say(failure.error),
                "replay": _replay_line(target, failure),
            }
            for failure in exploration.failures
        ],
    }


def _say(error: BaseException) -> str:
    """An error in one line; of a group what is in it, each once."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(_say(inner) for inner in error.exceptions))
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
