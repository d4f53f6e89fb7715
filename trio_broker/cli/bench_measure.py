"""What a benchmark measures: the work that was asked for, the latencies, and what came of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Final, final

from trio_broker.message import is_queue

__all__ = ["PERCENTILES", "STAMP_BYTES", "Latencies", "Measured", "Work", "spread"]

STAMP_BYTES: Final = 16
"""What a message needs room for where each one is told from the others: the run's name and the message's number."""

NUMBER_BYTES: Final = 8

PERCENTILES: Final = {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999}
"""By their names, in thousandths."""

_BUCKET_BITS: Final = 8  # a bucket is 1/128 as wide as what is in it, or less


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What is to be done.

    Attributes:
        channel: where it is published.
        publishers: how many connections publish.
        subscribers: how many connections subscribe.
        size_bytes: the payload of a message.
        count: the messages of all publishers together.
        rate: messages a second, of all publishers together; None for as fast as the broker reads.
        run: bytes that mark the messages of this run.
    """

    channel: str
    publishers: int
    subscribers: int
    size_bytes: int
    count: int
    rate: float | None = None
    run: bytes = dataclasses.field(default_factory=lambda: os.urandom(STAMP_BYTES - NUMBER_BYTES))

    @property
    def shared(self) -> bool:
        """Whether the subscribers share the messages (a queue) instead of having each all of them (a topic)."""
        return is_queue(self.channel)

    @property
    def deliveries(self) -> int:
        """How many deliveries are due in all."""
        return self.count if self.shared else self.count * self.subscribers

    def share(self, publisher: int) -> int:
        """How many of the messages this publisher sends: number ``publisher``, and every so many after it."""
        return len(range(publisher, self.count, self.publishers))

    def due(self, number: int) -> float:
        """When message ``number`` is to be sent, in seconds after the start."""
        assert self.rate is not None
        return number / self.rate


@final
class Latencies:
    """Any number of latencies in bounded memory: each is counted in a bucket that is at most 0.8 % wide."""

    def __init__(self) -> None:
        self.count = 0
        self._buckets: dict[int, int] = {}
        self._max_ns = 0

    def add(self, seconds: float) -> None:
        """Count one latency."""
        latency_ns = max(0, round(seconds * 1e9))
        shift = max(0, latency_ns.bit_length() - _BUCKET_BITS)
        bucket = shift << _BUCKET_BITS | latency_ns >> shift
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self._max_ns = max(self._max_ns, latency_ns)
        self.count += 1

    @property
    def max(self) -> float:
        """The longest, in seconds, exactly."""
        return self._max_ns / 1e9

    def percentile(self, thousandths: int) -> float:
        """The least time, in seconds, in which at least so many thousandths of the messages had arrived.

        It is rounded up to the end of its bucket, but never beyond the longest latency. At least one must be there.
        """
        rank = max(1, -(-thousandths * self.count // 1000))
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                shift, leading = bucket >> _BUCKET_BITS, bucket & (1 << _BUCKET_BITS) - 1
                return min((leading + 1 << shift) - 1, self._max_ns) / 1e9
        raise ValueError("a percentile of nothing")

    def as_dict(self) -> dict[str, float]:
        """All percentiles by name, and the longest, in seconds; empty if there are no latencies."""
        if not self.count:
            return {}
        return {name: self.percentile(value) for name, value in PERCENTILES.items()} | {"max": self.max}


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """What came of it.

    Attributes:
        work: what was asked for.
        seconds: from the start to the end, whatever the end was.
        published: messages that were handed to the operating system.
        published_seconds: from the start until the last of these was handed over.
        received: messages, for each subscriber.
        received_seconds: from the start until the last of these was read, for each subscriber.
        faults: what went wrong, the first first.
        stopped: by what it was stopped before its end; None if it was not.
        latencies: from the time at which a message was to be sent until it was read; empty without a rate.
        late_seconds: the longest time by which a message was sent later than it was to be.
        load_busy: CPU time of this process by elapsed time.
    """

    work: Work
    seconds: float
    published: int
    published_seconds: float
    received: Sequence[int]
    received_seconds: Sequence[float]
    faults: Sequence[str]
    stopped: str | None
    latencies: Latencies
    late_seconds: float
    load_busy: float

    @property
    def delivered(self) -> int:
        """Deliveries to all subscribers together."""
        return sum(self.received)

    @property
    def complete(self) -> bool:
        """Whether everything was delivered, once, and nothing went wrong: only then does a rate mean anything."""
        return not self.faults and self.stopped is None and self.delivered == self.work.deliveries

    @property
    def subscriber_rates(self) -> list[float]:
        """Messages a second of each subscriber, until its own last one."""
        pairs = zip(self.received, self.received_seconds, strict=True)
        return [per_second(received, seconds) for received, seconds in pairs]


def per_second(count: int, seconds: float) -> float:
    """A rate; 0 where there was nothing."""
    return count / seconds if count and seconds > 0 else 0.0


def spread(values: Sequence[float]) -> dict[str, float]:
    """The least, the middle and the greatest of some values. Of an even number the middle is the mean of two."""
    ordered = sorted(values)
    half = len(ordered) // 2
    median = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return {"min": ordered[0], "median": median, "max": ordered[-1]}
