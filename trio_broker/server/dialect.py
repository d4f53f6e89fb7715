"""What one protocol's conversation is to the connection that holds it: a dialect.

A dialect joins a wire session to the broker: it carries out what the peer asks. Everything but `Dialect.wait` is
synchronous, since it is called in the task that reads for all connections. `FramedDialect` is the framed protocol's;
STOMP's is in `trio_broker.server.stomp`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, assert_never, final

from trio_broker.wire import (
    Command,
    Fail,
    FramedServerSession,
    Publish,
    Subscribe,
    encode,
    gather,
    messages_within,
)

if TYPE_CHECKING:
    import trio
    from structlog.typing import FilteringBoundLogger

    from trio_broker.core import Broker, Subscription
    from trio_broker.message import Batch, Delivery
    from trio_broker.server.speaker import Speaker

__all__ = ["Conversation", "Dialect", "FramedDialect", "Place"]


_GATHERED_BYTES_MIN: Final = 2048
"""What begins with less is joined."""


class End(Protocol):
    """Ends a conversation: nothing more is read from the peer."""

    def __call__(self, reason: str, *, refused: bool = False, farewell: bytes | None = None) -> None:
        """End it.

        Args:
            reason: why.
            refused: the peer did what it may not.
            farewell: what is said last. Nothing more, be it empty, but what was said before is still sent; None to
                close at once.
        """
        ...


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """What a dialect needs of its connection.

    Attributes:
        broker: whom the peer talks to.
        speaker: where everything is said.
        log: bound to the connection.
        tasks: the connection's; what is started here ends with it.
        end: ends the conversation.
        is_reading: whether what the peer sends is read now, or waits for something that we do.
    """

    broker: Broker
    speaker: Speaker
    log: FilteringBoundLogger
    tasks: trio.Nursery
    end: End
    is_reading: Any


class Place(Protocol):
    """What a subscription's `note` is: how what it gets is written."""

    def encode(self, deliveries: Sequence[Delivery], first_number: int) -> bytes | list[bytes | memoryview]:
        """The bytes that bring these deliveries to the peer; in a list where they are not worth joining."""
        ...

    def messages_within(self, deliveries: Sequence[Delivery], encoded: bytes, size_bytes: int) -> int:
        """How many messages lie whole within the first bytes of what `encode` made of them."""
        ...


class Dialect(Protocol):
    """One protocol's conversation."""

    @property
    def greeted(self) -> bool:
        """The peer has introduced itself."""
        ...

    @property
    def held_bytes(self) -> int:
        """What is held for the peer, in cost."""
        ...

    @property
    def unfinished_bytes(self) -> int:
        """How many bytes of an unfinished frame are held."""
        ...

    @property
    def has_unsettled(self) -> bool:
        """The peer was given something that it is to settle."""
        ...

    @property
    def evicted(self) -> str | None:
        """Why the broker ended one of the peer's subscriptions, if it did."""
        ...

    @property
    def receive_data(self) -> Callable[[bytes], Sequence[Any]]:
        """Gives the commands that some bytes complete, in order."""
        ...

    def receive_eof(self) -> str | None:
        """What an end of the stream at this place means: None between frames, else what was cut off."""
        ...

    def carry_out(self, command: Any) -> bool:
        """Carry out one command; False if it must wait. Raises `BrokerError` for what is refused."""
        ...

    async def wait(self, command: Any) -> None:
        """Carry out one command that must wait. Raises `BrokerError` for what is refused.

        Cancellation: atomic. If this raises anything the command has changed nothing.
        """
        ...

    def batches(self, command: Any) -> Sequence[Batch]:
        """What a command would publish, as the peer sent it."""
        ...

    def is_transaction(self, command: Any) -> bool:
        """Whether a command is carried out whole or not at all, together with what it settles."""
        ...

    def refusal(self, reason: str, command: Any) -> bytes | None:
        """What the peer is told of a refusal; None if its protocol has no words for it."""
        ...

    def retire(self) -> None:
        """Leave all channels, so that nothing new comes, and come to no other. Idempotent."""
        ...

    def drain(self) -> None:
        """After `retire`: keep for the peer only what it is still to be sent."""
        ...

    def stop(self) -> None:
        """Nothing is read any more: whatever waits for the peer to say something ends."""
        ...

    def leave(self) -> None:
        """End all subscriptions. Idempotent."""
        ...


@final
class FramedDialect:
    """The framed protocol: at most one subscription, nothing is ever said but messages.

    Args:
        conversation: the connection's.
    """

    __slots__ = ("_broker", "_conversation", "_is_retired", "_session", "_subscription", "receive_data")

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._broker = conversation.broker
        self._session = FramedServerSession(conversation.broker.limits)
        self.receive_data = self._session.receive_data
        self._is_retired = False
        self._subscription: Subscription | None = None  # None before the first frame, and for a peer that only sends

    @property
    def greeted(self) -> bool:
        return self._session.greeted

    @property
    def held_bytes(self) -> int:
        return self._session.held_bytes

    @property
    def unfinished_bytes(self) -> int:
        return self._session.held_bytes

    @property
    def has_unsettled(self) -> bool:
        return False

    @property
    def evicted(self) -> str | None:
        return None if self._subscription is None else self._subscription.evicted

    def receive_eof(self) -> str | None:
        return self._session.receive_eof()

    def carry_out(self, command: Command) -> bool:
        match command:
            case Publish(batch=batch):
                return self._broker.offer(batch)
            case Subscribe(channel=channel):
                self._subscribe(channel)
            case Fail(reason=reason, farewell=farewell):
                self._conversation.end(reason, refused=True, farewell=farewell or None)
            case _:
                assert_never(command)
        return True

    async def wait(self, command: Command) -> None:
        assert isinstance(command, Publish)
        await self._broker.publish_batch(command.batch, self._broker.limits.publish_seconds_max)

    def batches(self, command: Command) -> Sequence[Batch]:
        return (command.batch,) if isinstance(command, Publish) else ()

    def is_transaction(self, command: Command) -> bool:
        return False

    def refusal(self, reason: str, command: Command | None) -> bytes | None:
        return None

    def encode(self, deliveries: Sequence[Delivery], first_number: int) -> bytes | list[bytes | memoryview]:
        if deliveries[0].batch.bytes < _GATHERED_BYTES_MIN:  # as of messages that come alone, which need no more asking
            return encode(deliveries)
        return gather(deliveries) or encode(deliveries)

    def messages_within(self, deliveries: Sequence[Delivery], encoded: bytes, size_bytes: int) -> int:
        return messages_within(deliveries, size_bytes)

    def retire(self) -> None:
        self._is_retired = True
        if self._subscription is not None:
            self._subscription.retire()

    def drain(self) -> None:
        """What is in the mailbox is still sent."""

    def stop(self) -> None:
        """Nothing waits."""

    def leave(self) -> None:
        if self._subscription is not None:
            self._subscription.leave()

    def _subscribe(self, channel: str | None) -> None:
        conversation = self._conversation
        if channel is not None and not self._is_retired:
            outbox, owner = conversation.speaker.outbox, conversation.tasks.cancel_scope
            self._subscription = self._broker.attach(channel, outbox, owner=owner)
            self._subscription.note = self
        conversation.log.info("subscribed", channel=channel or "/null")
