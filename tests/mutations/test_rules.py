"""What each rule makes of a snippet, and how what it makes is named."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.mutations.rules import RULES, apply_rules

SNIPPETS: list[tuple[str, str, list[str]]] = [
    (
        "drop-finally",
        """
        async def f():
            try:
                g()
            finally:
                h()
        """,
        [
            """
        async def f():
            try:
                g()
            finally:
                if __import__('sys').exception() is None:
                    h()
        """,
            """
        async def f():
            try:
                g()
            finally:
                pass
        """,
        ],
    ),
    (
        "drop-shield",
        "with trio.move_on_after(5, shield=True): pass\n",
        ["with trio.move_on_after(5, shield=False): pass\n"],
    ),
    (
        "async-with",
        """
        async def f():
            send, receive = trio.open_memory_channel(0)
            with send:
                pass
            with scope:
                pass
        """,
        [
            """
        async def f():
            send, receive = trio.open_memory_channel(0)
            async with send:
                pass
            with scope:
                pass
        """
        ],
    ),
    (
        "await-before-try",
        """
        async def f():
            held = take()
            try:
                g()
            finally:
                held.close()
        def synchronous():
            held = take()
            try:
                g()
            finally:
                held.close()
        """,
        [
            """
        async def f():
            held = take()
            await trio.lowlevel.checkpoint()
            try:
                g()
            finally:
                held.close()
        def synchronous():
            held = take()
            try:
                g()
            finally:
                held.close()
        """
        ],
    ),
    (
        "await-at-put",
        """
        async def f(self):
            self.log.info()
            self._accept(batch)
        """,
        [
            """
        async def f(self):
            self.log.info()
            await trio.lowlevel.checkpoint()
            self._accept(batch)
        """,
            """
        async def f(self):
            self.log.info()
            self._accept(batch)
            await trio.lowlevel.checkpoint()
        """,
        ],
    ),
    (
        "await-at-put",
        """
        async def f(self):
            self._open[key] = None
            self.log.info()
        """,
        [
            """
        async def f(self):
            await trio.lowlevel.checkpoint()
            self._open[key] = None
            self.log.info()
        """,
            """
        async def f(self):
            self._open[key] = None
            await trio.lowlevel.checkpoint()
            self.log.info()
        """,
        ],
    ),
    (
        "await-before-return",
        """
        async def f(self):
            return self._waiting.popleft()
        async def nothing_taken(self):
            return 3
        """,
        [
            """
        async def f(self):
            taken = self._waiting.popleft()
            await trio.lowlevel.checkpoint()
            return taken
        async def nothing_taken(self):
            return 3
        """
        ],
    ),
    (
        "drop-deadline",
        """
        def f():
            with trio.move_on_after(3):
                with trio.CancelScope(deadline=4):
                    scope.deadline = 5
        """,
        [
            """
        def f():
            with trio.CancelScope():
                with trio.CancelScope(deadline=4):
                    scope.deadline = 5
        """,
            """
        def f():
            with trio.move_on_after(3):
                with trio.CancelScope(deadline=float('inf')):
                    scope.deadline = 5
        """,
            """
        def f():
            with trio.move_on_after(3):
                with trio.CancelScope(deadline=4):
                    pass
        """,
        ],
    ),
    ("drop-deadline", "with trio.fail_after(3, shield=True): pass\n", ["with trio.CancelScope(shield=True): pass\n"]),
    ("cancel-called", "if scope.cancelled_caught: pass\n", ["if scope.cancel_called: pass\n"]),
    (
        "drop-except",
        "try: f()\nexcept (trio.BrokenResourceError, OSError): pass\nexcept ValueError: pass\n",
        ["try: f()\nexcept (): pass\nexcept ValueError: pass\n"],
    ),
    ("swallow", "try: f()\nexcept Exception: g()\n", ["try: f()\nexcept BaseException: g()\n"]),
    ("swallow", "try: f()\nexcept trio.Cancelled: raise\n", ["try: f()\nexcept trio.Cancelled: pass\n"]),
    (
        "drop-cleanup",
        """
        async def f():
            await stream.aclose()
            parked.unpark_all()
            go()
        """,
        [
            """
        async def f():
            pass
            parked.unpark_all()
            go()
        """,
            """
        async def f():
            await stream.aclose()
            pass
            go()
        """,
        ],
    ),
]


@pytest.mark.parametrize(("rule", "original", "expected"), SNIPPETS)
def test_a_rule_finds_what_it_should(rule: str, original: str, expected: list[str]) -> None:
    found = [
        variant.source
        for variant in apply_rules("trio_broker/core/x.py", dedent(original))
        if variant.name.startswith(f"{rule}/")
    ]
    assert found == [dedent(text) for text in expected]


def test_every_rule_has_a_snippet() -> None:
    assert {rule for rule, _, _ in SNIPPETS} == set(RULES)


def test_names_say_the_rule_and_the_function() -> None:
    text = "class A:\n    def f(self):\n        self.x.close()\n        self.y.close()\n"
    variants = list(apply_rules("trio_broker/core/x.py", text))
    assert [(variant.name, variant.function, variant.line) for variant in variants] == [
        ("drop-cleanup/core.x.A.f#1", "core.x.A.f", 3),
        ("drop-cleanup/core.x.A.f#2", "core.x.A.f", 4),
    ]
