"""Whatever our server accepts, a client with the same limits can receive: nobody's message ends its consumers."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.client.network import Network
from tests.server.house import open_house
from tests.server.stomp_house import StompPeer, greet, stomp
from trio_broker.client import connect
from trio_broker.limits import Limits

HEADERS = [f"h{number}:" for number in range(Limits().headers_max - 2)]  # beside destination and receipt


def largest(destination: str, *, of: str) -> bytes:
    """A SEND with so many headers, or of so many bytes, that one more is refused."""
    lines = [f"destination:{destination}", "receipt:r", *(HEADERS if of == "headers" else ["h:"])]
    if of == "colons":  # each of which is sent on as two bytes
        lines[-1] += ":" * (Limits().header_bytes_max - len(stomp("SEND", *lines)) + 1)
    elif of == "bytes":
        lines[-1] += "v" * (Limits().header_bytes_max - len(stomp("SEND", *lines)) + 1)
    return stomp("SEND", *lines, body=b"large")


@pytest.mark.parametrize("of", ["headers", "bytes", "colons"])
async def test_one_more_is_refused(autojump_clock: MockClock, of: str) -> None:
    """Else the others of these tests would not be about the largest."""
    async with open_house() as house:
        for more, answer in ((b"", "RECEIPT"), (b"i:\n", "ERROR")):
            peer = StompPeer(house.connect().stream)
            await greet(peer)
            await peer.send(largest("/topic/x", of=of).replace(b"receipt:r\n", b"receipt:r\n" + more))
            await peer.get(answer)


@pytest.mark.parametrize("version", ["1.0", "1.2"])
@pytest.mark.parametrize("of", ["headers", "bytes", "colons"])
@pytest.mark.parametrize("channel", ["/topic/x", "/queue/x"])
async def test_the_largest_message_that_the_server_accepts(
    autojump_clock: MockClock, network: Network, channel: str, of: str, version: str
) -> None:
    """From a queue with an acknowledgement, and marked as redelivered."""
    async with open_house() as house:
        network.on_arrival = house.listener.offer
        peer = StompPeer(house.connect().stream)
        await greet(peer, version)
        async with connect() as client, client.subscribe(channel, ack="client-individual") as subscription:
            await peer.send(largest(channel, of=of))
            await peer.receipt("r")
            message = await subscription.receive()
            if channel == "/queue/x":
                message.nack()
                message = await subscription.receive()
                assert message.redelivered
            message.ack()
            assert message.body == b"large"
            assert len(message.headers) == (len(HEADERS) if of == "headers" else 1)
            await client.publish("/topic/heard", b"", confirm=True)
        assert house.broker.statistics().poisoned == 0
        await trio.aclose_forcefully(peer.stream)
