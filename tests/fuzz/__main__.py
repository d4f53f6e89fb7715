"""Fuzz one target for a while.

    python -m tests.fuzz TARGET SECONDS CORPUS

A finding ends it with a status other than 0 and leaves the input in CORPUS, beside what reached new code; both are
tried first the next time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # scripts/fuzz installs it, for itself alone

with atheris.instrument_imports(include=["trio_broker.wire", "trio_broker.message"]):
    from tests.fuzz.targets import SEEDS, TARGETS


def main() -> None:
    """Run libFuzzer, which ends the process."""
    name, seconds, corpus = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]) / sys.argv[1]
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    arguments = [f"-max_total_time={seconds}", "-max_len=600", f"-artifact_prefix={corpus}/finding-", "-timeout=120"]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
