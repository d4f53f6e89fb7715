"""A broker of a few lines, in a thread, that can be told to lose, double and change what it delivers."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from benchmarks.harness.audience import PROBE
from benchmarks.harness.brokers import Address

READ_SIZE = 1 << 16

# What becomes of the payload of the delivery with this number; those that prove subscriptions have none.
Alter = Callable[[int, bytes], list[bytes]]


def faithful(_number: int, payload: bytes) -> list[bytes]:
    """Deliver it once."""
    return [payload]


@dataclass
class Client:
    """A connection, what has come of an unfinished frame, and its channel."""

    socket: socket.socket
    pending: bytes = b""
    frames: list[bytes] = field(default_factory=list)
    channel: str | None = None


class Relay:
    """Speaks the framed protocol, or STOMP, as far as a load does; queues go round."""

    def __init__(self, *, stomp: bool = False, alter: Alter = faithful) -> None:
        self._stomp = stomp
        self._alter = alter
        self._number = 0
        self._messages = 0
        self._clients: list[Client] = []
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._end, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)

    @property
    def address(self) -> Address:
        host, port = self._listener.getsockname()
        return host, port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.close()
        self._thread.join()
        for sock in (self._listener, self._waker, *(client.socket for client in self._clients)):
            sock.close()
        self._selector.close()

    def _serve(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._waker, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._waker:
                    return
                if key.fileobj is self._listener:
                    client = Client(self._listener.accept()[0])
                    self._clients.append(client)
                    self._selector.register(client.socket, selectors.EVENT_READ, client)
                else:
                    self._read(key.data)

    def _read(self, client: Client) -> None:
        chunk = b""
        with contextlib.suppress(OSError):  # a load that found a fault leaves without a word
            chunk = client.socket.recv(READ_SIZE)
        if not chunk:
            self._selector.unregister(client.socket)
            self._clients.remove(client)
            client.socket.close()
            return
        client.pending += chunk
        for channel, payload in self._parse_stomp(client) if self._stomp else self._parse_framed(client):
            self._publish(channel, payload)

    def _parse_framed(self, client: Client) -> Iterator[tuple[str, bytes]]:
        while len(client.pending) >= 4 and len(client.pending) >= (
            end := 4 + int.from_bytes(client.pending[:4], "big")
        ):
            client.frames.append(client.pending[4:end])
            client.pending = client.pending[end:]
            if client.channel is None:
                client.channel = client.frames.pop().decode()
            elif len(client.frames) == 2:
                channel, payload = client.frames
                client.frames.clear()
                yield channel.decode(), payload

    def _parse_stomp(self, client: Client) -> Iterator[tuple[str, bytes]]:
        *whole, client.pending = client.pending.split(b"\0")
        for frame in whole:
            head, _, body = frame.lstrip(b"\n").partition(b"\n\n")
            command, *lines = head.decode().split("\n")
            headers = dict(line.split(":", 1) for line in lines)
            if command == "CONNECT":
                client.socket.sendall(b"CONNECTED\nversion:1.2\n\n\0\n")
            elif command == "SUBSCRIBE":
                client.channel = headers["destination"]
            elif command == "SEND":
                yield headers["destination"], body

    def _publish(self, channel: str, payload: bytes) -> None:
        subscribed = [client for client in self._clients if client.channel == channel]
        if channel.startswith("/queue") and subscribed:
            self._messages += 1
            subscribed = [subscribed[self._messages % len(subscribed)]]
        for client in subscribed:
            altered = [payload] if payload == PROBE else self._alter(self._number, payload)
            for each in altered:
                with contextlib.suppress(OSError):
                    client.socket.sendall(self._encode(channel, each))
            self._number += payload != PROBE

    def _encode(self, channel: str, payload: bytes) -> bytes:
        if not self._stomp:
            return len(payload).to_bytes(4, "big") + payload
        head = f"MESSAGE\ndestination:{channel}\nmessage-id:{self._number}\nsubscription:0\n\n"
        return head.encode() + payload + b"\0\n"
