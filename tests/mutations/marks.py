"""Variants that nobody can tell from the original, each with the proof in words. A test sees that they still exist."""

from __future__ import annotations

from typing import Final

__all__ = ["UNOBSERVABLE"]

_AT_ONCE: Final = (
    "all connections are cancelled in the same step: what one gives back may be dealt to another, whose writer does "
    "not run any more, and is then given back again, to the same place; retiring all first only saves the work"
)

_WRITER_CANCELLED: Final = (
    "whoever cancels the writer has woken the publishers before, and they find the client closed or broken, however "
    "full it is; who is not cancelled there goes on a step later"
)

_NOTHING_ELSE_IS_RAISED: Final = (
    "what is called there is synchronous and of our own, and Ctrl-C is held back: nothing but an Exception is raised"
)

_HEART_BEAT: Final = (
    "a heart-beat is only a sign of life: one more does no harm, and one that is not sent, or of which nothing "
    "follows, is that of a connection that has been cancelled"
)

_LEAVING: Final = (
    "nothing more is accepted by then, and who is cancelled there closes at once, as when it is cancelled in the "
    "waiting that follows"
)

_NOTED_BEFORE: Final = (
    "the exception was noted in the line before and is raised below, outside of the nursery, in either case"
)

UNOBSERVABLE: Final[dict[str, str]] = {
    "await-at-put/server.beating.Beating._send#1": _HEART_BEAT,
    "await-at-put/server.beating.Beating._send#2": _HEART_BEAT,
    "drop-cleanup/core.ledger.Ledger.give_up": (
        "what is to be settled is looked up in the ledger, where it is no more; only the memory is held a little "
        "longer, until the connection has lingered"
    ),
    "drop-finally/server.reader.Reader._converse#1": (
        "only the heart-beats ask whether something is read, and they end with the reader, in the step in which it does"
    ),
    "await-at-put/server.speaker.Speaker._send_rest#4": (
        "what had left is settled before that checkpoint, and nothing else is to be done there"
    ),
    "drop-cleanup/server.stomp.StompDialect.leave#1": (
        "what one subscription gives back may be dealt to another of the same connection, which is not sent anything "
        "any more, and gives it back in the same step, to the same place; retiring all first only saves the work"
    ),
    "drop-cleanup/core.subscription.Subscription.leave#4": (
        "nobody looks at it any more; only the memory is held a little longer, until the connection has lingered"
    ),
    "cancel-called/server.reader.Reader.run": (
        "a reader that ends by itself has given a reason, and who cancels it gives one first; only its deadline does "
        "not, and that is caught"
    ),
    "await-at-put/client.framed_subscription.RemoteSubscription._receive_more#2": (
        "what was read is in the subscription's hands by then, for whoever receives next, and an end of the stream is "
        "read again"
    ),
    "await-at-put/client.framed.Client._write#2": _WRITER_CANCELLED,
    "await-at-put/client.framed.Client._write#3": _WRITER_CANCELLED,
    "swallow/client.framed.connect": _NOTED_BEFORE,
    "swallow/client.stomp_opening.open_stomp": _NOTED_BEFORE,
    "await-before-return/client.reconnecting.run_reconnecting": (
        "what was done stays done, and its result is lost with a cancellation that comes as the connection is left, "
        "just before"
    ),
    "await-before-return/client.stomp.StompClient.request": (
        "a request that is cancelled may have been answered: its contract says so"
    ),
    "await-before-try/client.stomp_greeting.greet": (
        "nothing was said by then, and whoever calls it closes the connection"
    ),
    "await-at-put/client.stomp_link.Link.farewell#1": _LEAVING,
    "await-at-put/client.stomp_link.Link.farewell#2": _LEAVING,
    "await-at-put/client.stomp_outgoing.Outgoing.write#1": (
        "it is counted as sent a step later; what a writer that is cancelled there does not count may not have been "
        "sent for all that its client knows, and that is what it says"
    ),
    "await-at-put/server.connection.Connection.run#2": (
        "cancelled there the connection closes at once, as when it is cancelled in the lingering that follows"
    ),
    "await-at-put/server.speaker.Speaker._send_rest#2": (
        "what had left is settled before that checkpoint, and nothing else is to be done there"
    ),
    "drop-cleanup/server.connection.Connection.drain#1": (
        "the reader is cancelled in the same step, and when it has ended the connection closes the outbox"
    ),
    "drop-finally/server.server.Server._accept#1": _AT_ONCE,
    "drop-finally/server.server.Server._accept#2": _AT_ONCE,
    "drop-cleanup/server.accepting.Accepted.aclose": (
        "a connection has closed its transport when its task ends, however it ends; this is done once more by the "
        "accept loop, whose stream must not fail"
    ),
    "by-hand/aclose-waits": (
        "the accept loop closes what it accepted once more, in the step in which the connection's task ends"
    ),
    "drop-cleanup/server.transport.StreamTransport.aclose": (
        "the accept loop closes what it accepted once more, in the step in which the connection's task ends"
    ),
    "await-at-put/server.transport.TcpTransport.send#1": "nothing has been sent before that checkpoint",
    "drop-cleanup/server.transport.TcpTransport.aclose#1": (
        "both tasks of a connection have ended when it closes its transport, so nobody waits at the socket"
    ),
    "await-at-put/server.server.Server._converse#4": "nothing is left to be done after that checkpoint",
    "await-at-put/server.connection.Connection.run#1": (
        "cancelled there, the connection leaves its channel in the `finally`, in the same step in which it would have"
    ),
    "await-before-try/server.poller.Poller.watch": "nothing is watched before that checkpoint",
    "await-before-try/server.server.Server._run": (
        "nobody has the server in hand yet to wait for its end, and its epoll is closed together with it"
    ),
    "swallow/server.poller.Poller._act": _NOTHING_ELSE_IS_RAISED,
    "swallow/server.poller.Poller.watch_for_hang_up.tell": _NOTHING_ELSE_IS_RAISED,
    "drop-cleanup/server.poller.Poller.watch_for_hang_up.tell": (
        "only a defect of ours is raised there, and no scenario has one; a plain test of the poller makes it"
    ),
    "swallow/server.speaker.Speaker.flush": _NOTHING_ELSE_IS_RAISED,
}
