"""All works there are, by name, in the order in which a comparison goes through them."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from benchmarks.harness.brokers import Address
from benchmarks.harness.churn import Churn
from benchmarks.harness.load import Load
from benchmarks.harness.shapes import (
    bursts,
    interleaved_flood,
    queue_flood,
    round_trips,
    topic_flood,
    varied_flood,
)
from benchmarks.harness.stuck import StuckWork
from benchmarks.harness.wire import Wire
from benchmarks.harness.works import LatencyWork, MemoryWork, RateWork, Work

FLOOD_SIZES = {"16": 16, "128": 128, "4k": 4096, "64k": 65536, "1m": 1 << 20}
LARGEST_VARIED = 65536
MIXED_SIZES = (16, 64, 256, 1024, 4096)
GROWTH = (1, 10, 100, 1000, 10_000)
SMALL, USUAL = 16, 128
# A thousand connections for each of six brokers are within the usual limit of open files; ten thousand are not.
MOST_KEPT = 1000
# So few that what a read and a write cost, and what a channel and a connection cost, is not lost among messages.
BURST = 8
STOMP = "STOMP"
VARIED = "varied-"


def _churn(address: Address, wire: Wire) -> Load:
    """Return the load of connections that come and go."""
    return Churn(address, wire)


def _count(number: int, noun: str) -> str:
    """Return so many of something in words."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _floods() -> Iterator[Work]:
    """Yield what moves as many messages as possible."""
    for name, size in FLOOD_SIZES.items():
        yield RateWork(f"flood-{name}", f"1 -> 1, {size:,} B", topic_flood(1, 1, size))
    yield RateWork("fanout-10-small", f"1 -> 10, {SMALL} B", topic_flood(1, 10, SMALL))
    for number in (1, 10, 100, 1000):
        load = topic_flood(1, number, USUAL)
        keep = number < MOST_KEPT
        yield RateWork(
            f"fanout-{number}", f"1 -> {number:,}, {USUAL} B", load, keep=keep, connections=0 if keep else number
        )
    yield RateWork("queue-10", f"10 -> 10 through a queue, {SMALL} B", queue_flood(10, 10, SMALL), queues=True)
    for number in (1, 2, 16):
        title = f"1 -> {_count(number, 'topic')} message by message, 16 B to 4 KiB"
        yield RateWork(f"interleaved-{number}", title, interleaved_flood(number, MIXED_SIZES, 1))


def _varied() -> Iterator[Work]:
    """Yield some of them again, with another name each time, and payloads that differ from each other, in size too."""
    what = "names, payloads and sizes vary"
    for name, size in FLOOD_SIZES.items():
        if size <= LARGEST_VARIED:
            yield RateWork(
                f"{VARIED}flood-{name}", f"1 -> 1, about {size:,} B; {what}", varied_flood(1, 1, size), keep=False
            )
    for name, number, size in (("fanout-10-small", 10, SMALL), ("fanout-10", 10, USUAL), ("fanout-100", 100, USUAL)):
        title = f"1 -> {number}, about {size} B; {what}"
        yield RateWork(f"{VARIED}{name}", title, varied_flood(1, number, size), keep=False)
    title = f"10 -> 10 through a queue, about {SMALL} B; {what}"
    yield RateWork(f"{VARIED}queue-10", title, varied_flood(10, 10, SMALL, shared=True), keep=False, queues=True)


def _stomp() -> Iterator[Work]:
    """Yield what is done over STOMP."""
    yield RateWork("stomp-128", f"STOMP, 1 -> 1, {USUAL} B, auto ack", topic_flood(1, 1, USUAL), protocol=STOMP)
    title = f"STOMP, 1 -> 1 through a queue, {USUAL} B, auto ack"
    yield RateWork("stomp-queue", title, queue_flood(1, 1, USUAL), queues=True, protocol=STOMP)


def _growth() -> Iterator[Work]:
    """Yield the curves; that over subscribers is the fan-out above."""
    for number in GROWTH:
        yield RateWork(
            f"connections-{number}",
            f"{_count(number, 'publisher')} in turn -> 1, {BURST} messages of {USUAL} B at a time",
            bursts(USUAL, BURST, senders=number),
            keep=number < MOST_KEPT,
            connections=number,
        )
    for number in GROWTH:
        yield RateWork(
            f"channels-{number}",
            f"1 -> {_count(number, 'topic')} in turn, {BURST} messages of {USUAL} B at a time",
            bursts(USUAL, BURST, channels=number),
            keep=number < MOST_KEPT,
            connections=number,
        )


def all_works() -> list[Work]:
    """Return every work."""
    return [
        *_floods(),
        *_varied(),
        *_stomp(),
        RateWork(
            "unbatched-400", f"400 peers, one message at a time, {USUAL} B", round_trips(400, 400, USUAL), "trips/s"
        ),
        LatencyWork("latency-idle", f"one-way latency, one message at a time, {USUAL} B", USUAL),
        LatencyWork("latency-half", f"one-way latency at half the broker's own capacity, {USUAL} B", USUAL, 0.5),
        RateWork("churn", "connect, subscribe, one message, close; 16 at a time", _churn, "connections/s"),
        MemoryWork("memory", "1,000 subscribers that wait", 1000),
        StuckWork("stuck", f"1 -> 1, {USUAL} B, beside a subscriber that stops reading", USUAL),
        *_growth(),
    ]


def choose_works(patterns: Sequence[str]) -> list[Work]:
    """Return the works that match any of the patterns (`flood-*`), or all without one; raise `ValueError` for none."""
    works = all_works()
    if not patterns:
        return works
    for pattern in patterns:
        if not any(fnmatchcase(work.name, pattern) for work in works):
            message = f"no work is called {pattern}; there are: {', '.join(work.name for work in works)}"
            raise ValueError(message)
    return [work for work in works if any(fnmatchcase(work.name, pattern) for pattern in patterns)]
