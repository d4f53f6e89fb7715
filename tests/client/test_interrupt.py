"""Ctrl-C in a program that is publishing as fast as it can: a real process, a real signal."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys

import pytest
import trio

from trio_broker import open_broker, serve

PROGRAM = """
import sys
import trio
import trio_broker

async def main():
    async with trio_broker.connect("127.0.0.1", int(sys.argv[1]), protocol=sys.argv[2]) as client:
        while True:
            await client.publish("/topic/x", b"x" * 100)

try:
    trio.run(main)
except KeyboardInterrupt:
    print("interrupted")
"""
TRIES = 5


@pytest.mark.parametrize("protocol", ["framed", "stomp"])
async def test_ctrl_c_leaves_a_client_as_itself(protocol: str) -> None:
    """Not in a group, wherever it strikes: the client's own tasks are protected from it."""
    async with open_broker() as broker, trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(serve, broker, port=0))
        with trio.fail_after(60):
            for _ in range(TRIES):
                async with broker.subscribe("/topic/x") as watched:
                    process = await nursery.start(
                        functools.partial(
                            trio.run_process,
                            [sys.executable, "-c", PROGRAM, str(server.port), protocol],
                            stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE,
                            check=False,
                        )
                    )
                    for _ in range(1000):  # it is in full flow
                        await watched.receive()
                process.send_signal(signal.SIGINT)
                output = b"".join([data async for data in process.stdout])
                errors = b"".join([data async for data in process.stderr])
                assert (output, errors) == (b"interrupted\n", b"")
        await server.drain()
