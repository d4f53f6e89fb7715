"""hypercorn on Trio: an application that says hello, and clients that come one after the other.

Install the library with ``pip install 'trio-broker[explore-examples]'``, and explore::

    python -m trio_broker explore examples/explore/hypercorn_hello.py:scenario --seeds 3 --watch hypercorn.trio

What came out is in docs/explorer.md.
"""

import math
from unittest import mock

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config, Sockets
from hypercorn.trio.run import worker_serve
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from hypercorn.utils import LifespanTimeoutError

from trio_broker.explorer import afterwards
from trio_broker.explorer.network import Network

BODY = b"hello " * 100
PATIENCE = 30  # in seconds; what a client waits for an answer


class Program:
    """A server and its clients, and what they saw of each other."""

    def __init__(self) -> None:
        self.network = Network()
        self.bodies: list[bytes] = []  # of the answers that came whole
        self.stop = trio.Event()

    async def check(self) -> None:
        """No socket is left open, and an answer that is whole by HTTP's rules is what the application said."""
        await trio.lowlevel.checkpoint()
        assert not self.network.open_sockets, f"left open: {self.network.open_streams or self.network.open_sockets}"
        assert set(self.bodies) <= {BODY}, f"answers: {self.bodies}"

    async def serve(self) -> None:
        """The library's server."""
        config = Config()
        config.errorlog = config.accesslog = None
        # Hypercorn opens its sockets by the module socket and has Trio wrap them: this one is Trio's already.
        with mock.patch("trio.socket.from_stdlib_socket", lambda sock: sock):
            async with (await trio.open_tcp_listeners(8000, host="127.0.0.1"))[0] as listener:
                sockets = Sockets([], [listener.socket], [])
                try:
                    await worker_serve(ASGIWrapper(hello), config, sockets=sockets, shutdown_trigger=self.stop.wait)
                except* LifespanTimeoutError:
                    pass

    async def ask(self) -> None:
        """One client, by h11. It may fail as networks do."""
        try:
            with trio.move_on_after(PATIENCE):
                async with await trio.open_tcp_stream("localhost", 8000) as stream:
                    http, body = h11.Connection(h11.CLIENT), b""
                    request = h11.Request(method="GET", target="/", headers=[("Host", "localhost")])
                    await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
                    while True:
                        match http.next_event():
                            case h11.NEED_DATA:
                                http.receive_data(await stream.receive_some())
                            case h11.Response(status_code=status):
                                assert status == 200, f"status {status}"
                            case h11.Data(data=data):
                                body += data
                            case h11.EndOfMessage():
                                self.bodies.append(body)
                                return
                            case other:
                                raise AssertionError(f"no part of an answer: {other}")
        except (OSError, trio.BrokenResourceError, h11.RemoteProtocolError):
            pass  # an end too soon is an error of the protocol


async def hello(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """An application of the web: it starts and ends, and answers each request with a hello."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    else:
        headers = [(b"content-length", b"%d" % len(BODY))]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": BODY, "more_body": False})


async def scenario() -> None:
    """Only one thing goes wrong in a run, so of two clients one is served, unless nobody listens any more."""
    program = Program()
    program.network.install()
    afterwards(program.check)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(program.serve)
        await trio.sleep(1)
        for _ in range(2):
            with trio.move_on_after(math.inf):  # a client that may be cancelled alone
                await program.ask()
        assert program.bodies or not program.network.open_listeners, "nobody was served"
        program.stop.set()
