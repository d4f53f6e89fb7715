"""Finding the scenario that a person names, for ``trio-broker explore``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

import click

from trio_broker.cli.explore_report import say
from trio_broker.explorer.result import Scenario

__all__ = ["find_scenario", "load_module", "refuse"]

_TARGET: Final = "'MODULE:SCENARIO'"


def find_scenario(target: str) -> Scenario:
    """The async function that MODULE:SCENARIO names. Raises ``click.ClickException`` if there is none."""
    module_name, _, name = target.rpartition(":")
    if not module_name or not name:
        refuse(f"{target!r} is not MODULE:SCENARIO, as in package.module:scenario or path/to/file.py:scenario")
    module = _load_file(Path(module_name)) if module_name.endswith(".py") else load_module(module_name)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            refuse(f"{module_name} has no {name}")
        found = getattr(found, part)
    if not inspect.iscoroutinefunction(found):
        refuse(f"{name} of {module_name} is not an async function")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        refuse(f"a scenario takes no arguments, and {name} of {module_name} does: {error}")
    return found  # type: ignore[no-any-return]  # it is what was just checked


def load_module(name: str, hint: str = _TARGET) -> ModuleType:
    """The module of a dotted name, which may be one of the current directory."""
    if not all(part.isidentifier() for part in name.split(".")):
        refuse(f"{name} is neither the name of a module nor the path of a .py file", hint)
    _import_from(Path.cwd())
    try:
        with _errors_of_import(name):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise click.ClickException(f"cannot import {name}: {say(error)}") from None
        refuse(f"there is no module {name}", hint)


def _load_file(path: Path) -> ModuleType:
    """A file as a module that has its name, with the modules beside it at hand, as if Python ran it."""
    path = path.resolve()
    name = path.stem
    if not path.is_file():
        refuse(f"there is no file {path}")
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) != str(path):
        refuse(f"{path.name} cannot be imported: there already is a module {name}; give the file another name")
    _import_from(Path.cwd())
    _import_from(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # as it is for every name that ends in .py
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        with _errors_of_import(path.name):
            spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise click.ClickException(f"cannot import {path.name}: {say(error)}") from None
    return module


@contextmanager
def _errors_of_import(name: str) -> Iterator[None]:
    """Whatever a module raises as it is imported becomes one line, except that it, or another, does not exist."""
    try:
        yield
    except ModuleNotFoundError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  it is another's module
        raise click.ClickException(f"cannot import {name}: {say(error)}") from None


def _import_from(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def refuse(message: str, hint: str = _TARGET) -> NoReturn:
    """Say that an argument is no good; ``hint`` names it."""
    raise click.BadParameter(message, ctx=click.get_current_context(), param_hint=hint)
