"""Checks of how subscriptions begin and end."""

from __future__ import annotations

from typing import Final

from trio_broker.conform.check import Chapter, Mismatch
from trio_broker.conform.frames import raw
from trio_broker.conform.stage import Stage

__all__ = ["SUBSCRIBING"]

SUBSCRIBING: Final = Chapter()

_ALL: Final = "1.0 1.1 1.2"
_LATER: Final = "1.1 1.2"


@SUBSCRIBING.check(
    "SUBSCRIBE", "SUBSCRIBE without destination is answered with ERROR", must=_LATER, convention="1.0", ours="S-18"
)
async def subscribe_without_destination(stage: Stage) -> str:
    return str(await stage.refused_with_error(await stage.connect(), raw("SUBSCRIBE", "id:0", "receipt:none")))


@SUBSCRIBING.check("SUBSCRIBE id Header", "SUBSCRIBE without id is refused", should=_LATER, ours="S-22")
async def subscribe_without_id(stage: Stage) -> str:
    wrong = raw("SUBSCRIBE", f"destination:{stage.queue()}", "receipt:no-id")
    return str(await stage.refused(await stage.connect(), wrong))


@SUBSCRIBING.check(
    "SUBSCRIBE id Header",
    "an id that another subscription of the connection has is refused",
    should=_LATER,
    convention="1.0",
    ours="S-22",
)
async def duplicate_id(stage: Stage) -> str:
    peer = await stage.connect()
    await stage.subscribe(peer, stage.queue(), id="twice")
    return str(await stage.refused(peer, raw("SUBSCRIBE", "id:twice", f"destination:{stage.queue()}", "receipt:again")))


@SUBSCRIBING.check(
    "SUBSCRIBE id Header", "another connection may use the same id", must=_LATER, convention="1.0", ours="S-22"
)
async def same_id_elsewhere(stage: Stage) -> str:
    for _ in range(2):
        peer, queue = await stage.connect(), stage.queue()
        await stage.subscribe(peer, queue, id="twice")
        await stage.put(peer, queue, b"body")
        await peer.message()
    return "both receive"


@SUBSCRIBING.check(
    "SUBSCRIBE id Header",
    "each of two subscriptions of a connection receives what is its own",
    must=_LATER,
    should="1.0",
    ours="S-22 S-29",
)
async def two_subscriptions(stage: Stage) -> str:
    peer, queues = await stage.connect(), {"first": stage.queue(), "second": stage.queue()}
    for name, queue in queues.items():
        await stage.subscribe(peer, queue, id=name)
    for name, queue in queues.items():
        await stage.put(peer, queue, name.encode())
    seen = {(message.get("subscription"), message.body) for message in (await peer.message(), await peer.message())}
    if seen != {("first", b"first"), ("second", b"second")}:
        raise Mismatch(f"{sorted(map(str, seen))}")
    return "each its own"


@SUBSCRIBING.check(
    "SUBSCRIBE ack Header",
    "an unknown mode of acknowledgement is refused",
    should=_LATER,
    convention="1.0",
    ours="S-23",
)
async def unknown_mode(stage: Stage) -> str:
    wrong = raw("SUBSCRIBE", "id:0", f"destination:{stage.queue()}", "ack:perhaps", "receipt:mode")
    return str(await stage.refused(await stage.connect(), wrong))


@SUBSCRIBING.check("SUBSCRIBE", "1.0: SUBSCRIBE without id receives", must="1.0", ours="S-22")
async def subscribe_without_id_in_1_0(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await peer.receipted("SUBSCRIBE", {"destination": queue})
    await stage.put(peer, queue, b"body")
    return str(await peer.message())


@SUBSCRIBING.check(
    "UNSUBSCRIBE", "1.0: UNSUBSCRIBE by destination ends the subscription without id", must="1.0", ours="S-24"
)
async def unsubscribe_by_destination(stage: Stage) -> str:
    peer, topic = await stage.connect(), stage.topic()
    await peer.receipted("SUBSCRIBE", {"destination": topic})
    await peer.receipted("UNSUBSCRIBE", {"destination": topic})
    return await _hears_nothing(stage, topic)


@SUBSCRIBING.check("UNSUBSCRIBE", "after UNSUBSCRIBE nothing more comes", must=_ALL, ours="S-24")
async def unsubscribe(stage: Stage) -> str:
    peer, topic = await stage.connect(), stage.topic()
    await stage.subscribe(peer, topic)
    await stage.put(peer, topic, b"before")
    await peer.message()
    await peer.receipted("UNSUBSCRIBE", {"id": "0"})
    await stage.put(peer, topic, b"after")
    for came in await peer.quiet():
        raise Mismatch(str(came))
    return "nothing"


async def _hears_nothing(stage: Stage, topic: str) -> str:
    peer = await stage.connect()
    await stage.subscribe(peer, topic, id="witness")
    await stage.put(peer, topic, b"after")
    await peer.message()
    for other in stage.peers:
        for came in await other.quiet():
            raise Mismatch(str(came))
    return "nothing"


@SUBSCRIBING.check(
    "UNSUBSCRIBE", "what a subscriber had not taken stays in the queue after UNSUBSCRIBE", convention=_ALL, ours="S-24"
)
async def unsubscribe_queue(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await stage.subscribe(peer, queue)
    await peer.receipted("UNSUBSCRIBE", {"id": "0"})
    await stage.put(peer, queue, b"for another")
    bodies = await stage.holds(queue, expected=1)
    if bodies != [b"for another"]:
        raise Mismatch(f"{len(bodies)} messages for the next subscriber")
    return "the next subscriber has it"


@SUBSCRIBING.check("UNSUBSCRIBE", "after UNSUBSCRIBE its id is free again", convention=_ALL, ours="S-24")
async def reused_id(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await stage.subscribe(peer, stage.queue())
    await peer.receipted("UNSUBSCRIBE", {"id": "0"})
    await stage.subscribe(peer, queue)
    await stage.put(peer, queue, b"body")
    return str(await peer.message())


@SUBSCRIBING.check(
    "UNSUBSCRIBE",
    "UNSUBSCRIBE of an id that no subscription has is refused",
    should=_LATER,
    convention="1.0",
    ours="S-24",
)
async def unsubscribe_unknown(stage: Stage) -> str:
    return str(await stage.refused(await stage.connect(), raw("UNSUBSCRIBE", "id:nobody", "receipt:unknown")))


@SUBSCRIBING.check("UNSUBSCRIBE", "UNSUBSCRIBE without id is refused", should=_LATER, ours="S-18")
async def unsubscribe_without_id(stage: Stage) -> str:
    peer = await stage.connect()
    await stage.subscribe(peer, stage.queue())
    return str(await stage.refused(peer, raw("UNSUBSCRIBE", "receipt:no-id")))
