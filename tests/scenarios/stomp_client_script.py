"""Scripted servers for scenarios of the STOMP client."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import final

import trio

from tests.scenarios.stomp_client_house import OVER, ClientHouse
from trio_broker.explorer import disturbed
from trio_broker.explorer.network import NetworkStream

__all__ = ["Script", "play"]


@final
class Script:
    """A server that does what a scenario says, on one connection."""

    def __init__(self, stream: NetworkStream) -> None:
        self.stream = stream
        self.heard = b""

    async def hear(self, command: bytes, count: int = 1) -> None:
        """Read until this command has come so many times. Raises `trio.EndOfChannel` where it does not come."""
        while len(re.findall(rb"(?:^|\0)\n*" + command + b"\n", self.heard)) < count or not self.whole:
            data = await self.stream.receive_some(512)
            if not data:
                raise trio.EndOfChannel
            self.heard += data

    @property
    def whole(self) -> bool:
        """Whether no frame is cut off."""
        return self.heard.rstrip(b"\n").endswith(b"\0")

    @property
    def receipts(self) -> list[bytes]:
        """Those that were asked for."""
        return re.findall(rb"\nreceipt:(.+)\n", self.heard)

    @property
    def destinations(self) -> list[bytes]:
        """Those that were named."""
        return re.findall(rb"\ndestination:(.+)\n", self.heard)

    def hear_no_more(self) -> None:
        """What the client sends from now on breaks; what this says still arrives."""
        self.stream._receiving.broken = True
        self.stream._receiving.changed.unpark_all()

    async def say(self, *words: bytes) -> None:
        """Send this."""
        await self.stream.send_all(b"".join(words))

    async def deliver(self, count: int) -> None:
        """Send so many messages to the last subscription that was made."""
        subscription = re.findall(rb"\nid:(.+)\n", self.heard)[-1]
        head = b"MESSAGE\ndestination:%b\nsubscription:%b\n" % (self.destinations[-1], subscription)
        rest = b"message-id:%d\nack:%d\n\nm %d\0"
        await self.say(*(head + rest % (number, number, number) for number in range(count)))

    async def greet(self, beats: bytes = b"0,0", *, pause_seconds: float = 0) -> None:
        """Hear CONNECT and answer it, with a pause in the middle."""
        await self.hear(b"CONNECT")
        await self.say(b"CONNECTED\nversion:1.2\n")
        if pause_seconds:
            await trio.sleep(pause_seconds)
        await self.say(b"heart-beat:", beats, b"\n\n\0")

    async def confirm(self) -> None:
        """Answer the last frame that wanted a receipt."""
        await self.say(b"RECEIPT\nreceipt-id:", self.receipts[-1], b"\n\n\0")

    async def listen(self) -> None:
        """Read until the end."""
        while await self.stream.receive_some(512):
            pass


async def play(house: ClientHouse, *scripts: Callable[[Script], Awaitable[None]]) -> None:
    """Be the server: one connection after the other, with a script for each; then nobody listens."""
    try:
        for script in scripts:
            stream = await house.listener.accept()
            try:
                with perhaps_heard():
                    await script(Script(stream))
            finally:
                await trio.aclose_forcefully(stream)
    except OSError:
        assert disturbed()
    finally:
        await trio.aclose_forcefully(house.listener)


@contextmanager
def perhaps_heard() -> Iterator[None]:
    """A client may go at any time."""
    with suppress(*OVER):
        yield
