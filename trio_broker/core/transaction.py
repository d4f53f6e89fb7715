"""What a transaction publishes: batches for any channels, accepted together or not at all.

One that must wait does so in one line at a time, and holds up nobody elsewhere: where there is no room, those behind it
there would wait anyway. When its turn comes and another channel cannot accept, it goes and stands in line there. So two
who publish to the same channels never wait for each other, and a channel that has room never waits for one that has
none. `Broker.offer_all` and `Broker.publish_all` say what is promised.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from trio_broker.core.channel import Channel
    from trio_broker.core.register import Register
    from trio_broker.message import Batch

__all__ = ["offer_all", "publish_all"]


def offer_all(register: Register, batches: Sequence[Batch], *, in_reserve: bool) -> bool:
    """Accept all of these batches without waiting; False means that nothing happened. See `Broker.offer_all`."""
    obstacle = _accept_all(register, batches, in_reserve)
    if obstacle is not None:
        obstacle.forget_if_idle()
    return obstacle is None


async def publish_all(
    register: Register, batches: Sequence[Batch], patience_seconds: float, *, in_reserve: bool
) -> None:
    """Accept all of these batches, when there is room for each. See `Broker.publish_all`.

    Cancellation: atomic. If this raises anything, none of the batches has reached anybody.
    """
    await trio.lowlevel.checkpoint()
    obstacle = _accept_all(register, batches, in_reserve)
    while obstacle is not None:
        accept = partial(_accept_all, register, batches, in_reserve, ready=obstacle)
        obstacle = await obstacle.in_turn(accept, patience_seconds)


def _accept_all(
    register: Register, batches: Sequence[Batch], in_reserve: bool, ready: Channel | None = None
) -> Channel | None:
    """Accept all batches, or none and return the first channel that cannot. That one, which may have been made for this
    alone, is for the caller to stand in line at, or to forget.

    Args:
        register: the broker's.
        batches: for any channels.
        in_reserve: as for `Broker.offer_all`.
        ready: a channel at the head of whose line the caller stands, and which has room.
    """
    channels: list[Channel] = []
    obstacle: Channel | None = None
    try:
        for name in sorted({each.channel for each in batches}):
            channel = register.destination(name)
            if channel is not None:
                channels.append(channel)
                if channel is not ready and not _can_accept(channel, in_reserve):
                    obstacle = channel
                    return channel
        for batch in batches:
            channel = register.destination(batch.channel)
            if channel is None:
                register.lose(batch)
            else:
                channel.accept(batch)
        for channel in channels:
            channel.line.progress()
    finally:
        for channel in channels:
            if channel is not obstacle:
                channel.forget_if_idle()  # it may have been made for this alone
    return None


def _can_accept(channel: Channel, in_reserve: bool) -> bool:
    return channel.can_accept() or (in_reserve and channel.can_accept_in_reserve())
