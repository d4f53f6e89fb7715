"""Scenarios over streams that say something before they close."""

from __future__ import annotations

import trio
import trio.testing

from tests.scenarios.house import SMALL, TOPIC, House, frame
from trio_broker.explorer import disturbed
from trio_broker.explorer.network import Network, NetworkListener, NetworkStream


class _Polite(trio.abc.Stream):
    """A stream that says goodbye before it closes, as TLS does."""

    def __init__(self, stream: NetworkStream) -> None:
        self.stream = stream
        self.torn = False  # a write was cut, and nothing more can be said

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self.stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.torn = True
        await self.stream.send_all(data)
        self.torn = False

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        try:
            if not self.stream.closed and not self.torn:
                await self.stream.send_all(frame(b"p 9 "))
        finally:
            await trio.aclose_forcefully(self.stream)


class _PoliteListener(trio.abc.Listener[_Polite]):
    """A listener of such streams."""

    def __init__(self, listener: NetworkListener) -> None:
        self.listener = listener

    async def accept(self) -> _Polite:
        return _Polite(await self.listener.accept())

    async def aclose(self) -> None:
        await self.listener.aclose()


async def a_drain_over_streams_that_say_goodbye() -> None:
    """It is said, after what waited, if the peer takes it within ``linger_seconds_max``."""
    house = House(network=Network(buffer_bytes=6))
    async with trio.open_nursery() as nursery:
        listener = _PoliteListener(house.network.listen(25_001))
        await house.start(nursery, listener)
        plain, house.listener = house.listener, listener.listener
        nursery.start_soon(house.listen, TOPIC, "listener")
        async with house.peer("/topic/other"):  # who does not read
            await trio.sleep(1)
            house.broker.publish_nowait(TOPIC, b"p 1 ")
            report = await house.drain()
            await trio.testing.wait_all_tasks_blocked()
            assert disturbed() or house.received == {"listener": [b"p 1 ", b"p 9 "]}, report
            assert disturbed() or (report is not None and report.seconds == SMALL.linger_seconds_max)
        house.listener = plain
        nursery.cancel_scope.cancel()


SCENARIOS = (a_drain_over_streams_that_say_goodbye,)
