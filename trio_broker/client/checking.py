"""What a program gives a client of either protocol, judged before it is used."""

from __future__ import annotations

__all__ = ["check_heart_beat"]


def check_heart_beat(seconds: float | None) -> None:
    """Raise ``ValueError`` for a time between heart-beats that is not one."""
    if seconds is not None and not seconds > 0:
        raise ValueError(f"heart_beat_seconds is {seconds!r}; more than 0 is allowed, or None for none")
