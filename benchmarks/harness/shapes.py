"""The shapes of work that a load can be made for, by name where a command line asks for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.harness.brokers import Address
from benchmarks.harness.flood import Flood
from benchmarks.harness.load import Load, LoadFactory
from benchmarks.harness.round_trips import RoundTrips
from benchmarks.harness.traffic import Traffic, interleaved_traffic, uniform_traffic
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


def topic_flood(publishers: int, subscribers: int, size: int, *, idle: int = 0) -> LoadFactory:
    """Return a flood of a topic: each subscriber gets everything; `idle` more connections get nothing."""

    def make(address: Address, wire: Wire) -> Load:
        return Flood(address, wire, traffic, publishers=publishers, subscribers=subscribers, idle=idle)

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
