"""Prove that the import contract in pyproject.toml bites.

A contract that nothing can break protects nothing: a misspelt room or a missing option looks just like a clean house.
So this copies the package to a temporary folder, breaks one rule at a time, and demands that lint-imports names that
very rule. The untouched copy has to pass first, or the failures would prove nothing.

Run by scripts/check: ``python tests/tooling/check_contract_bites.py``. It is not a pytest test because import-linter is
a check tool, which the test environment does not have.
"""

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FLOORS = "Rooms import from lower floors only"
PURE_WIRE = "The wire knows no Trio, socket, clock or log"
CORE_WITHOUT_SOCKETS = "The core knows no socket and writes no log"
EXPLORER_ALONE = "The explorer knows nothing of ours: any Trio program can use it"
CONFORM_INDEPENDENT = "The conformance suite knows nothing of how the broker works"
TERMINAL_IN_CLI = "The command line's libraries stay in the command line"


@dataclass(frozen=True, slots=True)
class Offence:
    """A line that must not stand in a room, and the contract that has to say so."""

    room: str
    line: str
    contract: str


OFFENCES = (
    Offence("wire", "import trio", PURE_WIRE),
    Offence("wire", "from time import monotonic", PURE_WIRE),
    Offence("wire", "import structlog", PURE_WIRE),
    Offence("core", "import socket", CORE_WITHOUT_SOCKETS),
    Offence("core", "import trio_broker.server", FLOORS),
    Offence("core", "import trio_broker.wire", FLOORS),
    Offence("core", "from trio_broker import serve", FLOORS),
    Offence("wire", "import trio_broker.core", FLOORS),
    Offence("server", "import trio_broker.client", FLOORS),
    Offence("client", "import trio_broker.server", FLOORS),
    Offence("server", "import trio_broker.cli", FLOORS),
    Offence("explorer", "import trio_broker.errors", EXPLORER_ALONE),
    Offence("explorer", "import trio_broker.core", FLOORS),
    Offence("conform", "import trio_broker.wire", CONFORM_INDEPENDENT),
    Offence("conform", "import trio_broker.server", FLOORS),
    Offence("server", "import rich", TERMINAL_IN_CLI),
    Offence("client", "import click", TERMINAL_IN_CLI),
    Offence("errors", "import trio_broker.message", FLOORS),
    Offence("errors", "import trio_broker.limits", FLOORS),
    # A room that no floor names: `exhaustive` has to notice it.
    Offence("annexe", "", FLOORS),
)


def copy_house(destination: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", destination)
    shutil.copytree(ROOT / "trio_broker", destination / "trio_broker", ignore=shutil.ignore_patterns("__pycache__"))


def commit(offence: Offence, house: Path) -> None:
    """Add the line to the room: a room is a folder or a single file."""
    room = house / "trio_broker" / offence.room
    module = room / "_offence.py" if room.is_dir() else room.with_suffix(".py")
    with module.open("a", encoding="utf-8") as file:
        file.write(f"\n{offence.line}\n")


def lint_imports(house: Path) -> subprocess.CompletedProcess[str]:
    """Run lint-imports as its console script does, on the package in the given folder alone."""
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache", "--no-logo"],
        cwd=house,
        capture_output=True,
        text=True,
        check=False,
    )


def complaint(offence: Offence | None) -> str | None:
    """Say what is wrong with the contract's answer to the offence, or to an untouched house; None if it is right."""
    with tempfile.TemporaryDirectory() as folder:
        house = Path(folder)
        copy_house(house)
        if offence is not None:
            commit(offence, house)
        result = lint_imports(house)
    output = result.stdout + result.stderr
    if offence is None:
        return None if result.returncode == 0 else f"the contract is already broken:\n{output}"
    if result.returncode == 0:
        return "nothing was noticed"
    # The one line that sums a contract up is "<name> BROKEN".
    if not any(line.startswith(offence.contract) and "BROKEN" in line for line in output.splitlines()):
        return f"another failure than {offence.contract!r}:\n{output}"
    return None


def main() -> int:
    if (wrong := complaint(None)) is not None:
        print(f"untouched copy: {wrong}")
        return 1
    failures = 0
    with ThreadPoolExecutor() as pool:
        for offence, wrong in zip(OFFENCES, pool.map(complaint, OFFENCES), strict=True):
            verdict = "refused" if wrong is None else "NOT REFUSED"
            print(f"{verdict}: {offence.room} <- {offence.line or '(a room that no floor names)'}")
            if wrong is not None:
                failures += 1
                print(f"    {wrong}")
    print(f"{len(OFFENCES) - failures} of {len(OFFENCES)} offences were refused by the right contract.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
