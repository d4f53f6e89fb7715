"""``trio-broker explore`` in a directory with scenarios."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.cli.explored_scenarios import SCENARIOS, Explore
from trio_broker.cli import main


@pytest.fixture
def explore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Explore]:
    """Run the command in a directory that has ``scenarios.py``; forget the modules that it imports."""
    modules, path = set(sys.modules), list(sys.path)
    (tmp_path / "scenarios.py").write_text(SCENARIOS)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    # click's older versions mix the two streams unless asked not to; its newer ones cannot be asked.
    separate: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
    runner = CliRunner(**separate)
    yield lambda *arguments, **environment: runner.invoke(main, ["explore", *arguments], env=environment)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
