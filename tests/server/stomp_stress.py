"""Many messages through one queue, to consumers that acknowledge each and are killed at random. None may be lost.

    python -m tests.server.stomp_stress 100000

A number that comes twice must say ``redelivered:true``; one whose acknowledgement was confirmed must not come again.
"""

from __future__ import annotations

import dataclasses
import random
import socket
import struct
import sys
import time
from typing import Final

import trio

from tests.server.house import TcpHouse, open_tcp_house
from tests.server.stomp_house import Said, StompPeer, greet, send, stomp, subscribe

QUEUE: Final = "/queue/stress"
PREFETCH: Final = 20
LIFE_MESSAGES_MAX: Final = 200
WINDOW: Final = 100
"""How many messages are sent with one receipt."""


@dataclasses.dataclass
class Tally:
    """What happened."""

    messages: int
    seen: set[int] = dataclasses.field(default_factory=set)
    confirmed: set[int] = dataclasses.field(default_factory=set)
    doubles: int = 0
    deaths: int = 0

    def note(self, message: Said) -> int:
        """Note a delivery; return its number."""
        number = int(message.body)
        assert number not in self.confirmed, f"{number} was acknowledged, and came again"
        if number in self.seen:
            self.doubles += 1
            assert message.headers.get("redelivered") == "true", f"{number} came twice without a word"
        self.seen.add(number)
        return number


async def publish(house: TcpHouse, messages: int) -> None:
    """Send them all, some with each receipt."""
    peer = StompPeer((await house.connect()).stream)
    await greet(peer)
    for start in range(0, messages, WINDOW):
        end = min(start + WINDOW, messages)
        await peer.send(*(send(QUEUE, body=b"%d" % number) for number in range(start, end - 1)))
        await peer.send(send(QUEUE, f"receipt:{start}", body=b"%d" % (end - 1)))
        await peer.receipt(str(start))


async def live(house: TcpHouse, tally: Tally, chance: random.Random) -> None:
    """One consumer's life: some messages, and then an end of some kind."""
    peer = StompPeer((await house.connect()).stream)
    await greet(peer)
    await peer.send(subscribe("s", QUEUE, "ack:client-individual", f"prefetch-count:{PREFETCH}"))
    waiting: dict[str, int] = {}  # acknowledgements that are not confirmed yet
    for _ in range(chance.randrange(LIFE_MESSAGES_MAX)):
        said = await peer.receive()
        assert said is not None
        if said.command == "RECEIPT":
            tally.confirmed.add(waiting.pop(said["receipt-id"]))
            continue
        number = tally.note(said)
        ack = said["ack"]
        if chance.random() < 0.1:
            waiting[ack] = number
            await peer.send(stomp("ACK", f"id:{ack}", f"receipt:{ack}"))
        elif chance.random() < 0.01:
            await peer.send(stomp("NACK", f"id:{ack}"))
        else:
            await peer.send(stomp("ACK", f"id:{ack}"))
    await die(peer, chance)


async def die(peer: StompPeer, chance: random.Random) -> None:
    """A reset, an end inside a frame, a plain close, or a goodbye, all with messages on their way."""
    stream = peer.stream
    assert isinstance(stream, trio.SocketStream)
    match chance.randrange(4):
        case 0:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        case 1:
            await peer.send(b"ACK\nid:1")
        case 2:
            await peer.send(stomp("DISCONNECT"))
        case _:
            pass
    await trio.aclose_forcefully(stream)


async def consume(house: TcpHouse, tally: Tally, chance: random.Random) -> None:
    """One life after the other."""
    while True:
        await live(house, tally, chance)
        tally.deaths += 1


async def stress(messages: int, consumers: int = 10, seed: int = 7) -> Tally:
    """Run it, and check what came of it."""
    tally = Tally(messages)
    async with open_tcp_house() as house:
        async with trio.open_nursery() as nursery:
            for number in range(consumers):
                nursery.start_soon(consume, house, tally, random.Random(seed * 1000 + number))
            await publish(house, messages)
            while house.broker.statistics().delivered < messages:  # noqa: ASYNC110  nothing tells of it
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        statistics = house.broker.statistics()
        assert tally.seen == set(range(messages))
        assert (statistics.delivered, statistics.poisoned, statistics.discarded) == (messages, 0, 0)
        assert not any(channel.backlog_messages for channel in statistics.channels.values())
    return tally


def main() -> None:
    """Run as many as the argument says, and tell."""
    began = time.perf_counter()
    tally = trio.run(stress, int(sys.argv[1]))
    sys.stdout.write(
        f"{tally.messages:,} messages, {tally.deaths:,} deaths, {tally.doubles:,} doubles, all redelivered:true; "
        f"{len(tally.confirmed):,} confirmed acknowledgements, none came again; none lost; "
        f"{time.perf_counter() - began:.1f} s\n"
    )


if __name__ == "__main__":
    main()
