"""The bar whose end moves, on a real pseudo-terminal."""

from __future__ import annotations

import os
import sys

import pytest

from trio_broker.cli.terminal import growing_progress, progress_bar


def test_it_shows_how_many_of_how_many_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(theirs, "w", encoding="utf-8") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with growing_progress("Runs") as progress:
            assert progress is not None
            for done, planned in ((1, 4), (2, 8), (3, 12)):
                progress(done, planned)
        stderr.flush()
        shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert "Runs" in shown
    assert "3/12" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # the line is erased at the end, and nothing follows


@pytest.mark.parametrize("stderr", [None, "a file"])
def test_where_nobody_looks_there_is_none(monkeypatch: pytest.MonkeyPatch, stderr: str | None) -> None:
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        monkeypatch.setattr(sys, "stderr", None if stderr is None else nowhere)
        with growing_progress("Runs") as progress:
            assert progress is None
        with progress_bar(3, "Sent") as advance:
            assert advance() is None
