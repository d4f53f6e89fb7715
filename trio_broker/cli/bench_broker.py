"""A broker of a benchmark's own: a child process on a free port of the loopback interface."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import click
import trio

from trio_broker.limits import Limits

__all__ = ["own_broker"]

_START_SECONDS_MAX: Final = 30
_SERVING: Final = re.compile(rb"Serving on 127\.0\.0\.1:([0-9]+)\n")


@asynccontextmanager
async def own_broker(limits: Limits) -> AsyncIterator[tuple[int, trio.Process]]:
    """Run ``trio-broker serve`` for the length of a block; gives its port and the process.

    It has a process group of its own, so that Ctrl-C in a terminal reaches the benchmark alone, which then ends it.
    Its errors go to our stderr.

    Raises:
        click.ClickException: it did not come up.

    Cancellation: cleanup. The process is ended whatever is raised: by SIGTERM and, should it not obey, by SIGKILL.
    """
    sizes = ("--frame-bytes-max", str(limits.frame_bytes_max), "--channel-bytes-max", str(limits.channel_bytes_max))
    command = [sys.executable, "-m", "trio_broker", "serve", "--port", "0", "--log-level", "error", *sizes]
    # Options that are set in the environment are meant for other commands than this one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TRIO_BROKER_")}
    start = functools.partial(
        trio.run_process,
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
        env=environment,
        process_group=0,
    )
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(start)
        assert process.stdout is not None
        async with process.stdout as lines:
            yield await _port(lines), process
            nursery.cancel_scope.cancel(reason="the benchmark is over")


async def _port(lines: trio.abc.ReceiveStream) -> int:
    """The port that a broker says it serves."""
    said = b""
    with trio.move_on_after(_START_SECONDS_MAX):
        await trio.lowlevel.checkpoint()
        while data := await lines.receive_some():
            said += data
            if match := _SERVING.search(said):
                return int(match[1])
        raise click.ClickException("the broker that was started for this ended at once")
    raise click.ClickException(f"the broker that was started for this did not listen within {_START_SECONDS_MAX} s")
