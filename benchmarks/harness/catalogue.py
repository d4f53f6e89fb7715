"""All works there are, by name, in the order in which a comparison goes through them."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from benchmarks.harness.brokers import Address
from benchmarks.harness.churn import Churn
from benchmarks.harness.load import Load
from benchmarks.harness.shapes import interleaved_flood, queue_flood, round_trips, topic_flood
from benchmarks.harness.wire import Wire
from benchmarks.harness.works import LatencyWork, MemoryWork, RateWork, Work

FLOOD_SIZES = {"16": 16, "128": 128, "4k": 4096, "64k": 65536, "1m": 1 << 20}
MIXED_SIZES = (16, 64, 256, 1024, 4096)
GROWTH = (1, 10, 100, 1000, 10_000)
SMALL, USUAL = 16, 128
# A thousand connections for each of six brokers are within the usual limit of open files; ten thousand are not.
MOST_KEPT = 1000
# 128 B payloads, so many to one channel before the next: about what one read of a modest size holds.
BURST = 8


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


def _growth() -> Iterator[Work]:
    """Yield the curves; that over subscribers is the fan-out above."""
    for number in GROWTH:
        yield RateWork(
            f"connections-{number}",
            f"1 -> 1, {USUAL} B, beside {_count(number, 'idle connection')}",
            topic_flood(1, 1, USUAL, idle=number),
            keep=number < MOST_KEPT,
            connections=number,
        )
    for number in GROWTH:
        yield RateWork(
            f"channels-{number}",
            f"1 -> {_count(number, 'topic')}, {BURST} messages of {USUAL} B at a time to each",
            interleaved_flood(number, (USUAL,), BURST),
            keep=number < MOST_KEPT,
            connections=number,
        )


def all_works() -> list[Work]:
    """Return every work."""
    return [
        *_floods(),
        RateWork(
            "unbatched-400", f"400 peers, one message at a time, {USUAL} B", round_trips(400, 400, USUAL), "trips/s"
        ),
        LatencyWork("latency-idle", f"one-way latency, one message at a time, {USUAL} B", USUAL),
        LatencyWork("latency-half", f"one-way latency at half the broker's own capacity, {USUAL} B", USUAL, 0.5),
        RateWork("churn", "connect, subscribe, one message, close; 16 at a time", _churn, "connections/s"),
        MemoryWork("memory", "1,000 subscribers that wait", 1000),
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
