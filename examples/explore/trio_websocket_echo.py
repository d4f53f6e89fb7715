"""trio-websocket: an echo server, and clients that come one after the other.

Install the library with ``pip install 'trio-broker[explore-examples]'``, and explore::

    python -m trio_broker explore examples/explore/trio_websocket_echo.py:scenario --seeds 3 --watch trio_websocket

Masks and keys are random, but all of one length, so that each run goes the same way. What came out is in
docs/explorer.md.
"""

import math

import trio
from trio_websocket import (
    ConnectionClosed,
    HandshakeError,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    open_websocket_url,
)

from trio_broker.explorer import afterwards
from trio_broker.explorer.network import Network

MESSAGES = ["a", "b" * 100]
PATIENCE = 30  # in seconds; what a program gives a conversation
TIMEOUT = 60  # in seconds; what the library gives each handshake, the opening and the closing one


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
        assert max(self.seconds, default=0) <= PATIENCE + 2 * TIMEOUT, f"it took {max(self.seconds)} s"

    async def serve(self) -> None:
        """The library's server."""
        async with (await trio.open_tcp_listeners(8000, host="127.0.0.1"))[0] as listener:
            await WebSocketServer(answer, [listener]).run()

    async def talk(self) -> None:
        """One client. It may fail in the ways that the documentation names."""
        answers: list[str | bytes] = []
        self.answers.append(answers)
        began = trio.current_time()
        try:
            async with open_websocket_url("ws://localhost:8000/") as websocket:
                with trio.move_on_after(PATIENCE):
                    for message in MESSAGES:
                        await websocket.send_message(message)
                        answers.append(await websocket.get_message())
        except (HandshakeError, ConnectionClosed):
            pass
        finally:
            self.seconds.append(trio.current_time() - began)


async def answer(request: WebSocketRequest) -> None:
    """The server's side of a conversation."""
    try:
        websocket: WebSocketConnection = await request.accept()
        while True:
            await websocket.send_message(await websocket.get_message())
    except ConnectionClosed:
        pass


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
