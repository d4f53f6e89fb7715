"""Peers that speak STOMP byte by byte. Frames are written and cut here once more, so that no mistake is shared."""

from __future__ import annotations

import dataclasses
import re
import sys
from typing import final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.server.house import House, TcpHouse
from tests.server.streams import MemoryStream

only_on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells before the stream is read")
"""For tests of peers that go, over TCP, while nothing is read from them."""

LARGE = bytes(1_000_000)
CONNECT = b"CONNECT\naccept-version:1.2\nhost:x\n\n\0"


def stomp(command: str, *lines: str, body: bytes = b"") -> bytes:
    """A frame, from header lines as they are."""
    return "".join(f"{line}\n" for line in (command, *lines, "")).encode() + body + b"\0"


def send(destination: str, *lines: str, body: bytes = b"hello") -> bytes:
    """SEND, with the length of its body."""
    return stomp("SEND", f"destination:{destination}", f"content-length:{len(body)}", *lines, body=body)


def subscribe(subscription_id: str, destination: str, *lines: str) -> bytes:
    """SUBSCRIBE."""
    return stomp("SUBSCRIBE", f"id:{subscription_id}", f"destination:{destination}", *lines)


@final
@dataclasses.dataclass(frozen=True)
class Said:
    """A frame of the server's."""

    command: str
    headers: dict[str, str]
    body: bytes

    def __getitem__(self, name: str) -> str:
        return self.headers[name]


def cut(data: bytes) -> tuple[Said | None, bytes]:
    """The first frame of what a server said, and what follows it; None if it is torn."""
    data = data.lstrip(b"\n")
    head, blank, rest = data.partition(b"\n\n")
    if not blank:
        return None, data
    command, *lines = head.decode().split("\n")
    pairs = (line.split(":", 1) for line in lines)
    headers = {_plain(name): _plain(value) for name, value in pairs}
    length = int(headers.get("content-length", 0))
    if len(rest) <= length:
        return None, data
    assert rest[length] == 0, "a frame does not end in a NUL"
    return Said(command, headers, rest[:length]), rest[length + 1 :]


def _plain(text: str) -> str:
    """What a header's name or value stands for in 1.1 and 1.2."""
    return re.sub(r"\\(.)", lambda match: {"c": ":", "n": "\n", "r": "\r", "\\": "\\"}.get(match[1], match[0]), text)


@final
class StompPeer:
    """Somebody who speaks STOMP."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._held = b""

    @property
    def memory_stream(self) -> MemoryStream:
        assert isinstance(self.stream, MemoryStream)
        return self.stream

    async def send(self, *frames: bytes) -> None:
        await self.stream.send_all(b"".join(frames))

    async def receive(self, *, may_be_torn: bool = False) -> Said | None:
        """The next frame; None at an end of the stream between frames. One inside a frame is an error, unless the peer
        did what gets it closed at once."""
        while True:
            frame, self._held = cut(self._held)
            if frame is not None:
                return frame
            chunk = await self.stream.receive_some(65_536)
            if not chunk:
                assert may_be_torn or not self._held, f"the stream ended inside a frame: {self._held[:200]!r}"
                return None
            self._held += chunk

    async def get(self, command: str) -> Said:
        """The next frame, which must be this."""
        said = await self.receive()
        assert said is not None, f"the stream ended where {command} was to come"
        assert said.command == command, said
        return said

    async def message(self) -> Said:
        return await self.get("MESSAGE")

    async def receipt(self, receipt_id: str) -> None:
        assert (await self.get("RECEIPT"))["receipt-id"] == receipt_id

    async def receive_all(self) -> list[Said]:
        """All frames up to the end of the stream."""
        frames = []
        while (said := await self.receive()) is not None:
            frames.append(said)
        return frames

    async def error(self) -> Said:
        """The next frame, which must be ERROR, with a clean end of the stream after it."""
        said = await self.get("ERROR")
        assert await self.receive() is None
        assert said["content-type"] == "text/plain"
        assert said.body.decode().startswith(said["message"])
        return said

    async def is_silent(self) -> None:
        """Nothing waits to be read here, once all tasks wait."""
        await wait_all_tasks_blocked()
        assert not self.memory_stream.unread
        assert not self._held


async def greet(peer: StompPeer, version: str = "1.2", *lines: str) -> Said:
    """Connect in a version."""
    accepted = () if version == "1.0" else (f"accept-version:{version}", "host:x")
    await peer.send(stomp("CONNECT", *accepted, *lines))
    connected = await peer.get("CONNECTED")
    assert connected["version"] == version
    return connected


async def join(house: House, version: str = "1.2", *lines: str) -> StompPeer:
    """A peer that is connected."""
    peer = StompPeer(house.connect().stream)
    await greet(peer, version, *lines)
    return peer


async def join_tcp(house: TcpHouse, *, buffer_bytes: int | None = None) -> StompPeer:
    """A peer that is connected over TCP."""
    peer = StompPeer((await house.connect(buffer_bytes=buffer_bytes)).stream)
    await greet(peer)
    return peer


async def subscriber(house: House, destination: str, *lines: str, version: str = "1.2") -> StompPeer:
    """A peer whose subscription ``s`` is registered."""
    peer = await join(house, version)
    await peer.send(subscribe("s", destination, *lines))
    await wait_all_tasks_blocked()
    return peer
