"""Heart-beats: what each side says of them, and what follows from both. Times only; no clock."""

from __future__ import annotations

import dataclasses
from typing import Final, final

from trio_broker.errors import ProtocolViolation, shorten
from trio_broker.wire.stomp_heads import parse_decimal

__all__ = ["HEART_BEAT", "HEART_BEAT_MISSED", "NO_HEART_BEAT", "HeartBeat", "offer_of", "parse_heart_beat"]

HEART_BEAT: Final = b"\n"
"""What a side sends that has nothing else to send (S-16)."""

HEART_BEAT_MISSED: Final = "heart-beat-missed"
"""The header, with the value ``true``, of an ERROR for too long a silence (S-73). Nothing that was asked for is
refused, so a client may connect again and ask for it once more."""

_DAY_SECONDS: Final = 86_400.0


@final
@dataclasses.dataclass(frozen=True, slots=True)
class HeartBeat:
    """One side's offer, or, from `agree`, what holds for that side.

    Attributes:
        sends_ms: the longest time between two of its sends, in milliseconds; 0 for no promise.
        expects_ms: the time in which it wants to receive something, in milliseconds; 0 if it does not care.
    """

    sends_ms: int = 0
    expects_ms: int = 0

    def __str__(self) -> str:
        return f"{self.sends_ms},{self.expects_ms}"

    def agree(self, theirs: HeartBeat) -> HeartBeat:
        """What holds for this side, given the other's offer (S-15)."""
        return HeartBeat(_slower(self.sends_ms, theirs.expects_ms), _slower(self.expects_ms, theirs.sends_ms))


NO_HEART_BEAT: Final = HeartBeat()


def offer_of(every_seconds: float) -> HeartBeat:
    """The offer of a side that can send, and wants to receive, every so many seconds; beyond a day it offers none."""
    every_ms = max(1, round(every_seconds * 1000)) if every_seconds <= _DAY_SECONDS else 0
    return HeartBeat(every_ms, every_ms)


def parse_heart_beat(value: str | None) -> HeartBeat:
    """An offer as a header has it; None, for no header, is no heart-beats (S-15).

    Raises:
        ProtocolViolation: it is not two numbers.
    """
    if value is None:
        return NO_HEART_BEAT
    first, _, second = value.partition(",")
    sends_ms, expects_ms = parse_decimal(first.strip()), parse_decimal(second.strip())
    if sends_ms is None or expects_ms is None:
        raise ProtocolViolation(
            f"heart-beat is {shorten(value)}; two numbers of milliseconds are required, such as 0,0"
        )
    return HeartBeat(sends_ms, expects_ms)


def _slower(sends_ms: int, expects_ms: int) -> int:
    """The time that both sides can live with; 0 if either does without."""
    return max(sends_ms, expects_ms) if sends_ms and expects_ms else 0
