"""A server and its client in one program, over a real socket on the loopback interface.

Prints::

    over the network: b'job 0'
    over the network: b'job 1'
    in process: b'job 2'
"""

import functools

import trio

import trio_broker


async def main() -> None:
    """Publish over the network, receive over the network and in process."""
    async with trio_broker.open_broker() as broker, trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(trio_broker.serve, broker, port=0))
        async with trio_broker.connect("127.0.0.1", server.port) as client:
            for number in range(2):
                await client.publish("/queue/jobs", b"job %d" % number)
            async with client.subscribe("/queue/jobs") as jobs:
                for _ in range(2):
                    print(f"over the network: {(await jobs.receive()).body!r}")
            async with broker.subscribe("/topic/news") as news:
                await client.publish("/topic/news", b"job 2")
                print(f"in process: {(await news.receive()).body!r}")
        await server.drain()  # `serve` returns, and with it the nursery ends


if __name__ == "__main__":
    trio.run(main)
