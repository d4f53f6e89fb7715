"""What a program gives a client before there is a connection, and connections that are not made, in both protocols."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

import pytest
import trio
from trio.testing import MockClock

from tests.client.network import Network, bodies_in
from tests.client.stomp_server import ScriptedServers
from trio_broker.client import BackOff, StompClient, connect, open_subscription, run_reconnecting
from trio_broker.client.framed import connect as connect_framed
from trio_broker.errors import MessageTooLarge
from trio_broker.limits import Limits
from trio_broker.wire.stomp_commands import Commit, Publish

LIMITS = Limits(handshake_seconds_max=7)
Opening = Callable[[], AbstractAsyncContextManager[Any]]


async def never(host: str, port: int) -> trio.SocketStream:
    """What a connection to an address does that swallows everything."""
    await trio.sleep_forever()
    raise AssertionError


@pytest.mark.parametrize(
    "opening",
    [
        lambda: connect(limits=LIMITS),
        lambda: connect(protocol="framed", limits=LIMITS),
        lambda: open_subscription("broker", 25_000, "/topic/x", limits=LIMITS),
    ],
    ids=["stomp", "framed", "framed subscription"],
)
async def test_an_attempt_that_takes_too_long(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, opening: Opening
) -> None:
    """The system itself may try for minutes."""
    monkeypatch.setattr(trio, "open_tcp_stream", never)
    with trio.fail_after(1000), pytest.raises(TimeoutError, match="no connection within 7 s"):
        async with opening():
            raise AssertionError("entered")
    assert trio.current_time() == 7


async def test_a_subscription_of_a_client_takes_no_longer(
    autojump_clock: MockClock, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect_framed(limits=LIMITS) as client:
        monkeypatch.setattr(trio, "open_tcp_stream", never)
        with pytest.raises(TimeoutError, match="no connection within 7 s"):
            async with client.subscribe("/topic/x"):
                raise AssertionError("entered")


async def test_an_attempt_that_takes_too_long_is_a_loss(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(client: StompClient) -> None:
        raise AssertionError("there is no connection")

    monkeypatch.setattr(trio, "open_tcp_stream", never)
    with trio.fail_after(1000), pytest.raises(TimeoutError, match="no connection within 7 s"):
        await run_reconnecting(work, limits=LIMITS, back_off=BackOff(longest_seconds=1, failures_max=3))
    assert 21 <= trio.current_time() <= 22


@pytest.mark.parametrize("protocol", ["framed", "stomp"])
@pytest.mark.parametrize("seconds", [-5, 0, float("nan")])
async def test_a_time_between_heart_beats_that_is_none(
    network: Network, protocol: Literal["framed", "stomp"], seconds: float
) -> None:
    """In the framed protocol, too, although it has none: a mistake there is one when the protocol changes."""
    with pytest.raises(ValueError, match=f"heart_beat_seconds is {seconds}; more than 0 is allowed, or None"):
        async with connect(protocol=protocol, heart_beat_seconds=seconds):
            raise AssertionError("entered")
    assert not network.reached


KINDS = ["bytes", "bytearray", "memoryview", "every other byte", "two bytes each", "four bytes each"]
BODIES = [
    b"12345678",
    bytearray(b"12345678"),
    memoryview(b"12345678"),
    memoryview(b"1.2.3.4.5.6.7.8.")[::2],
    array("H", b"12345678"),
    array("I", b"12345678"),
]


@pytest.mark.parametrize("body", BODIES, ids=KINDS)
async def test_a_body_is_the_bytes_of_what_was_given(
    autojump_clock: MockClock, servers: ScriptedServers, body: Any
) -> None:
    """Whatever they are bytes of; a whole message follows, so the length was right."""
    async with connect(heart_beat_seconds=None) as client:
        await client.publish("/queue/x", body)
        with await client.reserve(8) as permit:
            permit.send("/queue/x", body)
        async with client.transaction() as transaction:
            await transaction.publish("/queue/x", body)
        await client.publish("/queue/x", b"whole", confirm=True)
    assert servers.last.bodies == [b"12345678"] * 2 + [b"whole"]
    (commit,) = servers.last.all(Commit)
    (bound,) = commit.commands
    assert isinstance(bound, Publish)
    assert [message.body for message in bound.batch] == [b"12345678"]


@pytest.mark.parametrize("body", BODIES, ids=KINDS)
async def test_so_it_is_in_the_framed_protocol(autojump_clock: MockClock, network: Network, body: Any) -> None:
    async with connect(protocol="framed") as client:
        await client.publish("/queue/x", body)
        await client.publish("/queue/x", b"whole")
    assert bodies_in(await network.reached[0].receive_some(1000), b"/queue/x") == [b"12345678", b"whole"]


@pytest.mark.parametrize("protocol", ["framed", "stomp"])
async def test_bytes_are_counted_not_items(
    autojump_clock: MockClock, servers: ScriptedServers, protocol: Literal["framed", "stomp"]
) -> None:
    wide: Any = array("I", [1, 2])
    async with connect(protocol=protocol, limits=Limits(frame_bytes_max=wide.itemsize * 2 - 1)) as client:
        with pytest.raises(MessageTooLarge):
            await client.publish("/queue/x", wide)


async def test_a_permit_is_for_so_many_bytes_not_items(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    wide: Any = array("I", [1, 2])
    async with connect() as client:
        with await client.reserve(wide.itemsize * 2 - 1) as permit, pytest.raises(MessageTooLarge):
            permit.send("/queue/x", wide)


@pytest.mark.parametrize("protocol", ["framed", "stomp"])
@pytest.mark.parametrize("body", [5, "text", None, [1, 2]])
async def test_what_has_no_bytes_is_no_body(
    autojump_clock: MockClock, servers: ScriptedServers, protocol: Literal["framed", "stomp"], body: Any
) -> None:
    async with connect(protocol=protocol) as client:
        with pytest.raises(TypeError):
            await client.publish("/queue/x", body)
