"""Whole programs in the pages and in examples/ run and print what they say; fragments compile.

They run as a reader would run them, in this process. Those that wait bring a virtual clock; the others use real sockets
on the loopback interface.
"""

from __future__ import annotations

import ast
import inspect
import runpy
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, Block, blocks, pages

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXAMPLE_LINES_MAX = 40
PAGES_WITH_PROGRAMS = [ROOT / "README.md", ROOT / "docs/backpressure.md", ROOT / "docs/shutdown.md"]

BLOCKS = [block for page in pages() for block in blocks(page)]
PROGRAMS = [block for block in BLOCKS if block.info == "python"]
FRAGMENTS = [block for block in BLOCKS if block.info == "python fragment"]
OUTPUTS = {
    str(program): output
    for program, output in pairwise(BLOCKS)
    if output.info == "text output" and output.path == program.path
}


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_a_program_in_a_page_runs_and_prints_what_the_page_says(
    program: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "program.py"
    script.write_text(program.text)
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed, "a program in a page shows something"
    output = OUTPUTS.get(str(program))
    if output is not None:
        assert printed == output.text


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=str)
def test_a_fragment_compiles(fragment: Block) -> None:
    compile(fragment.text, str(fragment), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES_WITH_PROGRAMS, ids=lambda page: page.name)
def test_the_pages_that_live_by_their_programs_have_some(page: Path) -> None:
    assert any(program.path == page for program in PROGRAMS)


def test_every_output_follows_a_program() -> None:
    """An output block that belongs to no program would be compared with nothing."""
    of_programs = {str(OUTPUTS[str(program)]) for program in PROGRAMS if str(program) in OUTPUTS}
    assert {str(block) for block in BLOCKS if block.info == "text output"} == of_programs


def test_every_python_block_is_marked_in_a_way_that_is_checked() -> None:
    marks = {block.info for block in BLOCKS if block.info.lower().startswith(("py", "{py"))}
    assert marks <= {"python", "python fragment"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_prints_what_its_docstring_says(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(example), run_name="__main__")
    docstring = ast.get_docstring(ast.parse(example.read_text()))
    assert docstring is not None
    promised = inspect.cleandoc(docstring.partition("Prints::\n")[2])
    assert promised
    assert capsys.readouterr().out.rstrip("\n") == promised


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_is_short(example: Path) -> None:
    """Its docstring, with what it prints, does not count."""
    source = example.read_text()
    first = ast.parse(source).body[0]
    assert isinstance(first, ast.Expr)
    assert first.end_lineno is not None
    assert len(source.splitlines()) - first.end_lineno < EXAMPLE_LINES_MAX


def test_the_index_of_examples_names_them_all() -> None:
    index = (ROOT / "examples/README.md").read_text()
    assert [example.name for example in EXAMPLES if f"({example.name})" not in index] == []
