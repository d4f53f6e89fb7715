"""Checks of ERROR, and of how a conversation ends."""

from __future__ import annotations

from typing import Final

import trio

from trio_broker.conform.check import Chapter, Mismatch, NotShown
from trio_broker.conform.frames import Frame, encode, raw
from trio_broker.conform.peer import End, Peer
from trio_broker.conform.stage import Stage

__all__ = ["ENDING"]

ENDING: Final = Chapter()

_ALL: Final = "1.0 1.1 1.2"
_LATER: Final = "1.1 1.2"


async def _failed(stage: Stage) -> tuple[Peer, Frame]:
    """A peer that has sent SEND without its destination, and the ERROR that it got."""
    peer = await stage.connect()
    return peer, await stage.refused_with_error(peer, raw("SEND", "receipt:failed", body=b"body"))


@ENDING.check("ERROR", "after ERROR for SEND the connection is closed", must=_LATER, convention="1.0", ours="S-42")
async def closed_after_send(stage: Stage) -> str:
    return await stage.closed_after(*await _failed(stage))


@ENDING.check(
    "SUBSCRIBE", "after ERROR for SUBSCRIBE the connection is closed", must=_LATER, convention="1.0", ours="S-42"
)
async def closed_after_subscribe(stage: Stage) -> str:
    peer = await stage.connect()
    error = await stage.refused_with_error(peer, raw("SUBSCRIBE", "id:0", "receipt:failed"))
    return await stage.closed_after(peer, error)


@ENDING.check("ERROR", "after ERROR for COMMIT the connection is closed", must="1.2", convention="1.0 1.1", ours="S-42")
async def closed_after_commit(stage: Stage) -> str:
    peer = await stage.connect()
    refusal = await stage.refused(peer, raw("COMMIT", "transaction:none", "receipt:failed"))
    return await stage.closed_after(peer, refusal)


@ENDING.check("ERROR", "after ERROR the connection is closed, not reset", convention=_ALL, ours="S-42")
async def orderly_error(stage: Stage) -> str:
    peer, error = await _failed(stage)
    try:
        end = await peer.ended(stage.target.close_seconds, str(error))
    except Mismatch as mismatch:
        raise NotShown(str(mismatch)) from None
    if end.reset or end.inside:
        raise Mismatch(f"{error}, {end}")
    return f"{error}, {end}"


@ENDING.check("ERROR", "ERROR has a message header", should=_ALL, ours="S-42")
async def error_message(stage: Stage) -> str:
    _, error = await _failed(stage)
    if not error.get("message"):
        raise Mismatch("no message header")
    return str(error)


@ENDING.check(
    "ERROR",
    "ERROR has the receipt of the frame that it is for as receipt-id",
    should=_LATER,
    convention="1.0",
    ours="S-42",
)
async def error_receipt(stage: Stage) -> str:
    _, error = await _failed(stage)
    receipt = error.get("receipt-id")
    if receipt != "failed":
        raise Mismatch("no receipt-id" if receipt is None else f"receipt-id:{receipt}")
    return "receipt-id:failed"


@ENDING.check(
    "ERROR", "ERROR with a body has content-length and content-type", should=_LATER, convention="1.0", ours="S-42"
)
async def error_body(stage: Stage) -> str:
    _, error = await _failed(stage)
    if not error.body:
        raise NotShown("ERROR without a body")
    missing = [name for name in ("content-length", "content-type") if error.get(name) is None]
    if missing:
        raise Mismatch(f"no {' and no '.join(missing)}")
    return f"content-type:{error.get('content-type')}"


@ENDING.check("Augmented BNF", "ERROR is written without a fault", must=_ALL, ours="S-1 S-5")
async def error_grammar(stage: Stage) -> str:
    peer = await stage.connect()
    wrong = raw("COMMIT", r"transaction:a\cb" if stage.version != "1.0" else "transaction:a:b", "receipt:failed")
    came = await stage.refused(peer, wrong)
    if not isinstance(came, Frame):
        raise NotShown(f"{came} without an ERROR")
    if came.faults:
        raise Mismatch(came.faults[0])
    return "no fault"


@ENDING.check("ERROR", "what was sent before a refused frame counts", convention=_ALL, ours="S-45")
async def before_error(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    good = encode(stage.version, "SEND", [("destination", queue)], b"before")
    refusal = await stage.refused(peer, good + raw("SEND", "receipt:failed", body=b"body"))
    bodies = await stage.holds(queue, expected=1)
    if bodies != [b"before"]:
        raise Mismatch(f"{refusal}, and {len(bodies)} messages")
    return f"{refusal}, and the message is there"


@ENDING.check("ERROR", "what follows a refused frame is not carried out", convention=_ALL, ours="S-42")
async def after_error(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    late = encode(stage.version, "SEND", [("destination", queue)], b"after")
    await stage.refused(peer, raw("SEND", "receipt:failed", body=b"body") + late)
    bodies = await stage.holds(queue)
    if bodies:
        raise Mismatch("the message that followed was delivered")
    return "nothing was delivered"


@ENDING.check("DISCONNECT", "DISCONNECT with receipt is answered with RECEIPT", must=_ALL, ours="S-40")
async def disconnect_receipt(stage: Stage) -> str:
    peer = await stage.connect()
    await peer.receipted("DISCONNECT", {})
    return "RECEIPT"


@ENDING.check(
    "DISCONNECT", "after the RECEIPT for DISCONNECT the broker closes, without a reset", convention=_ALL, ours="S-40"
)
async def disconnect_closes(stage: Stage) -> str:
    peer = await stage.connect()
    await peer.receipted("DISCONNECT", {})
    end = await peer.ended(stage.target.close_seconds, "RECEIPT")
    if end.reset or end.inside:
        raise Mismatch(f"RECEIPT, {end}")
    return f"RECEIPT, {end}"


@ENDING.check("DISCONNECT", "after DISCONNECT without receipt the broker closes", convention=_ALL, ours="S-40")
async def quiet_disconnect(stage: Stage) -> str:
    peer = await stage.connect()
    await peer.frame("DISCONNECT", {})
    return str(await peer.ended(stage.target.close_seconds, "DISCONNECT"))


@ENDING.check(
    "DISCONNECT",
    "the RECEIPT for DISCONNECT says that all before it was received",
    must=_LATER,
    should="1.0",
    ours="S-40",
)
async def disconnect_after_messages(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    for number in range(10):
        await peer.frame("SEND", {"destination": queue}, b"%d" % number)
    await stage.leave(peer)
    bodies = await stage.holds(queue, expected=10)
    if len(bodies) != 10:
        raise Mismatch(f"{len(bodies)} of 10 messages")
    return "10 of 10 messages"


@ENDING.check(
    "RECEIPT",
    "what was received before a client went without DISCONNECT is carried out",
    should="1.2",
    convention="1.0 1.1",
    ours="S-43",
)
async def messages_before_the_end(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await peer.frame("SEND", {"destination": queue}, b"last words")
    await peer.finish_sending()
    # A broker need not close because the client has nothing more to say; all that counts here is the message.
    with trio.move_on_after(stage.target.close_seconds):
        while not isinstance(await peer.receive(), End):
            pass
    await peer.close()
    bodies = await stage.holds(queue, expected=1)
    if bodies != [b"last words"]:
        raise Mismatch(f"{len(bodies)} messages")
    return "the message is there"
