"""Every limit, size and deadline of the broker, with its unit in its name and its reason beside it.

Nothing that a peer can make grow is without one. A limit is a field of `Limits`; the command line and the environment
offer each under the same name. What is *counted* against the limits is **cost**, an honest estimate of memory: the
bytes of a message as it was encoded, and a fixed overhead a message and a batch.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Final

__all__ = ["BATCH_COST", "MESSAGE_COST", "Limits", "Overflow"]

KIB: Final = 1024
MIB: Final = 1024 * KIB

MESSAGE_COST: Final = 64
"""Bytes of overhead a message: a ``bytes`` object's head (33), its place in a list (8), the allocator's rounding."""

BATCH_COST: Final = 512
"""Bytes of overhead a batch: the batch, its list of parts, its delivery and their places in a channel."""

_READ_BYTES_MAX: Final = 64 * MIB  # a read allocates what it may give


class Overflow(enum.StrEnum):
    """What a topic does when the mailbox of one of its subscriptions is full.

    Every loss is counted, and told with the next message (`Message.dropped_before`). A queue has no such policy: it
    skips the full.
    """

    BLOCK = "block"
    """Publishers wait, in line; an owner that does not move at all is evicted by the stall rule."""
    DROP_OLDEST = "drop_oldest"
    """The oldest waiting messages give way to the new ones."""
    DROP_NEWEST = "drop_newest"
    """The new messages are dropped."""
    LATEST = "latest"
    """One message waits at most: the newest. For values that replace each other, such as prices or positions."""
    DISCONNECT = "disconnect"
    """The subscription is evicted."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ValueError(f"overflow is {value!r}; allowed are {', '.join(cls)}")


def _limit(default: Any, why: str) -> Any:
    return dataclasses.field(default=default, metadata={"why": why})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All limits of one broker and its servers. Raises ``ValueError`` for one that is not positive.

    ``Limits(frame_bytes_max=65_536)`` changes one and keeps the others.
    """

    frame_bytes_max: int = _limit(
        16 * MIB - 1, "largest payload, in bytes: three bytes hold it, and one peer cannot ask for all memory"
    )
    channel_bytes_max: int = _limit(255, "longest channel name, in bytes of UTF-8")
    handshake_seconds_max: float = _limit(
        10.0,
        "from accept to the first whole frame, and for a client to reach its broker, and to be answered: the silent "
        "must not hold a place, nor anybody up",
    )
    frame_seconds_max: float = _limit(
        60.0, "for one incomplete frame: 16 MiB at 2.2 Mbit/s, and an end for those who drip"
    )
    read_bytes_min: int = _limit(4 * KIB, "first size of a read: an idle connection costs little")
    read_bytes_max: int = _limit(
        512 * KIB, "size that reads grow to while they come back full; four times that where they are for many channels"
    )
    write_bytes_max: int = _limit(
        512 * KIB, "what a writer gathers into one write before others on the connection have their turn"
    )
    header_bytes_max: int = _limit(16 * KIB, "command and headers of one frame, in bytes")
    headers_max: int = _limit(128, "headers of one frame")
    subscriptions_max: int = _limit(1024, "subscriptions that one connection has at once")
    transactions_max: int = _limit(64, "transactions that one connection has open at once")
    transaction_bytes_max: int = _limit(
        32 * MIB, "all open transactions of one connection, in cost: two of the largest messages"
    )
    control_bytes_max: int = _limit(
        MIB, "mark for receipts and other replies that a connection has yet to take; above it, it is not read"
    )
    heart_beat_seconds_min: float = _limit(
        1.0, "shortest time between two heart-beats that a server offers and asks for"
    )
    connections_max: int = _limit(16_384, "open connections a server: some 14 KiB each when idle")
    channels_max: int = _limit(16_384, "channels that exist at once: a peer must not fill the register with names")
    mailbox_bytes_max: int = _limit(
        4 * MIB, "mark of one subscription's mailbox, in cost: above it the overflow policy speaks"
    )
    backlog_bytes_max: int = _limit(32 * MIB, "mark of one queue's backlog, in cost: above it its publishers wait")
    backlog_reserve_bytes_max: int = _limit(
        32 * MIB,
        "how far beyond that mark a connection with unsettled work may go, in cost: workers that send their result "
        "before they acknowledge must not lock each other",
    )
    prefetch_messages_max: int = _limit(
        1024, "what a queue's subscriber that acknowledges is sent before it settles one; it may ask for less"
    )
    unsettled_bytes_max: int = _limit(
        8 * MIB, "mark for what one connection was sent from queues and has not settled, in cost; above it, no more"
    )
    memory_bytes_max: int = _limit(1024 * MIB, "mark for everything together, in cost: above it all publishers wait")
    stall_seconds_max: float = _limit(
        10.0, "an owner whose messages wait must move stall_bytes_min, or all, in this time; else it is evicted"
    )
    stall_bytes_min: int = _limit(64 * KIB, "what counts as moving: 6.4 KiB/s with the default above")
    publish_seconds_max: float = _limit(60.0, "how long a connection's message waits for a channel that takes nothing")
    deliveries_max: int = _limit(
        16, "how often one message of a queue is taken for a write before it is discarded as poison"
    )
    drain_seconds_max: float = _limit(10.0, "from the first signal to the end, whatever peers do")
    farewell_seconds_max: float = _limit(
        5.0, "for the last bytes to a peer that broke the protocol, and for a client's last messages"
    )
    linger_seconds_max: float = _limit(
        1.0, "after our end of stream, for a peer that still sends: closing at once would reset"
    )
    overflow: Overflow = _limit(
        Overflow.BLOCK, "what a topic does when a subscription's mailbox is full, unless the subscription says"
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "overflow":
                object.__setattr__(self, "overflow", Overflow(value))
            elif not value > 0:
                raise ValueError(f"{field.name} is {value!r}; it must be more than 0")
        if self.read_bytes_max < self.read_bytes_min:
            raise ValueError(
                f"read_bytes_max ({self.read_bytes_max}) is less than read_bytes_min ({self.read_bytes_min})"
            )
        if self.read_bytes_max > _READ_BYTES_MAX:
            raise ValueError(f"read_bytes_max is {self.read_bytes_max}; at most {_READ_BYTES_MAX} can be read at once")
        if self.frame_bytes_max > 2**32 - 1:
            raise ValueError(f"frame_bytes_max is {self.frame_bytes_max}; a frame's length has four bytes")
