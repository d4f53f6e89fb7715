"""A topic with a subscriber that stops reading: what it costs the broker's memory, and the one that goes on reading."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.harness.audience import Audience
from benchmarks.harness.brokers import Recipe
from benchmarks.harness.children import Child
from benchmarks.harness.load import PATIENCE_SECONDS, LoadError
from benchmarks.harness.rounds import Sample, find_count, median_rate, run_load
from benchmarks.harness.shapes import TOPIC, topic_flood
from benchmarks.harness.works import Figure, Read, Reading, Run

MIB = 1 << 20
# Rates before and after are the medians of so many floods each: one alone is off by a third now and then.
SAMPLES = 3
LOOK_SECONDS = 0.05
# Longer than any broker's patience here: trio_broker's stall rule speaks after ten seconds.
EVICTION_SECONDS_MAX = 30.0
# More than fits into the mailbox of the one that is stuck and into the system's buffers on the way to it.
BYTES_MIN = 32 * MIB


class Peak:
    """The most memory that a broker was seen to have while a block was running."""

    def __init__(self, child: Child) -> None:
        """Look once, so that there is a figure."""
        self._child = child
        self._over = threading.Event()
        self.bytes = child.resident_bytes()

    def watch(self) -> None:
        """Look again and again."""
        while not self._over.wait(LOOK_SECONDS):
            self.bytes = max(self.bytes, self._child.resident_bytes())

    def end(self) -> None:
        """Have `watch` return."""
        self._over.set()


@contextmanager
def watched(child: Child) -> Iterator[Peak]:
    """Watch the memory of a broker, in a thread, until the block is left."""
    peak = Peak(child)
    thread = threading.Thread(target=peak.watch)
    thread.start()
    try:
        yield peak
    finally:
        peak.end()
        thread.join()


def await_end(audience: Audience, seconds: float = PATIENCE_SECONDS) -> int:
    """Read what is still on its way to the one subscriber; return how much once the broker has ended the connection.

    Raise `LoadError` if it has not.
    """
    (subscriber,) = audience.subscribers.values()
    deadline = time.monotonic() + seconds
    taken = 0
    while (left := deadline - time.monotonic()) > 0:
        if not audience.poller.poll(left):
            break
        try:
            size = subscriber.socket.recv_into(audience.buffer)
        except ConnectionResetError:
            return taken
        if not size:
            return taken
        taken += size
    message = f"the stuck subscriber was not disconnected, {taken} bytes after it stopped reading"
    raise LoadError(message)


@dataclass(frozen=True, slots=True)
class StuckWork:
    """A flood with one subscriber; then another one subscribes and never reads, until the broker ends its connection.

    The time until then is what the same flood took longer. Each reading has a broker of its own, since memory once
    taken is seldom given back.
    """

    name: str
    title: str
    size: int
    figures: tuple[Figure, ...] = (
        Figure("peak", "MiB more than before", more_is_better=False),
        Figure("eviction", "s until it is evicted", more_is_better=False),
        Figure("after", "x the rate before", more_is_better=True),
    )

    def obstacle(self, recipe: Recipe) -> str | None:
        """Tell of a broker that does something else about it, and whose marks for that are lifted here."""
        return (
            None if recipe.evicts else "its marks for a subscriber that does not read are lifted here, or it has none"
        )

    @contextmanager
    def open(self, recipe: Recipe, run: Run, seconds: float) -> Iterator[Read]:
        """Start nothing yet."""
        yield lambda: self._read(recipe, run, seconds)

    def _read(self, recipe: Recipe, run: Run, seconds: float) -> Reading:
        """Flood before, during and after."""
        with (
            run(recipe) as broker,
            topic_flood(1, 1, self.size, patience=EVICTION_SECONDS_MAX)(broker.address, recipe.wire) as load,
        ):
            count = find_count(lambda each: run_load(broker, load, each, inspect=True), seconds / 2)
            count = max(count, BYTES_MIN // self.size)
            before = [run_load(broker, load, count) for _ in range(SAMPLES)]
            memory = broker.child.resident_bytes()
            with Audience(broker.address, recipe.wire, [TOPIC], subscribers=1, publishers=1) as stuck:
                load.settle()  # the small messages that proved the subscription came to the other one as well
                with watched(broker.child) as peak:
                    during = run_load(broker, load, count)
                after = [run_load(broker, load, count) for _ in range(SAMPLES)]
                taken = await_end(stuck)
        return self.reading(before, during, after, (peak.bytes - memory) / MIB, taken)

    @staticmethod
    def reading(before: list[Sample], during: Sample, after: list[Sample], peak: float, taken: int) -> Reading:
        """Return the figures of complete samples."""
        earlier, later = median_rate(before), median_rate(after)
        figures = {
            "peak": peak,
            "eviction": during.outcome.elapsed - during.outcome.messages / earlier,
            "after": later / earlier,
        }
        details = {"rate_before": earlier, "rate_after": later, "stuck_bytes": float(taken)}
        return Reading(figures, after[-1].broker_busy, after[-1].load_busy, details)
