"""The scenarios that the tests of ``trio-broker explore`` explore, and what the command has said."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

SCENARIOS = """
import itertools
import sys
import time

import trio

from trio_broker.explorer import afterwards

counter = itertools.count()


async def safe():
    print("a line of the scenario")
    await trio.lowlevel.checkpoint()


async def two_awaits():
    with trio.CancelScope():
        await trio.lowlevel.checkpoint(); await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


async def lost():
    held = []

    async def check():
        assert not held, "what is held\\nis lost"

    afterwards(check)
    held.append(1)
    await trio.lowlevel.checkpoint()
    held.clear()


async def lost_without_words():
    held = [1]

    async def check():
        assert not held

    afterwards(check)
    await trio.lowlevel.checkpoint()
    held.clear()


async def worker(name):
    try:
        await trio.lowlevel.checkpoint()
    except trio.Cancelled:
        raise ValueError(name)


async def group():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker, "one")
        nursery.start_soon(worker, "two")


async def quiet_group():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)


async def broken():
    async with trio.open_nursery():
        raise LookupError("of its own")


async def swallows():
    try:
        await trio.sleep(1)
    except trio.Cancelled:
        pass


async def moody():
    for _ in range(next(counter) % 2):
        await trio.lowlevel.checkpoint()


async def slow():
    for number in range(200):
        if number == 50:
            print("in full flow", file=sys.stderr, flush=True)
        sum(range(200_000))  # a step that takes real time, so that a person could interrupt it
        await trio.lowlevel.checkpoint()


async def hangs():
    await trio.lowlevel.checkpoint()
    while True:
        pass


async def hangs_when_cancelled():
    try:
        await trio.sleep(1)
    except trio.Cancelled:
        while True:
            pass


async def sleeps():
    time.sleep(1)  # refused before it sleeps


async def tells_the_time():
    time.time()
    await trio.lowlevel.checkpoint()


async def with_arguments(one, two=2):
    await trio.lowlevel.checkpoint()


def plain():
    pass


class Holder:
    @staticmethod
    async def inside():
        await trio.lowlevel.checkpoint()


number = 1
"""


Explore = Callable[..., Result]


def one_line(result: Result, status: int) -> str:
    """The one line on stderr of a command that ended with this status and printed nothing else."""
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.count("\n") == 1
    return result.stderr


def line_after(text: str) -> int:
    """The number of the line that comes after the line with this text."""
    return next(number for number, line in enumerate(SCENARIOS.splitlines(), 2) if text in line)
