"""The brokers that can be measured: how each is started, and how it tells where it listens."""

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.children import Child, running_child
from benchmarks.harness.placement import Placement
from benchmarks.harness.wire import FRAMED, Wire

ROOT = Path(__file__).resolve().parents[2]
SERVING = re.compile(r"^Serving on (?P<host>\S+):(?P<port>\d+)\s*$", re.MULTILINE)

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to start one broker, and the protocol it is measured with."""

    name: str
    label: str
    command: tuple[str, ...]
    wire: Wire


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that is running and listening."""

    recipe: Recipe
    child: Child
    address: Address


LOOPBACK = ("--host", "127.0.0.1", "--port", "0")
TRIO = Recipe("trio", "trio_broker", (sys.executable, "-m", "trio_broker", "serve", *LOOPBACK), FRAMED)
SEED = Recipe(
    "seed",
    "seed on asyncio",
    (sys.executable, str(ROOT / "tests" / "peers" / "seed_broker.py"), *LOOPBACK, "--quiet"),
    FRAMED,
)
RECIPES = {recipe.name: recipe for recipe in (TRIO, SEED)}


def _find_address(output: str) -> Address | None:
    """Return the address a broker has announced, if it has."""
    match = SERVING.search(output)
    return (match["host"], int(match["port"])) if match else None


@contextmanager
def running_broker(recipe: Recipe, placement: Placement) -> Iterator[Broker]:
    """Run a broker on its CPU until the block is left."""
    with ExitStack() as stack:
        with placement.on_broker_cpu():
            child = stack.enter_context(running_child(recipe.label, recipe.command, ROOT))
        yield Broker(recipe, child, child.wait_for(_find_address))
