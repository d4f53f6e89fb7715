"""Variants that nobody can tell from the original, each with the proof in words. A test sees that they still exist."""

from __future__ import annotations

from typing import Final

__all__ = ["UNOBSERVABLE"]

_ENDS: Final = (
    "both ends belong to the mailbox alone and nobody ever waits at them; a mailbox is closed only when it has been "
    "emptied and its subscription has left, and from then on nothing is put in or taken out"
)

UNOBSERVABLE: Final[dict[str, str]] = {
    "drop-cleanup/core.outbox.Outbox.take_control": (
        "a connection of the framed protocol says one farewell at most, and its outbox is closed in the same step, so "
        "the control bytes are taken once"
    ),
    "await-at-put/server.connection.Connection.run#1": (
        "cancelled there, the connection leaves its channel in the `finally`, in the same step in which it would have"
    ),
    "drop-cleanup/core.mailbox.Mailbox.close#1": _ENDS,
    "drop-cleanup/core.mailbox.Mailbox.close#2": _ENDS,
}
