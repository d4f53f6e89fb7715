"""The shapes of work that a load can be made for, by name where a command line asks for them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.harness.brokers import Address
from benchmarks.harness.bursts import Bursts
from benchmarks.harness.flood import Flood
from benchmarks.harness.load import PATIENCE_SECONDS, Load, LoadFactory
from benchmarks.harness.round_trips import RoundTrips
from benchmarks.harness.traffic import Traffic, interleaved_traffic, uniform_traffic, varied_channel, varied_traffic
from benchmarks.harness.wire import Wire

TOPIC = "/topic/bench"
QUEUE = "/queue/bench"


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of work: its usual numbers of peers, and how to make its load."""

    publishers: int
    subscribers: int
    unit: str
    make: Callable[[int, int, int], LoadFactory]


FloodFactory = Callable[[Address, Wire], Flood]


def topic_flood(publishers: int, subscribers: int, size: int, *, patience: float = PATIENCE_SECONDS) -> FloodFactory:
    """Return a flood of a topic: each subscriber gets everything."""

    def make(address: Address, wire: Wire) -> Flood:
        return Flood(address, wire, traffic, publishers=publishers, subscribers=subscribers, patience=patience)

    def traffic(wire: Wire) -> Traffic:
        return uniform_traffic(wire, TOPIC, size)

    return make


def queue_flood(publishers: int, subscribers: int, size: int) -> LoadFactory:
    """Return a flood of a queue: the subscribers share the messages."""

    def make(address: Address, wire: Wire) -> Load:
        return Flood(address, wire, traffic, publishers=publishers, subscribers=subscribers, shared=True)

    def traffic(wire: Wire) -> Traffic:
        return uniform_traffic(wire, QUEUE, size)

    return make


def interleaved_flood(channels: int, sizes: Sequence[int], burst: int) -> LoadFactory:
    """Return a flood by one publisher that goes around topics, `burst` messages at a time, each with one subscriber."""

    def make(address: Address, wire: Wire) -> Load:
        return Flood(address, wire, traffic, publishers=1, subscribers=1)

    def traffic(wire: Wire) -> Traffic:
        return interleaved_traffic(wire, [f"{TOPIC}/{number}" for number in range(channels)], sizes, burst)

    return make


def varied_flood(publishers: int, subscribers: int, size: int, *, shared: bool = False) -> LoadFactory:
    """Return a flood of a topic, or of a queue if it is shared, with payloads that differ, also in size.

    Whoever connects anew has another channel: of a broker the first one, the second and so on, so that brokers which
    take turns have the same.
    """
    made: Counter[Address] = Counter()
    prefix = f"{QUEUE if shared else TOPIC}/"

    def make(address: Address, wire: Wire) -> Load:
        channel = varied_channel(prefix, made[address])
        made[address] += 1

        def traffic(wire: Wire) -> Traffic:
            return varied_traffic(wire, channel, size)

        return Flood(address, wire, traffic, publishers=publishers, subscribers=subscribers, shared=shared)

    return make


def bursts(size: int, burst: int, *, channels: int = 1, senders: int = 1) -> LoadFactory:
    """Return bursts, one at a time, to topics with one subscriber each, from senders in turn."""

    def make(address: Address, wire: Wire) -> Load:
        return Bursts(address, wire, prefix=TOPIC, channels=channels, senders=senders, size=size, burst=burst)

    return make


def round_trips(publishers: int, _subscribers: int, size: int) -> LoadFactory:
    """Return round trips; every publisher is its own subscriber."""

    def make(address: Address, wire: Wire) -> Load:
        return RoundTrips(address, wire, prefix=f"{TOPIC}/", peers=publishers, size=size)

    return make


SHAPES = {
    "flood": Shape(1, 1, "deliveries/s", topic_flood),
    "fanout": Shape(1, 10, "deliveries/s", topic_flood),
    "queue": Shape(10, 10, "deliveries/s", queue_flood),
    "unbatched": Shape(400, 400, "round trips/s", round_trips),
}
