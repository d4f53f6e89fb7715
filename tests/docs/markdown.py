"""Just enough Markdown for these tests: fenced blocks, headings, links and tables."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_SKIPPED = re.compile(r"^(\.|build$|dist$|node_modules$)")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind its opening fence, its text, and where it is."""

    path: Path
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """All Markdown files of the project."""
    return sorted(
        path
        for path in ROOT.rglob("*.md")
        if not any(_SKIPPED.match(part) for part in path.relative_to(ROOT).parts[:-1])
    )


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = path.read_text()
    return [
        Block(path, text.count("\n", 0, match.start()) + 1, match["info"].strip(), match["text"])
        for match in _FENCE.finditer(text)
    ]


def links(path: Path) -> list[str]:
    """The targets of a page's links, outside of blocks."""
    return _LINK.findall(_FENCE.sub("", path.read_text()))


def anchors(path: Path) -> set[str]:
    """The anchors that a page's headings make, by the rules of the usual Markdown renderers."""
    headings = _HEADING.findall(_FENCE.sub("", path.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(path: Path, heading: str) -> Iterator[list[str]]:
    """The rows of the first table under a heading of this text, without its head, as cells."""
    section = path.read_text().partition(f"# {heading}\n")[2]
    table = re.search(r"^\|(?:.*\n\|)+.*$", section, re.MULTILINE)
    assert table is not None, f"no table under {heading!r} in {path}"
    for line in table[0].splitlines()[2:]:
        yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
