"""Relative links lead to files that exist, and to headings that exist in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, anchors, links, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_pages_are_found() -> None:
    """Or the test above would pass for want of pages."""
    assert {ROOT / "README.md", ROOT / "docs/architecture.md", ROOT / "examples/README.md"} <= set(pages())


def test_the_index_of_docs_names_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text()
    names = [path.name for path in (ROOT / "docs").glob("*.md") if path.name != "README.md"]
    assert [name for name in names if f"({name})" not in index] == []
