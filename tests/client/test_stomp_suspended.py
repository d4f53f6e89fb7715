"""A client that was suspended, as a laptop is whose lid is closed, and whose server has given it up meanwhile."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.network import Network
from tests.client.stomp_server import ScriptedServers
from tests.server.house import open_house
from trio_broker.client import BackOff, StompClient, connect, run_reconnecting
from trio_broker.client.stomp_outgoing import Outgoing
from trio_broker.errors import ServerRefused
from trio_broker.limits import Limits

MISSED = b"ERROR\nmessage:nothing came for 2 s\nheart-beat-missed:%b\n\nbeat\0"
SAID = "the server said: 'nothing came for 2 s': 'beat'"


@pytest.fixture
def suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients do not write of their own accord; a process that is stopped does nothing else, either."""

    def promise(self: Outgoing, every_seconds: float) -> None:
        pass

    monkeypatch.setattr(Outgoing, "promise", promise)


async def test_our_own_server_gives_a_suspended_client_up_and_the_client_comes_back(
    autojump_clock: MockClock, network: Network, suspended: None
) -> None:
    times: list[float] = []
    async with open_house(Limits(heart_beat_seconds_min=1)) as house:
        network.on_arrival = house.listener.offer

        async def work(client: StompClient) -> str:
            times.append(trio.current_time())
            async with client.subscribe("/queue/x", ack="client-individual") as jobs:
                async with (await jobs.receive()).process() as job:
                    return job.body.decode()

        async def publish() -> None:
            await trio.sleep(100)
            await house.broker.publish("/queue/x", b"done")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            back_off = BackOff(first_seconds=38, longest_seconds=60)
            assert await run_reconnecting(work, heart_beat_seconds=1, back_off=back_off) == "done"
    assert len(times) >= 2
    assert 2 + 19 <= times[1] - times[0] <= 2 + 38


async def test_whoever_waits_is_told_that_the_connection_broke_and_why(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    async with connect(heart_beat_seconds=None) as client:
        async with client.subscribe("/queue/x") as subscription:
            await servers.last.stream.send_all(MISSED % b"true")
            for call in (subscription.receive, client.reserve):
                with pytest.raises(trio.BrokenResourceError) as caught:
                    await call()
                assert not isinstance(caught.value, ServerRefused)
                assert str(caught.value) == SAID


async def test_leaving_is_no_error_if_nothing_was_lost(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(heart_beat_seconds=None):
        await servers.last.stream.send_all(MISSED % b"true")
        await wait_all_tasks_blocked()


async def test_an_error_without_that_mark_is_a_refusal(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async def work(client: StompClient) -> None:
        await servers.last.stream.send_all(MISSED % b"false")
        async with client.subscribe("/queue/x") as subscription:
            await subscription.receive()

    with pytest.raises(ServerRefused):
        await run_reconnecting(work, back_off=BackOff(failures_max=3))
    assert len(servers.all) == 1
