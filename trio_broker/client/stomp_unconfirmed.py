"""Which of the messages that a STOMP client has handed over the server has not confirmed, as a number.

Most messages ask for no receipt. What the receipts of other frames say of them follows from the order in which a server
deals with a connection's frames (S-35): one for anything but a SEND stands for all that was handed over before it; one
for a SEND only for what was handed over before it to the same channel. So it takes two numbers and a name, however many
the messages are.
"""

from __future__ import annotations

from typing import final

__all__ = ["Unconfirmed", "complaint"]


@final
class Unconfirmed:
    """The messages of one connection that asked for no receipt."""

    def __init__(self) -> None:
        self._handed_over = 0
        self._confirmed = 0
        self._channel: str | None = None  # of those that are not confirmed; None for several

    @property
    def count(self) -> int:
        """How many are not confirmed."""
        return self._handed_over - self._confirmed

    def add(self, channel: str) -> None:
        """One was handed over."""
        if not self.count:
            self._channel = channel
        elif channel != self._channel:
            self._channel = None
        self._handed_over += 1

    def before(self, channel: str | None = None) -> int:
        """What `confirm` is to be given when the receipt comes of a frame that is handed over now.

        Args:
            channel: of a SEND; None for every other frame.
        """
        return self._handed_over if channel is None or channel == self._channel else 0

    def confirm(self, before: int) -> None:
        """A receipt has come."""
        self._confirmed = max(self._confirmed, before)


def complaint(unsent: int, unconfirmed: int) -> str:
    """What may be lost, in words. Of the unsent some may be such as their senders waited for, and have heard of."""
    if unsent >= unconfirmed:
        return f"{unsent} messages may not have been sent"
    more = f", {unsent} may not have been sent" if unsent else ""
    return f"{unconfirmed} messages were not confirmed{more}"
