"""stompman: ways of acknowledging, transactions, receipts, heart-beats."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import pytest
import stompman
from stompman.connection import AbstractConnection

from tests.interop.clients import Stompman, stompman_client, telling_connection


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("mode", ["auto", "client", "client-individual"])
def test_acknowledging(port: int, mode: Literal["auto", "client", "client-individual"]) -> None:
    """Its own way: it acknowledges when the handler has returned."""
    queue = f"/queue/stompman {mode}"
    Stompman().send(port, queue, [b"1", b"2", b"3"], {})
    bodies: list[bytes] = []

    async def main() -> None:
        done = asyncio.Event()

        async def handle(frame: stompman.MessageFrame) -> None:
            bodies.append(frame.body)
            if len(bodies) == 3:
                done.set()

        async with stompman_client(port) as client:
            subscription = await client.subscribe(
                queue, handle, ack=mode, on_suppressed_exception=print, receipt_timeout=10
            )
            await done.wait()
            await subscription.unsubscribe()

    run(main)
    assert bodies == [b"1", b"2", b"3"]
    Stompman().send(port, queue, [b"4"], {})
    assert Stompman().receive(port, queue, 1)[0].body == b"4"


def test_a_handler_that_fails_gives_back(port: int) -> None:
    queue = "/queue/stompman fails"
    Stompman().send(port, queue, [b"1"], {})
    seen: list[str] = []

    async def main() -> None:
        done = asyncio.Event()

        async def handle(frame: stompman.MessageFrame) -> None:
            seen.append(str(frame.headers.get("redelivered")))
            if len(seen) == 1:
                raise ValueError("not this time")
            done.set()

        async with stompman_client(port) as client:
            subscription = await client.subscribe(queue, handle, on_suppressed_exception=lambda *_: None)
            await done.wait()
            await subscription.unsubscribe()

    run(main)
    assert seen == ["None", "true"]


def test_transactions(port: int) -> None:
    queue = "/queue/stompman transactions"

    async def main() -> None:
        async with stompman_client(port) as client:
            with pytest.raises(ValueError, match="no"):
                async with client.begin() as transaction:
                    await transaction.send(b"aborted", queue)
                    raise ValueError("no")
            async with client.begin() as transaction:
                await transaction.send(b"1", queue)
                await transaction.send(b"2", queue, headers={"type": "t"})

    run(main)
    first, second = Stompman().receive(port, queue, 2)
    assert (first.body, second.body, second.headers["type"]) == (b"1", b"2", "t")


def test_heart_beats(port: int) -> None:
    """It beats every second, and would leave a server that does not for three; ours would end it after two."""
    lost: list[stompman.ErrorFrame] = []

    async def main() -> None:
        beats: asyncio.Queue[AbstractConnection] = asyncio.Queue()
        async with stompman_client(port, telling_connection(beats)) as client:
            client.on_error_frame = lost.append
            first, *others = [await beats.get() for _ in range(5)]
            assert all(connection is first for connection in others), "it has connected again"
            await client.send(b"", "/queue/stompman beats", receipt_timeout=10)

    run(main)
    assert not lost
