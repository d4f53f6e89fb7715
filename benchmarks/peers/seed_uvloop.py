"""The seed's broker on uvloop: the same coroutines on another event loop."""

import sys
from pathlib import Path

from benchmarks.harness.brokers import Recipe
from benchmarks.harness.wire import FRAMED

PROGRAM = Path(__file__).with_name("uvloop_broker.py")

SEED_UVLOOP = Recipe(
    "seed-uvloop",
    "seed on uvloop",
    (sys.executable, str(PROGRAM), "--host", "127.0.0.1", "--port", "0", "--quiet"),
    FRAMED,
    announces=True,
    module="uvloop",
    version=(sys.executable, "-c", "import uvloop; print(uvloop.__version__)"),
)
