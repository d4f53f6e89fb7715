"""Draw every kind of picture, twice: run by scripts/bench-peers where matplotlib is, since the tests do without it.

Exits with 1 unless both drawings are the same bytes, each file is whole and as wide as a page needs, and each carries
the digest of its numbers.
"""

import struct
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # started as a script: the packages are beside us

from benchmarks.pictures import find_faults
from benchmarks.publish.drawing import PNG_DOTS, WIDTH, draw
from benchmarks.publish.results import read_results
from benchmarks.publish.series import make_pictures
from tests.benchmarks.written import EVERYTHING, write_results

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def find_damage(path: Path) -> str | None:
    """Return what is wrong with a file, if anything."""
    content = path.read_bytes()
    if path.suffix == ".svg":
        return None if ElementTree.fromstring(content).tag.endswith("}svg") else "no SVG"
    if not content.startswith(SIGNATURE) or not content.endswith(b"IEND\xaeB`\x82"):
        return "no PNG, or cut off"
    (width,) = struct.unpack(">I", content[16:20])
    return None if width == WIDTH * PNG_DOTS else f"{width} pixels wide"


def main() -> int:
    """Draw, compare, tell."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = make_pictures(read_results([write_results(folder / "results.json", EVERYTHING)]))
        first, second = ([path for each in pictures for path in draw(each, folder / turn)] for turn in ("1", "2"))
        faults = find_faults(pictures, folder / "1")
        faults += [f"{path.name}: {damage}" for path in first if (damage := find_damage(path))]
        faults += [
            f"{one.name} is not the same twice"
            for one, other in zip(first, second, strict=True)
            if one.read_bytes() != other.read_bytes()
        ]
        if not pictures:
            faults.append("no pictures")
    print(*faults or [f"{len(first)} files, twice the same"], sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
