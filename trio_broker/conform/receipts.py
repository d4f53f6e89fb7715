"""Checks of receipts."""

from __future__ import annotations

from typing import Final

from trio_broker.conform.check import Chapter, Mismatch
from trio_broker.conform.frames import encode
from trio_broker.conform.stage import Stage

__all__ = ["RECEIPTS"]

RECEIPTS: Final = Chapter()

_ALL: Final = "1.0 1.1 1.2"
_LATER: Final = "1.1 1.2"


@RECEIPTS.check(
    "RECEIPT", "SEND, SUBSCRIBE and UNSUBSCRIBE with receipt are answered with RECEIPT", must=_ALL, ours="S-21"
)
async def receipts_of_messages(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await stage.subscribe(peer, queue)
    await stage.put(peer, queue, b"body")
    await peer.receipted("UNSUBSCRIBE", {"id": "0"})
    return "three"


@RECEIPTS.check("RECEIPT", "BEGIN, COMMIT and ABORT with receipt are answered with RECEIPT", must=_ALL, ours="S-21")
async def receipts_of_transactions(stage: Stage) -> str:
    peer = await stage.connect()
    for end in ("COMMIT", "ABORT"):
        await peer.receipted("BEGIN", {"transaction": end})
        await peer.receipted(end, {"transaction": end})
    return "four"


@RECEIPTS.check("RECEIPT", "ACK with receipt is answered with RECEIPT", must=_ALL, ours="S-21")
async def receipt_of_ack(stage: Stage) -> str:
    return await _receipt_of(stage, "ACK")


@RECEIPTS.check("RECEIPT", "NACK with receipt is answered with RECEIPT", must=_LATER, ours="S-21")
async def receipt_of_nack(stage: Stage) -> str:
    return await _receipt_of(stage, "NACK")


async def _receipt_of(stage: Stage, command: str) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await stage.subscribe(peer, queue, ack="client")
    await stage.put(peer, queue, b"body")
    await peer.receipted(command, stage.settlement(await peer.message()))
    return "RECEIPT"


@RECEIPTS.check(
    "RECEIPT",
    "a receipt says that what was sent before was received: 20 messages are there once the last has its receipt",
    must=_LATER,
    convention="1.0",
    ours="S-21",
)
async def cumulative_receipt(stage: Stage) -> str:
    queue = stage.queue()
    await stage.put(await stage.connect(), queue, *[b"%d" % number for number in range(20)])
    bodies = await stage.holds(queue, expected=20)
    if len(bodies) != 20:
        raise Mismatch(f"{len(bodies)} of 20")
    return "20 of 20"


@RECEIPTS.check("RECEIPT", "a frame without receipt is given none", must=_ALL, ours="S-21")
async def no_receipt(stage: Stage) -> str:
    peer = await stage.connect()
    await peer.send(encode(stage.version, "SEND", [("destination", stage.queue())], b"body"))
    for came in await peer.quiet():
        raise Mismatch(str(came))
    return "nothing"
