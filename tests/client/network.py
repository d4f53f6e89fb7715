"""A network in memory for the client: what `trio.open_tcp_stream` gives, with the other ends in the test's hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import pytest
import trio

from tests.server.house import cut_frames
from tests.server.streams import MemoryStream, stream_pair


@final
class _Socket:
    """As much of a socket as the client looks at."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 50_000)

    def close(self) -> None:
        self._stream.close()


@final
class _ClientStream(trio.abc.HalfCloseableStream):
    """A memory stream that has a socket."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream
        self.socket = _Socket(stream)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


@final
class Network:
    """Whom clients reach.

    Attributes:
        buffer_bytes: of the next connections.
        write_bytes_max: what they take at a time.
        reached: the broker's ends, in order of arrival.
        ours: the clients' ends.
        on_arrival: told of each broker's end, at once.
        refusing: how many of the next connections are refused.
    """

    def __init__(self) -> None:
        self.buffer_bytes = 65_536
        self.write_bytes_max = 65_536
        self.reached: list[MemoryStream] = []
        self._someone = trio.Event()
        self.ours: list[MemoryStream] = []
        self.on_arrival: Callable[[MemoryStream], None] | None = None
        self.refusing = 0

    async def open_tcp_stream(self, host: str, port: int) -> _ClientStream:
        await trio.lowlevel.checkpoint()
        if self.refusing:
            self.refusing -= 1
            raise ConnectionRefusedError
        ours, theirs = stream_pair(self.buffer_bytes, self.write_bytes_max)
        self.ours.append(ours)
        self.reached.append(theirs)
        self._someone.set()
        if self.on_arrival is not None:
            self.on_arrival(theirs)
        return _ClientStream(ours)

    async def next(self) -> MemoryStream:
        """The latest connection; waits for the first."""
        await self._someone.wait()
        return self.reached[-1]


def replace_network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Let `trio.open_tcp_stream` lead into memory."""
    network = Network()
    monkeypatch.setattr(trio, "open_tcp_stream", network.open_tcp_stream)
    return network


def bodies_in(data: bytes, channel: bytes) -> list[bytes]:
    """What was published in these bytes, which must be the first frame and then whole pairs for one channel."""
    payloads, torn = cut_frames(data)
    assert payloads[:1] == [b"/null"]
    assert torn == b""
    assert payloads[1::2] == [channel] * (len(payloads) // 2)
    assert len(payloads) % 2 == 1
    return payloads[2::2]
