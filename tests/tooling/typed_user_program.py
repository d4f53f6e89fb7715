"""A small program of a user, type-checked against the public API with trio-typing installed and without it.

The ``assert_type`` lines are the point: they fail if a public type has turned into ``Any`` or into a stub's idea of it.
test_typed_user_program.py runs it too.
"""

import functools
from typing import assert_type

import trio

import trio_broker


async def in_process() -> bytes:
    """Publish and receive without a socket."""
    async with trio_broker.open_broker() as broker, broker.subscribe("/topic/news") as news:
        await broker.publish("/topic/news", b"hello")
        message = await news.receive()
        assert_type(message, trio_broker.Message)
        assert_type(message.channel, str)
        return assert_type(message.body, bytes)


async def over_the_network() -> bytes:
    """The same verbs, with a server in between."""
    async with trio_broker.open_broker() as broker, trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(trio_broker.serve, broker, host="127.0.0.1", port=0))
        async with trio_broker.connect("127.0.0.1", server.port) as client:
            async with client.subscribe("/queue/jobs") as jobs:
                await client.publish("/queue/jobs", b"work")
                message = await jobs.receive()
                assert_type(message, trio_broker.Message)
        nursery.cancel_scope.cancel()
    return message.body


async def main() -> tuple[bytes, bytes]:
    """Do both."""
    return await in_process(), await over_the_network()


if __name__ == "__main__":
    print(trio.run(main))
