"""coredis on Trio: two tasks that share a client, and a server in memory that knows the few commands they need.

Install the library with ``pip install 'trio-broker[explore-examples]'``, and explore::

    python -m trio_broker explore examples/explore/coredis_commands.py:scenario --seeds 3 --watch coredis.pool

What came out is in docs/explorer.md.
"""

import math

import coredis
import trio
from coredis.exceptions import RedisError
from coredis.retry import NoRetryPolicy

from trio_broker.explorer import afterwards
from trio_broker.explorer.network import Network

CONNECT_TIMEOUT = 5  # in seconds
STREAM_TIMEOUT = 10  # in seconds; what an answer may take, and how long a connection may be silent
POOL_TIMEOUT = 20  # in seconds; what it may take to get a connection from the pool
PATIENCE = 2 * (POOL_TIMEOUT + STREAM_TIMEOUT)  # for two commands


class Server:
    """Answers in RESP3. Each of its tasks serves one connection."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    async def serve(self, stream: trio.SocketStream) -> None:
        """Read commands, arrays of strings, and answer each."""
        buffer = bytearray()

        async def line() -> bytes:
            while b"\r\n" not in buffer:
                data = await stream.receive_some()
                if not data:
                    raise trio.BrokenResourceError("the client has left")
                buffer.extend(data)
            text, _, rest = bytes(buffer).partition(b"\r\n")
            buffer[:] = rest
            return text

        try:
            async with stream:
                while True:
                    count = int((await line())[1:])
                    words = [(await line(), await line())[1] for _ in range(count)]
                    await stream.send_all(self.answer(words))
        except trio.BrokenResourceError:
            pass

    def answer(self, words: list[bytes]) -> bytes:
        """What the server says to a command."""
        match words:
            case [b"HELLO", *_]:
                return b"%3\r\n+proto\r\n:3\r\n+version\r\n+7.4.0\r\n+id\r\n:1\r\n"
            case [b"SET", key, value, *_]:
                self.values[key] = value
                return b"+OK\r\n"
            case [b"GET", key]:
                found = self.values.get(key)
                return b"_\r\n" if found is None else b"$%d\r\n%s\r\n" % (len(found), found)
            case _:
                return b"+OK\r\n"


class Program:
    """Tasks that share a client, and what the library told them."""

    def __init__(self) -> None:
        self.network = Network()
        self.server = Server()
        self.stored: dict[str, str] = {}  # what a command has reported as stored
        self.seconds: list[float] = []  # that each task took

    async def check(self) -> None:
        """No socket is left open, what was reported as stored is there, and nobody waited longer than was promised."""
        await trio.lowlevel.checkpoint()
        assert not self.network.open_sockets, f"left open: {self.network.open_streams or self.network.open_sockets}"
        there = {key.decode(): value.decode() for key, value in self.server.values.items()}
        assert self.stored.items() <= there.items(), f"stored: {self.stored}, there: {there}"
        assert max(self.seconds, default=0) <= PATIENCE, f"it took {max(self.seconds)} s"

    async def serve(self) -> None:
        """The server."""
        async with (await trio.open_tcp_listeners(6379, host="127.0.0.1"))[0] as listener:
            await trio.serve_listeners(self.server.serve, [listener])

    async def use(self, client: coredis.Redis[str], key: str) -> None:
        """Store a value and read it again. It may fail in the ways that the documentation names."""
        began = trio.current_time()
        try:
            with trio.move_on_after(math.inf):  # a task that may be cancelled alone
                if await client.set(key, key * 100):
                    self.stored[key] = key * 100
                value = await client.get(key)
                assert value == self.stored[key], f"the value of {key}: {value}"
        except (RedisError, TimeoutError):
            pass
        finally:
            self.seconds.append(trio.current_time() - began)


async def scenario() -> None:
    """Only one thing goes wrong in a run, and then a use of the client is served, unless nobody listens any more."""
    program = Program()
    program.network.install()
    afterwards(program.check)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(program.serve)
        await trio.sleep(1)
        with trio.move_on_after(math.inf):  # all that use the client may be cancelled together
            async with coredis.Redis(
                host="localhost",
                connect_timeout=CONNECT_TIMEOUT,
                stream_timeout=STREAM_TIMEOUT,
                max_idle_time=STREAM_TIMEOUT,
                pool_timeout=POOL_TIMEOUT,
                max_connections=1,
                retry_policy=NoRetryPolicy(),
                decode_responses=True,
            ) as client:
                async with trio.open_nursery() as users:
                    users.start_soon(program.use, client, "a")
                    users.start_soon(program.use, client, "b")
                for key in ("c", "d", "e"):
                    await program.use(client, key)
                served = program.stored.keys() & {"c", "d", "e"}
                assert served or not program.network.open_listeners, "the client serves nobody any more"
        nursery.cancel_scope.cancel()
