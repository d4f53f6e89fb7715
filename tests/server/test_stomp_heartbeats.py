"""Heart-beats: in time when nothing else is said, not otherwise; and a peer that is silent for too long is told so."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import Logs, open_house
from tests.server.stomp_house import join, send, stomp, subscribe
from trio_broker import Limits

LIMITS = Limits(heart_beat_seconds_min=1)


@pytest.mark.parametrize(("wanted_ms", "every_seconds"), [(1000, 1.0), (400, 1.0), (5000, 5.0)])
async def test_heart_beats_come_in_time(autojump_clock: MockClock, wanted_ms: int, every_seconds: float) -> None:
    """The time is the longer of both sides'. One comes at least so often, and at most twice as often."""
    async with open_house(LIMITS) as house:
        peer = await join(house, "1.2", f"heart-beat:0,{wanted_ms}")
        last = trio.current_time()
        for _ in range(20):
            assert await peer.stream.receive_some(100) == b"\n"
            assert every_seconds / 2 <= trio.current_time() - last <= every_seconds
            last = trio.current_time()


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize("terms", ["", "heart-beat:0,0"])
async def test_none_where_none_was_asked_for(autojump_clock: MockClock, version: str, terms: str) -> None:
    async with open_house(LIMITS) as house:
        peer = await join(house, version, *([terms] if terms else []))
        await trio.sleep(10_000)
        await peer.is_silent()
        assert house.server.connections == 1


async def test_none_while_other_things_are_said(autojump_clock: MockClock) -> None:
    async with open_house(LIMITS) as house:
        peer = await join(house, "1.2", "heart-beat:0,1000")
        await peer.send(subscribe("s", "/topic/a"))
        for _ in range(50):
            await trio.sleep(0.3)
            await house.broker.publish("/topic/a", b"hello")
            await wait_all_tasks_blocked()
            data = await peer.stream.receive_some(1000)
            assert data.startswith(b"MESSAGE\n")
            assert data.endswith(b"\0")


async def test_none_inside_a_message_that_takes_long(autojump_clock: MockClock) -> None:
    """What is being written is as good, and a line feed in the middle of it would be a byte of its body."""
    async with open_house(LIMITS) as house:
        peer = await join(house, "1.2", "heart-beat:0,1000")
        await peer.send(subscribe("s", "/topic/a"))
        await wait_all_tasks_blocked()
        body = bytes(400_000)
        await house.broker.publish("/topic/a", body)
        data = b""
        while len(data) < len(body):
            await trio.sleep(2)
            data += await peer.stream.receive_some(65_536)
        head, _, rest = data.partition(b"\n\n")
        assert head.startswith(b"MESSAGE\n")
        assert rest[: len(body) + 1] == body + b"\0"
        assert set(rest[len(body) + 1 :]) <= set(b"\n")


@pytest.mark.parametrize(("promised_ms", "ended_at"), [(1000, 2.0), (200, 2.0), (7000, 14.0)])
async def test_a_peer_that_never_beats(
    autojump_clock: MockClock, logs: Logs, promised_ms: int, ended_at: float
) -> None:
    """It has twice the agreed time, and is told; what it had is another's."""
    async with open_house(LIMITS) as house:
        peer = await join(house, "1.2", f"heart-beat:{promised_ms},0")
        await peer.send(subscribe("s", "/queue/a", "ack:client"))
        await wait_all_tasks_blocked()
        await house.broker.publish("/queue/a", b"work")
        await peer.message()
        said = await peer.error()
        assert trio.current_time() == ended_at
        agreed_ms = max(promised_ms, 1000)
        reason = f"nothing came for {ended_at:g} s; a heart-beat was promised every {agreed_ms:,} ms"
        assert said.body.decode() == reason
        assert said["heart-beat-missed"] == "true"
        assert logs.reasons("refused") == [reason]
        await wait_all_tasks_blocked()
        assert house.server.connections == 0
        assert house.backlog("/queue/a") == 1


async def test_a_peer_that_stops_beating(autojump_clock: MockClock) -> None:
    async with open_house(LIMITS) as house:
        peer = await join(house, "1.1", "heart-beat:1000,0")
        for _ in range(10):
            await trio.sleep(1.9)
            await peer.send(b"\n")
        await peer.error()
        assert trio.current_time() == 19 + 2


@pytest.mark.parametrize("sent", [b"\n", b"\r\n", stomp("BEGIN", "transaction:t") + stomp("ABORT", "transaction:t")])
async def test_any_data_is_as_good(autojump_clock: MockClock, sent: bytes) -> None:
    async with open_house(LIMITS) as house:
        peer = await join(house, "1.2", "heart-beat:1000,0")
        for _ in range(100):
            await trio.sleep(1.5)
            await peer.send(sent)
        await peer.send(send("/queue/a", "receipt:r"))
        await peer.receipt("r")


async def test_a_frame_that_drips_is_data_too(autojump_clock: MockClock) -> None:
    async with open_house(LIMITS) as house:
        peer = await join(house, "1.2", "heart-beat:1000,0")
        for byte in send("/queue/a", body=b"")[:40]:
            await peer.send(bytes([byte]))
            await trio.sleep(1.4)
        assert house.server.connections == 1
        await peer.error()
        assert trio.current_time() == pytest.approx(39 * 1.4 + 2)


async def test_a_peer_is_not_judged_while_its_message_waits(autojump_clock: MockClock) -> None:
    """Nothing is read from it meanwhile, so it may have beaten. Afterwards it has its whole time."""
    limits = Limits(heart_beat_seconds_min=1, backlog_bytes_max=1000, publish_seconds_max=60)
    async with open_house(limits) as house:
        await house.broker.publish("/queue/a", bytes(2000))
        peer = await join(house, "1.2", "heart-beat:1000,0")
        await peer.send(send("/queue/a", "receipt:r"))
        await trio.sleep(50)
        await peer.is_silent()
        async with house.broker.subscribe("/queue/a") as queue:
            await queue.receive()
            await peer.receipt("r")
            assert trio.current_time() == 50
            await peer.error()
        assert 50 + 2 <= trio.current_time() <= 50 + 4


async def test_heart_beats_are_sent_while_a_message_waits(autojump_clock: MockClock) -> None:
    limits = Limits(heart_beat_seconds_min=1, backlog_bytes_max=1000)
    async with open_house(limits) as house:
        await house.broker.publish("/queue/a", bytes(2000))
        peer = await join(house, "1.2", "heart-beat:0,1000")
        await peer.send(send("/queue/a", "receipt:r"))
        for _ in range(20):
            assert await peer.stream.receive_some(100) == b"\n"


async def test_one_who_takes_no_heart_beats_makes_nothing_grow(autojump_clock: MockClock) -> None:
    """Heart-beats are nothing that waits for long: they stop where they are not taken, and the stall rule ends it."""
    async with open_house(Limits(heart_beat_seconds_min=1, stall_seconds_max=10), buffer_bytes=4) as house:
        stream = house.connect().stream
        await stream.send_all(b"CON")
        await wait_all_tasks_blocked()
        await stream.send_all(b"NECT\naccept-version:1.2\nheart-beat:0,1000\n\n\0")
        await trio.sleep(9.9)
        assert house.server.connections == 1
        assert house.broker.memory.cost == 0
        await trio.sleep(0.2)
        assert house.server.connections == 0
