"""A program that carries a broker's server inside, and ends it in order.

Prints::

    received 1000 of 1000, then the end
    drained: 0 messages discarded, 0 connections cut
"""

import functools

import trio

import trio_broker

COUNT = 1_000


async def consume(port: int, began: trio.Event) -> None:
    """Receive until the server has sent all it had for us, and closed."""
    received = 0
    async with trio_broker.connect("127.0.0.1", port) as client, client.subscribe("/queue/jobs") as jobs:
        async for _ in jobs:
            received += 1
            began.set()
    print(f"received {received} of {COUNT}, then the end")


async def main() -> None:
    """Serve, let a consumer begin, and drain while messages are on their way to it."""
    async with trio_broker.open_broker() as broker, trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(trio_broker.serve, broker, port=0))
        for number in range(COUNT):
            await broker.publish("/queue/jobs", b"%d" % number)
        began = trio.Event()
        nursery.start_soon(consume, server.port, began)
        await began.wait()
        report = await server.drain()
    print(f"drained: {report.discarded} messages discarded, {report.cut} connections cut")


if __name__ == "__main__":
    trio.run(main)
