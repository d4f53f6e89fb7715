"""What a run says: tables for people, JSON for programs, and on what machine it was."""

import json
import os
import platform
import sysconfig
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
    """Return what runs us, what it was built like, and the packages that a broker of ours stands on."""
    optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    build = "" if optimized else ", built without --enable-optimizations"
    return f"{platform.python_version()}{build}, Trio {version('trio')}, trio_broker {version('trio-broker')}"


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
