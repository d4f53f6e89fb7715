"""Child processes of the demonstration: their lines with their names, and one place to wait for any of them."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Final, final

import trio
from rich.console import Console
from rich.text import Text

__all__ = ["Cast", "Child", "DemonstrationFailed"]

_STYLES: Final = ("bold white", "cyan", "bright_cyan", "green", "bright_green", "magenta", "yellow")
_NAME_WIDTH: Final = 18


class DemonstrationFailed(Exception):
    """A process did not do what it was there for."""


@final
class Child:
    """One process of the demonstration.

    Attributes:
        name: what it is called.
        style: how its name is shown on a terminal.
        process: the process itself.
        lines: what it has printed on stdout.
        log: what it has printed on stderr.
        may_end: whether its end is part of the plan yet.
        status: its exit status, once it has ended.
    """

    def __init__(self, name: str, style: str, process: trio.Process) -> None:
        self.name = name
        self.style = style
        self.process = process
        self.lines: list[str] = []
        self.log: list[str] = []
        self.may_end = False
        self.status: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it has ended, and all it printed has been read."""
        return self.status is not None


@final
class Cast:
    """All processes of one demonstration.

    When the nursery is cancelled or fails, each is ended: by SIGTERM and, should it not obey, by SIGKILL.

    Args:
        nursery: where the processes live.
        console: where their lines are shown.
        show: what is shown of a line of a process's stderr; None to leave it out.
    """

    def __init__(self, nursery: trio.Nursery, console: Console, show: Callable[[str], str | None]) -> None:
        self._nursery = nursery
        self._console = console
        self._show = show
        self._news = trio.lowlevel.ParkingLot()  # whoever waits for a line or an end
        self._children: list[Child] = []

    async def start(self, name: str, *arguments: str) -> Child:
        """Start ``trio-broker`` with these arguments as a process of its own."""
        command = [sys.executable, "-m", "trio_broker", *arguments]
        # Options that are set in the environment are meant for other commands than these.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TRIO_BROKER_")}
        process = await self._nursery.start(
            functools.partial(
                trio.run_process,
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
                env=environment,
            )
        )
        child = Child(name, _STYLES[len(self._children) % len(_STYLES)], process)
        self._children.append(child)
        self._nursery.start_soon(self._follow, child)
        return child

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a line or an end makes the condition true."""
        await trio.lowlevel.checkpoint()
        while not condition():
            await self._news.park()

    async def all_ended(self) -> None:
        """Wait until every process has ended."""
        await self.until(lambda: all(child.ended for child in self._children))

    def now_all_may_end(self) -> None:
        """From now on the end of a process is no failure."""
        for child in self._children:
            child.may_end = True

    async def _follow(self, child: Child) -> None:
        assert child.process.stdout is not None
        assert child.process.stderr is not None
        async with trio.open_nursery() as relays:
            relays.start_soon(self._relay, child, child.process.stdout, child.lines, _unchanged)
            relays.start_soon(self._relay, child, child.process.stderr, child.log, self._show)
        child.status = await child.process.wait()
        self._news.unpark_all()
        if child.status != 0:
            raise DemonstrationFailed(f"{child.name} ended with status {child.status}")
        if not child.may_end:
            raise DemonstrationFailed(f"{child.name} ended too early")

    async def _relay(
        self, child: Child, stream: trio.abc.ReceiveStream, lines: list[str], show: Callable[[str], str | None]
    ) -> None:
        """Keep and show each line of a stream."""
        rest = b""
        async for data in stream:
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                self._take(child, line.decode(errors="backslashreplace"), lines, show)
        if rest:
            self._take(child, rest.decode(errors="backslashreplace"), lines, show)

    def _take(self, child: Child, line: str, lines: list[str], show: Callable[[str], str | None]) -> None:
        lines.append(line)
        shown = show(line)
        if shown is not None:
            label = (f"{child.name:<{_NAME_WIDTH}}", child.style)
            self._console.print(Text.assemble(label, shown), soft_wrap=True)
        self._news.unpark_all()


def _unchanged(line: str) -> str:
    return line
