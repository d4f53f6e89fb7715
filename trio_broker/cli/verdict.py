"""Was the demonstration right? Which numbers each listener must have received from a queue and from a topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["fan_out_fault", "rotation_fault"]


def rotation_fault(received: Mapping[str, Sequence[int]], count: int) -> str | None:
    """What is wrong with a queue that gave messages 0 to ``count - 1`` to these listeners; None if nothing is.

    In rotation, each message goes to the listener whose turn it is, so with two of them one has the even numbers and
    the other the odd ones.
    """
    for number in range(count):
        takers = [name for name, numbers in received.items() for taken in numbers if taken == number]
        if len(takers) != 1:
            return f"message {number} was received {len(takers)} times, not once"
    listeners = len(received)
    for name, numbers in received.items():
        first = numbers[0] if numbers else 0
        if first >= listeners or list(numbers) != list(range(first, count, listeners)):
            return f"{name} did not get every {_ordinal(listeners)} message in order, but {_show(numbers)}"
    return None


def fan_out_fault(received: Mapping[str, Sequence[int]], count: int) -> str | None:
    """What is wrong with a topic that gave messages 0 to ``count - 1`` to these listeners; None if nothing is."""
    for name, numbers in received.items():
        if list(numbers) != list(range(count)):
            return f"{name} did not get all {count} messages in order, but {_show(numbers)}"
    return None


def _show(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers)) or "nothing"


def _ordinal(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")
