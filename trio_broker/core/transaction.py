"""What a transaction publishes: batches for any channels, accepted together or not at all.

The lines of their channels are taken in the order of the names, so that two who publish to the same channels never wait
for each other. `Broker.offer_all` and `Broker.publish_all` say what is promised.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from trio_broker.core.channel import publish_together

if TYPE_CHECKING:
    from trio_broker.core.channel import Channel
    from trio_broker.core.register import Register
    from trio_broker.message import Batch

__all__ = ["offer_all", "publish_all"]


def offer_all(register: Register, batches: Sequence[Batch], *, in_reserve: bool) -> bool:
    """Accept all of these batches without waiting; False means that nothing happened. See `Broker.offer_all`."""
    channels: list[Channel] = []
    try:
        for name in sorted({each.channel for each in batches}):
            channel = register.destination(name)
            if channel is not None:
                channels.append(channel)
                if not (channel.can_accept() or (in_reserve and channel.can_accept_in_reserve())):
                    return False
        _accept_all(register, batches)
    finally:
        for channel in channels:
            channel.forget_if_idle()  # it may have been made for this alone
    return True


async def publish_all(register: Register, batches: Sequence[Batch], patience_seconds: float) -> None:
    """Accept all of these batches, when the turn of each has come and there is room. See `Broker.publish_all`.

    Cancellation: atomic. If this raises anything, none of the batches has reached anybody.
    """
    channels: list[Channel] = []
    try:
        for name in sorted({batch.channel for batch in batches}):
            channel = register.destination(name)
            if channel is not None:
                channels.append(channel)
        await publish_together(channels, partial(_accept_all, register, batches), patience_seconds)
    finally:
        for channel in channels:
            channel.forget_if_idle()  # it may have been made for this alone


def _accept_all(register: Register, batches: Sequence[Batch]) -> None:
    for batch in batches:
        channel = register.destination(batch.channel)
        if channel is None:
            register.lose(batch)
        else:
            channel.accept(batch)
