"""What a flood consists of: publications that are repeated over and over, and what comes back for them."""

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness.wire import Wire

SEED = 20
# Characters that mean the same in every protocol. With them names have 20 to 200 bytes, in an order without a trend.
NAME_CHARACTERS = string.ascii_letters + string.digits
NAME_LENGTHS = (64, 20, 120, 32, 200, 50)
# Enough that what comes round again has left every cache that keeps recent messages, in a megabyte or so.
VARIED_MESSAGES = 1000
VARIED_BYTES = 1 << 20
VARIED_FEWEST = 40


@dataclass(frozen=True, slots=True)
class Traffic:
    """A cycle of messages: the bytes that publish them, and for each channel the bytes a subscriber gets for them."""

    channels: tuple[str, ...]
    messages: int
    cycle: bytes
    deliveries: tuple[bytes, ...]
    parts: tuple[tuple[bytes, ...], ...]  # the same, delivery by delivery

    @property
    def shares(self) -> tuple[int, ...]:
        """The messages of a cycle on each channel."""
        return tuple(len(parts) for parts in self.parts)


def uniform_traffic(wire: Wire, channel: str, size: int) -> Traffic:
    """Return the same message over and over on one channel."""
    payload = b"X" * size
    return _traffic(wire, [(channel, payload)], [channel])


def varied_channel(prefix: str, number: int) -> str:
    """Return a channel name of random characters, the same one for the same number; their lengths go up and down."""
    source = random.Random(SEED + number)
    length = NAME_LENGTHS[number % len(NAME_LENGTHS)]
    return prefix + "".join(source.choices(NAME_CHARACTERS, k=length - len(prefix)))


def varied_traffic(wire: Wire, channel: str, size: int) -> Traffic:
    """Return messages on one channel whose payloads are random bytes and differ from each other, in size too.

    Sizes go from half the nominal one to one and a half, at random, and are the nominal one on average.
    """
    source = random.Random(SEED)
    pairs = max(VARIED_FEWEST, min(VARIED_MESSAGES, VARIED_BYTES // size)) // 2
    sizes = [size + sign * each for each in source.choices(range(size // 2 + 1), k=pairs) for sign in (-1, 1)]
    source.shuffle(sizes)
    return _traffic(wire, [(channel, source.randbytes(each)) for each in sizes], [channel])


def interleaved_traffic(wire: Wire, channels: Sequence[str], sizes: Sequence[int], burst: int) -> Traffic:
    """Return messages that go around the channels, so many at a time to each, with sizes in rotation.

    Every channel gets every size as often as any other. Payloads are random bytes and differ from each other.
    """
    source = random.Random(SEED)
    messages: list[tuple[str, bytes]] = []
    for turn in range(len(sizes)):
        for place, channel in enumerate(channels):
            for number in range(burst):
                payload = source.randbytes(sizes[(turn + place + number) % len(sizes)])
                messages.append((channel, payload))
    return _traffic(wire, messages, channels)


def _traffic(wire: Wire, messages: Sequence[tuple[str, bytes]], channels: Sequence[str]) -> Traffic:
    """Return these messages, encoded."""
    cycle = b"".join(wire.publication(channel, payload) for channel, payload in messages)
    received: dict[str, list[bytes]] = {channel: [] for channel in channels}
    for channel, payload in messages:
        received[channel].append(wire.delivery(channel, payload))
    parts = tuple(tuple(received[channel]) for channel in channels)
    deliveries = tuple(b"".join(each) for each in parts)
    return Traffic(tuple(channels), len(messages), cycle, deliveries, parts)
