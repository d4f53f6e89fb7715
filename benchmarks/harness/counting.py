"""How what comes back is counted: in bytes where a delivery's length is known, by its terminator where it is not.

A meter also compares what comes back with what was sent, byte for byte, where it is asked to: in the calibration.
"""

from collections import Counter
from typing import Protocol

from benchmarks.harness.traffic import Traffic
from benchmarks.harness.wire import Wire


class Meter(Protocol):
    """Counts what subscribers receive, in units of its own; `place` is that of the subscriber's channel."""

    unit: str

    def begin(self) -> None:
        """Forget what was inspected before."""
        ...

    def due(self, place: int, cycles: int) -> int:
        """Return the units of so many cycles on a channel."""
        ...

    def count(self, buffer: bytes | bytearray, size: int) -> int:
        """Return the units in the first `size` bytes."""
        ...

    def inspect(self, key: int, place: int, received: int, chunk: bytes) -> bool:
        """Return whether a chunk is what the subscriber `key`, who has received so many units, has to get now."""
        ...

    def find_fault(self, times: int) -> str | None:
        """Return what is wrong with all that was inspected if each message was due so many times."""
        ...

    def messages(self, place: int, received: int) -> int:
        """Return the messages in so many units, as whole cycles where they cannot be told apart."""
        ...


class ByteMeter:
    """Counts bytes; the deliveries of a channel come in their order."""

    unit = "bytes"

    def __init__(self, traffic: Traffic) -> None:
        """Keep what comes back."""
        self._traffic = traffic

    def begin(self) -> None:
        """Nothing is kept."""

    def due(self, place: int, cycles: int) -> int:
        """Return the bytes."""
        return cycles * len(self._traffic.deliveries[place])

    def count(self, buffer: bytes | bytearray, size: int) -> int:
        """Return the bytes."""
        del buffer
        return size

    def inspect(self, key: int, place: int, received: int, chunk: bytes) -> bool:
        """Compare with the channel's deliveries, repeated."""
        del key
        pattern = self._traffic.deliveries[place]
        begin = received % len(pattern)
        repeated = memoryview(pattern * -(-(begin + len(chunk)) // len(pattern)))
        return chunk == repeated[begin : begin + len(chunk)]

    def find_fault(self, times: int) -> str | None:
        """Return nothing: what was in order was neither lost nor doubled."""
        del times
        return None

    def messages(self, place: int, received: int) -> int:
        """Return whole cycles."""
        return received // len(self._traffic.deliveries[place]) * self._traffic.shares[place]


class SharedMeter(ByteMeter):
    """Counts bytes of one channel whose deliveries, each another one, come in any order to anybody.

    A delivery is known by its beginning, so no protocol is parsed. Each must come as often as any other.
    """

    def __init__(self, traffic: Traffic) -> None:
        """Make the table of beginnings; raise `ValueError` where two are the same."""
        super().__init__(traffic)
        (parts,) = traffic.parts
        self._head = min(map(len, parts))
        self._known = {part[: self._head]: part for part in parts}
        if len(self._known) < len(parts):
            message = "two deliveries begin with the same bytes, so they cannot be told apart"
            raise ValueError(message)
        self._seen: Counter[bytes] = Counter()
        self._tails: dict[int, bytes] = {}

    def begin(self) -> None:
        """Forget tails and counts."""
        self._seen.clear()
        self._tails.clear()

    def inspect(self, key: int, place: int, received: int, chunk: bytes) -> bool:
        """Find each delivery that is whole, and keep the rest."""
        stream, at = self._tails.get(key, b"") + chunk, 0
        while len(stream) - at >= self._head:
            part = self._known.get(head := stream[at : at + self._head])
            if part is None or not part.startswith(stream[at : at + len(part)]):
                return False
            if len(stream) - at < len(part):
                break
            self._seen[head] += 1
            at += len(part)
        self._tails[key] = stream[at:]
        return True

    def find_fault(self, times: int) -> str | None:
        """Return what came too often or too seldom; nothing where nothing was inspected."""
        wrong = sum(self._seen[head] != times for head in self._known) if self._seen else 0
        return f"{wrong} of {len(self._known)} different messages did not come {times} times" if wrong else None


class FrameMeter:
    """Counts terminators, since heads differ in length; the bodies of a channel come in their order."""

    unit = "frames"

    def __init__(self, traffic: Traffic, terminator: bytes) -> None:
        """Keep the bodies."""
        self._traffic = traffic
        self._terminator = terminator
        self._tails: dict[int, bytes] = {}

    def begin(self) -> None:
        """Forget the tails."""
        self._tails.clear()

    def due(self, place: int, cycles: int) -> int:
        """Return the deliveries."""
        return cycles * self._traffic.shares[place]

    def count(self, buffer: bytes | bytearray, size: int) -> int:
        """Return the terminators."""
        return buffer.count(self._terminator, 0, size)

    def inspect(self, key: int, place: int, received: int, chunk: bytes) -> bool:
        """Compare the end of each whole delivery with the body that is due; the head is the server's to write."""
        parts = self._traffic.parts[place]
        *whole, rest = (self._tails.get(key, b"") + chunk).split(self._terminator)
        self._tails[key] = rest
        bodies = (parts[(received + number) % len(parts)] for number in range(len(whole)))
        # Behind the blank line: a body that is longer than what was sent must not pass for it.
        return all(
            (frame + self._terminator).endswith(b"\n\n" + body) for frame, body in zip(whole, bodies, strict=True)
        )

    def find_fault(self, times: int) -> str | None:
        """Return nothing: what was in order was neither lost nor doubled."""
        del times
        return None

    def messages(self, place: int, received: int) -> int:
        """Return the deliveries."""
        del place
        return received


def choose_meter(wire: Wire, traffic: Traffic, *, shared: bool) -> Meter:
    """Return what can count this traffic."""
    if wire.terminator:
        return FrameMeter(traffic, wire.terminator)
    return SharedMeter(traffic) if shared and traffic.messages > 1 else ByteMeter(traffic)
