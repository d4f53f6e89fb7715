"""What a subscription of the framed protocol raises, on entering and again and again after its end."""

from __future__ import annotations

import traceback

import pytest
import trio
from trio.testing import MockClock

from tests.client.network import Network
from tests.server.house import frame
from tests.server.streams import MemoryStream
from trio_broker import Limits, ProtocolViolation
from trio_broker.client import open_subscription
from trio_broker.client.framed import connect


@pytest.mark.parametrize("through", ["a client", "itself"])
async def test_a_broker_that_resets_while_it_is_entered(
    autojump_clock: MockClock, network: Network, through: str
) -> None:
    async with connect() as client:
        network.on_arrival = MemoryStream.reset
        with pytest.raises(trio.BrokenResourceError):
            async with (
                client.subscribe("/topic/x")
                if through == "a client"
                else open_subscription("broker", 25_000, "/topic/x")
            ):
                raise AssertionError("entered")
    assert network.ours[1].closed


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ("in order", trio.EndOfChannel),
        ("torn", trio.BrokenResourceError),
        ("reset", trio.BrokenResourceError),
        ("too large", ProtocolViolation),
        ("closed", trio.ClosedResourceError),
    ],
)
async def test_whoever_asks_gets_an_exception_of_its_own(
    autojump_clock: MockClock, network: Network, end: str, error: type[Exception]
) -> None:
    """With a traceback of its own: one that all got would grow with each of them."""
    limits = Limits(frame_bytes_max=10)
    async with open_subscription("broker", 25_000, "/topic/x", limits=limits) as subscription:
        broker = network.reached[0]
        assert await broker.receive_some(100) == frame(b"/topic/x")
        match end:
            case "torn":
                await broker.send_all(b"\0\0")
                await broker.send_eof()
            case "in order":
                await broker.send_eof()
            case "reset":
                broker.reset()
            case "too large":
                await broker.send_all(frame(bytes(11)))
            case _:
                subscription.close()
        raised: list[Exception] = []
        for _ in range(4):
            with pytest.raises(error) as caught:
                await subscription.receive()
            raised.append(caught.value)
        assert subscription._over is not None
        assert subscription._over.__traceback__ is None  # which would hold the frames of whoever asked first
    assert len(set(map(id, raised))) == 4
    assert {type(each) for each in raised} == {error}
    assert len({str(each) for each in raised}) == 1
    assert len({len(traceback.extract_tb(each.__traceback__)) for each in raised}) == 1


async def test_the_cause_stays(autojump_clock: MockClock, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system said of a connection that broke."""
    said = ConnectionResetError("by peer")

    async def receive_some(self: MemoryStream, max_bytes: int | None = None) -> bytes:
        raise trio.BrokenResourceError("broken") from said

    async with open_subscription("broker", 25_000, "/topic/x") as subscription:
        monkeypatch.setattr(MemoryStream, "receive_some", receive_some)
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError, match="broken") as caught:
                await subscription.receive()
            assert caught.value.__cause__ is said
