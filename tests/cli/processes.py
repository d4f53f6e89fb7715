"""Real processes for tests: start one, wait for its lines, send it signals, see how it ends."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

__all__ = ["ROOT", "Running", "broker", "program", "running"]

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS: Final = 30


class Running:
    """A process whose output is read as it comes."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.out = b""
        self.err = b""
        self.status: int | None = None
        self._news = trio.lowlevel.ParkingLot()

    @property
    def lines(self) -> list[str]:
        """The whole lines on stdout."""
        return self.out.decode().split("\n")[:-1]

    @property
    def log(self) -> list[str]:
        """The whole lines on stderr."""
        return self.err.decode().split("\n")[:-1]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The lines on stderr, each of which must be a JSON object."""
        return [json.loads(line) for line in self.log]

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until output or the end makes a condition true."""
        with trio.move_on_after(PATIENCE_SECONDS):
            await trio.lowlevel.checkpoint()
            while not condition() and self.status is None:
                await self._news.park()
        assert condition(), f"waited for {what}; status {self.status}\n{self.out.decode()}\n{self.err.decode()}"

    async def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line on stdout; the pattern must match all of it."""
        await self.until(lambda: any(re.fullmatch(pattern, line) for line in self.lines), pattern)
        return next(match for line in self.lines if (match := re.fullmatch(pattern, line)))

    async def log_line(self, pattern: str) -> str:
        """Wait for a line on stderr in which the pattern is found."""
        await self.until(lambda: any(re.search(pattern, line) for line in self.log), pattern)
        return next(line for line in self.log if re.search(pattern, line))

    async def event(self, event: str, count: int = 1, **details: str) -> None:
        """Wait for so many JSON records of an event with these details."""
        wanted = {"event": event, **details}.items()
        await self.until(lambda: sum(wanted <= record.items() for record in self.records) >= count, f"{wanted}")

    def signal(self, number: int = signal.SIGINT) -> None:
        """Send it a signal: Ctrl-C, unless told otherwise."""
        self.process.send_signal(number)

    async def type(self, data: bytes, *, end: bool = False) -> None:
        """Write to its standard input."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(data)
        if end:
            await self.process.stdin.aclose()

    async def end(self) -> int:
        """Wait for its end and return its status. It must not have shown a traceback."""
        await self.until(lambda: self.status is not None, "its end")
        assert "Traceback" not in self.err.decode(), self.err.decode()
        assert self.status is not None
        return self.status

    async def follow(self) -> None:
        """Read its output until it ends."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, self.process.stdout, "out")
            nursery.start_soon(self._read, self.process.stderr, "err")
        self.status = await self.process.wait()
        self._news.unpark_all()

    async def _read(self, stream: trio.abc.ReceiveStream, name: str) -> None:
        async for data in stream:
            setattr(self, name, getattr(self, name) + data)
            self._news.unpark_all()


@asynccontextmanager
async def running(*command: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Running]:
    """A process for the length of a block; stopped at the end, should it still run."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TRIO_BROKER_")}
    clean |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(environment or {})}
    start = functools.partial(
        trio.run_process,
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
        env=clean,
        cwd=ROOT,
        deliver_cancel=_stop,
    )
    async with trio.open_nursery() as nursery:
        child = Running(await nursery.start(start))
        nursery.start_soon(child.follow)
        yield child
        nursery.cancel_scope.cancel(reason="the block was left")


async def _stop(process: trio.Process) -> None:
    """In order first: one that is killed can no longer stop the processes that it has started itself."""
    process.terminate()
    with trio.move_on_after(5):
        await process.wait()
        return
    process.kill()


def program(*arguments: str, environment: Mapping[str, str] | None = None) -> AbstractAsyncContextManager[Running]:
    """``trio-broker`` with these arguments; see `running`."""
    return running(sys.executable, "-m", "trio_broker", *arguments, environment=environment)


@asynccontextmanager
async def broker(*arguments: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[tuple[Running, int]]:
    """A broker that listens, with JSON logs, and its port."""
    command = ("serve", "--port", "0", "--log-format", "json", *arguments)
    async with program(*command, environment=environment) as child:
        match = await child.line(r"Serving on 127\.0\.0\.1:([0-9]+)")
        yield child, int(match[1])
