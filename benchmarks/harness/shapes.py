"""The shapes of work that can be asked for by name, from the options of a command line."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.harness.brokers import Address
from benchmarks.harness.flood import Flood
from benchmarks.harness.load import Load, LoadFactory
from benchmarks.harness.round_trips import RoundTrips
from benchmarks.harness.wire import Wire


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of work: its usual numbers of peers, and how to make its load."""

    publishers: int
    subscribers: int
    unit: str
    make: Callable[[int, int, int], LoadFactory]


def topic_flood(publishers: int, subscribers: int, size: int) -> LoadFactory:
    """Return a flood of a topic: each subscriber gets everything."""
    return _flood("/topic/bench", publishers, subscribers, size, shared=False)


def queue_flood(publishers: int, subscribers: int, size: int) -> LoadFactory:
    """Return a flood of a queue: the subscribers share the messages."""
    return _flood("/queue/bench", publishers, subscribers, size, shared=True)


def round_trips(publishers: int, _subscribers: int, size: int) -> LoadFactory:
    """Return round trips; every publisher is its own subscriber."""

    def make(address: Address, wire: Wire) -> Load:
        return RoundTrips(address, wire, prefix="/topic/bench/", peers=publishers, size=size)

    return make


def _flood(channel: str, publishers: int, subscribers: int, size: int, *, shared: bool) -> LoadFactory:
    """Return a flood of one channel."""

    def make(address: Address, wire: Wire) -> Load:
        return Flood(
            address, wire, channel=channel, publishers=publishers, subscribers=subscribers, size=size, shared=shared
        )

    return make


SHAPES = {
    "flood": Shape(1, 1, "deliveries/s", topic_flood),
    "fanout": Shape(1, 10, "deliveries/s", topic_flood),
    "queue": Shape(10, 10, "deliveries/s", queue_flood),
    "unbatched": Shape(400, 400, "round trips/s", round_trips),
}
