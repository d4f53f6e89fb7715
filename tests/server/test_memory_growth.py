"""One subscriber that never reads must not make the broker grow, measured from outside, on a real process."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.server.house import Peer, frame

SCRIPT = Path(__file__).with_name("broker_process.py")
MESSAGES = 3000
MESSAGE_BYTES = 100_000
GROWTH_MIB_MAX = 100

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def resident_mib(process: trio.Process, which: str) -> float:
    """``VmRSS``, what the process has in memory now, or ``VmHWM``, the most that it ever had."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) / 1024
    raise AssertionError(which)


@asynccontextmanager
async def broker_process(stall_seconds_max: float) -> AsyncIterator[tuple[trio.Process, int]]:
    """The process and its port; it ends in order at the end of the block."""
    process = await trio.lowlevel.open_process(
        [sys.executable, str(SCRIPT), str(stall_seconds_max)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(SCRIPT.parents[2])},
    )
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        line = b""
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some()
        yield process, int(line)
        await process.stdin.aclose()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await process.wait()


async def peer_of(port: int, channel: str) -> Peer:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(frame(channel.encode()))
    return Peer(stream)


async def registered(port: int) -> Peer:
    """A subscriber that has heard itself: its subscription is registered."""
    peer = await peer_of(port, "/topic/x")
    await peer.publish("/topic/x", b"ready")
    assert await peer.receive() == b"ready"
    return peer


async def test_a_subscriber_that_never_reads() -> None:
    """300 MB pass it by: the healthy one has them all, and the broker's peak grew by less than 100 MiB."""
    body = bytes(MESSAGE_BYTES)
    pair = frame(b"/topic/x") + frame(body)
    async with broker_process(stall_seconds_max=1) as (process, port):
        stuck, healthy = await registered(port), await registered(port)
        before = resident_mib(process, "VmRSS")

        async with trio.open_nursery() as nursery:
            sender = await peer_of(port, "/null")

            async def send_all() -> None:
                for _ in range(MESSAGES // 10):
                    await sender.send(pair * 10)

            nursery.start_soon(send_all)
            for _ in range(MESSAGES):
                assert await healthy.receive() == body
        growth = resident_mib(process, "VmHWM") - before
        assert growth < GROWTH_MIB_MAX
        for peer in (stuck, healthy, sender):
            await peer.stream.aclose()
