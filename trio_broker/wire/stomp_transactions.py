"""What a STOMP session gathers before it is asked for: the messages of one read, and transactions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import final

from trio_broker.errors import ProtocolViolation, shorten
from trio_broker.limits import MESSAGE_COST, Limits
from trio_broker.message import Batch
from trio_broker.wire.stomp_commands import Ack, Commit, Nack, Publish, Reply
from trio_broker.wire.stomp_messages import STOMP, MessageHeaders, Part

__all__ = ["Gathering", "Transactions"]


@final
class _Group:
    """Messages for one channel that can travel together."""

    __slots__ = ("channel", "headers", "parts", "receipt_ids", "size_bytes")

    def __init__(self, channel: str, headers: MessageHeaders) -> None:
        self.channel = channel
        self.headers = headers  # of the first message; all have its expiration and reply-to
        self.parts: list[Part] = []
        self.size_bytes = 0
        self.receipt_ids: list[str] = []

    def takes(self, headers: MessageHeaders) -> bool:
        """Whether messages with these headers can travel with these."""
        mine = self.headers
        return headers is mine or (headers.expiration_ms == mine.expiration_ms and headers.reply_to == mine.reply_to)


@final
class Gathering:
    """Messages by channel, each channel's in the order in which they came (S-35)."""

    __slots__ = ("_by_channel", "groups")

    def __init__(self) -> None:
        self.groups: list[_Group] = []
        self._by_channel: dict[str, _Group] = {}  # the last of each channel

    def add(self, channel: str, headers: MessageHeaders, bodies: list[bytes], receipt_id: str | None) -> None:
        """Add messages for a channel that have the same headers."""
        group = self._by_channel.get(channel)
        if group is None or not group.takes(headers):
            group = self._by_channel[channel] = _Group(channel, headers)
            self.groups.append(group)
        group.parts += [(headers, body) for body in bodies]
        group.size_bytes += headers.size_bytes * len(bodies) + sum(map(len, bodies))
        if receipt_id is not None:
            group.receipt_ids.append(receipt_id)

    def take(self, receipt: Callable[[str], bytes]) -> list[Publish | Reply]:
        """All that was added, each group followed by the receipts that were asked for in it."""
        commands: list[Publish | Reply] = []
        for group in self.groups:
            batch = Batch(group.channel, group.parts, STOMP, group.size_bytes)
            receipt_ids = group.receipt_ids
            first = receipt_ids[0] if receipt_ids else None
            commands.append(Publish(batch, group.headers.expiration_ms, group.headers.reply_to, first))
            if receipt_ids:
                commands.append(Reply(b"".join(map(receipt, receipt_ids))))
        self.groups = []
        self._by_channel = {}
        return commands


@final
@dataclasses.dataclass(slots=True)
class _Transaction:
    """What one transaction holds."""

    messages: Gathering = dataclasses.field(default_factory=Gathering)
    settlements: list[Ack | Nack] = dataclasses.field(default_factory=list)
    cost: int = 0


@final
class Transactions:
    """The open transactions of one connection, by the identifiers that the peer gave them (S-25 to S-28).

    Every method raises `ProtocolViolation` for what a peer must not ask.

    Args:
        limits: ``transactions_max`` and ``transaction_bytes_max`` are used.
    """

    __slots__ = ("_limits", "_open", "cost")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: dict[str, _Transaction] = {}
        self.cost = 0  # of all of them

    def begin(self, transaction_id: str) -> None:
        """Start one."""
        if transaction_id in self._open:
            raise ProtocolViolation(f"transaction {shorten(transaction_id)} is open already; identifiers must differ")
        if len(self._open) >= self._limits.transactions_max:
            raise ProtocolViolation(f"too many transactions; {self._limits.transactions_max} may be open at once")
        transaction = _Transaction()
        self._charge(transaction, MESSAGE_COST + len(transaction_id))
        self._open[transaction_id] = transaction

    def add_messages(self, transaction_id: str, channel: str, headers: MessageHeaders, bodies: list[bytes]) -> None:
        """Bind messages to one."""
        transaction = self._find(transaction_id)
        size_bytes = sum(map(len, bodies)) + headers.size_bytes * len(bodies)
        self._charge(transaction, size_bytes + MESSAGE_COST * len(bodies))
        transaction.messages.add(channel, headers, bodies, None)

    def add_settlement(self, transaction_id: str, settlement: Ack | Nack) -> None:
        """Bind an ACK or NACK to one."""
        transaction = self._find(transaction_id)
        self._charge(transaction, MESSAGE_COST)
        transaction.settlements.append(settlement)

    def commit(self, transaction_id: str, receipt_id: str | None) -> Commit:
        """End one: all of it as one command."""
        transaction = self._end(transaction_id)
        messages = [command for command in transaction.messages.take(str.encode) if isinstance(command, Publish)]
        return Commit((*messages, *transaction.settlements), receipt_id)

    def abort(self, transaction_id: str) -> None:
        """End one: nothing of it happens."""
        self._end(transaction_id)

    def clear(self) -> None:
        """Abort all (S-28)."""
        self._open = {}
        self.cost = 0

    def _find(self, transaction_id: str) -> _Transaction:
        transaction = self._open.get(transaction_id)
        if transaction is None:
            raise ProtocolViolation(f"transaction {shorten(transaction_id)} is not open; BEGIN opens it")
        return transaction

    def _end(self, transaction_id: str) -> _Transaction:
        transaction = self._find(transaction_id)
        del self._open[transaction_id]
        self.cost -= transaction.cost
        return transaction

    def _charge(self, transaction: _Transaction, cost: int) -> None:
        """Account for something more in a transaction, before it is added."""
        if self.cost + cost > self._limits.transaction_bytes_max:
            raise ProtocolViolation(
                f"a transaction that is too large; all that are open may hold {self._limits.transaction_bytes_max:,} "
                f"bytes, {MESSAGE_COST} for each message and settlement included"
            )
        transaction.cost += cost
        self.cost += cost
