"""The report of ``trio-broker bench``, for people and for programs, and the progress of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from trio_broker.cli.bench_measure import Measured, Work, per_second, spread

__all__ = ["as_json", "headline", "print_report", "shortfall", "show_progress"]

_MEGABYTE: Final = 1_000_000
_BUSY: Final = 0.9
_FAULTS_SHOWN: Final = 3


def headline(work: Work) -> str:
    """What is measured, as one line."""
    publishers = f"{work.publishers:,} publisher{'' if work.publishers == 1 else 's'}"
    subscribers = f"{work.subscribers:,} subscriber{'' if work.subscribers == 1 else 's'}"
    pace = "as fast as they go" if work.rate is None else f"{work.rate:,g} a second"
    return (
        f"{publishers} -> {work.channel} -> {subscribers}: {work.count:,} messages of {work.size_bytes:,} bytes, {pace}"
    )


def shortfall(measured: Measured) -> str | None:
    """Why there are no rates, as one line; None if everything was delivered."""
    if measured.complete:
        return None
    work = measured.work
    reasons = [] if measured.stopped is None else [f"stopped by {measured.stopped}"]
    reasons += list(measured.faults[:_FAULTS_SHOWN])
    missing = work.deliveries - measured.delivered
    if missing > 0:
        reasons.append(f"{missing:,} of {work.deliveries:,} deliveries are missing")
    if missing > 0 and not work.shared and work.subscribers > 1:
        short = [number for number, received in enumerate(measured.received, 1) if received < work.count]
        named = ", ".join(f"{number} has {measured.received[number - 1]:,}" for number in short[:_FAULTS_SHOWN])
        more = f" and {len(short) - _FAULTS_SHOWN:,} more are short" if len(short) > _FAULTS_SHOWN else ""
        reasons.append(f"of {work.count:,} messages, subscriber {named}{more}")
    return "; ".join([*reasons, "so there are no rates"])


def as_json(measured: Measured) -> dict[str, object]:
    """Everything that was measured. Where not everything was delivered each rate is None."""
    work = measured.work
    per_subscriber: dict[str, object] = {"messages": spread(measured.received)}
    per_subscriber["messages_per_second"] = spread(measured.subscriber_rates) if measured.complete else None
    return {
        "channel": work.channel,
        "kind": "queue" if work.shared else "topic",
        "publishers": work.publishers,
        "subscribers": work.subscribers,
        "size_bytes": work.size_bytes,
        "count": work.count,
        "rate": work.rate,
        "complete": measured.complete,
        "partial": measured.stopped is not None,
        "faults": list(measured.faults),
        "seconds": measured.seconds,
        "published": _side(measured, measured.published, work.count, measured.published_seconds),
        "delivered": _side(measured, measured.delivered, work.deliveries, max(measured.received_seconds)),
        "per_subscriber": per_subscriber,
        "latency_seconds": _latencies(measured),
        "late_seconds_max": None if work.rate is None else measured.late_seconds,
        "load_busy": measured.load_busy,
    }


def print_report(measured: Measured) -> None:
    """What a person wants to know. Where not everything was delivered there are counts and no rates."""
    console = Console(highlight=False, markup=False, emoji=False)
    if measured.stopped is not None:
        console.print("Partial: what there was until it was stopped")
    console.print(_rates(measured))
    latencies = _latencies(measured)
    if latencies is not None:
        part = "" if measured.stopped is None else ", partial: of the messages that had arrived"
        console.print(f"Latency from the intended send time{part}")
        table = Table()
        for name in latencies:
            table.add_column(name, justify="right")
        table.add_row(*(f"{seconds * 1000:,.3f} ms" for seconds in latencies.values()))
        console.print(table)
        console.print(f"The latest message was sent {measured.late_seconds * 1000:,.3f} ms after its time.")
    if measured.complete and measured.work.rate is None and measured.load_busy > _BUSY:
        share = min(1.0, measured.load_busy)
        console.print(f"The load itself was busy {share:.0%} of the time: it may be what was measured.")


@contextmanager
def show_progress(work: Work) -> Iterator[Callable[[int], object] | None]:
    """Show progress on stderr if that is a terminal; gives what to call with the deliveries so far, else None."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("Delivered"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("Delivered", total=work.deliveries)
        yield lambda delivered: progress.update(task, completed=delivered)


def _side(measured: Measured, messages: int, due: int, seconds: float) -> dict[str, object]:
    rate = per_second(messages, seconds) if measured.complete else None
    return {
        "messages": messages,
        "due": due,
        "seconds": seconds,
        "messages_per_second": rate,
        "megabytes_per_second": None if rate is None else rate * measured.work.size_bytes / _MEGABYTE,
    }


def _latencies(measured: Measured) -> dict[str, float] | None:
    """The percentiles. After a fault there are none: what never arrived would be missing where it matters most."""
    if measured.faults or not measured.latencies.count:
        return None
    return measured.latencies.as_dict()


def _rates(measured: Measured) -> Table:
    table = Table()
    table.add_column("", no_wrap=True)
    for name in ("messages", "of", "seconds", "messages/s", "MB/s"):
        table.add_column(name, justify="right")
    work = measured.work

    def add(label: str, messages: float, due: int | None, seconds: float | None, rate: float) -> None:
        megabytes = rate * work.size_bytes / _MEGABYTE
        shown = (f"{rate:,.0f}", f"{megabytes:,.1f}") if measured.complete else ("-", "-")
        table.add_row(
            label,
            f"{messages:,.0f}",
            "" if due is None else f"{due:,}",
            "" if seconds is None else f"{seconds:,.3f}",
            *shown,
        )

    for label, messages, due, seconds in (
        ("published", measured.published, work.count, measured.published_seconds),
        ("delivered", measured.delivered, work.deliveries, max(measured.received_seconds)),
    ):
        add(label, messages, due, seconds, per_second(messages, seconds))
    counts, rates = spread(measured.received), spread(measured.subscriber_rates)
    for name in ("min", "median", "max"):
        add(f"subscriber {name}", counts[name], None, None, rates[name])
    return table
