"""How a sender stops: at a signal, when nothing moves any more, and when the broker has gone."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, NoReturn

import pytest
import trio
from trio.testing import MockClock

from tests.cli.processes import broker, program
from tests.client.network import Network, replace_network
from trio_broker.cli.send_publisher import HELD_BYTES_MAX, Publisher
from trio_broker.cli.send_stop import Stop
from trio_broker.client import connect


class Timetable:
    """Stands for a publisher whose messages leave at known times.

    Args:
        times: when one has left, in seconds from now.
        ends: when the connection has ended.
    """

    def __init__(self, *times: float, ends: float = float("inf")) -> None:
        began = trio.current_time()
        self._times = [began + time for time in times]
        self._ends = began + ends

    @property
    def left(self) -> int:
        return sum(time > trio.current_time() for time in self._times)

    async def raise_when_over(self) -> NoReturn:
        await trio.sleep_until(self._ends)
        raise trio.BrokenResourceError("it has ended")


class Stopping(NamedTuple):
    stop: Stop
    sending: trio.CancelScope
    everything: trio.CancelScope
    signal: Callable[[int], None]


@asynccontextmanager
async def stopping(publisher: Timetable) -> AsyncIterator[Stopping]:
    """A sender that has connected, and is told what signals come."""
    send, signals = trio.open_memory_channel[int](2)
    everything = trio.CancelScope()
    stop = Stop(everything)
    sending = stop.scope_to_send(publisher)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop.watch, signals)
        nursery.start_soon(stop.watch_connection, publisher)
        yield Stopping(stop, sending, everything, send.send_nowait)
        nursery.cancel_scope.cancel()


async def seconds_until(scope: trio.CancelScope) -> float:
    """How long it takes until a scope is cancelled."""
    began = trio.current_time()
    with scope:
        await trio.sleep(1000)
    return trio.current_time() - began


async def test_while_messages_leave_it_waits(autojump_clock: MockClock) -> None:
    async with stopping(Timetable(4, 8, 12)) as sender:
        sender.signal(2)
        assert 17 <= await seconds_until(sender.everything) < 17.5
        assert sender.sending.cancel_called
        assert sender.stop.cut


async def test_when_nothing_leaves_it_gives_up(autojump_clock: MockClock) -> None:
    async with stopping(Timetable(60)) as sender:
        await trio.sleep(30)
        assert not sender.stop.asked
        sender.signal(15)
        assert 5 <= await seconds_until(sender.everything) < 5.5
        assert sender.stop.cut


async def test_a_second_signal_ends_the_waiting(autojump_clock: MockClock) -> None:
    async with stopping(Timetable(4, 8, 12)) as sender:
        sender.signal(2)
        await trio.sleep(6)
        assert not sender.stop.cut
        sender.signal(2)
        assert await seconds_until(sender.everything) == 0


async def test_a_signal_before_there_is_a_connection_stops_everything(autojump_clock: MockClock) -> None:
    send, signals = trio.open_memory_channel[int](1)
    everything = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Stop(everything).watch, signals)
        send.send_nowait(2)
        assert await seconds_until(everything) == 0
        nursery.cancel_scope.cancel()


async def test_a_connection_that_ends_stops_the_sending(autojump_clock: MockClock) -> None:
    async with stopping(Timetable(60, ends=7)) as sender:
        assert await seconds_until(sender.sending) == 7
        assert str(sender.stop.lost) == "it has ended"
        assert not sender.everything.cancel_called


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    return replace_network(monkeypatch)


async def test_what_is_left_grows_less_as_receipts_come(autojump_clock: MockClock, network: Network) -> None:
    """The broker is asked once in a while whether it has dealt with what it was sent, and never has more to do."""
    network.buffer_bytes = network.write_bytes_max = 2**30
    body = bytes(1024)
    sent = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(welcome, network)
        with pytest.raises(trio.BrokenResourceError, match="messages were not confirmed"):
            async with connect(protocol="stomp", heart_beat_seconds=None) as client:
                publisher = Publisher(client, "/queue/a", {}, confirm=False)
                with trio.move_on_after(0.5):
                    while True:
                        await publisher.publish(body)
                        sent += 1
                assert 2 * HELD_BYTES_MAX >= sent * len(body) > HELD_BYTES_MAX
                assert publisher.left == 2
                data = bytes(await network.reached[0].receive_some(2**30))
                receipts = re.findall(rb"\nreceipt:(.+)\n", data)
                assert len(receipts) == 2
                await network.reached[0].send_all(b"RECEIPT\nreceipt-id:" + receipts[0] + b"\n\n\0")
                await trio.testing.wait_all_tasks_blocked()
                assert publisher.left == 1
                with trio.move_on_after(1) as waiting:
                    await publisher.raise_when_over()
                assert waiting.cancelled_caught
                await network.reached[0].send_eof()
                with pytest.raises(trio.BrokenResourceError, match="the server closed the connection"):
                    await publisher.raise_when_over()


async def welcome(network: Network) -> None:
    server = await network.next()
    await server.receive_some(65_536)
    await server.send_all(b"CONNECTED\nversion:1.2\n\n\0")


async def test_what_is_left_in_the_framed_protocol(autojump_clock: MockClock, network: Network) -> None:
    network.buffer_bytes = 1000
    with pytest.raises(trio.BrokenResourceError, match="the broker closed the connection"):
        async with connect(protocol="framed") as client:
            publisher = Publisher(client, "/queue/a", {}, confirm=False)
            for _ in range(3):
                await publisher.publish(bytes(600))
            await trio.testing.wait_all_tasks_blocked()
            before = publisher.left
            assert before > 0
            with trio.move_on_after(1) as waiting:
                await publisher.raise_when_over()
            assert waiting.cancelled_caught
            await network.reached[0].send_eof()
            await publisher.raise_when_over()


@pytest.mark.parametrize("protocol", ["framed", "stomp"])
async def test_a_sender_without_input_notices_that_the_broker_ends(protocol: str) -> None:
    async with broker() as (server, port):
        command = ("send", "--port", str(port), "--protocol", protocol, "--channel", "/queue/a", "-")
        async with program(*command) as sender:
            await sender.line("I am .*")
            server.signal()
            assert await server.end() == 0
            assert await sender.end() == 1  # its standard input is still open
            assert sender.lines[-1] == "Connection ended."
            assert sender.log[0].startswith(f"Error: localhost:{port}: the ")
            assert len(sender.log) == 1
