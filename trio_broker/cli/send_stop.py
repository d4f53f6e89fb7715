"""What ends ``trio-broker send`` early: signals, and a broker that went away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, NoReturn, Protocol, final

import trio

__all__ = ["Moving", "Stop"]

_IDLE_SECONDS_MAX: Final = 5.0
"""After a first signal, how long nothing may move before the last messages are given up.

A person waits about so long for a program that was told to end and shows nothing. A broker whose consumers are merely
slow takes something in that time.
"""

_LOOK_SECONDS: Final = 0.2
"""Between two looks at what is left: soon enough for a person, and seldom enough to be free."""


class Moving(Protocol):
    """What a sender publishes with, as far as it can be seen to move."""

    @property
    def left(self) -> int:
        """How many messages have not left, and how many receipts have not come."""
        ...

    async def raise_when_over(self) -> NoReturn:
        """Wait until the connection is over, and raise why."""
        ...


@final
class Stop:
    """What a signal stops: first the sending, so that what was handed over still goes out; then everything.

    Args:
        everything: what a second signal stops.

    Attributes:
        asked: whether a first signal came.
        cut: whether the last messages were given up.
        lost: why the connection is over, if it is.
    """

    def __init__(self, everything: trio.CancelScope) -> None:
        self.asked = False
        self.cut = False
        self.lost: Exception | None = None
        self._everything = everything
        self._first = everything  # before the connection stands there is nothing to send
        self._publisher: Moving | None = None

    def scope_to_send(self, publisher: Moving) -> trio.CancelScope:
        """The scope to send in, with this."""
        self._publisher = publisher
        self._first = trio.CancelScope()
        return self._first

    async def watch(self, signals: AsyncIterator[int]) -> None:
        """Stop at a signal; at the second, or once nothing has moved for a while, do not wait for the last messages."""
        await anext(signals)
        self.asked = True
        self._first.cancel(reason="a signal")
        left = self._left()
        give_up_at = trio.current_time() + _IDLE_SECONDS_MAX
        while trio.current_time() < give_up_at:
            with trio.move_on_after(_LOOK_SECONDS):
                await anext(signals)
                break
            before, left = left, self._left()
            if left < before:
                give_up_at = trio.current_time() + _IDLE_SECONDS_MAX
        self.cut = True
        self._everything.cancel(reason="a second signal, or no progress after the first")

    async def watch_connection(self, publisher: Moving) -> None:  # noqa: ASYNC910  a task, not a call
        """Stop the sending when the broker has gone, which a sender that waits for its input would not notice."""
        try:
            await publisher.raise_when_over()
        except Exception as error:  # noqa: BLE001  for the sender to raise
            self.lost = error
            self._first.cancel(reason="the connection is over")

    def _left(self) -> int:
        return 0 if self._publisher is None else self._publisher.left
