"""docs/cancellation.md as data, and what is wrong with it: each check takes texts and gives complaints."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

WORDS: Final = {"A": "atomic", "P": "partial", "U": "unknown", "T": "terminal", "C": "cleanup", "N": "never"}
"""How a docstring calls each class."""

CHECKPOINTS: Final = {
    "always": ("always a checkpoint", "always checkpoints"),
    "none": ("without a checkpoint", "no checkpoint"),
}
"""How a docstring says whether an operation is a checkpoint, by the first word that the page has for it."""

FIELDS: Final = ("class", "checkpoint", "certain", "again", "object", "peer", "deadline", "test")
PHASES: Final = ("entering", "leaving")

_BLOCK = re.compile(r"^### (?P<head>.+)\n\n\| \| \|\n\|---\|---\|\n(?P<rows>(?:\|.*\n)+)", re.MULTILINE)
_REFERENCE = re.compile(r"`(tests/[^`]+)`")
_PROTOCOL = {"__aenter__", "__aexit__", "__anext__"}
_TIMED = {"move_on_after", "move_on_at", "fail_after", "fail_at"}


@dataclasses.dataclass(frozen=True)
class Operation:
    """A row of the contract. ``phase`` is empty but for the two ends of a block; ``of`` names what an alias is."""

    name: str
    phase: str
    letter: str
    certain: str
    references: tuple[str, ...]
    of: str = ""
    checkpoint: str = ""

    @property
    def title(self) -> str:
        return f"{self.name}, {self.phase}" if self.phase else self.name


# -- the page ----------------------------------------------------------------------------------------------------------


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def operations(page: str) -> list[Operation]:
    """All rows for what can be awaited: blocks and aliases."""
    found = []
    for match in _BLOCK.finditer(page):
        name, _, phase = match["head"].replace("`", "").partition(", ")
        fields = _fields(match["rows"])
        references = tuple(_REFERENCE.findall(fields.get("test", "")))
        letter, certain, checkpoint = (fields.get(field, "") for field in ("class", "certain", "checkpoint"))
        found.append(Operation(name, phase, letter, certain, references, checkpoint=checkpoint))
    for name, _, of, letter, tests in table(page, "Operations that are another"):
        references = tuple(_REFERENCE.findall(tests))
        found.append(Operation(name.strip("`"), "", letter, "", references, of.strip("`")))
    return found


def verbs(page: str) -> dict[str, tuple[str, ...]]:
    """The synchronous verbs of the page, and their tests."""
    return {name.strip("`"): tuple(_REFERENCE.findall(tests)) for name, _, tests in table(page, "Synchronous verbs")}


def _fields(rows: str) -> dict[str, str]:
    pairs = (line.strip("| ").partition(" | ") for line in rows.splitlines())
    return {label.strip(): text.strip() for label, _, text in pairs}


# -- what is public ----------------------------------------------------------------------------------------------------


def awaitables(public: Mapping[str, object]) -> dict[str, str]:
    """What a user can await, enter or loop over, and its docstring; a block has two entries."""
    found: dict[str, str] = {}
    for name, member in _members(public):
        function = inspect.unwrap(member) if callable(member) else member
        managed = "AsyncContextManager" in str(getattr(function, "__annotations__", {}).get("return"))
        if managed or (inspect.isasyncgenfunction(function) and function is not member):
            found.update(dict.fromkeys((f"{name}, {phase}" for phase in PHASES), inspect.getdoc(member) or ""))
        elif inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            found[name] = inspect.getdoc(member) or ""
    return found


def synchronous(public: Mapping[str, object]) -> dict[str, str]:
    """The methods that do without waiting what others wait for, or end something, and their docstrings."""
    return {
        name: inspect.getdoc(member) or ""
        for name, member in _members(public)
        if inspect.isfunction(member)
        and not inspect.iscoroutinefunction(member)
        and re.search(r"\.(close|ack|nack|send|release|begin_\w+|\w+_nowait)$", name)
    }


def parameters(public: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Every parameter of every public function and method."""
    for name, member in _members(public):
        if inspect.isfunction(member):
            yield from ((name, parameter) for parameter in inspect.signature(member).parameters)


def _members(public: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Public functions, and the public methods of public classes, inherited ones and Trio's protocols included."""
    for name, value in public.items():
        if not inspect.isclass(value):
            yield name, value
            continue
        for attribute in dir(value):
            if attribute in _PROTOCOL or not attribute.startswith("_"):
                yield f"{name}.{attribute}", inspect.getattr_static(value, attribute)


# -- page against code -------------------------------------------------------------------------------------------------


def row_complaints(page: str, public: Mapping[str, object]) -> list[str]:
    """Operations without a row, rows without an operation, and rows that lack a field or disagree with each other."""
    rows, needed = operations(page), awaitables(public)
    titles = Counter(row.title for row in rows)
    wrong = [f"no row: {name}" for name in needed if name not in titles]
    wrong += [f"no such operation: {title}" for title in titles if title not in needed]
    wrong += [f"two rows: {title}" for title, count in titles.items() if count > 1]
    wrong += [f"no row: {name}" for name in synchronous(public) if name not in verbs(page)]
    wrong += [f"no such operation: {name}" for name in verbs(page) if name not in synchronous(public)]
    for match in _BLOCK.finditer(page):
        fields = _fields(match["rows"])
        wrong += [f"{match['head']}: no {field}" for field in FIELDS if not fields.get(field)]
        wrong += [f"{match['head']}: what is {field!r}?" for field in fields if field not in FIELDS]
    glance = [(re.sub(r"\[(.+)\]\(.+\)", r"\1", name).replace("`", ""), *rest) for name, *rest in _glance(page)]
    blocks = [(row.title, row.letter, row.certain) for row in rows if not row.of]
    return wrong + [f"at a glance: {row[0]} differs" for row in set(glance) ^ set(blocks)]


def _glance(page: str) -> list[list[str]]:
    return table(page, "At a glance")


def class_complaints(page: str, public: Mapping[str, object]) -> list[str]:
    """Rows whose class, or whose certainty, is not what the docstring says."""
    rows, docs = operations(page), {**awaitables(public), **synchronous(public)}
    letters = {row.title: row.letter for row in rows}
    wrong = []
    for row in rows:
        if row.letter not in WORDS:
            wrong.append(f"{row.title}: {row.letter!r} is no class")
        elif row.of:
            if row.letter != ("N" if row.of == "nothing" else letters.get(row.of)):
                wrong.append(f"{row.title}: not the class of {row.of}")
        elif row.title in docs:
            said = paragraph(docs[row.title])
            start = f"{row.phase} is {WORDS[row.letter]}" if row.phase else f"cancellation: {WORDS[row.letter]}"
            if start not in said or not (row.phase or said.startswith(start)):
                wrong.append(f"{row.title}: the docstring does not say {start!r}")
            if not any(words in said for words in CHECKPOINTS.get(row.checkpoint.partition(" ")[0].strip(":;"), ())):
                wrong.append(f"{row.title}: the docstring does not say of checkpoints: {row.checkpoint}")
            if plain(row.certain) not in said:
                wrong.append(f"{row.title}: the docstring does not say {row.certain!r}")
    never = f"cancellation: {WORDS['N']}"
    wrong += [
        f"{name}: the docstring does not say {never!r}"
        for name in verbs(page)
        if never not in plain(docs.get(name, ""))
    ]
    return wrong


def paragraph(docstring: str) -> str:
    """What a docstring says about cancellation, as `plain` text."""
    match = re.search(r"^Cancellation: .*?(?=\n\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    return plain(match[0]) if match else ""


def plain(text: str) -> str:
    """Without marks, line breaks and capitals."""
    return re.sub(r"\s+", " ", text.replace("`", "")).strip().casefold()


def reference_complaints(page: str, known: set[str]) -> list[str]:
    """Rows and clauses without a test, and tests that do not exist."""
    wrong = [f"{row.title}: no test" for row in operations(page) if not row.references]
    wrong += [f"{name}: no test" for name, references in verbs(page).items() if not references]
    clauses = page.partition("## What holds for all\n")[2].partition("\n## ")[0].split("\n- ")[1:]
    wrong += [f"{clause.splitlines()[0]}: no test" for clause in clauses if not _REFERENCE.search(clause)]
    return wrong + [f"no such test: {name}" for name in _REFERENCE.findall(page) if name not in known]


def known_tests(root: Path) -> set[str]:
    """All tests, as ``path::name``, and all scenarios for the explorer, as ``path:name``."""
    known = set()
    for path in (root / "tests").rglob("*.py"):
        name = path.relative_to(root).as_posix()
        tree = ast.parse(path.read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        if path.name.startswith("test_"):
            known |= {f"{name}::{function}" for function in functions if function.startswith("test_")}
        explored = {element.id for node in tree.body for element in _scenarios(node)}
        known |= {f"{name}:{function}" for function in functions & explored}
    return known


def _scenarios(node: ast.stmt) -> list[ast.Name]:
    """What a module gives to the explorer: the names in its tuple SCENARIOS."""
    if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Tuple):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and target.id == "SCENARIOS" for target in targets):
            return [element for element in node.value.elts if isinstance(element, ast.Name)]
    return []


# -- page against source: shields, cancels, deadlines ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    """Something in the source that ends or holds up a wait: where, in what function, and its expression."""

    path: str
    function: str
    expression: str = ""

    def __str__(self) -> str:
        return f"{self.path} {self.function} {self.expression}".strip()


def shields(sources: Mapping[str, str]) -> list[Place]:
    return [
        Place(path, function)
        for path, function, node in _nodes(sources)
        if (isinstance(node, ast.keyword) and node.arg == "shield" and not _is_false(node.value))
        or (isinstance(node, ast.Assign) and _targets(node, "shield") and not _is_false(node.value))
    ]


def cancels(sources: Mapping[str, str]) -> list[Place]:
    """Each with its reason; an empty one if it gives none."""
    found = []
    for path, function, node in _nodes(sources):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cancel":
            reasons = [ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg == "reason"]
            found.append(Place(path, function, *reasons))
    return found


def deadlines(sources: Mapping[str, str]) -> list[Place]:
    """Each with what it is set to. One that is set to infinity is none."""
    found = []
    for path, function, node in _nodes(sources):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in _TIMED:
                found += [
                    Place(path, function, ast.unparse(value)) for value in [*node.args, *_values(node, "seconds")]
                ]
            elif called == "CancelScope":
                values = [*_values(node, "deadline"), *_values(node, "relative_deadline")]
                found += [Place(path, function, ast.unparse(value)) for value in values]
        elif isinstance(node, ast.Assign | ast.AugAssign) and _targets(node, "deadline"):
            found.append(Place(path, function, ast.unparse(node.value)))
    return [place for place in found if place.expression != "math.inf"]


def listed(page: str, heading: str, column: int | None) -> list[Place]:
    """The places in one of the page's tables; their expression is in a column, or not told."""
    found = []
    for cells in table(page, heading):
        match = re.fullmatch(r"\[`(.+)`\]\(\.\./trio_broker/(.+)\) `(.+)`", cells[0])
        if match is None or match[1] != match[2]:
            found.append(Place(cells[0], "is no place"))
        else:
            found.append(Place(match[1], match[3], cells[column].strip("`") if column is not None else ""))
    return found


def place_complaints(page: str, sources: Mapping[str, str]) -> list[str]:
    """Shields, cancels and deadlines that the page and the source do not agree on."""
    wrong = [f"no reason: {place}" for place in cancels(sources) if not place.expression]
    for heading, column, found in (
        ("Every shield", None, shields(sources)),
        ("Every cancel of ours", 2, cancels(sources)),
        ("Every deadline of ours", 1, deadlines(sources)),
    ):
        told = listed(page, heading, column)
        wrong += [f"{heading}: not on the page: {place}" for place in _minus(found, told)]
        wrong += [f"{heading}: not in the source: {place}" for place in _minus(told, found)]
    return wrong


def _minus(some: Iterable[Place], others: Iterable[Place]) -> list[Place]:
    return sorted((Counter(some) - Counter(others)).elements())


def _nodes(sources: Mapping[str, str]) -> Iterator[tuple[str, str, ast.AST]]:
    """Every node with its file and the qualified name of the function it is in."""
    return ((path, function, node) for path, source in sources.items() for function, node in _nodes_of(source))


@functools.cache
def _nodes_of(source: str) -> list[tuple[str, ast.AST]]:
    def walk(node: ast.AST, names: tuple[str, ...]) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            yield ".".join(names), child
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from walk(child, (*names, child.name))
            else:
                yield from walk(child, names)

    return list(walk(ast.parse(source), ()))


def _values(call: ast.Call, name: str) -> list[ast.expr]:
    return [keyword.value for keyword in call.keywords if keyword.arg == name]


def _targets(node: ast.Assign | ast.AugAssign, attribute: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(target, ast.Attribute) and target.attr == attribute for target in targets)


def _is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False
