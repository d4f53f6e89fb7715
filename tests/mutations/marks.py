"""Variants that nobody can tell from the original, each with the proof in words. A test sees that they still exist."""

from __future__ import annotations

from typing import Final

__all__ = ["UNOBSERVABLE"]

_AT_ONCE: Final = (
    "all connections are cancelled in the same step: what one gives back may be dealt to another, whose writer does "
    "not run any more, and is then given back again, to the same place; retiring all first only saves the work"
)

_READ_AND_ENDED: Final = (
    "who cancels a reader ends its reading: what was read and not yet carried out is not accepted, whether it had left "
    "the transport or not"
)

UNOBSERVABLE: Final[dict[str, str]] = {
    "drop-cleanup/core.subscription.Subscription.leave#4": (
        "nobody looks at it any more; only the memory is held a little longer, until the connection has lingered"
    ),
    "drop-cleanup/core.outbox.Outbox.take_control": (
        "a connection of the framed protocol says one farewell at most, and its outbox is closed in the same step, so "
        "the control bytes are taken once"
    ),
    "await-at-put/server.connection.Connection._obey#1": (
        "what ends a connection cancels its reader, which then does not come past that checkpoint: it subscribes to "
        "nothing, as if the frame had come a step later"
    ),
    "await-at-put/server.connection.Connection._obey#2": (
        "the subscription is in its channel and in its connection's hands before that checkpoint, and whatever ends "
        "the connection makes it leave"
    ),
    "await-at-put/server.connection.Connection._converse#1": (
        "what the account and the connection know of the unfinished frame changes after that checkpoint, together, or "
        "not at all"
    ),
    "await-at-put/server.connection.Connection._serve#1": (
        "what was taken and not sent goes back when the connection leaves, as if the write had been cut before its "
        "first byte"
    ),
    "await-at-put/server.connection.Connection._serve#4": (
        "all is settled by then; whoever is cancelled there does not need the clock any more"
    ),
    "cancel-called/server.connection.Connection._read": (
        "a reader that ends by itself has given a reason, and who cancels it gives one first; only its deadline does "
        "not, and that is caught"
    ),
    "swallow/client.framed.connect": (
        "the exception was noted in the line before and is raised below, outside of the nursery, in either case"
    ),
    "await-at-put/core.channel.Channel.publish#1": (
        "whoever ends the line cancels this publish, which then does not come past that checkpoint; and while it is "
        "the head of the line nobody takes the room that it has seen, but other channels some memory, whose mark "
        "may be passed by a message"
    ),
    "await-at-put/server.connection.Connection.run#2": (
        "cancelled there the connection closes at once, as when it is cancelled in the lingering that follows"
    ),
    "await-at-put/server.connection.Connection._send_rest#2": (
        "what had left is settled before that checkpoint, and nothing else is to be done there"
    ),
    "drop-cleanup/server.connection.Connection.drain#1": (
        "the reader is cancelled in the same step, and when it has ended the connection closes the outbox"
    ),
    "drop-finally/server.server.Server._run#1": _AT_ONCE,
    "drop-finally/server.server.Server._run#2": _AT_ONCE,
    "drop-cleanup/server.server._Accepted.aclose": (
        "a connection has closed its transport when its task ends, however it ends; this is done once more by the "
        "accept loop, whose stream must not fail"
    ),
    "drop-cleanup/server.transport.StreamTransport.aclose": (
        "the accept loop closes what it accepted once more, in the step in which the connection's task ends"
    ),
    "await-at-put/server.transport.TcpTransport.send#1": "nothing has been sent before that checkpoint",
    "await-before-return/server.transport.TcpTransport.receive": _READ_AND_ENDED,
    "await-before-return/server.transport.StreamTransport.receive": _READ_AND_ENDED,
    "drop-cleanup/server.transport.TcpTransport.aclose#1": (
        "both tasks of a connection have ended when it closes its transport, so nobody waits at the socket"
    ),
    "await-at-put/server.server.Server._converse#4": "nothing is left to be done after that checkpoint",
    "await-at-put/server.connection.Connection.run#1": (
        "cancelled there, the connection leaves its channel in the `finally`, in the same step in which it would have"
    ),
}
