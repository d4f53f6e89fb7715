"""Prove that flake8-async, as .flake8 configures it, bites.

Some of its rules are off unless asked for, and a misspelt code or an exemption that reaches too far looks just like a
clean tree. So this copies the configuration to a temporary folder, puts one offence at a time into a file of the
package, and demands the very code. An exempt file must stay exempt, and only for what its exemption says.

Run by scripts/check: ``python tests/tooling/check_flake8_bites.py``. It is not a pytest test because flake8 is a check
tool, which the test environment does not have.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOM = "trio_broker/client/offence.py"


@dataclass(frozen=True, slots=True)
class Offence:
    """A source that breaks one rule, the code that has to come (none: it is exempt), and where it stands."""

    code: str
    source: str
    path: str = ROOM
    is_exempt: bool = False


NO_CHECKPOINT = "async def nothing():\n    pass\n"
NO_CHECKPOINT_ON_ONE_PATH = "async def nothing(x):\n    if x:\n        await trio.sleep(1)\n"

OFFENCES = (
    Offence("ASYNC900", "async def numbers():\n    yield 1\n"),
    Offence("ASYNC910", NO_CHECKPOINT_ON_ONE_PATH),
    Offence("ASYNC911", "async def numbers():\n    await trio.sleep(1)\n    yield 1\n"),
    Offence(
        "ASYNC912", "async def f(x):\n    with trio.move_on_after(1):\n        if x:\n            await trio.sleep(1)\n"
    ),
    Offence("ASYNC913", "async def spin():\n    while True:\n        if print():\n            await trio.sleep(1)\n"),
    # What ruff does not know, and the design leans on.
    Offence("ASYNC102", "async def f():\n    try:\n        pass\n    finally:\n        await trio.sleep(1)\n"),
    Offence(
        "ASYNC103", "async def f():\n    try:\n        await trio.sleep(1)\n    except BaseException:\n        pass\n"
    ),
    Offence(
        "ASYNC120",
        "async def f():\n    try:\n        pass\n    except OSError:\n        await trio.sleep(1)\n        raise\n",
    ),
    # The exemptions are for the paths they name, and for nothing else there.
    Offence("ASYNC910", NO_CHECKPOINT_ON_ONE_PATH, "trio_broker/server/server.py"),
    Offence("ASYNC910", NO_CHECKPOINT_ON_ONE_PATH, "trio_broker/server/reader.py", is_exempt=True),
    Offence("ASYNC911", "async def numbers():\n    yield 1\n", "trio_broker/server/reader.py"),
    Offence("ASYNC910", NO_CHECKPOINT_ON_ONE_PATH, "tests/client/test_offence.py", is_exempt=True),
    Offence("ASYNC900", "async def numbers():\n    yield 1\n", "tests/client/test_offence.py"),
)


def found_in(offence: Offence | None) -> list[str]:
    """The codes that flake8 gives for a house with this offence alone."""
    with tempfile.TemporaryDirectory() as folder:
        house = Path(folder)
        shutil.copy(ROOT / ".flake8", house)
        file = house / (ROOM if offence is None else offence.path)
        file.parent.mkdir(parents=True)
        source = "async def wait():\n    await trio.sleep(1)\n" if offence is None else offence.source
        file.write_text(f"import trio\n\n\n{source}", encoding="utf-8")
        result = subprocess.run(
            [sys.executable, "-m", "flake8", "--format=%(code)s", "."],
            cwd=house,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.stderr:
            return [result.stderr]
        return result.stdout.split()


def main() -> int:
    if (codes := found_in(None)) != []:
        print(f"a clean file: {codes}")
        return 1
    failures = 0
    for offence in OFFENCES:
        codes = found_in(offence)
        right = (offence.code in codes) is not offence.is_exempt
        verdict = ("exempt" if offence.is_exempt else "refused") if right else "WRONG"
        print(f"{verdict}: {offence.code} in {offence.path}" + ("" if right else f": flake8 said {codes}"))
        failures += not right
    print(f"{len(OFFENCES) - failures} of {len(OFFENCES)} offences were treated as .flake8 says.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
