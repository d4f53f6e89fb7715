"""Four checks for Trio programs that no linter makes, over the syntax tree of one source text each.

A line that is right all the same says so, with its reason: ``# lint: shield: the run's own deadline is around it``.
The mark of a finding is in `Finding.check`; a mark without a reason does not count.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator

__all__ = [
    "CHECKS",
    "Finding",
    "cancel_called_in_a_decision",
    "except_around_a_nursery",
    "memory_channel_in_async_with",
    "shield_without_a_deadline",
]

_MARK = re.compile(r"# lint: (?P<check>[a-z-]+): *\S")

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_SCOPES = (*_FUNCTIONS, ast.ClassDef)
_MEMORY_CHANNELS = {"MemorySendChannel", "MemoryReceiveChannel"}
_GROUPS = {"BaseException", "Exception", "BaseExceptionGroup", "ExceptionGroup"}
"""What catches a group, as a class or because every group is one."""

_TIMEOUTS = {"fail_after", "fail_at"}


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    """A line, the mark of the check that found it, and what is wrong there."""

    line: int
    check: str
    what: str


def memory_channel_in_async_with(source: str) -> list[Finding]:
    """``async with`` on an end of a memory channel: its checkpoint can replace the block's exception by `Cancelled`.

    Known as an end are what `open_memory_channel` gave, what is annotated as one, and any ``clone()``. A name counts in
    its function and in those inside; an attribute in the whole module.
    """
    tree = ast.parse(source)
    attributes = {name for name in _channels_in(ast.walk(tree)) if "." in name}
    found = list(_async_withs(tree, attributes))
    return _unmarked(source, found)


def shield_without_a_deadline(source: str) -> list[Finding]:
    """A shield with no end outlives everything around it: ``move_on_after(seconds, shield=True)`` has one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            shield = _keyword(node, "shield")
            if shield is not None and not _is_constant(shield, value=False) and not _has_deadline(node):
                found.append(Finding(node.lineno, "shield", f"{ast.unparse(node)} has no deadline"))
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            shields = [target for target in targets if isinstance(target, ast.Attribute) and target.attr == "shield"]
            if shields and node.value is not None and not _is_constant(node.value, value=False):
                found.append(Finding(node.lineno, "shield", f"{ast.unparse(node)} sets no deadline"))
    return _unmarked(source, found)


def except_around_a_nursery(source: str) -> list[Finding]:
    """``except SomeError`` around a nursery catches nothing, since what leaves a nursery is a group: ``except*`` does.

    A handler that only raises again is no harm, nor is one for all exceptions or for groups. One for
    `trio.TooSlowError` is right where a ``fail_after`` stands between it and the nursery.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Try):  # TryStar is a class of its own
            continue
        nursery = _nursery_in(node.body)
        if nursery is None:
            continue
        found += [
            Finding(handler.lineno, "nursery-except", f"it catches nothing of the nursery in line {nursery.lineno}")
            for handler in node.handlers
            if not _is_harmless(handler, node.body)
        ]
    return _unmarked(source, found)


def cancel_called_in_a_decision(source: str) -> list[Finding]:
    """``cancel_called`` tells what was asked, not what happened: decide on the result, or on ``cancelled_caught``."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        for decision in _decisions(node):
            found |= {
                Finding(inner.lineno, "cancel-called", f"{ast.unparse(inner)} decides")
                for inner in ast.walk(decision)
                if isinstance(inner, ast.Attribute) and inner.attr == "cancel_called"
            }
    return _unmarked(source, sorted(found))


CHECKS: tuple[Callable[[str], list[Finding]], ...] = (
    memory_channel_in_async_with,
    shield_without_a_deadline,
    except_around_a_nursery,
    cancel_called_in_a_decision,
)


def _unmarked(source: str, found: Iterable[Finding]) -> list[Finding]:
    """Without those whose line bears their mark and a reason."""
    lines = source.splitlines()
    return sorted(
        finding
        for finding in found
        if finding.check not in {match["check"] for match in _MARK.finditer(lines[finding.line - 1])}
    )


# -- memory channels ---------------------------------------------------------------------------------------------------


def _async_withs(scope: ast.AST, known: set[str]) -> Iterator[Finding]:
    """The findings in one scope and, knowing what it knows, in those inside."""
    nodes = list(_own_nodes(scope))
    names = known | set(_channels_in(nodes)) | set(_channel_arguments(scope))
    for node in nodes:
        if isinstance(node, _SCOPES):
            yield from _async_withs(node, names)
        elif isinstance(node, ast.AsyncWith):
            for item in node.items:
                expression = item.context_expr
                if ast.unparse(expression) in names or _called(expression) == "clone":
                    what = f"async with {ast.unparse(expression)}: an end of a memory channel takes `with`"
                    yield Finding(expression.lineno, "memory-channel", what)


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a scope; of the scopes inside only themselves."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, _SCOPES):
            yield from _own_nodes(child)


def _channels_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """What is assigned an end of a memory channel, or annotated as one."""
    for node in nodes:
        if isinstance(node, ast.AnnAssign) and _is_annotated(node.annotation):
            yield ast.unparse(node.target)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if _called(node.value) == "clone":
                yield from map(ast.unparse, targets)
            elif _called(node.value) == "open_memory_channel":
                for target in targets:
                    yield from map(ast.unparse, target.elts if isinstance(target, ast.Tuple | ast.List) else [])


def _channel_arguments(scope: ast.AST) -> Iterator[str]:
    if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
        arguments = scope.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if argument.annotation is not None and _is_annotated(argument.annotation):
                yield argument.arg


def _is_annotated(annotation: ast.expr) -> bool:
    """Whether it is one of the two classes, with whatever it carries, written as a string or not."""
    return re.match(r"[\w.]*\w+", ast.unparse(annotation).strip("'\"")) is not None and (
        re.split(r"[\[\s|]", ast.unparse(annotation).strip("'\""))[0].rpartition(".")[2] in _MEMORY_CHANNELS
    )


# -- shields, nurseries, decisions -------------------------------------------------------------------------------------


def _has_deadline(call: ast.Call) -> bool:
    """Whether a call that makes a scope gives it an end: a first argument, or a keyword, that is not infinite."""
    named = [call.args[0]] if call.args and _called(call) != "CancelScope" else []
    named += [value for name in ("deadline", "relative_deadline", "seconds") if (value := _keyword(call, name))]
    return any(ast.unparse(value) not in {"math.inf", "inf", "float('inf')"} for value in named)


def _nursery_in(body: list[ast.stmt]) -> ast.AsyncWith | None:
    """The first block of statements that is a nursery's; functions inside are run elsewhere."""
    for statement in body:
        for node in (statement, *_own_nodes(statement)) if not isinstance(statement, _SCOPES) else ():
            if isinstance(node, ast.AsyncWith) and "open_nursery" in _opened(node):
                return node
    return None


def _opened(node: ast.With | ast.AsyncWith) -> list[str]:
    """What a with statement calls, in order."""
    return [_called(item.context_expr) for item in node.items]


def _is_harmless(handler: ast.ExceptHandler, body: list[ast.stmt]) -> bool:
    if handler.type is None or (len(handler.body) == 1 and ast.unparse(handler.body[0]) == "raise"):
        return True
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {ast.unparse(name).rpartition(".")[2] for name in types}
    if names == {"TooSlowError"} and any(_times_a_nursery(node) for statement in body for node in ast.walk(statement)):
        return True
    return bool(names & _GROUPS)


def _times_a_nursery(node: ast.AST) -> bool:
    """Whether this is a ``with fail_after(...)`` and a nursery is inside."""
    return isinstance(node, ast.With) and bool(_TIMEOUTS & set(_opened(node))) and _nursery_in(node.body) is not None


def _decisions(node: ast.AST) -> list[ast.expr]:
    """The expressions of a node on whose truth, or as whose result, something is decided."""
    match node:
        case ast.If() | ast.While() | ast.IfExp() | ast.Assert():
            return [node.test]
        case ast.BoolOp() | ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return [node]
        case ast.Return(value=ast.expr() as value):
            return [value]
        case ast.comprehension():
            return node.ifs
        case ast.match_case(guard=ast.expr() as guard):
            return [guard]
        case ast.Match():
            return [node.subject]
        case _:
            return []


def _called(expression: ast.expr) -> str:
    """The last name of what an expression calls: ``trio.open_memory_channel[int](1)`` calls open_memory_channel."""
    if not isinstance(expression, ast.Call):
        return ""
    function = expression.func.value if isinstance(expression.func, ast.Subscript) else expression.func
    return ast.unparse(function).rpartition(".")[2]


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _is_constant(expression: ast.expr, *, value: object) -> bool:
    return isinstance(expression, ast.Constant) and expression.value is value
