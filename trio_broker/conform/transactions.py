"""Checks of transactions."""

from __future__ import annotations

from typing import Final

from trio_broker.conform.check import Chapter, Mismatch
from trio_broker.conform.frames import raw
from trio_broker.conform.peer import Peer
from trio_broker.conform.stage import Stage

__all__ = ["TRANSACTIONS"]

TRANSACTIONS: Final = Chapter()

_ALL: Final = "1.0 1.1 1.2"
_LATER: Final = "1.1 1.2"


async def _begun(stage: Stage, *bodies: bytes) -> tuple[Peer, str]:
    """A peer with an open transaction ``t`` in which these messages were sent, and the queue that they are for."""
    peer, queue = await stage.connect(), stage.queue()
    await peer.receipted("BEGIN", {"transaction": "t"})
    for body in bodies:  # without receipts: some brokers give them at COMMIT
        await peer.frame("SEND", {"destination": queue, "transaction": "t"}, body)
    await stage.put(peer, stage.queue(), b"fence")
    return peer, queue


async def _received(stage: Stage, queue: str, *bodies: bytes) -> str:
    """Demand what a new subscriber of the queue is sent."""
    held = await stage.holds(queue, expected=len(bodies))
    seen = ", ".join(body.decode(errors="replace") for body in held) or "nothing"
    if held != list(bodies):
        raise Mismatch(f"received: {seen}")
    return f"received: {seen}"


@TRANSACTIONS.check("BEGIN", "a message of a transaction is not delivered before COMMIT", must=_ALL, ours="S-25")
async def waits_for_commit(stage: Stage) -> str:
    _, queue = await _begun(stage, b"one")
    return await _received(stage, queue)


@TRANSACTIONS.check(
    "COMMIT", "after COMMIT the messages of the transaction are delivered, in their order", must=_ALL, ours="S-26"
)
async def commit(stage: Stage) -> str:
    peer, queue = await _begun(stage, b"one", b"two", b"three")
    await peer.receipted("COMMIT", {"transaction": "t"})
    return await _received(stage, queue, b"one", b"two", b"three")


@TRANSACTIONS.check("ABORT", "after ABORT the messages of the transaction are gone", must=_ALL, ours="S-27")
async def abort(stage: Stage) -> str:
    peer, queue = await _begun(stage, b"one")
    await peer.receipted("ABORT", {"transaction": "t"})
    return await _received(stage, queue)


@TRANSACTIONS.check("BEGIN", "DISCONNECT aborts what was not committed", must=_ALL, ours="S-28")
async def disconnect_aborts(stage: Stage) -> str:
    peer, queue = await _begun(stage, b"one")
    await stage.leave(peer)
    return await _received(stage, queue)


@TRANSACTIONS.check("BEGIN", "the end of the connection aborts what was not committed", must=_ALL, ours="S-28")
async def break_aborts(stage: Stage) -> str:
    peer, queue = await _begun(stage, b"one")
    await peer.close()
    return await _received(stage, queue)


@TRANSACTIONS.check("BEGIN", "a message without transaction is delivered while one is open", must=_ALL, ours="S-25")
async def outside(stage: Stage) -> str:
    peer, queue = await _begun(stage, b"one")
    await stage.put(peer, queue, b"outside")
    return await _received(stage, queue, b"outside")


@TRANSACTIONS.check(
    "BEGIN", "two transactions of a connection are independent", must=_LATER, convention="1.0", ours="S-25"
)
async def independent(stage: Stage) -> str:
    peer, queue = await _begun(stage, b"one")
    await peer.receipted("BEGIN", {"transaction": "u"})
    await peer.frame("SEND", {"destination": queue, "transaction": "u"}, b"two")
    await peer.receipted("ABORT", {"transaction": "t"})
    await peer.receipted("COMMIT", {"transaction": "u"})
    return await _received(stage, queue, b"two")


@TRANSACTIONS.check(
    "BEGIN", "two connections may use one name for their transactions", must=_LATER, convention="1.0", ours="S-25"
)
async def same_name_elsewhere(stage: Stage) -> str:
    first, queue = await _begun(stage, b"one")
    await _begun(stage)
    await first.receipted("COMMIT", {"transaction": "t"})
    return await _received(stage, queue, b"one")


@TRANSACTIONS.check("COMMIT", "after COMMIT the transaction's name is free again", convention=_ALL, ours="S-26")
async def reused_name(stage: Stage) -> str:
    peer, queue = await _begun(stage, b"one")
    await peer.receipted("COMMIT", {"transaction": "t"})
    await peer.receipted("BEGIN", {"transaction": "t"})
    await peer.frame("SEND", {"destination": queue, "transaction": "t"}, b"two")
    await peer.receipted("COMMIT", {"transaction": "t"})
    return await _received(stage, queue, b"one", b"two")


@TRANSACTIONS.check("ACK", "an ACK whose transaction is committed counts", must=_LATER, should="1.0", ours="S-26")
async def committed_ack(stage: Stage) -> str:
    queue = await _acknowledged(stage, "COMMIT")
    return await _received(stage, queue)


@TRANSACTIONS.check("ACK", "an ACK whose transaction is aborted does not count", should=_ALL, ours="S-27")
async def aborted_ack(stage: Stage) -> str:
    queue = await _acknowledged(stage, "ABORT")
    return await _received(stage, queue, b"one")


async def _acknowledged(stage: Stage, end: str) -> str:
    """A queue whose message was acknowledged within a transaction that ended so; its subscriber has gone."""
    peer, queue = await _begun(stage)
    await stage.subscribe(peer, queue, ack="client")
    await stage.put(await stage.connect(), queue, b"one")
    await peer.receipted("ACK", {**stage.settlement(await peer.message()), "transaction": "t"})
    await peer.receipted(end, {"transaction": "t"})
    await stage.leave(peer)
    return queue


@TRANSACTIONS.check(
    "BEGIN",
    "BEGIN under a name that an open transaction has is refused",
    should="1.2",
    convention="1.0 1.1",
    ours="S-25",
)
async def duplicate_name(stage: Stage) -> str:
    peer, _ = await _begun(stage)
    return str(await stage.refused(peer, raw("BEGIN", "transaction:t", "receipt:again")))


@TRANSACTIONS.check("BEGIN", "BEGIN without transaction is refused", should=_ALL, ours="S-18")
async def nameless_begin(stage: Stage) -> str:
    return str(await stage.refused(await stage.connect(), raw("BEGIN", "receipt:nameless")))


@TRANSACTIONS.check("COMMIT", "COMMIT of a transaction that is not open is refused", should=_ALL, ours="S-27")
async def unknown_commit(stage: Stage) -> str:
    return str(await stage.refused(await stage.connect(), raw("COMMIT", "transaction:none", "receipt:unknown")))


@TRANSACTIONS.check("ABORT", "ABORT of a transaction that is not open is refused", should=_ALL, ours="S-27")
async def unknown_abort(stage: Stage) -> str:
    return str(await stage.refused(await stage.connect(), raw("ABORT", "transaction:none", "receipt:unknown")))


@TRANSACTIONS.check(
    "SEND", "SEND in a transaction that is not open is answered with ERROR", must=_LATER, convention="1.0", ours="S-27"
)
async def unknown_send(stage: Stage) -> str:
    wrong = raw("SEND", f"destination:{stage.queue()}", "transaction:none", "receipt:unknown", body=b"body")
    return str(await stage.refused_with_error(await stage.connect(), wrong))
