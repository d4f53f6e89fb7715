"""How a subscription gets its place: what may be asked for, and what holds where nothing was asked.

A topic's subscription has an overflow policy. A queue's has credit, if its owner acknowledges. `Broker.attach` and
`Broker.attach_temporary` say what the arguments are.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from trio_broker.core.subscription import Subscription
from trio_broker.errors import BrokerDraining, InvalidChannel
from trio_broker.limits import Limits, Overflow
from trio_broker.message import NULL_CHANNEL, TEMPORARY, AckMode, is_queue, validate_channel

if TYPE_CHECKING:
    import trio

    from trio_broker.core.ledger import Ledger
    from trio_broker.core.outbox import Outbox
    from trio_broker.core.register import Register

__all__ = ["attach", "attach_temporary"]

_NAME_BYTES: Final = 16
"""Of chance, in the name of a temporary queue."""


def attach(
    register: Register,
    channel: str,
    outbox: Outbox,
    overflow: Overflow | str | None,
    owner: trio.CancelScope | None,
    ledger: Ledger | None,
    ack: AckMode,
    prefetch_messages: int | None,
) -> Subscription:
    """Put a subscription into the channel of this name. See `Broker.attach`."""
    limits = register.limits
    validate_channel(channel, limits.channel_bytes_max)
    if channel == NULL_CHANNEL:
        raise InvalidChannel(channel, "nobody can subscribe to this name")
    if channel.startswith(TEMPORARY):
        raise InvalidChannel(channel, "only the connection that a temporary queue was made for receives from it")
    if prefetch_messages is not None and prefetch_messages < 1:
        raise ValueError(f"prefetch_messages is {prefetch_messages}; at least 1 is allowed")
    policy = _policy(channel, overflow, limits)
    if register.closed:
        raise BrokerDraining
    place = register.channel(channel)
    credit = _credit(channel, ack, prefetch_messages, limits)
    subscription = Subscription(place, outbox, policy, limits, owner, ledger=ledger, ack=ack, credit=credit)
    place.add(subscription)
    return subscription


def attach_temporary(register: Register, outbox: Outbox, *, owner: trio.CancelScope, ledger: Ledger) -> Subscription:
    """Make a queue for one subscription, and put that into it. See `Broker.attach_temporary`."""
    place = register.channel(f"{TEMPORARY}{secrets.token_urlsafe(_NAME_BYTES)}")
    subscription = Subscription(place, outbox, Overflow.BLOCK, register.limits, owner, ledger=ledger)
    place.add(subscription)
    return subscription


def _policy(channel: str, overflow: Overflow | str | None, limits: Limits) -> Overflow:
    """What the channel does when the subscription's mailbox is full."""
    if overflow is None:
        return Overflow.BLOCK if is_queue(channel) else limits.overflow
    if is_queue(channel):
        raise ValueError("a queue has no overflow policy: it skips the subscriptions that are full")
    return Overflow(overflow)


def _credit(channel: str, ack: AckMode, prefetch_messages: int | None, limits: Limits) -> int | None:
    """How many messages the subscription is given before its owner settles one; None where nothing is settled."""
    if ack is AckMode.AUTO or not is_queue(channel):
        return None
    if prefetch_messages is None:
        return limits.prefetch_messages_max
    return min(limits.prefetch_messages_max, prefetch_messages)
