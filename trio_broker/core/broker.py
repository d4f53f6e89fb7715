"""The broker: the verbs that everybody uses, and what each promises.

A broker has no task and no socket of its own. It is a synchronous structure around which publishers and receivers
wait, so it needs no nursery, and an exception in the body of `open_broker` leaves it as it is.

What a program's own task calls is protected from `KeyboardInterrupt`: Ctrl-C comes out of a call before or after what
it does, never in the middle.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, final

import trio

from trio_broker.core import subscribing, transaction
from trio_broker.core.ledger import Ledger
from trio_broker.core.local import LocalSubscription
from trio_broker.core.memory import Memory
from trio_broker.core.outbox import Outbox
from trio_broker.core.register import Register
from trio_broker.core.statistics import BrokerStatistics, Counters
from trio_broker.headers import SharedHeaders, check_headers
from trio_broker.limits import Limits, Overflow
from trio_broker.message import AckMode, Batch, Message, as_body, plain_batch, validate_channel

if TYPE_CHECKING:
    from trio_broker.core.subscription import Subscription

__all__ = ["Broker", "open_broker"]


@final
class Broker:
    """Channels and the verbs on them. Made by `open_broker`; one broker may have any number of servers.

    The verbs for programs are `publish`, `publish_nowait`, `subscribe` and `statistics`. The others are for servers,
    and speak of outboxes, ledgers and batches.
    """

    __slots__ = ("_channels", "_ledgers", "_register", "counters", "limits", "memory")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.counters = Counters()
        self.memory = Memory(limits.memory_bytes_max)
        self._register = Register(limits, self.memory, self.counters)
        self._channels = self._register.channels  # at hand, since each batch asks
        self._ledgers = 0  # how many were ever opened

    # -- for programs ------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def publish(self, channel: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> None:
        """Publish a message: to all subscriptions of a topic, or to one subscription of a queue.

        Waits in the channel's line, first come, first served, until there is room: in the mailbox of every
        subscription of a topic (as its overflow policy says), or in the backlog of a queue.

        Args:
            channel: the name, 1 to ``channel_bytes_max`` bytes: a queue if it starts with ``/queue``, else a topic.
            body: the payload, at most ``frame_bytes_max`` bytes.
            headers: what goes with it to subscribers in process and to those whose protocol has headers. The names
                that STOMP uses itself, `trio_broker.headers.OWN_HEADERS`, cannot be among them.

        Raises:
            InvalidChannel: the name is not one.
            MessageTooLarge: the payload is over the limit.
            TypeError: the payload has no bytes, or a header's name or value is not a string.
            ValueError: a header has a name that STOMP uses itself.
            LimitReached: a queue would have to be made, and ``channels_max`` exist.
            BrokerDraining: the broker ended before there was room; the message has reached nobody.

        Cancellation: atomic. If this raises anything, `trio.Cancelled` included, the message has reached nobody; it
        may be published again. No deadline but the caller's bounds the wait; a subscriber that does not move at all
        is evicted after ``stall_seconds_max``. Always a checkpoint.
        """
        batch = self._batch_of(channel, body, headers)
        await trio.lowlevel.checkpoint()
        if not self.offer(batch):
            await self.publish_batch(batch)

    @trio.lowlevel.enable_ki_protection
    def publish_nowait(self, channel: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> None:
        """Publish a message if that is possible without waiting.

        Args and errors as for `publish`, and:

        Raises:
            trio.WouldBlock: there is no room, or somebody stands in the channel's line. Nothing happened.

        Cancellation: never; this is synchronous.
        """
        if not self.offer(self._batch_of(channel, body, headers)):
            raise trio.WouldBlock

    @asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def subscribe(
        self,
        channel: str,
        *,
        overflow: Overflow | str | None = None,
        ack: AckMode | str = AckMode.AUTO,
        prefetch_messages: int | None = None,
    ) -> AsyncIterator[LocalSubscription]:
        """Subscribe to a channel for the length of a block.

        ::

            async with broker.subscribe("/topic/news") as news:
                async for message in news:
                    ...

        Args:
            channel: the name, as for `publish`. Nobody can subscribe to ``/null``.
            overflow: what happens when this subscription's mailbox is full (see `Overflow`); for topics only. The
                default is the broker's ``limits.overflow``.
            ack: how messages of a queue are settled (see `AckMode`): by receiving them, or by `Message.ack`. What was
                received and not settled goes back to its queue when the block is left. Topics take nothing back, so
                there it makes no difference.
            prefetch_messages: how many messages of a queue this is given before it settles one, where it acknowledges;
                at most, and unless given, ``limits.prefetch_messages_max``.

        Raises:
            InvalidChannel: the name is not one.
            ValueError: ``overflow`` is no policy, or one was given for a queue; ``ack`` is no mode;
                ``prefetch_messages`` is less than 1.
            LimitReached: ``channels_max`` channels exist.
            BrokerDraining: the broker has ended.

        Cancellation: entering is atomic (if it raises, there is no subscription), and always a checkpoint. Leaving is
        cleanup, done whatever is raised, without a checkpoint: the subscription is gone, and what a queue's
        subscription had not received, or not settled, is back in its queue, in order.
        """
        await trio.lowlevel.checkpoint()
        mode = AckMode(ack)
        ledger = None if mode is AckMode.AUTO else self.open_ledger()
        subscription = LocalSubscription(
            self.attach(
                channel, Outbox(), overflow=overflow, ledger=ledger, ack=mode, prefetch_messages=prefetch_messages
            )
        )
        try:
            yield subscription
        finally:
            subscription.close()

    def statistics(self) -> BrokerStatistics:
        """The whole broker at this moment, as a frozen value."""
        return self._register.statistics()

    # -- for servers -------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def attach(
        self,
        channel: str,
        outbox: Outbox,
        *,
        overflow: Overflow | str | None = None,
        owner: trio.CancelScope | None = None,
        ledger: Ledger | None = None,
        ack: AckMode = AckMode.AUTO,
        prefetch_messages: int | None = None,
    ) -> Subscription:
        """Put a subscription into a channel. Whoever attaches must see to it that `Subscription.leave` is called.

        Args:
            channel: the name.
            outbox: where the owner will wait.
            overflow: as for `subscribe`.
            owner: the scope to cancel when the subscription is evicted.
            ledger: where the owner's deliveries are numbered, if it has a use for numbers. One that acknowledges has.
            ack: as for `subscribe`.
            prefetch_messages: as for `subscribe`.

        Raises: as `subscribe`.
        """
        return subscribing.attach(self._register, channel, outbox, overflow, owner, ledger, ack, prefetch_messages)

    @trio.lowlevel.enable_ki_protection
    def attach_temporary(self, outbox: Outbox, *, owner: trio.CancelScope, ledger: Ledger) -> Subscription:
        """Make a queue with a name that nobody can guess, for one subscription, and put that into it.

        Who knows the name may publish to it. It ends with its subscription, and what is published to it later reaches
        nobody. Otherwise as `attach`.
        """
        return subscribing.attach_temporary(self._register, outbox, owner=owner, ledger=ledger)

    def open_ledger(self) -> Ledger:
        """An account of what one owner was given and has not settled."""
        self._ledgers += 1
        return Ledger(self._ledgers, self.limits.unsettled_bytes_max, self.memory)

    def offer(self, batch: Batch) -> bool:
        """Accept a batch if that is possible without waiting; False means that nothing happened.

        Raises:
            LimitReached: a queue would have to be made, and ``channels_max`` exist.
            BrokerDraining: the broker has ended.
        """
        channel = self._channels.get(batch.channel) or self._register.destination(batch.channel)
        if channel is None:
            self._register.lose(batch)
            return True
        return channel.offer(batch)

    def offer_all(self, batches: Sequence[Batch], *, in_reserve: bool = False) -> bool:
        """Accept all of these batches if that is possible without waiting, or none.

        Args:
            batches: for any channels.
            in_reserve: whether they may go beyond a queue's mark and past those who stand in line, up to
                ``backlog_reserve_bytes_max``; for a publisher that has something to settle, which must come after.

        Raises:
            LimitReached: a queue would have to be made, and ``channels_max`` exist; or the reserve is used up.
            BrokerDraining: the broker has ended.
        """
        return transaction.offer_all(self._register, batches, in_reserve=in_reserve)

    async def publish_all(
        self, batches: Sequence[Batch], patience_seconds: float = math.inf, *, in_reserve: bool = False
    ) -> None:
        """Accept all of these batches together, when there is room for each.

        Args:
            batches: for any channels. Where there is no room this stands in line, in one channel at a time; others may
                publish to those that have room meanwhile, also up to where these have none.
            patience_seconds: how long to wait while the channel in whose line this stands makes no progress at all.
            in_reserve: as for `offer_all`.

        Raises: as `publish_batch`; and as `offer_all`, if ``in_reserve``.

        Cancellation: atomic. If this raises anything, `trio.Cancelled` included, none of the batches has reached
        anybody; they may be published again. No deadline but the caller's and ``patience_seconds``. Always a
        checkpoint.
        """
        await transaction.publish_all(self._register, batches, patience_seconds, in_reserve=in_reserve)

    async def publish_batch(self, batch: Batch, patience_seconds: float = math.inf) -> None:
        """Accept a batch when its turn has come and there is room.

        Args:
            batch: the messages; they are accepted together.
            patience_seconds: how long to wait while the channel makes no progress at all.

        Raises:
            LimitReached: a queue would have to be made, and ``channels_max`` exist.
            BrokerDraining: the broker ends.
            PublishStalled: patience ended.

        Cancellation: atomic. If this raises anything, `trio.Cancelled` included, the batch has reached nobody; it may
        be published again. No deadline but the caller's and ``patience_seconds``. Always a checkpoint.
        """
        await self._register.channel(batch.channel).publish(batch, patience_seconds)

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """End: publishers that wait are sent away with `BrokerDraining`, subscriptions get what is in their mailboxes
        and then the end, and what no subscription had taken from a queue is counted as discarded. Idempotent.

        Cancellation: never; this is synchronous.
        """
        self._register.close()

    def _batch_of(self, channel: str, body: bytes, headers: Mapping[str, str] | None) -> Batch:
        validate_channel(channel, self.limits.channel_bytes_max)
        body = as_body(body, self.limits.frame_bytes_max)
        if headers is None:
            return plain_batch(Message(channel, body))
        check_headers(headers)
        return plain_batch(Message(channel, body, SharedHeaders(headers)))


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_broker(limits: Limits | None = None) -> AsyncIterator[Broker]:
    """A broker for the length of a block, in this process, without any socket.

    ::

        async with trio_broker.open_broker() as broker:
            async with broker.subscribe("/topic/news") as news:
                await broker.publish("/topic/news", b"hello")
                message = await news.receive()

    Args:
        limits: see `Limits`; the defaults are for one server on a small machine.

    Cancellation: entering is never cancelled: it has no checkpoint. Leaving is cleanup, done whatever is raised,
    without a checkpoint: publishers that wait in other tasks get `BrokerDraining`, subscriptions get what is in their
    mailboxes and then `trio.EndOfChannel`. An exception of the body leaves as itself, not in a group.
    """
    broker = Broker(limits or Limits())
    try:
        yield broker
    finally:
        broker.close()
