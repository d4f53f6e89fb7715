"""The doors of the house: what a room says is public can be imported, is sorted, and says what it is for.

Public is what the front door names: its functions and classes, and what of these can be reached without an
underscore.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import trio_broker


def _modules() -> list[str]:
    """Every module of the package, by name."""
    found = pkgutil.walk_packages(trio_broker.__path__, "trio_broker.")
    return ["trio_broker", *sorted(info.name for info in found if not info.name.endswith("__main__"))]


MODULES = _modules()


def order_of(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, each by the alphabet: the order that ruff keeps."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", MODULES)
def test_a_door_lists_what_can_be_imported_in_order(name: str) -> None:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", None)
    if listed is None:
        pytest.fail(f"{name} does not say what is public")
    assert listed == sorted(set(listed), key=order_of)
    missing = [public for public in listed if not hasattr(module, public)]
    assert not missing


@pytest.mark.parametrize("name", trio_broker.__all__)
def test_what_the_front_door_names_is_public_in_its_room_too(name: str) -> None:
    value = getattr(trio_broker, name)
    assert name in importlib.import_module(value.__module__).__all__


def _is_method(member: object) -> bool:
    kinds = (property, functools.cached_property, classmethod, staticmethod)
    return isinstance(member, kinds) or inspect.isfunction(member)


def _public() -> Iterator[tuple[str, object]]:
    """What a user can reach from the front door, with a dotted name: functions, classes, methods and properties."""
    for name in trio_broker.__all__:
        value = getattr(trio_broker, name)
        yield name, value
        if inspect.isclass(value):
            for attribute, member in vars(value).items():
                if _is_method(member) and not attribute.startswith("_"):
                    yield f"{name}.{attribute}", member


PUBLIC = dict(_public())


def is_awaited(value: object) -> bool:
    """Whether it is used with ``await`` or ``async with``."""
    function = inspect.unwrap(value) if callable(value) else value
    managed = "AsyncContextManager" in str(getattr(function, "__annotations__", {}).get("return"))
    return managed or inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


AWAITED = [name for name, value in PUBLIC.items() if is_awaited(value)]


def test_the_awaitables_are_found() -> None:
    assert {"serve", "connect", "open_broker", "Broker.publish", "Broker.subscribe", "Server.drain"} <= set(AWAITED)
    assert "Broker.publish_nowait" not in AWAITED
    assert "Broker.statistics" not in AWAITED


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_has_a_docstring_of_its_own(name: str) -> None:
    value = PUBLIC[name]
    own = value.__doc__ if not inspect.isclass(value) else vars(value).get("__doc__")
    assert own
    assert own.strip()
    assert not own.startswith(f"{name}(")  # what dataclasses write where there is none


@pytest.mark.parametrize("name", AWAITED)
def test_every_awaitable_says_what_a_cancellation_does(name: str) -> None:
    doc = inspect.getdoc(PUBLIC[name]) or ""
    sections = [line for line in doc.splitlines() if line.startswith("Cancellation: ")]
    assert len(sections) == 1, f"{name} has {len(sections)} sections about cancellation"
    assert sections[0].removeprefix("Cancellation: ").strip()
