"""One boundary for what goes wrong: a defect, of a stream or of ours, ends its own connection at most."""

import functools

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import STALL_SECONDS_MAX, Logs, cut_frames, frame, open_house
from tests.server.streams import RaisingStream
from trio_broker import Limits, open_broker, serve


@pytest.mark.parametrize("where", ["receive_some", "send_all", "aclose"])
async def test_a_defect_in_one_connection_ends_it_alone(autojump_clock: MockClock, logs: Logs, where: str) -> None:
    logs.defects_expected = 1
    async with open_house() as house:
        bystander = await house.subscribe("/topic/x")
        house.listener.offer(RaisingStream(RuntimeError("a bug"), where, data=frame(b"/topic/x")))
        await wait_all_tasks_blocked()
        await house.broker.publish("/topic/x", b"hello")
        assert await bystander.receive() == b"hello"
        await trio.sleep(STALL_SECONDS_MAX + 1)  # the one that fails as it is closed has to be evicted first
        await house.broker.publish("/topic/x", b"still here")
        assert await bystander.receive() == b"still here"
        assert house.broker.statistics().channels["/topic/x"].subscriptions == 1
        assert house.server.connections == 1
        [record] = logs.defects
        assert record.levelname == "ERROR"
        assert record.getMessage() == "a connection failed; this is a defect of the broker"


async def test_a_defect_while_refusing_ends_nobody(autojump_clock: MockClock, logs: Logs) -> None:
    logs.defects_expected = 1
    async with open_house(Limits(connections_max=1)) as house:
        bystander = await house.subscribe("/topic/x")
        house.listener.offer(RaisingStream(RuntimeError("a bug"), "aclose"))
        await wait_all_tasks_blocked()
        await house.broker.publish("/topic/x", b"untouched")
        assert await bystander.receive() == b"untouched"


async def test_a_stream_that_can_never_be_closed_ends_nobody(autojump_clock: MockClock, logs: Logs) -> None:
    """The accept loop closes it once more, outside of the connection's own boundary."""
    async with open_house() as house:
        bystander = await house.subscribe("/topic/x")
        house.listener.offer(RaisingStream(RuntimeError("a bug"), "aclose", data=b"\0\0\0\0", always=True))
        await wait_all_tasks_blocked()
        await trio.sleep(1)
        await house.broker.publish("/topic/x", b"untouched")
        assert await bystander.receive() == b"untouched"
        logs.defects_expected = len(logs.defects)
        assert logs.defects[-1].getMessage() == "a stream could not be closed"


async def test_a_keyboard_interrupt_passes(autojump_clock: MockClock, logs: Logs) -> None:
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with open_house() as house:
            house.listener.offer(RaisingStream(KeyboardInterrupt(), "receive_some"))
            await trio.sleep_forever()
    assert not logs.defects


async def test_only_one_task_ever_writes(autojump_clock: MockClock) -> None:
    """The memory stream raises where two tasks write; here much is written, and the peer breaks the protocol."""
    async with open_house(buffer_bytes=1000) as house:
        peer = await house.subscribe("/topic/x")
        await house.broker.publish("/topic/x", bytes(100_000))
        await wait_all_tasks_blocked()
        await peer.send(bytes(4))
        assert cut_frames(await peer.read_to_end())[0] == []


class _Odd(trio.abc.Stream):
    """It makes another error of a cancellation."""

    def __init__(self) -> None:
        self.words = [frame(b"/topic/a")]

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.words:
            return self.words.pop()
        await trio.sleep_forever()
        raise AssertionError

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Without a checkpoint."""


class _OddListener(trio.abc.Listener[_Odd]):
    """It has one such stream to give."""

    def __init__(self) -> None:
        self.streams = [_Odd()]

    async def accept(self) -> _Odd:
        await trio.lowlevel.checkpoint()
        if not self.streams:
            await trio.sleep_forever()
        return self.streams.pop()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_stream_that_makes_an_error_of_a_cancellation_ends_its_connection_alone(
    autojump_clock: MockClock, logs: Logs
) -> None:
    logs.defects_expected = 1
    async with open_broker(Limits(drain_seconds_max=1)) as broker, trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(serve, broker, listeners=[_OddListener()]))
        await wait_all_tasks_blocked()
        await broker.publish("/topic/a", b"never sent")
        await wait_all_tasks_blocked()
        report = await server.drain()
        assert (report.cut, report.seconds) == (1, 1)
