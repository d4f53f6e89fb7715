"""docs/cancellation.md is complete and says what the code says; and a page or a source that does not is noticed."""

from __future__ import annotations

import ast
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import trio_broker
import trio_broker.client
import trio_broker.server
from tests.docs import contract
from tests.docs.markdown import ROOT

PAGE = (ROOT / "docs/cancellation.md").read_text()
PUBLIC = {
    name: getattr(door, name) for door in (trio_broker, trio_broker.client, trio_broker.server) for name in door.__all__
}
SOURCES = {
    path.relative_to(ROOT / "trio_broker").as_posix(): path.read_text()
    for room in ("core", "server", "client", "cli")
    for path in sorted((ROOT / "trio_broker" / room).rglob("*.py"))
}
EXPLORER = {path.name: path.read_text() for path in (ROOT / "trio_broker/explorer").glob("*.py")}
TESTS = contract.known_tests(ROOT)


# -- the page is right -------------------------------------------------------------------------------------------------


def test_everything_that_can_be_awaited_has_a_row_and_every_row_is_whole() -> None:
    assert contract.row_complaints(PAGE, PUBLIC) == []


def test_every_class_and_certainty_is_that_of_the_docstring() -> None:
    assert contract.class_complaints(PAGE, PUBLIC) == []


def test_every_row_and_clause_has_a_test_that_exists() -> None:
    assert contract.reference_complaints(PAGE, TESTS) == []


def test_every_shield_cancel_and_deadline_is_listed() -> None:
    assert contract.place_complaints(PAGE, SOURCES) == []


def test_the_explorers_cancels_give_their_reason_too() -> None:
    reasons = [place.expression for place in contract.cancels(EXPLORER)]
    assert reasons
    assert all(re.match("f?['\"]explorer: ", reason) for reason in reasons)


def test_nothing_public_has_a_timeout() -> None:
    timed = [
        (name, parameter)
        for name, parameter in contract.parameters(PUBLIC)
        if re.search("timeout|deadline|seconds", parameter)
    ]
    assert set(timed) == {
        *((name, "patience_seconds") for name in ("Broker.publish_all", "Broker.publish_batch")),
        *((name, "heart_beat_seconds") for name in ("connect", "run_reconnecting")),  # which both sides agree on
    }
    assert "`patience_seconds` of `Broker.publish_batch` and `Broker.publish_all`" in " ".join(PAGE.split())


def test_what_the_page_calls_protected_from_ctrl_c_is() -> None:
    told = PAGE.partition("never in the middle: ")[2].partition(". The tasks")[0]
    assert set(re.findall("`(.+?)`", told)) == {name for name in protected() if name.split(".")[0] in PUBLIC}


def protected() -> set[str]:
    """The public functions and methods that have Trio's protection, by their decorators."""
    return {
        f"{node.name}.{function.name}" if isinstance(node, ast.ClassDef) else function.name
        for source in (*SOURCES.values(), (ROOT / "trio_broker/message.py").read_text())
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef | ast.Module)
        for function in node.body
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and not function.name.startswith("_")
        if any("enable_ki_protection" in ast.unparse(decorator) for decorator in function.decorator_list)
    }


def test_the_classes_of_the_page_are_all() -> None:
    assert [tuple(row[:2]) for row in contract.table(PAGE, "The classes")] == list(contract.WORDS.items())
    used = {row.letter for row in contract.operations(PAGE)}
    assert used == set(contract.WORDS) - {"T"}  # which the page says


# -- a page that is wrong is noticed -----------------------------------------------------------------------------------


PLANTED_IN_THE_PAGE = [
    ("### `Broker.publish`\n", "### Broker, publishing\n", "no row: Broker.publish"),
    ("### `Broker.publish`\n", "### `Broker.publish_soon`\n", "no such operation: Broker.publish_soon"),
    ("### `Broker.publish_batch`\n", "### `Broker.publish`\n", "two rows: Broker.publish"),
    ("### `connect`, leaving\n", "### `connect`, going\n", "no row: connect, leaving"),
    ("| `LocalSubscription.__anext__` |", "| `LocalSubscription.next` |", "no row: LocalSubscription.__anext__"),
    ("| `Server.begin_drain` |", "| `Server.end` |", "no row: Server.begin_drain"),
    ("| `Server.begin_drain` |", "| `Server.end` |", "no such operation: Server.end"),
    ("| again | yes; it is never doubled |\n", "", "`Broker.publish`: no again"),
    ("| object | a broker, in every case |", "| object | |", "`open_broker`, entering: no object"),
    ("| object | a broker, in every case |", "| subject | a broker |", "`open_broker`, entering: what is 'subject'?"),
    ("](#serverdrain) | P |", "](#serverdrain) | A |", "at a glance: Server.drain differs"),
    ("| class | P |", "| class | A |", "Server.drain: the docstring does not say 'cancellation: atomic'"),
    ("| class | P |", "| class | X |", "Server.drain: 'X' is no class"),
    ("| class | N |", "| class | A |", "open_broker, entering: the docstring does not say 'entering is atomic'"),
    ("| nothing | N |", "| nothing | A |", "LocalSubscription.__aenter__: not the class of nothing"),
    ("`LocalSubscription.receive` | A |", "`LocalSubscription.receive` | C |", "__anext__: not the class of"),
    ("| checkpoint | none |", "| checkpoint | sometimes |", "does not say of checkpoints: sometimes"),
    ("| checkpoint | always |", "| checkpoint | none |", "does not say of checkpoints: none"),
    ("| certain | Cancelling stops", "| certain | Cancelling never stops", "does not say 'Cancelling never"),
    ("| test | `tests/core/test_cancellation.py::test_a_broker", "| test | `test_a_broker", "entering: no test"),
    ("| `tests/server/test_cancellation.py::test_a_drain_can", "| `test_a_drain_can", "Server.begin_drain: no test"),
    ("Shown by `tests/docs/test_cancellation.py::", "Shown by `", "**No `timeout=` parameters.**"),
    ("py::test_nothing_public_has", "py::test_nothing_has", "no such test: tests/docs/test_cancellation.py::"),
    ("core.py:many_publishers", "core.py:House", "no such test: tests/scenarios/core.py:House"),
    ("core.py:many_publishers", "core.py:take", "no such test: tests/scenarios/core.py:take"),
    ("`Line.close` | all places", "`Line.end` | all places", "cancel of ours: not on the page: core/line.py"),
    ("`Line.close` | all places", "`Line.end` | all places", "cancel of ours: not in the source: core/line.py"),
    ("`'a second signal'`", "`'another signal'`", "cancel of ours: not on the page: cli/serve.py _hurry"),
    ("`min(self._watch(), self._has_room_at())`", "`math.inf`", "deadline of ours: not on the page: core/channel.py"),
    ("(../trio_broker/server/stall.py)", "(../trio_broker/stall.py)", "deadline of ours: not in the source:"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "complaint"), PLANTED_IN_THE_PAGE)
def test_a_defect_in_the_page_is_noticed(right: str, wrong: str, complaint: str) -> None:
    assert right in PAGE
    page = PAGE.replace(right, wrong, 1)
    complaints = [
        *contract.row_complaints(page, PUBLIC),
        *contract.class_complaints(page, PUBLIC),
        *contract.reference_complaints(page, TESTS),
        *contract.place_complaints(page, SOURCES),
    ]
    assert [said for said in complaints if complaint in said], complaints


# -- code that the page does not know is noticed -----------------------------------------------------------------------


class Annexe:
    """What somebody might add."""

    async def visit(self) -> None:
        """Cancellation: atomic."""

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """Cancellation: entering is atomic. Leaving is cleanup."""
        yield

    async def rooms(self) -> AsyncIterator[int]:  # noqa: ASYNC900  it is never run
        """Cancellation: atomic."""
        yield 1

    async def __aenter__(self) -> None:
        """Cancellation: atomic."""

    async def __anext__(self) -> None:
        """Cancellation: atomic."""

    def close(self) -> None:
        """Cancellation: never."""

    def look_nowait(self) -> None:
        """Cancellation: never."""

    async def _hidden(self) -> None:
        pass

    def statistics(self) -> None:
        """No verb that does without waiting what others wait for."""


class Inheriting(Annexe):
    """What has operations from elsewhere."""


async def call() -> None:
    """Cancellation: atomic."""


@pytest.mark.parametrize("added", [Annexe, Inheriting])
def test_a_new_class_needs_a_row_for_all_that_it_offers(added: type[Annexe]) -> None:
    complaints = contract.row_complaints(PAGE, {**PUBLIC, "Annexe": added})
    names = ("visit", "live, entering", "live, leaving", "rooms", "__aenter__", "__anext__", "close", "look_nowait")
    assert sorted(complaints) == sorted(f"no row: Annexe.{name}" for name in names)


def test_a_new_function_needs_a_row() -> None:
    assert contract.row_complaints(PAGE, {**PUBLIC, "call": call}) == ["no row: call"]


PLANTED_IN_THE_SOURCE = [
    ("scope.cancel(reason='new')", "Every cancel of ours: not on the page: core/new.py f 'new'"),
    ("scope.cancel()", "no reason: core/new.py f"),
    ("scope.shield = True", "Every shield: not on the page: core/new.py f"),
    ("g(shield=True)", "Every shield: not on the page: core/new.py f"),
    ("scope.deadline = 5", "Every deadline of ours: not on the page: core/new.py f 5"),
    ("scope.deadline += 5", "Every deadline of ours: not on the page: core/new.py f 5"),
    ("trio.CancelScope(deadline=5)", "Every deadline of ours: not on the page: core/new.py f 5"),
    ("trio.CancelScope(relative_deadline=5)", "Every deadline of ours: not on the page: core/new.py f 5"),
    ("trio.move_on_after(5)", "Every deadline of ours: not on the page: core/new.py f 5"),
    ("trio.fail_after(seconds=5)", "Every deadline of ours: not on the page: core/new.py f 5"),
]


@pytest.mark.parametrize(("line", "complaint"), PLANTED_IN_THE_SOURCE)
def test_a_new_place_in_the_source_is_noticed(line: str, complaint: str) -> None:
    complaints = contract.place_complaints(PAGE, {**SOURCES, "core/new.py": f"def f(scope):\n    {line}\n"})
    assert complaint in complaints


@pytest.mark.parametrize("line", ["scope.deadline = math.inf", "scope.shield = False", "f(shield=False)"])
def test_what_bounds_and_holds_nothing_need_not_be_listed(line: str) -> None:
    assert contract.place_complaints(PAGE, {**SOURCES, "core/new.py": f"def f(scope):\n    {line}\n"}) == []


def test_a_second_one_in_the_same_function_is_noticed() -> None:
    source = SOURCES["core/line.py"].replace(
        "            scope.cancel(", "            pass\n            scope.cancel(", 1
    )
    twice = re.sub(r"( +)(scope\.cancel\(.+\))", r"\1\2; \2", source, count=1)
    assert contract.place_complaints(PAGE, {**SOURCES, "core/line.py": twice}) == [
        "Every cancel of ours: not on the page: core/line.py Line.place 'the broker is draining'"
    ]


@pytest.mark.parametrize("letter", ["A", "C"])
def test_a_docstring_of_another_class_or_without_a_word_on_checkpoints_is_noticed(letter: str) -> None:
    page = "\n".join(
        (
            "### `call`\n\n| | |\n|---|---|",
            f"| class | {letter} |",
            *(f"| {field} | x |" for field in contract.FIELDS[1:]),
            "",
        )
    ).replace("| certain | x |", "| certain | atomic |")
    complaints = contract.class_complaints(page, {"call": call})
    about_the_class = ["call: the docstring does not say 'cancellation: cleanup'"] if letter == "C" else []
    assert complaints == [*about_the_class, "call: the docstring does not say of checkpoints: x"]
