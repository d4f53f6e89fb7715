"""websockets on Trio: an echo server, and clients that come one after the other.

Install the library with ``pip install 'trio-broker[explore-examples]'``, and explore::

    python -m trio_broker explore examples/explore/websockets_echo.py:scenario --seeds 3 --watch websockets.trio

Masks and keys are random, but all of one length, so that each run goes the same way. What came out is in
docs/explorer.md.
"""

import math

import trio
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.trio.client import connect
from websockets.trio.server import ServerConnection, serve

from trio_broker.explorer import afterwards
from trio_broker.explorer.network import Network

MESSAGES = ["a", "b" * 100]
PATIENCE = 30  # in seconds; what a program gives a conversation
OPEN_TIMEOUT = CLOSE_TIMEOUT = 10  # in seconds; what the library gives each handshake


class Echo:
    """A server and its clients, and what they saw of each other."""

    def __init__(self) -> None:
        self.network = Network()
        self.answers: list[list[str | bytes]] = []  # of each client
        self.seconds: list[float] = []  # that each client took

    async def check(self) -> None:
        """No socket is left open, no answer is another than the echo, and nobody waited longer than was promised."""
        await trio.lowlevel.checkpoint()
        assert not self.network.open_sockets, f"left open: {self.network.open_streams or self.network.open_sockets}"
        for answers in self.answers:
            assert answers == MESSAGES[: len(answers)], f"answers: {answers}"
        longest = max(self.seconds, default=0)
        assert longest <= PATIENCE + OPEN_TIMEOUT + CLOSE_TIMEOUT, f"it took {longest} s"

    async def serve(self) -> None:
        """The library's server."""
        async with (await trio.open_tcp_listeners(8000, host="127.0.0.1"))[0] as listener:
            await serve(answer, listeners=[listener])

    async def talk(self) -> None:
        """One client. It may fail in the ways that the documentation names."""
        answers: list[str | bytes] = []
        self.answers.append(answers)
        began = trio.current_time()
        try:
            async with connect("ws://localhost:8000/", proxy=None) as websocket:
                with trio.move_on_after(PATIENCE):
                    for message in MESSAGES:
                        await websocket.send(message)
                        answers.append(await websocket.recv())
        except (OSError, InvalidHandshake, ConnectionClosed):
            pass  # TimeoutError is an OSError
        finally:
            self.seconds.append(trio.current_time() - began)


async def answer(websocket: ServerConnection) -> None:
    """The server's side of a conversation."""
    async for message in websocket:
        await websocket.send(message)


async def scenario() -> None:
    """Only one thing goes wrong in a run, so of two clients one is served, unless nobody listens any more."""
    echo = Echo()
    echo.network.install()
    afterwards(echo.check)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo.serve)
        await trio.sleep(1)
        for _ in range(2):
            with trio.move_on_after(math.inf):  # a client that may be cancelled alone
                await echo.talk()
        served = [answers for answers in echo.answers if answers == MESSAGES]
        assert served or not echo.network.open_listeners, "nobody was served"
        nursery.cancel_scope.cancel()
