"""Lines on the terminal, progress, addresses, and how a command runs Trio."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar, TypeVarTuple, Unpack

import click
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trio_broker.errors import BrokerError

__all__ = [
    "cannot_connect",
    "growing_progress",
    "progress_bar",
    "raise_file_limit",
    "run",
    "say_last",
    "show_address",
    "why",
]

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


def run(function: Callable[[Unpack[Arguments]], Awaitable[Result]], *arguments: *Arguments) -> Result:
    """`trio.run`, where an exception leaves as itself, not in a group, and the broker's own become one line.

    Raises:
        click.ClickException: for a `BrokerError`.
        KeyboardInterrupt: Ctrl-C, where the function does not receive signals itself.
    """
    try:
        return trio.run(function, *arguments)
    except BrokerError as error:
        raise click.ClickException(str(error)) from None
    except BaseExceptionGroup as group:
        alone: BaseException = group
        while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
            alone = alone.exceptions[0]
        raise click.ClickException(str(alone)) if isinstance(alone, BrokerError) else alone from None


def say_last(line: str) -> None:
    """Print a line at the very end, where it must not change the exit status that nobody hears it."""
    try:
        click.echo(line)
    except BrokenPipeError:
        # What is still buffered would fail again when Python ends; let it go nowhere.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextmanager
def progress_bar(total: int | None, what: str, *, wanted: bool = True) -> Iterator[Callable[[], object]]:
    """Show progress on stderr if that is a terminal and the total is known; gives what to call for each step."""
    if total is None or not wanted or not _is_terminal(sys.stderr):
        yield lambda: None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


@contextmanager
def growing_progress(what: str) -> Iterator[Callable[[int, int], object] | None]:
    """Show progress on stderr if that is a terminal, and nothing of it afterwards; gives what to call with the number
    done and the number planned, which may grow."""
    if not _is_terminal(sys.stderr):
        yield None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, planned: progress.update(task, completed=done, total=planned)


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether a person reads it. A stream that was closed before Python started is None."""
    return stream is not None and stream.isatty()


def cannot_connect(host: str, port: int, error: Exception) -> click.ClickException:
    """The one line for a broker that cannot be reached."""
    return click.ClickException(f"cannot connect to {show_address(host, port)}: {why(error)}")


def show_address(host: str, port: int) -> str:
    """As people write it: an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def why(error: BaseException) -> str:
    """What went wrong with a socket, in the system's words; for several attempts each reason once."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(why(inner) for inner in error.exceptions))
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    if isinstance(error.__cause__, OSError | BaseExceptionGroup):
        return why(error.__cause__)
    return str(error)


def raise_file_limit() -> None:
    """A connection is a file descriptor: allow as many as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            click.echo(f"Warning: only {soft:,} files can be open at once; the limit could not be raised", err=True)
