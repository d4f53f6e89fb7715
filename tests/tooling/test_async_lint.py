"""The four checks that no linter makes: the tree is clean, and each check bites."""

from __future__ import annotations

import configparser
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tooling.async_lint import (
    CHECKS,
    Finding,
    cancel_called_in_a_decision,
    except_around_a_nursery,
    memory_channel_in_async_with,
    shield_without_a_deadline,
)

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for folder in ("trio_broker", "examples", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]

Check = Callable[[str], list[Finding]]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_tree_is_clean(path: Path) -> None:
    source = path.read_text()
    assert [finding for check in CHECKS for finding in check(source)] == []


def test_the_sources_are_found() -> None:
    """Or the test above would pass for want of sources."""
    assert {ROOT / "trio_broker/client/framed.py", ROOT / "examples/network.py"} <= set(SOURCES)
    assert any(path.parent == ROOT / "scripts" for path in SOURCES)


SNIPPETS: dict[Check, str] = {
    memory_channel_in_async_with: """
async def the_pair():
    send, receive = trio.open_memory_channel[int](1)
    async with send, receive:  # bites
        pass
    with send, receive:
        pass

async def among_others():
    send, receive = open_memory_channel(1)
    async with (
        trio.open_nursery() as nursery,
        receive,  # bites
    ):
        pass

class Attribute:
    def __init__(self):
        self._send, self._receive = trio.open_memory_channel(1)

    async def run(self):
        async with self._send:  # bites
            pass

async def arguments(source: trio.MemoryReceiveChannel[int], *, to: "MemorySendChannel[int] | None"):
    async with source:  # bites
        pass
    async with to:  # bites
        pass

async def annotated():
    to: trio.MemorySendChannel[int] = make()
    async with to:  # bites
        pass

async def clones(to):
    mine = to.clone()
    async with mine:  # bites
        pass
    async with to.clone():  # bites
        pass
    with to.clone():
        pass

outer, _ = open_memory_channel(0)

async def from_outside():
    async with outer:  # bites
        pass

async def of_the_same_name(mine, send):
    async with mine, send:
        pass

async def of_any_kind(channel: trio.abc.SendChannel[int]):
    async with channel:
        pass
""",
    shield_without_a_deadline: """
with trio.CancelScope(shield=True):  # bites
    pass
with trio.CancelScope(deadline=math.inf, shield=True):  # bites
    pass
with trio.move_on_after(math.inf, shield=True):  # bites
    pass
with trio.CancelScope(shield=hold):  # bites
    pass
with trio.CancelScope() as scope:
    scope.shield = True  # bites
    scope.shield: bool = True  # bites
    scope.shield = False
with trio.CancelScope(shield=False):
    pass
with trio.CancelScope(deadline=then, shield=True):
    pass
with trio.CancelScope(relative_deadline=5, shield=True):
    pass
with trio.move_on_after(5, shield=True), trio.move_on_after(seconds=5, shield=True):
    pass
""",
    except_around_a_nursery: """
try:
    async with trio.open_nursery():
        pass
except ValueError:  # bites
    pass

try:
    with scope:
        while True:
            async with connection(), open_nursery() as nursery:
                pass
except (OSError, KeyError) as error:  # bites
    log(error)

try:
    async with trio.open_nursery():
        pass
except Exception:
    pass
except KeyboardInterrupt:  # bites
    pass

try:
    async with trio.open_nursery():
        pass
except OSError:  # bites
    raise Other from None

try:
    async with trio.open_nursery():
        pass
except OSError:  # bites
    clean_up()
    raise

try:
    async with trio.open_nursery():
        with trio.fail_after(1):
            pass
except trio.TooSlowError:  # bites
    pass

try:
    with trio.fail_after(1):
        async with trio.open_nursery():
            pass
except trio.TooSlowError:
    pass

try:
    async with trio.open_nursery():
        pass
except* OSError:
    pass

try:
    async with trio.open_nursery():
        pass
except OSError:
    raise
except BaseExceptionGroup:
    pass

try:
    async with trio.open_nursery():
        pass
except BaseException:
    clean_up()
    raise

try:
    async with trio.open_nursery():
        pass
finally:
    clean_up()

async with trio.open_nursery():
    try:
        step()
    except OSError:
        pass

try:
    async def run_elsewhere():
        async with trio.open_nursery():
            pass
except OSError:
    pass
""",
    cancel_called_in_a_decision: """
if scope.cancel_called:  # bites
    pass
while not scope.cancel_called:  # bites
    pass
if answer(scope.cancel_called):  # bites
    pass
result = 1 if self._scope.cancel_called else 2  # bites
assert scope.cancel_called  # bites
result = done or scope.cancel_called  # bites
result = not scope.cancel_called  # bites
result = scope.cancel_called is True  # bites
result = [scope for scope in scopes if scope.cancel_called]  # bites
match scope.cancel_called:  # bites
    case True if scope.cancel_called:  # bites
        pass

def was_cancelled(self):
    return self._scope.cancel_called  # bites

if scope.cancelled_caught:
    pass
log(cancelled=scope.cancel_called)
""",
}


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_bites_where_it_should_and_nowhere_else(check: Check) -> None:
    snippet = SNIPPETS[check]
    marked = [number for number, line in enumerate(snippet.splitlines(), 1) if line.endswith("# bites")]
    assert marked
    assert sorted({finding.line for finding in check(snippet)}) == marked


@pytest.mark.parametrize(
    ("mark", "count"),
    [
        ("# lint: shield: the run's own deadline is around it", 0),
        ("# noqa: X1  # lint: shield: a reason", 0),
        ("# lint: shield:", 1),
        ("# lint: shield", 1),
        ("# lint: memory-channel: a reason for something else", 1),
    ],
)
def test_a_mark_counts_with_a_reason_and_for_its_own_check(mark: str, count: int) -> None:
    assert len(shield_without_a_deadline(f"scope.shield = True  {mark}")) == count


def test_each_mark_in_the_tree_is_of_a_check_that_exists() -> None:
    known = {finding.check for check, snippet in SNIPPETS.items() for finding in check(snippet)}
    assert known == {"memory-channel", "shield", "nursery-except", "cancel-called"}
    used = {part.split(":")[0].strip() for path in SOURCES for part in path.read_text().split("# lint:")[1:]}
    assert used <= known


def test_flake8_async_has_its_optional_rules_switched_on() -> None:
    """That they bite too is shown by check_flake8_bites.py, which scripts/check runs where flake8 is."""
    config = configparser.ConfigParser()
    config.read(ROOT / ".flake8")
    enabled = {code.strip() for code in config["flake8"]["enable"].split(",")}
    assert {"ASYNC900", "ASYNC910", "ASYNC911", "ASYNC912", "ASYNC913"} <= enabled
    assert config["flake8"]["select"].split() == ["ASYNC"]
