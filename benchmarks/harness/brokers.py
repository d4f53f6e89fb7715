"""The brokers that can be measured: how each is started, and how one learns where it listens.

A recipe is data. In its command, its files and its environment `$port` stands for a free port on the loopback
interface, as do `$other_port` and `$third_port` for who needs more, and `$folder` for a folder of its own, which is
removed when the broker has ended. The recipes of other people's servers are in `benchmarks/peers`.
"""

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from benchmarks.harness.children import START_SECONDS, Child, ChildError, running_child
from benchmarks.harness.placement import Placement
from benchmarks.harness.wire import FRAMED, Wire
from benchmarks.protocols.stomp import STOMP

ROOT = Path(__file__).resolve().parents[2]
SERVING = re.compile(r"^Serving on (?P<host>\S+):(?P<port>\d+)\s*$", re.MULTILINE)
LOOPBACK = "127.0.0.1"
# Looked at before PATH: beside the interpreter (installed from PyPI), and where Debian puts daemons. RabbitMQ's own
# script comes before the one in /usr/sbin, which changes the user.
MORE_PATH = (str(Path(sys.executable).parent), "/usr/lib/rabbitmq/bin", "/usr/sbin", "/usr/local/sbin")
VERSION = re.compile(r"\d+\.\d+(\.\d+)?")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to start one broker, and the protocol it is measured with.

    `announces`: it prints `Serving on HOST:PORT`; otherwise it is ready when its port accepts. `needs`: programs it
    cannot do without beside its command; `module`: a Python package. `version`: a command that prints the version.
    `other_wires`: what else it speaks on the same port, for the works that are of one protocol. `both_cpus`: it may use
    the load's CPU too. `evicts`: publishers wait for a subscriber that takes nothing, until it is disconnected.
    """

    name: str
    label: str
    command: tuple[str, ...]
    wire: Wire
    announces: bool = False
    needs: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    module: str | None = None
    version: tuple[str, ...] = ()
    start_seconds: float = START_SECONDS
    other_wires: tuple[Wire, ...] = ()
    both_cpus: bool = False
    evicts: bool = False

    def find_wire(self, protocol: str | None) -> Wire | None:
        """Return what it is measured with in works of a protocol, or in those of none; nothing if it has no part there.

        Where deliveries have no length that is known, it takes part only in the works of its protocol.
        """
        if protocol is None:
            return None if self.wire.terminator else self.wire
        return next((wire for wire in (self.wire, *self.other_wires) if wire.name == protocol), None)

    def protocol_obstacle(self, protocol: str | None) -> str | None:
        """Return why it has no part in the works of a protocol, or in those of none; nothing if it has."""
        if self.find_wire(protocol) is not None:
            return None
        return (
            f"it is measured over {self.wire.name} alone" if protocol is None else f"it is not measured over {protocol}"
        )

    def obstacle(self) -> str | None:
        """Return why this broker cannot be started here, or nothing."""
        for program in (self.command[0], *self.needs):
            if find_program(program) is None:
                return f"not installed ({program} was not found; scripts/bench-peers installs it)"
        if self.module is not None and importlib.util.find_spec(self.module) is None:
            return f"not installed (Python package {self.module}; scripts/bench-peers installs it)"
        return None

    def find_version(self) -> str | None:
        """Return the version the program tells, if it can be asked."""
        program = find_program(self.version[0]) if self.version else None
        if program is None:
            return None
        told = subprocess.run((program, *self.version[1:]), capture_output=True, text=True, timeout=30, check=False)
        match = VERSION.search(told.stdout + told.stderr)
        return match[0] if match else None


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that is running and listening."""

    recipe: Recipe
    child: Child
    address: Address


def find_program(name: str) -> str | None:
    """Return the path of a program, also where PATH does not lead."""
    return shutil.which(name, path=_search_path())


def _search_path() -> str:
    """Return PATH with the folders before it that come first here."""
    return os.pathsep.join((*MORE_PATH, os.environ.get("PATH", os.defpath)))


def _python(*arguments: str) -> tuple[str, ...]:
    """Return the command that runs Python with the interpreter this program runs on."""
    return (sys.executable, *arguments, "--host", LOOPBACK, "--port", "0")


TRIO = Recipe(
    "trio",
    "trio_broker",
    _python("-m", "trio_broker", "serve"),
    FRAMED,
    announces=True,
    other_wires=(STOMP,),
    evicts=True,
)
SEED = Recipe(
    "seed",
    "seed on asyncio",
    (*_python(str(ROOT / "tests" / "peers" / "seed_broker.py")), "--quiet"),
    FRAMED,
    announces=True,
)
RECIPES = {recipe.name: recipe for recipe in (TRIO, SEED)}


def find_free_port() -> int:
    """Return a port nobody listens on now; another program may still take it before the broker does."""
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        port: int = sock.getsockname()[1]
        return port


def _find_address(output: str) -> Address | None:
    """Return the address a broker has announced, if it has."""
    match = SERVING.search(output)
    return (match["host"], int(match["port"])) if match else None


def _try_address(address: Address) -> Address | None:
    """Return the address if something accepts there."""
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return None
    return address


@contextmanager
def running_broker(recipe: Recipe, placement: Placement) -> Iterator[Broker]:
    """Run a broker on its CPU until the block is left; raise `ChildError` if it does not start."""
    obstacle = recipe.obstacle()
    if obstacle is not None:
        message = f"{recipe.label}: {obstacle}"
        raise ChildError(message)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"bench-{recipe.name}-"))
        address = (LOOPBACK, find_free_port())
        names = {"port": str(address[1]), "folder": folder}
        names |= {name: str(find_free_port()) for name in ("other_port", "third_port")}
        for name, text in recipe.files.items():
            Path(folder, name).write_text(Template(text).substitute(names))
        program = find_program(recipe.command[0]) or recipe.command[0]
        command = [program, *(Template(part).substitute(names) for part in recipe.command[1:])]
        environment = {"PATH": _search_path()} | {
            name: Template(value).substitute(names) for name, value in recipe.environment.items()
        }
        directory = ROOT if recipe.announces else Path(folder)
        with placement.on_broker_cpu(both=recipe.both_cpus):
            child = stack.enter_context(running_child(recipe.label, command, directory, environment))
        if recipe.announces:
            yield Broker(recipe, child, child.wait_for(_find_address, recipe.start_seconds))
        else:
            yield Broker(recipe, child, child.wait_for(lambda _: _try_address(address), recipe.start_seconds))
