"""Runs checks against a broker."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import final

import trio

from trio_broker.conform.check import Check, Level, Mismatch, NotShown, Outcome, Result
from trio_broker.conform.stage import Stage
from trio_broker.conform.target import Target

__all__ = ["Report", "run_check", "run_checks"]


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What came of all checks.

    Attributes:
        results: in the order of the checks, and of the versions within each.
        server: what the broker calls itself, or an empty text.
        unspoken: versions that the broker did not agree to, each with what it said.
    """

    results: tuple[Result, ...]
    server: str
    unspoken: dict[str, str]

    @property
    def conforms(self) -> bool:
        """Whether at least one version is spoken, something was checked, and nothing failed that is a MUST."""
        required = [result for result in self.results if result.level is Level.MUST]
        return bool(self.results) and all(result.outcome is not Outcome.FAILED for result in required)


async def run_checks(
    target: Target,
    checks: Sequence[Check],
    versions: Iterable[str],
    *,
    at_once: int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> Report:
    """Run checks in each version that they are for and that the broker speaks.

    Args:
        target: the broker.
        checks: in the order in which they are to be reported.
        versions: which to check.
        at_once: how many checks run at the same time.
        progress: called with how many runs have ended, and how many there are.

    Raises:
        OSError: the broker cannot be reached.

    Cancellation: the connections are closed. What the checks sent may be left in queues of the broker.
    """
    name = f"conform-{uuid.uuid4().hex[:12]}"
    unspoken: dict[str, str] = {}
    spoken, server = [], ""
    for version in versions:
        said, refusal = await _probe(target, version, name)
        server = server or said
        if refusal:
            unspoken[version] = refusal
        else:
            spoken.append(version)
    runs = [(check, version) for check in checks for version in spoken if version in check.levels]
    results: dict[int, Result] = {}
    waiting = iter(enumerate(runs))

    async def work() -> None:
        await trio.lowlevel.checkpoint()
        for index, (check, version) in waiting:  # which all workers share
            results[index] = await run_check(check, Stage(target, version, f"{name}-{index}"))
            if progress is not None:
                progress(len(results), len(runs))

    async with trio.open_nursery() as nursery:
        for _ in range(min(at_once, len(runs))):
            nursery.start_soon(work)
    return Report(tuple(results[index] for index in range(len(runs))), server, unspoken)


async def _probe(target: Target, version: str, name: str) -> tuple[str, str]:
    """What the broker calls itself, and why it does not speak a version; empty texts where it says nothing.

    Raises OSError: the broker cannot be reached.
    """
    await (await target.open_stream()).aclose()
    stage = Stage(target, version, name)
    with trio.move_on_after(target.check_seconds_max):
        async with stage:
            try:
                _, connected = await stage.greet(stage.connect_headers())
            except Mismatch as mismatch:
                return "", str(mismatch)
            spoken = connected.get("version") or "1.0"
            server = connected.get("server") or ""
            return server, "" if spoken == version else f"CONNECTED speaks {spoken}"
    return "", f"no CONNECTED within {target.check_seconds_max:g} s"


async def run_check(check: Check, stage: Stage) -> Result:
    """Run one check.

    Args:
        check: which.
        stage: where; its connections are closed at the end.

    Cancellation: the connections are closed.
    """
    began = trio.current_time()
    limit = stage.target.check_seconds_max
    outcome, seen = Outcome.FAILED, ""
    with trio.move_on_after(limit) as scope:
        async with stage:
            try:
                seen = await check.run(stage)
                outcome = Outcome.PASSED
            except Mismatch as mismatch:
                seen = str(mismatch)
            except NotShown as reason:
                outcome, seen = Outcome.NOT_SHOWN, str(reason)
    if scope.cancelled_caught:
        outcome, seen = Outcome.FAILED, f"{stage.waiting} did not come within {limit:g} s"
    return Result(check, stage.version, outcome, seen, trio.current_time() - began)
