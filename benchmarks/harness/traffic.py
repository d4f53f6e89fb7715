"""What a flood consists of: publications that are repeated over and over, and what comes back for them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness.wire import Wire

SEED = 20


@dataclass(frozen=True, slots=True)
class Traffic:
    """A cycle of messages: the bytes that publish them, and for each channel the bytes a subscriber gets for them."""

    channels: tuple[str, ...]
    messages: int
    cycle: bytes
    deliveries: tuple[bytes, ...]
    shares: tuple[int, ...]  # messages of a cycle on each channel


def uniform_traffic(wire: Wire, channel: str, size: int) -> Traffic:
    """Return the same message over and over on one channel."""
    payload = b"X" * size
    return Traffic((channel,), 1, wire.publication(channel, payload), (wire.delivery(channel, payload),), (1,))


def interleaved_traffic(wire: Wire, channels: Sequence[str], sizes: Sequence[int], burst: int) -> Traffic:
    """Return messages that go around the channels, so many at a time to each, with sizes in rotation.

    Every channel gets every size as often as any other. Payloads are random bytes and differ from each other.
    """
    source = random.Random(SEED)
    sent: list[bytes] = []
    received: dict[str, list[bytes]] = {channel: [] for channel in channels}
    for turn in range(len(sizes)):
        for place, channel in enumerate(channels):
            for number in range(burst):
                payload = source.randbytes(sizes[(turn + place + number) % len(sizes)])
                sent.append(wire.publication(channel, payload))
                received[channel].append(wire.delivery(channel, payload))
    deliveries = tuple(b"".join(received[channel]) for channel in channels)
    shares = tuple(len(received[channel]) for channel in channels)
    return Traffic(tuple(channels), len(sent), b"".join(sent), deliveries, shares)
