"""``trio-broker explore``: cancel a scenario at every checkpoint, say what came of it, replay one of the runs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from trio_broker.cli.explore_report import as_json as report_as_json
from trio_broker.cli.explore_report import print_report, say
from trio_broker.cli.explore_scenario import find_scenario, load_module, refuse
from trio_broker.cli.options import option
from trio_broker.cli.terminal import growing_progress
from trio_broker.explorer import NotExplorable, Obstacle, explore, replay
from trio_broker.explorer.plan import Plan
from trio_broker.explorer.result import Scenario

__all__ = ["explore_command"]


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
    "--step-seconds-max",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    metavar="SECONDS",
    help="A step that takes longer, in real time, has failed.",
)
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
    step_seconds_max: float,
    token: str | None,
    as_json: bool,
    scenario: str,
) -> int:
    """Run an async function again and again, each time cancelled, interrupted or failed at another moment, and report
    the runs in which it raised. MODULE is a dotted name or the path of a .py file; SCENARIO takes no arguments.

    \b
    Examples:
      trio-broker explore examples/explore/lost_job.py:careful --watch lost_job
      trio-broker explore examples/explore/lost_job.py:careless
      trio-broker explore examples/explore/lost_job.py:careless --replay spawn/t1:1:after:0

    What a scenario prints is shown with --replay only. docs/explorer.md explains how one is written, and the report.

    The status is 0 if nothing failed; 1 if something did, or if the scenario cannot be explored; 2 if there is no such
    scenario.
    """
    function = find_scenario(scenario)
    if token is not None:
        return _replay(function, scenario, token, step_seconds_max, as_json=as_json)
    if watch and watch not in sys.modules:  # its await sites are to be known, whether or not the scenario comes there
        load_module(watch, "'--watch'")
    began = time.perf_counter()
    try:
        with growing_progress("Runs") as progress, _silence():
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
                step_seconds_max=step_seconds_max,
                progress=progress,
            )
    except NotExplorable as error:
        return _cannot_explore(scenario, error)
    seconds = time.perf_counter() - began
    if tasks and not exploration.runs["cancel"]:
        refuse(f"no task of {scenario} has a name that contains {' or '.join(tasks)}", "'--task'")
    if as_json:
        click.echo(json.dumps(report_as_json(exploration, scenario, watch, seconds), indent=2))
    else:
        print_report(exploration, scenario, watch, seconds, failures_max)
    return 1 if exploration.failures else 0


def _replay(scenario: Scenario, target: str, token: str, step_seconds_max: float, *, as_json: bool) -> int:
    """Run one run alone and show how it failed; returns the exit status."""
    try:
        Plan.parse(token)
    except ValueError as error:
        refuse(str(error), "'--replay'")
    failure: BaseException | None = None
    try:
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            replay(scenario, token, step_seconds_max=step_seconds_max)
    except NotExplorable as error:
        return _cannot_explore(target, error)
    except KeyboardInterrupt:  # the explorer's own is never a failure by itself, so this is the user's
        raise
    except BaseException as error:  # noqa: BLE001, ASYNC103  whatever it is, it is what the scenario raised
        failure = error
    shown = "" if failure is None else "".join(traceback.format_exception(failure))
    if as_json:
        error_line = None if failure is None else say(failure)
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
    why = " ".join(str(error).split()) if cause is None else f"{error}: {say(cause)}"
    click.echo(f"Error: {target} cannot be explored: {why}", err=True)
    if cause is not None and error.obstacle is Obstacle.FAILS:
        click.echo(textwrap.indent("".join(traceback.format_exception(cause)), "    "), err=True, nl=False)
    return 1


@contextmanager
def _silence() -> Iterator[None]:
    """What a scenario prints would be printed in every run."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
