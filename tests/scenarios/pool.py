"""Explorations of several scenarios at once, each in a process of its own: an exploration keeps one CPU busy."""

from __future__ import annotations

import copyreg
import dataclasses
import marshal
import multiprocessing
import os
import sys
import traceback
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.scenarios.all import SCENARIOS, in_full, name_of, share
from trio_broker.explorer import NotExplorable

if TYPE_CHECKING:
    from trio_broker.explorer import Exploration
    from trio_broker.explorer.result import Scenario

__all__ = ["explorations"]


def _write_code(code: types.CodeType) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
    return marshal.loads, (marshal.dumps(code),)


copyreg.pickle(types.CodeType, _write_code)  # explorations name the code that was waited for, and are to be sent


@contextmanager
def explorations(scenarios: Iterable[Scenario], seeds: int | None = None) -> Iterator[dict[str, Future[Exploration]]]:
    """Begin to explore scenarios, as many at once as there are CPUs; for each name what will come of it.

    Args:
        scenarios: some of `SCENARIOS`.
        seeds: shuffled schedules of a full exploration; None for the share that the tests do.
    """
    workers = max(1, len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    # A fork would have whatever runs in this process already, halfway.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _be_strict) as pool:
        try:
            yield {name_of(scenario): pool.submit(_explore, name_of(scenario), seeds) for scenario in scenarios}
        finally:
            pool.shutdown(cancel_futures=True)


def _be_strict() -> None:
    """In a worker: warnings are errors, as everywhere in the tests."""
    warnings.simplefilter("error")


def _explore(name: str, seeds: int | None) -> Exploration:
    """In a worker: explore one scenario."""
    (scenario,) = (each for each in SCENARIOS if name_of(each) == name)
    unraisable: list[sys.UnraisableHookArgs] = []
    sys.unraisablehook = unraisable.append
    try:
        exploration = share(scenario) if seeds is None else in_full(scenario, seeds)
    except NotExplorable as refusal:  # whose cause would not be sent
        raise AssertionError("".join(traceback.format_exception(refusal))) from None
    if unraisable:
        raise RuntimeError(f"{name}: {[str(each.exc_value) for each in unraisable]}")
    # Not every exception can be sent, and none with its traceback.
    failures = [
        dataclasses.replace(failure, error=AssertionError("".join(traceback.format_exception(failure.error))))
        for failure in exploration.failures
    ]
    return dataclasses.replace(exploration, failures=failures)
