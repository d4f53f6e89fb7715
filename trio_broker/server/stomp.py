"""STOMP's dialect: many subscriptions on one connection, acknowledgements, receipts, transactions, temporary queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, assert_never, final

import trio

from trio_broker.errors import LimitReached, NotOutstanding
from trio_broker.message import AckMode
from trio_broker.server.beating import Beating
from trio_broker.wire.stomp import (
    VERSIONS,
    Ack,
    Commit,
    Connect,
    Disconnect,
    Fail,
    MessageEncoder,
    Nack,
    Publish,
    Reply,
    StompCommand,
    StompServerSession,
    Subscribe,
    Unsubscribe,
    messages_within,
    with_reply_to,
)

if TYPE_CHECKING:
    from trio_broker.core import Subscription
    from trio_broker.message import Batch, Delivery
    from trio_broker.server.dialect import Conversation

__all__ = ["StompDialect"]


@final
class _Place:
    """What the connection keeps with a subscription.

    Args:
        subscription_id: what the peer calls it.
        encoder: makes its MESSAGE frames.
    """

    __slots__ = ("encode", "id")

    def __init__(self, subscription_id: str, encoder: MessageEncoder) -> None:
        self.id = subscription_id
        self.encode = encoder.encode

    def messages_within(self, deliveries: Sequence[Delivery], encoded: bytes, size_bytes: int) -> int:
        return messages_within(encoded, size_bytes)


@final
class StompDialect:
    """One peer's conversation in STOMP 1.0, 1.1 or 1.2. docs/stomp.md numbers the clauses.

    Args:
        conversation: the connection's.
    """

    __slots__ = (
        "_beating",
        "_broker",
        "_conversation",
        "_is_retired",
        "_ledger",
        "_session",
        "_subscriptions",
        "_temporary",
        "_version",
    )

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._broker = conversation.broker
        self._ledger = conversation.broker.open_ledger()
        self._session = StompServerSession(conversation.broker.limits, session_id=str(self._ledger.id))
        self._subscriptions: dict[str, Subscription] = {}  # by what the peer calls them
        self._temporary: dict[str, Subscription] = {}  # by what the peer calls the queue
        self._version = ""
        self._is_retired = False
        self._beating: Beating | None = None

    @property
    def greeted(self) -> bool:
        return self._session.greeted

    @property
    def held_bytes(self) -> int:
        return self._session.held_bytes

    @property
    def unfinished_bytes(self) -> int:
        return self._session.unfinished_bytes

    @property
    def has_unsettled(self) -> bool:
        return len(self._ledger) > 0

    @property
    def evicted(self) -> str | None:
        reasons = (subscription.evicted for subscription in self._ledger.subscriptions)
        return next((reason for reason in reasons if reason is not None), None)

    def receive_data(self, data: bytes) -> Sequence[StompCommand]:
        if self._beating is not None:
            self._beating.hear()
        return self._session.receive_data(data)

    def receive_eof(self) -> str | None:
        return self._session.receive_eof()

    # -- what the peer asks --------------------------------------------------------------------------------------------

    def carry_out(self, command: StompCommand) -> bool:
        match command:
            case Publish():
                return self._offer(self._prepare(command))
            case Reply(data=data):
                self._conversation.speaker.outbox.put_control(data)
            case Ack() | Nack():
                self._check(command)
                self._settle(command)
            case Commit():
                return self._commit(command)
            case Connect():
                self._connect(command)
            case Subscribe():
                self._subscribe(command)
            case Unsubscribe(id=subscription_id):
                self._unsubscribe(subscription_id)
            case Disconnect():
                self._conversation.end("the peer said goodbye", farewell=b"")
            case Fail(reason=reason, farewell=farewell):
                self._conversation.end(reason, refused=True, farewell=farewell)
            case _:
                assert_never(command)
        return True

    async def wait(self, command: StompCommand) -> None:
        patience_seconds = self._broker.limits.publish_seconds_max
        if isinstance(command, Commit):
            in_reserve = self.has_unsettled
            await self._broker.publish_all(self._prepared(command), patience_seconds, in_reserve=in_reserve)
            self._settle_all(command)
        else:
            assert isinstance(command, Publish)
            await self._broker.publish_batch(self._prepare(command), patience_seconds)

    def batches(self, command: StompCommand) -> Sequence[Batch]:
        commands = command.commands if isinstance(command, Commit) else (command,)
        return [bound.batch for bound in commands if isinstance(bound, Publish)]

    def is_transaction(self, command: StompCommand) -> bool:
        return isinstance(command, Commit)

    def refusal(self, reason: str, command: StompCommand | None) -> bytes:
        return self._session.refuse(reason, getattr(command, "receipt_id", None))

    def _connect(self, command: Connect) -> None:
        self._version = command.version
        self._conversation.log.info("connected", protocol=f"STOMP {command.version}")
        if command.heart_beat.sends_ms or command.heart_beat.expects_ms:
            self._beating = Beating(command.heart_beat, self._conversation, self._lose_patience)
            self._beating.start()

    def _lose_patience(self, reason: str) -> None:
        """The peer has been silent for too long."""
        self._conversation.end(reason, refused=True, farewell=self._session.refuse(reason, heart_beat_missed=True))

    def _subscribe(self, command: Subscribe) -> None:
        if self._is_retired:  # it was read before it was known that the peer has gone
            return
        allowed = self._broker.limits.subscriptions_max
        if len(self._ledger.subscriptions) - len(self._temporary) >= 2 * allowed:  # as many again may be unsubscribed
            raise LimitReached("subscriptions_max", allowed)
        subscription = self._broker.attach(
            command.channel,
            self._conversation.speaker.outbox,
            owner=self._conversation.tasks.cancel_scope,
            ledger=self._ledger,
            ack=command.ack,
            prefetch_messages=command.prefetch_messages,
        )
        subscription.note = _Place(command.id, command.encoder)
        self._subscriptions[command.id] = subscription
        self._conversation.log.info("subscribed", channel=command.channel, ack=str(command.ack))

    def _unsubscribe(self, subscription_id: str) -> None:
        subscription = self._subscriptions.pop(subscription_id, None)
        if subscription is not None:  # as it is not, if it was to come after the peer had gone
            subscription.withdraw()
            self._conversation.log.info("unsubscribed", channel=subscription.channel.name)

    # -- messages ------------------------------------------------------------------------------------------------------

    def _prepare(self, command: Publish) -> Batch:
        """A batch as it is published: with its expiry, and with the real name of a temporary queue."""
        batch = command.batch
        if command.reply_to is not None:
            batch = with_reply_to(batch, self._temporary_queue(command.reply_to))
        if command.expiration_ms is not None:
            batch.expires_at = trio.current_time() + command.expiration_ms / 1000
        return batch

    def _temporary_queue(self, name: str) -> str:
        """The real name of the peer's temporary queue, which is made if it must be (S-38)."""
        subscription = self._temporary.get(name)
        if subscription is None:
            allowed = self._broker.limits.subscriptions_max
            if len(self._temporary) >= allowed:
                raise LimitReached("subscriptions_max", allowed)
            subscription = self._broker.attach_temporary(
                self._conversation.speaker.outbox,
                owner=self._conversation.tasks.cancel_scope,
                ledger=self._ledger,
            )
            subscription.note = _Place(name, MessageEncoder(VERSIONS[self._version], name, name, settles=False))
            self._temporary[name] = subscription
        return subscription.channel.name

    def _offer(self, batch: Batch) -> bool:
        """Publish without waiting; one who has something to settle, which comes after this, may use the reserve."""
        if self._broker.offer(batch):
            return True
        return self.has_unsettled and self._broker.offer_all((batch,), in_reserve=True)

    # -- settling ------------------------------------------------------------------------------------------------------

    def _check(self, settlement: Ack | Nack) -> None:
        """Refuse what is not to be settled (S-34)."""
        number = settlement.number
        self._ledger.check(number)
        subscription = self._ledger.subscription_of(number)
        if subscription is not None and settlement.subscription not in {None, subscription.note.id}:
            raise NotOutstanding(number, "belongs to another subscription of this connection")

    def _check_together(self, settlements: Sequence[Ack | Nack]) -> None:
        """Refuse what is not to be settled, or is settled by one before it."""
        settled: set[int] = set()
        settled_to: dict[Subscription, int] = {}  # in mode `client`
        for settlement in settlements:
            number = settlement.number
            self._check(settlement)
            subscription = self._ledger.subscription_of(number)
            if number in settled or (subscription is not None and number <= settled_to.get(subscription, 0)):
                raise NotOutstanding(number, "is settled twice in this transaction; once is allowed")
            settled.add(number)
            if subscription is not None and subscription.ack is AckMode.CLIENT:
                settled_to[subscription] = number

    def _settle(self, settlement: Ack | Nack) -> None:
        if isinstance(settlement, Ack):
            self._ledger.ack(settlement.number)
        else:
            self._ledger.nack(settlement.number, settlement.requeue)

    def _commit(self, command: Commit) -> bool:
        """Carry out a transaction, all of it or nothing (S-26)."""
        self._check_together([bound for bound in command.commands if not isinstance(bound, Publish)])
        if not self._broker.offer_all(self._prepared(command), in_reserve=self.has_unsettled):
            return False
        self._settle_all(command)
        return True

    def _prepared(self, command: Commit) -> list[Batch]:
        return [self._prepare(bound) for bound in command.commands if isinstance(bound, Publish)]

    def _settle_all(self, command: Commit) -> None:
        for bound in command.commands:
            if not isinstance(bound, Publish):
                self._settle(bound)

    # -- the end -------------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        self._is_retired = True
        for subscription in self._ledger.subscriptions:
            subscription.retire()

    def drain(self) -> None:
        """What is to be acknowledged and was not sent goes back: its acknowledgement would not be read."""
        for subscription in self._ledger.subscriptions:
            if subscription.credit is not None:
                subscription.withdraw()

    def stop(self) -> None:
        if self._beating is not None:
            self._beating.stop()

    def leave(self) -> None:
        self.retire()  # all of them first: what one gives back is not for another
        for subscription in self._ledger.subscriptions:
            subscription.leave()
