"""What a run says: tables for people, JSON for programs, and on what machine it was."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trio_broker
from benchmarks.harness.placement import Placement
from benchmarks.harness.rounds import Sample

CPU_INFO = Path("/proc/cpuinfo")


def describe_machine(placement: Placement) -> dict[str, Any]:
    """Return what a reader must know of the machine to judge a figure."""
    models = [line.partition(":")[2].strip() for line in CPU_INFO.read_text().splitlines() if "model name" in line]
    return {
        "python": describe_python(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": models[0] if models else platform.machine(),
        "cpus": os.cpu_count(),
        "broker_cpu": placement.broker,
        "load_cpu": placement.load,
        "load_average": os.getloadavg()[0],
    }


def describe_python() -> str:
    """Return what runs us, and the packages that a broker of ours stands on.

    Distributions build Python with profile-guided optimisation; those who build it themselves often do not, and nothing
    in the interpreter tells reliably.
    """
    whose = "the system's" if Path(sys.executable).resolve().parent == Path("/usr/bin") else "not the system's"
    return f"{platform.python_version()} ({whose}), Trio {version('trio')}, trio_broker {trio_broker.__version__}"


def format_rate(rate: float) -> str:
    """Return a rate in whole messages with separators."""
    return f"{rate:,.0f}"


def format_busy(sample: Sample) -> str:
    """Return how busy broker and load were, for judging which of them was measured."""
    return f"{sample.broker_busy:4.0%} / {sample.load_busy:4.0%}"


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def write_json(path: Path, results: dict[str, Any]) -> None:
    """Write results for a program to read."""
    path.write_text(json.dumps(results, indent=2) + "\n")
