"""A file's text and its syntax tree side by side: find a place in the tree, change it in the text."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias, final

__all__ = ["Edit", "Edits", "Module", "insert_after", "insert_before", "program_of", "replace"]

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Edit:
    """Replace the bytes between two places of a file. Lines count from 1, columns from 0, as in a syntax tree."""

    line: int
    column: int
    end_line: int
    end_column: int
    text: str


Edits: TypeAlias = tuple[Edit, ...]


@final
class Module:
    """A file's text and tree, and who is whose parent."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.lines = text.encode().splitlines(keepends=True)
        self.tree = ast.parse(text)
        self._parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def function_of(self, node: ast.AST) -> Function | None:
        """The innermost function around a node (for a function's decorator: that function)."""
        parent: ast.AST | None = node
        while parent is not None and not isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef):
            parent = self._parents.get(parent)
        return parent

    def qualified_name(self, node: ast.AST) -> str:
        """``core.line.Line.place`` for what is in that method."""
        names: list[str] = []
        parent: ast.AST | None = node
        while parent is not None:
            if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.append(parent.name)
            parent = self._parents.get(parent)
        parts = Path(self.path).with_suffix("").parts[1:]
        return ".".join([*parts, *reversed(names)])

    def qualified_name_at(self, line: int) -> str:
        """The qualified name of the innermost function around a line; its decorators are part of it."""
        around = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.lineno - len(node.decorator_list) <= line <= (node.end_lineno or 0)
        ]
        return self.qualified_name(max(around, key=lambda node: node.lineno) if around else self.tree)

    def is_async(self, node: ast.AST) -> bool:
        return isinstance(self.function_of(node), ast.AsyncFunctionDef)

    def blocks(self) -> Iterator[list[ast.stmt]]:
        """Every list of statements."""
        for node in ast.walk(self.tree):
            for _, value in ast.iter_fields(node):
                if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                    yield value

    def source_of(self, node: ast.stmt | ast.expr) -> str:
        """The first line of a node's text, shortened."""
        text = ast.unparse(node).splitlines()[0]
        return text if len(text) <= 60 else f"{text[:57]}..."

    def apply(self, edits: Edits) -> str:
        """The text with these edits, which must not overlap."""
        data = bytearray(b"".join(self.lines))
        starts = [0]
        for line in self.lines:
            starts.append(starts[-1] + len(line))
        for edit in sorted(edits, key=lambda edit: (edit.line, edit.column), reverse=True):
            begin, end = starts[edit.line - 1] + edit.column, starts[edit.end_line - 1] + edit.end_column
            data[begin:end] = edit.text.encode()
        return data.decode()


def replace(node: ast.stmt | ast.expr, text: str) -> Edit:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return Edit(node.lineno, node.col_offset, node.end_lineno, node.end_col_offset, text)


def insert_before(statement: ast.stmt, text: str) -> Edit:
    decorators = getattr(statement, "decorator_list", [])
    line = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
    return Edit(line, 0, line, 0, f"{' ' * statement.col_offset}{text}\n")


def insert_after(statement: ast.stmt, text: str) -> Edit:
    assert statement.end_lineno is not None
    line = statement.end_lineno + 1
    return Edit(line, 0, line, 0, f"{' ' * statement.col_offset}{text}\n")


def program_of(source: str) -> str:
    """What a source does, as a value to compare: without its formatting, its comments and a ``pass`` beside others."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and len(value) > 1 and isinstance(value[0], ast.stmt):
                setattr(
                    node, name, [statement for statement in value if not isinstance(statement, ast.Pass)] or value[:1]
                )
    return ast.dump(tree)
