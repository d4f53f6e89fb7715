"""A subscription for a program's own tasks: a `trio.abc.ReceiveChannel` of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio

from trio_broker.errors import SubscriptionEvicted
from trio_broker.message import Message

if TYPE_CHECKING:
    from trio_broker.core.statistics import SubscriptionStatistics
    from trio_broker.core.subscription import Subscription

__all__ = ["LocalSubscription"]


@final
class LocalSubscription(trio.abc.ReceiveChannel[Message]):
    """What ``async with broker.subscribe(...)`` gives: receive messages, one at a time, in any number of tasks."""

    __slots__ = ("_closed", "_subscription")

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._closed = False

    @property
    def channel(self) -> str:
        """The channel's name."""
        return self._subscription.channel.name

    @trio.lowlevel.enable_ki_protection
    async def receive(self) -> Message:
        """Wait for the next message and take it.

        Raises:
            trio.EndOfChannel: the broker ended, and everything that was in the mailbox has been received.
            trio.ClosedResourceError: this subscription was closed, by leaving its block or by `aclose`.
            SubscriptionEvicted: the broker ended it, because messages waited and were not received fast enough, or
                by the overflow policy `disconnect`. It is also a `trio.BrokenResourceError`.

        Cancellation: atomic. If `trio.Cancelled` is raised no message was taken. Once this returns, the message is
        the caller's: it does not go back to its queue unless it is to be settled. No deadline but the caller's. Always
        a checkpoint.
        """
        await trio.lowlevel.checkpoint()
        while (message := self._receive_nowait()) is None:
            try:
                await self._subscription.outbox.turn()
                self._subscription.announced = False
            except trio.EndOfChannel:
                message = self._receive_nowait()
                if message is None:
                    raise
                return message
        return message

    @trio.lowlevel.enable_ki_protection
    def receive_nowait(self) -> Message:
        """Take the next message if one waits. Raises as `receive`, or `trio.WouldBlock`.

        Cancellation: never; this is synchronous.
        """
        message = self._receive_nowait()
        if message is None:
            raise trio.EndOfChannel if self._subscription.outbox.closed else trio.WouldBlock
        return message

    def statistics(self) -> SubscriptionStatistics:
        """What waits and what was lost, at this moment."""
        return self._subscription.statistics()

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Leave the channel; what was not received, or not settled, goes back to a queue. Idempotent.

        Cancellation: never; this is synchronous.
        """
        self._closed = True
        self._subscription.leave()
        self._subscription.outbox.close()

    async def aclose(self) -> None:
        """`close`, then a checkpoint.

        Cancellation: cleanup. The subscription is closed whatever is raised. Always a checkpoint.
        """
        self.close()
        await trio.lowlevel.checkpoint()

    def _receive_nowait(self) -> Message | None:
        """Take one message; without credit it is settled at once. None if nothing waits.

        If more wait the subscription is announced again: several tasks may be waiting for its turn.
        """
        self._raise_if_over()
        subscription = self._subscription
        mailbox = subscription.mailbox
        full = mailbox.is_full
        while mailbox.messages and mailbox.may_expire and subscription.expire_oldest():
            pass
        if not mailbox.messages:
            message = None
        elif subscription.credit is not None:
            message = self._receive_unsettled()
        else:
            message = mailbox.take_message()
            subscription.count_settled(1)
        subscription.announce_what_is_left()
        if full and not mailbox.is_full:
            subscription.may_have_room()
        return message

    def _receive_unsettled(self) -> Message:
        """Take one message, and enter it in the ledger."""
        subscription = self._subscription
        ledger = subscription.ledger
        assert ledger is not None
        delivery = subscription.mailbox.take_first()
        number = ledger.enter(subscription, [delivery])
        batch = delivery.batch
        message = batch.codec.decode(batch.channel, batch.parts[0])
        redelivered = bool(delivery.attempts and delivery.attempts[0])
        return Message(message.channel, message.body, message.headers, 0, redelivered, ledger, number)

    def _raise_if_over(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if self._subscription.evicted is not None:
            raise SubscriptionEvicted(self.channel, self._subscription.evicted)
