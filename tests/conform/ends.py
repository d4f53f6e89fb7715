"""The client's end of a connection in memory."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing


class ClientEnd(trio.abc.HalfCloseableStream):
    """The client's end of a connection, which can be reset."""

    def __init__(self) -> None:
        self.outgoing = trio.testing.MemorySendStream()
        self.incoming = trio.testing.MemoryReceiveStream()
        self.reset = False

    async def send_all(self, data: Any) -> None:
        self._check()
        await self.outgoing.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.outgoing.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await trio.testing.wait_all_tasks_blocked()  # so that a broker that resets has done so
        self._check()
        await self.outgoing.aclose()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self.incoming.receive_some(max_bytes)
        if not data and self.reset:
            raise trio.BrokenResourceError
        return data

    async def aclose(self) -> None:
        self.outgoing.close()
        self.incoming.close()
        await trio.lowlevel.checkpoint()

    def _check(self) -> None:
        if self.reset:
            raise trio.BrokenResourceError
