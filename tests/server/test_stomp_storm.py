"""Peers that say anything, right or wrong, in any order, in any pieces: nobody else suffers, and nothing stays."""

import random
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import House, Logs, open_house
from tests.server.stomp_house import StompPeer, join, send, stomp, subscribe, subscriber
from trio_broker import Limits

LIMITS = Limits(
    backlog_bytes_max=20_000,
    backlog_reserve_bytes_max=20_000,
    mailbox_bytes_max=20_000,
    unsettled_bytes_max=10_000,
    control_bytes_max=1000,
    prefetch_messages_max=10,
    subscriptions_max=5,
    transactions_max=3,
    transaction_bytes_max=10_000,
    publish_seconds_max=20,
)
CHANNELS = ("/queue/a", "/queue/b", "/topic/c", "plain")


def frames(chance: random.Random, version: str) -> list[Callable[[], bytes]]:
    """What a peer may say; most of it is right most of the time."""

    def number() -> int:
        return chance.randrange(1, 30)

    def settle(command: str, *lines: str) -> bytes:
        names = {"1.2": [f"id:{number()}"], "1.0": [f"message-id:{number()}"]}
        return stomp(command, *names.get(version, [f"message-id:{number()}", f"subscription:{number() % 3}"]), *lines)

    def maybe(*lines: str) -> list[str]:
        return [line for line in lines if chance.random() < 0.3]

    def transaction() -> str:
        return f"transaction:{chance.randrange(2)}"

    return [
        lambda: send(
            chance.choice(CHANNELS),
            *maybe("receipt:r", "expiration:3000", "reply-to:/temp-queue/x", "type:t"),
            body=bytes(chance.choice((0, 10, 1000, 9000))),
        ),
        lambda: (
            stomp("BEGIN", transaction(), *maybe("receipt:r"))
            + send(chance.choice(CHANNELS), transaction(), *maybe("receipt:r"))
            + stomp(chance.choice(("COMMIT", "ABORT")), transaction(), *maybe("receipt:r"))
        ),
        lambda: subscribe(
            str(number()),
            chance.choice(CHANNELS),
            f"ack:{chance.choice(('auto', 'client', 'client'))}",
            *maybe("receipt:r", "prefetch-count:1"),
        ),
        lambda: stomp("UNSUBSCRIBE", f"id:{number() % 10}", *maybe("receipt:r")),
        lambda: settle("ACK", *maybe("receipt:r")),
        lambda: settle("NACK", *maybe("receipt:r", "requeue:false")),
        lambda: b"\n\n",
        lambda: stomp("DISCONNECT", *maybe("receipt:r")),
        lambda: bytes(chance.randrange(256) for _ in range(20)),
    ]


async def rave(house: House, chance: random.Random) -> None:
    """One peer after the other: greets, says a number of things in pieces, listens or not, and goes in some way."""
    for _ in range(4):
        version = chance.choice(("1.0", "1.1", "1.2"))
        terms = [] if version == "1.0" or chance.random() < 0.5 else ["heart-beat:1000,1000"]
        peer = await join(house, version, *terms)
        kinds = frames(chance, version)
        weights = [8, 4, 4, 1, 2, 1, 2, 0.3, 0.1]
        said = b"".join(kind() for kind in chance.choices(kinds, weights, k=chance.randrange(1, 40)))
        try:
            while said:
                size = chance.choice((1, 10, 100, 5000))
                with trio.move_on_after(30):
                    await peer.send(said[:size])
                said = said[size:]
                if chance.random() < 0.3:
                    with trio.move_on_after(chance.choice((0, 1, 5))):
                        await listen(peer)
        except trio.BrokenResourceError:
            pass
        if chance.random() < 0.5:
            with trio.move_on_after(30):
                await listen(peer)
        chance.choice((peer.memory_stream.close, peer.memory_stream.reset))()


async def listen(peer: StompPeer) -> None:
    """Read frames; nothing follows an ERROR. The last may be torn, as one who did not listen for long is evicted."""
    while (said := await peer.receive(may_be_torn=True)) is not None:
        if said.command == "ERROR":
            assert await peer.receive() is None
            return


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_peers_say(autojump_clock: MockClock, logs: Logs, seed: int) -> None:
    async with open_house(LIMITS, buffer_bytes=5000) as house:
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(rave, house, random.Random(seed * 100 + number))
        await trio.sleep(100)
        await wait_all_tasks_blocked()
        assert house.server.connections == 0
        statistics = house.broker.statistics()
        assert statistics.subscriptions == 0
        assert not any("/temporary/" in name for name in statistics.channels)
        assert statistics.memory_cost == sum(channel.backlog_cost for channel in statistics.channels.values())
        receiver, sender = await subscriber(house, "/topic/others"), await join(house)
        await sender.send(send("/topic/others", body=b"still here"))
        assert (await receiver.message()).body == b"still here"
