"""What one run says about its scenario: what the explorer saw is weighed against what the scenario says itself."""

from __future__ import annotations

import dataclasses
from typing import final

from trio_broker.explorer.plan import Interrupt
from trio_broker.explorer.result import Endless, NotExplorable, Obstacle, Run, Swallowed

__all__ = ["Findings", "judge"]


@final
@dataclasses.dataclass(slots=True)
class Findings:
    """What the explorer saw in one run, and the scenario does not say by itself.

    Attributes:
        given_up: why the explorer ended the run; empty if it did not.
        hang: which step did not end in real time.
        touched: what the scenario first did with the real world.
        unrest: what the first check at rest that failed has raised.
        late: whether the scenario took all its virtual time.
        seconds_max: how much that was.
        swallowed: which task met the cancellation of the outermost scope, and what then went on to its end.
        alive: whether the instrument has seen the run to its end.
    """

    given_up: str = ""
    hang: str = ""
    touched: str = ""
    unrest: BaseException | None = None
    late: bool = False
    seconds_max: float = 0
    swallowed: str = ""
    alive: bool = False


def judge(result: Run, base: Run | None, findings: Findings) -> None:
    """Set the run's failure, or take it away.

    Args:
        result: the run, with what the scenario raised.
        base: the run with the same schedule and without the disturbance.
        findings: what was seen.

    Raises:
        NotExplorable: the run says nothing, since the scenario cannot be explored or the explorer failed.
        KeyboardInterrupt: somebody wants to end the exploration.
    """
    plan = result.plan.disturbance
    if _is_interrupt(findings.unrest) or (not isinstance(plan, Interrupt) and _is_interrupt(result.failure)):
        raise KeyboardInterrupt  # not ours
    _refuse_reality_and_early_ends(result, findings)
    if findings.hang:
        result.failure = Endless(findings.hang)
        return
    if not findings.alive:
        text = "the explorer's instrument died; Trio's log says why"
        raise NotExplorable(Obstacle.INSTRUMENT_DIED, text) from result.failure
    if base is not None:
        _compare(result, base)
    if findings.unrest is not None:
        if result.failure is not None:
            findings.unrest.add_note(f"the scenario, or a check after it, then ended with {result.failure!r}")
        result.failure = findings.unrest
    elif findings.given_up:
        result.failure = Endless(findings.given_up)
    elif isinstance(plan, Interrupt) and _is_interrupt(result.failure):
        result.failure = None
    elif result.failure is None:
        if findings.late:
            result.failure = Endless(f"it did not end within {findings.seconds_max:,g} virtual seconds")
        elif findings.swallowed:
            result.failure = Swallowed(f"a cancellation was swallowed: {findings.swallowed} went on to its end")


def _refuse_reality_and_early_ends(result: Run, findings: Findings) -> None:
    """These come first: they explain whatever else went wrong."""
    is_disturbed = result.plan.disturbance is not None
    if findings.touched:
        under = f", under {result.plan}" if is_disturbed else ""
        raise NotExplorable(Obstacle.REALITY, f"the scenario {findings.touched}{under}")
    if findings.hang and is_disturbed and not result.fired:
        raise NotExplorable(Obstacle.NEVER_ENDS, f"{findings.hang}, under {result.plan} before it happened")


def _compare(result: Run, base: Run) -> None:
    """Until the disturbance, this run must have gone as the one without it."""
    count = result.moments_before
    if count < 0:
        count = len(result.moments) if result.plan.disturbance is None else 0
    for index in range(count):
        expected = base.moments[index] if index < len(base.moments) else None
        if result.moments[index] != expected:
            raise NotExplorable(
                Obstacle.NOT_DETERMINISTIC,
                f"the scenario is not deterministic: under {result.plan} moment {index} "
                f"was {result.moments[index]}, and without the disturbance {expected}",
            )


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether this is nothing but a KeyboardInterrupt, alone or in groups."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_interrupt(inner) for inner in error.exceptions)
    return isinstance(error, KeyboardInterrupt)
