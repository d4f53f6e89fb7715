"""A broker and a server in a process of their own, for tests that measure it from outside.

Prints its port, and serves until its standard input ends. Argument: stall_seconds_max.
"""

import functools
import sys

import trio

import trio_broker


async def main(stall_seconds_max: float) -> None:
    """Serve until the end of the standard input."""
    limits = trio_broker.Limits(stall_seconds_max=stall_seconds_max)
    async with trio_broker.open_broker(limits) as broker, trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(trio_broker.serve, broker, port=0))
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read)
        await server.drain()


if __name__ == "__main__":
    trio.run(main, float(sys.argv[1]))
