"""What a connection holds for its peer, in the broker's account: an unfinished frame, and open transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from trio_broker.core import Broker
    from trio_broker.server.dialect import Dialect

__all__ = ["Holding"]


@final
class Holding:
    """One connection's part of the account.

    Args:
        broker: whose account it is.

    Attributes:
        held_bytes: what is entered.
    """

    __slots__ = ("_limits", "_memory", "held_bytes")

    def __init__(self, broker: Broker) -> None:
        self._limits = broker.limits
        self._memory = broker.memory
        self.held_bytes = 0

    def enter(self, dialect: Dialect, held_bytes: int) -> bool:
        """Enter what is held now; False if there is no memory for it. An open transaction may not grow beyond the mark,
        unless its peer has something to settle: it cannot be made to wait, since its COMMIT would wait too."""
        grows = held_bytes - dialect.unfinished_bytes > self.held_bytes
        self._memory.add(held_bytes - self.held_bytes)
        self.held_bytes = held_bytes
        return not (grows and self._memory.is_full) or dialect.has_unsettled

    def must_not_grow(self, dialect: Dialect) -> bool:
        """Whether there is no memory for the rest of the frame that has begun. One without a body is always read, and
        so is all from a peer that has something to settle: by that alone memory may come free."""
        is_long = dialect.unfinished_bytes > self._limits.header_bytes_max
        return is_long and self._memory.is_full and not dialect.has_unsettled

    def leave(self) -> None:
        """Nothing is held any more."""
        self._memory.add(-self.held_bytes)
        self.held_bytes = 0
