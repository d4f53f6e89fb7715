"""A comparison as text: a table for each work, a line for each broker."""

from collections.abc import Callable
from statistics import median

from benchmarks.harness.comparison import Comparison
from benchmarks.harness.percentiles import Spread, spread
from benchmarks.harness.report import format_table
from benchmarks.harness.works import Figure

FEW = 100
LITTLE = 0.1


def describe(comparison: Comparison) -> str:
    """Return everything to be said of a work."""
    work = comparison.work
    lines = [f"{work.name}: {work.title}"]
    if comparison.readings:
        lines.append(format_table([_header(comparison), *_rows(comparison)]))
    lines += [f"  {name} left out: {reason}" for name, reason in comparison.skipped.items()]
    lines += [f"  {name}, no ratio: {problem}" for name, problem in comparison.problems.items()]
    return "\n".join(lines)


def _header(comparison: Comparison) -> list[str]:
    """Return the titles of the columns."""
    first = comparison.recipes[0].name
    cells = ["broker"]
    for figure in comparison.work.figures:
        cells += [f"{figure.key} ({figure.unit})", "low to high"]
        if _compared(comparison):
            cells += [f"{first} / it", "low to high"]
    return [*cells, "broker / load busy"]


def _rows(comparison: Comparison) -> list[list[str]]:
    """Return a row for each broker that took part."""
    rows = []
    for name, readings in comparison.readings.items():
        cells = [name]
        for figure in comparison.work.figures:
            cells += _format_spread(comparison.figure(name, figure), _format_number)
            if _compared(comparison):
                cells += _ratio_cells(comparison, name, figure)
        busy = ""
        if readings:
            broker = median(reading.broker_busy for reading in readings)
            busy = f"{broker:4.0%} / {median(reading.load_busy for reading in readings):4.0%}"
        rows.append([*cells, busy])
    return rows


def _compared(comparison: Comparison) -> bool:
    """Whether there is anything to hold the first broker against."""
    return len(comparison.recipes) > 1


def _ratio_cells(comparison: Comparison, name: str, figure: Figure) -> list[str]:
    """Return the median of the rounds' ratios and their ends."""
    ratios = comparison.ratios(name, figure)
    return _format_spread(spread(ratios) if ratios else None, _format_ratio)


def _format_spread(found: Spread | None, show: Callable[[float], str]) -> list[str]:
    """Return the median, and the ends."""
    if found is None:
        return ["-", ""]
    return [show(found.median), f"{show(found.low)} to {show(found.high)}"]


def _format_ratio(ratio: float) -> str:
    """Return a ratio with two decimals, or two digits where that would leave nothing of it."""
    return f"{ratio:.2f}" if ratio >= LITTLE else f"{ratio:.2g}"


def _format_number(number: float) -> str:
    """Return a number with about three digits at least, and whole thousands apart."""
    return f"{number:,.0f}" if number >= FEW else f"{number:.3g}"
