"""Variants that a rule makes from the syntax tree: each place where our code does something for cancellation's sake.

A rule yields edits of the text, so that a variant differs from the original in one place and keeps its line numbers.
The name of a variant is the rule, the function, and a number where a rule finds several places in one function.

No rule takes the protection from Ctrl-C away: the explorer interrupts between two steps, when nobody is in the middle
of anything. Other tests see to that: test_cancellation.py of core, and test_interrupt.py of the client.
"""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from tests.mutations.tree import Edit, Edits, Module, insert_after, insert_before, program_of, replace
from tests.mutations.variants import ROOT, Variant, mutated_files

__all__ = ["RULES", "apply_rules", "generated"]

CHECKPOINT: Final = "await trio.lowlevel.checkpoint()"
DROPPED: Final = "pass"

CLEANUP: Final = frozenset(
    {
        "aclose",
        "aclose_forcefully",
        "cancel",
        "clear",
        "close",
        "finish",
        "forget_if_idle",
        "leave",
        "notify_closing",
        "release",
        "retire",
        "set",
        "settle",
        "settle_first",
        "unpark",
        "unpark_all",
    }
)
"""Methods that give back, wake or end something."""

PUTS: Final = frozenset(
    {
        "_accept",
        "add",
        "announce",
        "append",
        "appendleft",
        "attach",
        "extend",
        "give_back",
        "leave",
        "_leave",
        "popleft",
        "put",
        "put_control",
        "remove",
        "send_nowait",
        "settle",
        "settle_first",
    }
)
"""Methods by which a message, a subscription or a cost comes into other hands."""

EXPECTED: Final = frozenset({"BrokenResourceError", "Cancelled", "ClosedResourceError", "EndOfChannel"})
"""What cancellation, the network and an ordered end raise."""


Place: TypeAlias = tuple[ast.AST, str, Edits]
"""Where a rule applies, what it changes there in words, and how."""


def drop_finally(module: Module) -> Iterator[Place]:
    """Clean up only when nothing was raised, and not at all."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Try) or not node.finalbody:
            continue
        first, last = node.finalbody[0], node.finalbody[-1]
        assert last.end_lineno is not None
        indent = " " * first.col_offset
        lines = module.lines[first.lineno - 1 : last.end_lineno]
        guarded = "".join(f"    {line.decode()}" if line.strip() else line.decode() for line in lines)
        text = f"{indent}if __import__('sys').exception() is None:\n{guarded}"
        span = (first.lineno, 0, last.end_lineno + 1, 0)
        yield first, "the finally block runs only if nothing was raised", (Edit(*span, text),)
        yield first, "the finally block is empty", (Edit(*span, f"{indent}{DROPPED}\n"),)


def drop_shield(module: Module) -> Iterator[Place]:
    """``shield=True`` is gone."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg == "shield":
                    yield node, "not shielded", (replace(keyword.value, "False"),)


def async_with(module: Module) -> Iterator[Place]:
    """Leave a memory channel by ``async with``, which may raise `trio.Cancelled` over what the body raised."""
    channels: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Assign) and "open_memory_channel" in ast.dump(node.value):
            for target in node.targets:
                channels |= {ast.unparse(name) for name in getattr(target, "elts", [target])}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.With) and module.is_async(node):
            expressions = [ast.unparse(item.context_expr).removesuffix(".clone()") for item in node.items]
            if any(expression in channels for expression in expressions):
                edit = Edit(node.lineno, node.col_offset, node.lineno, node.col_offset, "async ")
                yield node, f"async with {expressions[0]}", (edit,)


def await_before_try(module: Module) -> Iterator[Place]:
    """A checkpoint between what is acquired and the ``try`` whose cleanup gives it back."""
    for block in module.blocks():
        for index, statement in enumerate(block):
            if isinstance(statement, ast.Try) and module.is_async(statement) and any(map(_acquires, block[:index])):
                yield statement, "a checkpoint before the try", (insert_before(statement, CHECKPOINT),)


def await_at_put(module: Module) -> Iterator[Place]:
    """A checkpoint right before or right after a message, a subscription or a cost comes into other hands."""
    for block in module.blocks():
        if not module.is_async(block[0]):
            continue
        for before, statement in itertools.pairwise([None, *block]):
            assert statement is not None
            puts = _puts(statement)
            if puts or (before is not None and _puts(before) and not isinstance(statement, ast.Try)):
                text = module.source_of(statement)
                yield statement, f"a checkpoint before `{text}`", (insert_before(statement, CHECKPOINT),)
            if puts and statement is block[-1]:
                text = module.source_of(statement)
                yield statement, f"a checkpoint after `{text}`", (insert_after(statement, CHECKPOINT),)


def await_before_return(module: Module) -> Iterator[Place]:
    """A checkpoint between what was taken and the return that hands it to the caller."""
    for block in module.blocks():
        for before, node in itertools.pairwise([None, *block]):
            if not isinstance(node, ast.Return) or node.value is None or not module.is_async(node):
                continue
            taken = {_method(part) for part in ast.walk(node.value) if isinstance(part, ast.Call)}
            if (
                {"popleft", "receive_nowait"} & taken
                or _contains_await(node)
                or (before is not None and _contains_await(before) and not isinstance(node.value, ast.Constant))
                or isinstance(node.value, ast.Name)
            ):
                value, indent = ast.unparse(node.value), " " * node.col_offset
                text = f"taken = {value}\n{indent}{CHECKPOINT}\n{indent}return taken"
                yield node, f"a checkpoint between taking `{value}` and returning it", (replace(node, text),)


def drop_deadline(module: Module) -> Iterator[Place]:
    """A wait that nothing bounds any more, and a bound that is not moved."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and _method(node) in {"move_on_after", "fail_after"}:
            others = ", ".join(ast.unparse(keyword) for keyword in node.keywords if keyword.arg == "shield")
            yield node, "no deadline", (replace(node, f"trio.CancelScope({others})"),)
        elif isinstance(node, ast.Call) and _method(node) == "CancelScope":
            for keyword in node.keywords:
                if keyword.arg == "deadline":
                    yield node, "no deadline", (replace(keyword.value, "float('inf')"),)
        elif isinstance(node, ast.Assign) and _moves_deadline(node) and _function_name(module, node) != "__init__":
            yield node, f"dropped: {module.source_of(node)}", (replace(node, DROPPED),)


def ask_whether_called(module: Module) -> Iterator[Place]:
    """``cancel_called`` where ``cancelled_caught`` was asked."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr == "cancelled_caught":
            yield node, "cancel_called", (replace(node, f"{ast.unparse(node.value)}.cancel_called"),)


def drop_except(module: Module) -> Iterator[Place]:
    """An expected error is not caught."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            names = {part.attr for part in ast.walk(node.type) if isinstance(part, ast.Attribute)}
            names |= {part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)}
            if names & EXPECTED:
                yield node, f"does not catch {ast.unparse(node.type)}", (replace(node.type, "()"),)


def swallow(module: Module) -> Iterator[Place]:
    """`trio.Cancelled` is caught and does not go on."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ExceptHandler) or node.type is None:
            continue
        if isinstance(node.type, ast.Name) and node.type.id == "Exception":
            yield node, "catches BaseException", (replace(node.type, "BaseException"),)
        elif ast.unparse(node.type) in {"trio.Cancelled", "BaseException"}:
            last = node.body[-1]
            if isinstance(last, ast.Raise) and last.exc is None:
                yield last, "does not raise it again", (replace(last, DROPPED),)


def drop_cleanup(module: Module) -> Iterator[Place]:
    """A call that gives back, wakes or ends something is gone."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Expr):
            call = node.value.value if isinstance(node.value, ast.Await) else node.value
            if isinstance(call, ast.Call) and _method(call) in CLEANUP:
                yield node, f"dropped: {module.source_of(node)}", (replace(node, DROPPED),)


def _method(call: ast.Call) -> str:
    """The last part of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _function_name(module: Module, node: ast.AST) -> str:
    function = module.function_of(node)
    return "" if function is None else function.name


def _moves_deadline(statement: ast.Assign) -> bool:
    return any(isinstance(target, ast.Attribute) and target.attr == "deadline" for target in statement.targets)


def _contains_await(statement: ast.stmt) -> bool:
    return any(isinstance(part, ast.Await) for part in ast.walk(statement))


def _acquires(statement: ast.stmt) -> bool:
    """Whether something is held after the statement: it assigns what a call gave, or puts."""
    if isinstance(statement, ast.Assign):
        return _puts(statement) or any(isinstance(part, ast.Call) for part in ast.walk(statement.value))
    return _puts(statement)


def _puts(statement: ast.stmt) -> bool:
    """A synchronous statement that puts: a call, an entry in a register, a sum in an account."""
    if _contains_await(statement):
        return False
    match statement:
        case ast.Expr(value=ast.Call() as call) | ast.Assign(value=ast.Call() as call):
            return _method(call) in PUTS
        case ast.Assign(targets=[ast.Subscript()]) | ast.Delete(targets=[ast.Subscript()]):
            return True
        case ast.AugAssign(target=ast.Attribute() | ast.Subscript()):
            return True
        case _:
            return False


RULES: Final[dict[str, Callable[[Module], Iterator[Place]]]] = {
    "drop-finally": drop_finally,
    "drop-shield": drop_shield,
    "async-with": async_with,
    "await-before-try": await_before_try,
    "await-at-put": await_at_put,
    "await-before-return": await_before_return,
    "drop-deadline": drop_deadline,
    "cancel-called": ask_whether_called,
    "drop-except": drop_except,
    "swallow": swallow,
    "drop-cleanup": drop_cleanup,
}


def apply_rules(path: str, text: str) -> Iterator[Variant]:
    """All variants of one file, by rule and place. Each has a name of its own; of two that are one program, the first.

    A number counts the places of a rule in a function, so that it does not depend on other rules.
    """
    module = Module(path, text)
    programs: set[str] = set()
    for rule, find in RULES.items():
        places = [(module.qualified_name(node), _line(node), what, edits) for node, what, edits in find(module)]
        total = Counter(where for where, *_ in places)
        seen: Counter[str] = Counter()
        for where, line, what, edits in sorted(places, key=lambda place: place[1]):
            seen[where] += 1
            number = f"#{seen[where]}" if total[where] > 1 else ""
            source = module.apply(edits)
            program = program_of(source)
            if program in programs:
                continue
            programs.add(program)
            yield Variant(f"{rule}/{where}{number}", path, where, line, what, source)


def _line(node: ast.AST) -> int:
    line = getattr(node, "lineno", 0)
    assert isinstance(line, int)
    return line


def generated(root: Path = ROOT) -> list[Variant]:
    """All variants that the rules make of our code."""
    return [
        variant
        for path in mutated_files(root)
        for variant in apply_rules(path, (root / path).read_text(encoding="utf-8"))
    ]
