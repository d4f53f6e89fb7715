"""How ``trio-broker send`` hands messages over, so that what is left of them can be seen to grow less."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NoReturn, final

from trio_broker.client import Client, Receipt, StompClient
from trio_broker.limits import MESSAGE_COST

__all__ = ["HELD_BYTES_MAX", "Publisher"]

HELD_BYTES_MAX: Final = 256 * 1024
"""What a client may hold back, and what is sent between two receipts.

What leaves, or is confirmed, is seen in parts of about this size: the smaller they are, the slower a broker may be and
still be seen to move once a signal has asked for the end. Larger ones were not seen to be faster.
"""


@final
class Publisher:
    """Publishes to one channel.

    Args:
        client: a client of either protocol; nobody else publishes with it.
        channel: where to.
        headers: of every message; STOMP alone.
        confirm: whether to wait for each message until the broker has accepted it; STOMP alone.
    """

    def __init__(
        self, client: Client | StompClient, channel: str, headers: Mapping[str, str], *, confirm: bool
    ) -> None:
        self._client = client
        self._channel = channel
        self._headers = headers
        self._confirm = confirm
        self._cost = 0  # of what was sent since a receipt was asked for
        self._receipt: Receipt | None = None  # the last that was asked for

    @property
    def left(self) -> int:
        """How many messages have not left, and how many receipts have not come."""
        if isinstance(self._client, StompClient):
            return self._client.unsent + self._client.unconfirmed
        return self._client.unsent

    async def raise_when_over(self) -> NoReturn:
        """Wait until the connection is over, and raise why. Cancellation: only the waiting ends."""
        await self._client.raise_when_over()

    async def publish(self, body: bytes) -> None:
        """Publish one. Raises as the client's. Cancellation: it may have been handed over."""
        if not isinstance(self._client, StompClient):
            await self._client.publish(self._channel, body)
            return
        self._cost += len(body) + MESSAGE_COST
        if self._confirm or self._cost < HELD_BYTES_MAX:
            await self._client.publish(self._channel, body, headers=self._headers, confirm=self._confirm)
            return
        # The one before the last receipt has to be there: so the broker never has more to do than two such parts.
        self._cost = 0
        earlier = self._receipt
        with await self._client.reserve(len(body)) as permit:
            self._receipt = permit.send(self._channel, body, headers=self._headers)
        if earlier is not None:
            await earlier.confirmed()
