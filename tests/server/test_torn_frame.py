"""A torn frame can only be a connection's last bytes: who gives up in the middle of a write says nothing more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.stomp_house import CONNECT, stomp, subscribe
from trio_broker import Limits, open_broker
from trio_broker.server.connection import Connection
from trio_broker.server.flusher import Flusher
from trio_broker.server.log import make_logger


class Wire:
    """A transport like plain TCP, whose system has room for so many bytes. That it has some again is not told at once:
    a socket counts as writable when a third of its buffer is free."""

    peer = "x"
    slack_bytes = 0

    def __init__(self) -> None:
        self.sent = bytearray()
        self.room = 1_000_000
        self.says, self._heard = trio.open_memory_channel[bytes](10)

    async def feed(self, digest: Callable[[bytes], bool]) -> None:
        while digest(await self._heard.receive()):
            pass

    def read_more(self, size_bytes: int) -> None:
        pass

    def send_nowait(self, data: bytes | memoryview) -> int:
        count = min(self.room, len(data))
        self.sent += data[:count]
        self.room -= count
        return count

    def gather_nowait(self, parts: Sequence[bytes | memoryview]) -> int:
        return self.send_nowait(b"".join(parts))

    async def send(self, data: memoryview) -> int:
        await trio.sleep_forever()
        raise AssertionError

    def watch_for_hang_up(self, act: Callable[[], None]) -> AbstractContextManager[None]:
        return nullcontext()

    def unsent_bytes(self) -> int:
        return 0

    async def finish(self, linger_seconds: float) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("attempt", range(20))
async def test_an_evicted_peer_is_told_nothing_more(autojump_clock: MockClock, attempt: int) -> None:
    """Though it has room again, and whoever ends it has its turn after the flusher: Trio shuffles them, so often."""
    limits = Limits(stall_seconds_max=10)
    async with open_broker(limits) as broker, trio.open_nursery() as nursery:
        wire, flusher = Wire(), Flusher()
        nursery.start_soon(flusher.run)
        nursery.start_soon(Connection(wire, broker, flusher, make_logger()).run)
        await wire.says.send(CONNECT + subscribe("s", "/topic/news"))
        await wait_all_tasks_blocked()
        wire.sent.clear()
        wire.room = 1000
        await broker.publish("/topic/news", bytes(50_000))
        await wait_all_tasks_blocked()
        await wire.says.send(stomp("BEGIN", "transaction:t", "receipt:INSIDE"))
        await trio.sleep(9)
        wire.room = 500
        await trio.sleep(10)
        assert broker.statistics().evicted == 1
        nursery.cancel_scope.cancel()
    assert len(wire.sent) == 1000
    assert b"INSIDE" not in wire.sent
