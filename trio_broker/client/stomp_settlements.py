"""What one STOMP subscription of a client has been given and has not settled."""

from __future__ import annotations

import itertools
from typing import final

import trio

from trio_broker.client.stomp_link import Link
from trio_broker.message import AckMode, Message
from trio_broker.wire.stomp_client import Received

__all__ = ["Settlements"]


@final
class Settlements:
    """The `Settler` of a subscription's messages. It says ACK and NACK at once, without waiting for anything.

    That is bounded, because the broker stops at what it has prefetched; and idempotent, because what was settled is
    forgotten. Once the connection is over the broker has everything back, and nothing is said any more.

    Args:
        link: the connection.
        mode: how the subscription settles.
    """

    def __init__(self, link: Link, mode: AckMode) -> None:
        self.link = link
        self.cumulative = mode is AckMode.CLIENT
        self._numbers = itertools.count(1)
        self._unsettled: dict[int, Received] = {}  # without their messages, the oldest first
        self._left = False

    def add(self, received: Received) -> int:
        """This was given; the number to settle it by."""
        number = next(self._numbers)
        self._unsettled[number] = Received(
            received.subscription_id, Message(received.message.channel, b""), received.message_id, received.ack_id
        )
        return number

    @trio.lowlevel.enable_ki_protection
    def ack(self, number: int) -> None:
        """It has been dealt with, and in the mode ``client`` all that came before it."""
        taken = self.take(number)
        if taken:
            self.link.say(self.link.session.ack(taken[number]))

    @trio.lowlevel.enable_ki_protection
    def nack(self, number: int, requeue: bool) -> None:
        """It has not, nor, in the mode ``client``, what came before it."""
        taken = self.take(number)
        if taken:
            self.link.say(self.link.session.nack(taken[number], requeue=requeue))

    def take(self, number: int) -> dict[int, Received]:
        """Forget what is settled together with this, and return it; this is the last of it."""
        received = self._unsettled.pop(number, None)
        if received is None:
            return {}
        taken = {}
        if self.cumulative:
            taken = dict(itertools.takewhile(lambda item: item[0] < number, self._unsettled.items()))
            for earlier in taken:
                del self._unsettled[earlier]
        return taken | {number: received}

    def restore(self, taken: dict[int, Received]) -> None:
        """It was not settled after all."""
        self._unsettled = dict(sorted((taken | self._unsettled).items()))
        if self._left:
            self.leave()

    def leave(self) -> None:
        """The subscription ends: all that is not settled goes back, in order."""
        self._left = True
        last = list(self._unsettled)[-1:]
        for number in last if self.cumulative else [*self._unsettled]:
            self.nack(number, requeue=True)
