"""Clients that others wrote, and our own, each with the same two verbs.

``send`` returns when the broker has confirmed all, where the protocol can tell. ``receive`` takes so many messages from
a queue and acknowledges each, where it can; the messages may be there before it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import subprocess
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, final

import stomp
import stompman
import trio
from stompman.connection import AbstractConnection, Connection
from stompman.frames import AnyServerFrame

from trio_broker.client import framed, open_subscription

PATIENCE_SECONDS: Final = 60
STOMPJS: Final = Path(__file__).with_name("stompjs_client.mjs")


class Got(NamedTuple):
    """A message as a client saw it."""

    headers: Mapping[str, str]
    body: bytes


class InteropClient(Protocol):
    """A client of some protocol."""

    name: str
    has_headers: bool

    def send(self, port: int, destination: str, bodies: Sequence[bytes], headers: Mapping[str, str]) -> None: ...

    def receive(self, port: int, destination: str, count: int) -> list[Got]: ...


@final
class Listener(stomp.ConnectionListener):  # type: ignore[misc]  # stomp.py has no types
    """Collects what a connection of stomp.py gets."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Got] = queue.Queue()
        self.receipts: queue.Queue[str] = queue.Queue()
        self.errors: queue.Queue[Got] = queue.Queue()
        self.disconnected: queue.Queue[None] = queue.Queue()
        self.beats: queue.Queue[None] = queue.Queue()

    def on_message(self, frame: Any) -> None:
        self.messages.put(Got(frame.headers, frame.body))

    def on_receipt(self, frame: Any) -> None:
        self.receipts.put(frame.headers["receipt-id"])

    def on_error(self, frame: Any) -> None:
        self.errors.put(Got(frame.headers, frame.body))

    def on_disconnected(self) -> None:
        self.disconnected.put(None)

    def on_heartbeat(self) -> None:
        self.beats.put(None)

    def receipt(self, receipt_id: str) -> None:
        """Wait for the next receipt, which must be this."""
        assert self.receipts.get(timeout=PATIENCE_SECONDS) == receipt_id

    def message(self) -> Got:
        """Wait for the next message."""
        return self.messages.get(timeout=PATIENCE_SECONDS)

    def beat(self) -> None:
        """Wait for the server's next heart-beat."""
        self.beats.get(timeout=PATIENCE_SECONDS)


@contextlib.contextmanager
def stomp_py(port: int, version: str = "1.2", **arguments: Any) -> Iterator[tuple[Any, Listener]]:
    """A connection of stomp.py; at the end it says goodbye and waits for the receipt."""
    kinds = {"1.0": stomp.Connection10, "1.1": stomp.Connection11, "1.2": stomp.Connection12}
    connection = kinds[version]([("127.0.0.1", port)], auto_decode=False, **arguments)
    listener = Listener()
    connection.set_listener("test", listener)
    connection.connect("somebody", ":=secret", wait=True)
    try:
        yield connection, listener
    finally:
        if connection.is_connected():
            connection.disconnect(receipt="goodbye")
            listener.disconnected.get(timeout=PATIENCE_SECONDS)


@final
class StompPy:
    """stomp.py, in one of the versions of the protocol."""

    has_headers = True

    def __init__(self, version: str) -> None:
        self.version = version
        self.name = f"stomp.py {version}"

    def send(self, port: int, destination: str, bodies: Sequence[bytes], headers: Mapping[str, str]) -> None:
        with stomp_py(port, self.version) as (connection, listener):
            for number, body in enumerate(bodies):
                connection.send(destination, body, headers={**headers, "receipt": str(number)})
                listener.receipt(str(number))

    def receive(self, port: int, destination: str, count: int) -> list[Got]:
        with stomp_py(port, self.version) as (connection, listener):
            connection.subscribe(destination, id="7", ack="client")
            messages = []
            for _ in range(count):
                message = listener.message()
                messages.append(message)
                self.acknowledge(connection, message)
            return messages

    def acknowledge(self, connection: Any, message: Got) -> None:
        """ACK, as this version has it."""
        match self.version:
            case "1.0":
                connection.ack(message.headers["message-id"])
            case "1.1":
                connection.ack(message.headers["message-id"], message.headers["subscription"])
            case _:
                connection.ack(message.headers["ack"])


def stompman_client(port: int, connection_class: type[AbstractConnection] = Connection) -> stompman.Client:
    """A client of stompman, and of what class its connections are."""
    server = stompman.ConnectionParameters("127.0.0.1", port, login="somebody", passcode=":=secret")
    return stompman.Client([server], connection_class=connection_class)


def telling_connection(beats: asyncio.Queue[AbstractConnection]) -> type[AbstractConnection]:
    """A class of connections for stompman, which put themselves into a queue at each heart-beat of the server."""

    class Telling(Connection):
        async def read_frames(  # noqa: ASYNC900  it is stompman's that this takes the place of
            self,
        ) -> AsyncGenerator[AnyServerFrame, None]:
            async for frame in super().read_frames():
                if isinstance(frame, stompman.HeartbeatFrame):
                    beats.put_nowait(self)
                yield frame

    return Telling


@final
class Stompman:
    """stompman, on asyncio."""

    name = "stompman"
    has_headers = True

    def send(self, port: int, destination: str, bodies: Sequence[bytes], headers: Mapping[str, str]) -> None:
        async def run() -> None:
            async with stompman_client(port) as client:
                for body in bodies:
                    await client.send(body, destination, headers=dict(headers), receipt_timeout=PATIENCE_SECONDS)

        asyncio.run(asyncio.wait_for(run(), PATIENCE_SECONDS))

    def receive(self, port: int, destination: str, count: int) -> list[Got]:
        messages: list[Got] = []

        async def run() -> None:
            done = asyncio.Event()

            async def handle(frame: stompman.AckableMessageFrame) -> None:
                messages.append(Got({**frame.headers}, frame.body))  # type: ignore[dict-item]  # all are strings
                await frame.ack()
                if len(messages) == count:
                    done.set()

            async with stompman_client(port) as client:
                subscription = await client.subscribe_with_manual_ack(destination, handle)
                await done.wait()
                await subscription.unsubscribe()

        asyncio.run(asyncio.wait_for(run(), PATIENCE_SECONDS))
        return messages


@final
class StompJs:
    """@stomp/stompjs, in Node.

    Args:
        node: the program.
        modules: a folder with ``node_modules`` in it.
    """

    name = "stompjs"
    has_headers = True

    def __init__(self, node: str, modules: Path) -> None:
        self._node = node
        self._modules = modules

    def send(self, port: int, destination: str, bodies: Sequence[bytes], headers: Mapping[str, str]) -> None:
        task = {"do": "send", "bodies": [body.hex() for body in bodies], "headers": headers}
        assert self._run(port, destination, task) == len(bodies)

    def receive(self, port: int, destination: str, count: int) -> list[Got]:
        return self._frames(port, destination, {"do": "receive", "count": count})

    def transact(self, port: int, destination: str) -> list[Got]:
        """Send in a transaction that is committed and in one that is not, and give the first message back once."""
        return self._frames(port, destination, {"do": "transact"})

    def _frames(self, port: int, destination: str, task: Mapping[str, Any]) -> list[Got]:
        frames = self._run(port, destination, task)
        return [Got(frame["headers"], bytes.fromhex(frame["body"])) for frame in frames]

    def _run(self, port: int, destination: str, task: Mapping[str, Any]) -> Any:
        program = self._modules / STOMPJS.name
        program.write_bytes(STOMPJS.read_bytes())  # a module finds its packages from where it is
        done = subprocess.run(
            [self._node, str(program)],
            input=json.dumps({"port": port, "destination": destination, **task}).encode(),
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)


@final
class Framed:
    """Our own client of the framed protocol, which has no headers and no receipts."""

    name = "framed"
    has_headers = False

    def send(self, port: int, destination: str, bodies: Sequence[bytes], headers: Mapping[str, str]) -> None:
        async def run() -> None:
            async with framed.connect("127.0.0.1", port) as client:
                for body in bodies:
                    await client.publish(destination, body)

        trio.run(run)

    def receive(self, port: int, destination: str, count: int) -> list[Got]:
        async def run() -> list[Got]:
            with trio.fail_after(PATIENCE_SECONDS):
                async with open_subscription("127.0.0.1", port, destination) as subscription:
                    return [Got({}, (await subscription.receive()).body) for _ in range(count)]

        return trio.run(run)
