"""A topic and a queue inside one program: no socket, no server.

Prints::

    ada has b'hello'
    bob has b'hello'
    one of them has b'a job'
    nobody has anything more
"""

import trio

import trio_broker


async def main() -> None:
    """Publish one message to a topic, which both get, and one to a queue, which one of them gets."""
    async with trio_broker.open_broker() as broker:
        async with broker.subscribe("/topic/news") as ada, broker.subscribe("/topic/news") as bob:
            await broker.publish("/topic/news", b"hello")
            print(f"ada has {(await ada.receive()).body!r}")
            print(f"bob has {(await bob.receive()).body!r}")

        await broker.publish("/queue/jobs", b"a job")  # nobody is there: it waits in the queue
        async with broker.subscribe("/queue/jobs") as ada, broker.subscribe("/queue/jobs") as bob:
            print(f"one of them has {(await ada.receive()).body!r}")
            try:
                bob.receive_nowait()
            except trio.WouldBlock:
                print("nobody has anything more")


if __name__ == "__main__":
    trio.run(main)
