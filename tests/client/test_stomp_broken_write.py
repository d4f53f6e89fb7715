"""A STOMP connection whose writer learns that it broke while its reader has stopped, because too much waits for the
program: nobody waits for what the reader would only find out when the program takes something."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.stomp_server import ScriptedServers
from trio_broker.client import connect
from trio_broker.errors import ServerRefused
from trio_broker.limits import Limits
from trio_broker.wire.stomp_commands import Subscribe

LIMITS = Limits(mailbox_bytes_max=1000, farewell_seconds_max=math.inf)


@pytest.mark.parametrize("end", ["reset", "refused"])
async def test_the_reader_finds_out_why(autojump_clock: MockClock, servers: ScriptedServers, end: str) -> None:
    servers.network.buffer_bytes = 4000
    refused = pytest.raises(ServerRefused, match="enough")
    broken = pytest.raises(trio.BrokenResourceError, match="the connection broke")
    with pytest.raises(trio.BrokenResourceError, match="1 messages may not have been sent"):
        async with connect(limits=LIMITS, heart_beat_seconds=None) as client, client.subscribe("/topic/x") as news:
            server = servers.last
            server.pause()
            await server.deliver(await server.next(Subscribe), bytes(1000), b"more")
            await wait_all_tasks_blocked()
            with trio.move_on_after(1):
                await client.publish("/queue/x", bytes(9000), confirm=True)
            if end == "reset":
                server.stream.reset()
            else:
                await server.send(b"ERROR\nmessage:enough\n\n\0")
                server.stream._receiving.broken = True  # its end is closed for what we send, and open for what it says
                server.stream._receiving.changed.unpark_all()
            with refused if end == "refused" else broken:
                await client.publish("/queue/x", bytes(9000), confirm=True)
            assert trio.current_time() == 1
            if end == "refused":
                assert [(await news.receive()).body for _ in range(2)] == [bytes(1000), b"more"]
