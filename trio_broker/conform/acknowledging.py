"""Checks of acknowledgements, and of what becomes of what has none."""

from __future__ import annotations

from typing import Final

import trio

from trio_broker.conform.check import Chapter, Mismatch, NotShown
from trio_broker.conform.frames import Frame, encode, raw
from trio_broker.conform.peer import Peer
from trio_broker.conform.stage import Stage

__all__ = ["ACKNOWLEDGING"]

ACKNOWLEDGING: Final = Chapter()

_ALL: Final = "1.0 1.1 1.2"
_LATER: Final = "1.1 1.2"


async def _delivered(stage: Stage, ack: str, *bodies: bytes) -> tuple[Peer, str, list[Frame]]:
    """A subscriber of a queue that has been sent these messages and has said nothing about them yet."""
    queue = stage.queue()
    await stage.put(await stage.connect(), queue, *bodies)
    peer = await stage.connect()
    await stage.subscribe(peer, queue, ack=ack)
    messages = [await peer.message()]
    with trio.move_on_after(stage.target.close_seconds):
        await trio.lowlevel.checkpoint()
        while len(messages) < len(bodies):
            messages.append(await peer.message())
    if len(messages) < len(bodies):
        raise NotShown("the broker sends one message, and the next when that was acknowledged")
    return peer, queue, messages


async def _remains(stage: Stage, queue: str, *bodies: bytes) -> str:
    """Demand what a queue still has for a new subscriber."""
    held = await stage.holds(queue, expected=len(bodies))
    seen = ", ".join(body.decode(errors="replace") for body in held) or "nothing"
    if sorted(held) != sorted(bodies):
        raise Mismatch(f"then the queue has: {seen}")
    return f"then the queue has: {seen}"


@ACKNOWLEDGING.check("SUBSCRIBE ack Header", "auto: a message that was sent is consumed", must=_ALL, ours="S-23")
async def auto(stage: Stage) -> str:
    peer, queue, _ = await _delivered(stage, "auto", b"one")
    await stage.leave(peer)
    return await _remains(stage, queue)


@ACKNOWLEDGING.check("SUBSCRIBE ack Header", "without an ack header the mode is auto", must=_ALL, ours="S-23")
async def default_mode(stage: Stage) -> str:
    peer, queue, _ = await _delivered(stage, "", b"one")
    await stage.leave(peer)
    return await _remains(stage, queue)


@ACKNOWLEDGING.check("ACK", "client: a message that has its ACK is consumed", must=_ALL, ours="S-34")
async def acknowledged(stage: Stage) -> str:
    peer, queue, messages = await _delivered(stage, "client", b"one")
    await peer.receipted("ACK", stage.settlement(messages[0]))
    await stage.leave(peer)
    return await _remains(stage, queue)


@ACKNOWLEDGING.check(
    "ACK", "client: a message without ACK returns to its queue after DISCONNECT", should=_ALL, ours="S-32"
)
async def returns_after_disconnect(stage: Stage) -> str:
    peer, queue, _ = await _delivered(stage, "client", b"one")
    await stage.leave(peer)
    return await _remains(stage, queue, b"one")


@ACKNOWLEDGING.check(
    "ACK", "client: a message without ACK returns to its queue when the connection breaks", should=_ALL, ours="S-32"
)
async def returns_after_break(stage: Stage) -> str:
    peer, queue, _ = await _delivered(stage, "client", b"one")
    await peer.close()
    return await _remains(stage, queue, b"one")


@ACKNOWLEDGING.check("ACK", "client-individual: a message without ACK returns to its queue", should=_LATER, ours="S-32")
async def individual_returns(stage: Stage) -> str:
    peer, queue, _ = await _delivered(stage, "client-individual", b"one")
    await stage.leave(peer)
    return await _remains(stage, queue, b"one")


@ACKNOWLEDGING.check(
    "SUBSCRIBE ack Header",
    "client: ACK is cumulative: it is for all messages before it too",
    must=_LATER,
    convention="1.0",
    ours="S-34",
)
async def cumulative(stage: Stage) -> str:
    peer, queue, messages = await _delivered(stage, "client", b"one", b"two", b"three")
    await peer.receipted("ACK", stage.settlement(messages[1]))
    await stage.leave(peer)
    return await _remains(stage, queue, b"three")


@ACKNOWLEDGING.check(
    "SUBSCRIBE ack Header", "client: a cumulative ACK is for its own subscription only", must=_LATER, ours="S-34"
)
async def cumulative_within_subscription(stage: Stage) -> str:
    peer, first, messages = await _delivered(stage, "client", b"one")
    second = stage.queue()
    await stage.subscribe(peer, second, id="second", ack="client")
    await stage.put(await stage.connect(), second, b"two")
    later = await peer.message()
    if {message.get("subscription") for message in (*messages, later)} != {"0", "second"}:
        raise Mismatch(f"{later} of {later.get('subscription')!r}")
    await peer.receipted("ACK", stage.settlement(later))
    await stage.leave(peer)
    return await _remains(stage, first, b"one")


@ACKNOWLEDGING.check(
    "SUBSCRIBE ack Header", "client-individual: ACK is for its own message only", must=_LATER, ours="S-34"
)
async def individual(stage: Stage) -> str:
    peer, queue, messages = await _delivered(stage, "client-individual", b"one", b"two", b"three")
    await peer.receipted("ACK", stage.settlement(messages[1]))
    await stage.leave(peer)
    return await _remains(stage, queue, b"one", b"three")


@ACKNOWLEDGING.check("ACK", "a message that returned has redelivered:true", convention=_ALL, ours="S-32")
async def redelivered(stage: Stage) -> str:
    peer, queue, messages = await _delivered(stage, "client", b"one")
    if messages[0].get("redelivered") == "true":
        raise Mismatch("redelivered:true the first time")
    await stage.leave(peer)
    peer = await stage.connect()
    await stage.subscribe(peer, queue)
    marked = (await peer.message()).get("redelivered")
    if marked != "true":
        raise Mismatch("no redelivered" if marked is None else f"redelivered:{marked}")
    return "redelivered:true"


@ACKNOWLEDGING.check("NACK", "after NACK the conversation goes on", must=_LATER, ours="S-34 S-41")
async def nack(stage: Stage) -> str:
    peer, _, messages = await _delivered(stage, "client-individual", b"one")
    await peer.frame("NACK", stage.settlement(messages[0]))
    await stage.put(peer, stage.queue(), b"other")
    again = any(frame.command == "MESSAGE" for frame in await peer.quiet())
    return "the message comes again" if again else "the message does not come again"


@ACKNOWLEDGING.check(
    "NACK", "client-individual: NACK leaves the messages before it as they were", must=_LATER, ours="S-34"
)
async def individual_nack(stage: Stage) -> str:
    peer, queue, messages = await _delivered(stage, "client-individual", b"one", b"two")
    await peer.receipted("NACK", stage.settlement(messages[1]))
    await peer.receipted("ACK", stage.settlement(messages[0]))
    await peer.quiet()
    await stage.leave(peer)
    held = await stage.holds(queue)
    if b"one" in held:
        raise Mismatch("the message that was acknowledged came again")
    return "the other could still be acknowledged"


@ACKNOWLEDGING.check(
    "ACK", "ACK of a message that was never sent is refused", should=_LATER, convention="1.0", ours="S-34"
)
async def unknown_ack(stage: Stage) -> str:
    return await _unknown(stage, "ACK")


@ACKNOWLEDGING.check("NACK", "NACK of a message that was never sent is refused", should=_LATER, ours="S-34")
async def unknown_nack(stage: Stage) -> str:
    return await _unknown(stage, "NACK")


async def _unknown(stage: Stage, command: str) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await stage.subscribe(peer, queue, ack="client")
    names = {"id": "never-sent"} if stage.version == "1.2" else {"message-id": "never-sent", "subscription": "0"}
    wrong = encode(stage.version, command, {**names, "receipt": "unknown"}.items())
    return str(await stage.refused(peer, wrong))


@ACKNOWLEDGING.check("ACK", "a second ACK of one message is refused", convention=_ALL, ours="S-34")
async def second_ack(stage: Stage) -> str:
    peer, _, messages = await _delivered(stage, "client-individual" if stage.version != "1.0" else "client", b"one")
    headers = stage.settlement(messages[0])
    await peer.receipted("ACK", headers)
    return str(await stage.refused(peer, encode(stage.version, "ACK", {**headers, "receipt": "again"}.items())))


@ACKNOWLEDGING.check(
    "ACK", "ACK without the header that names the message is refused", should=_LATER, convention="1.0", ours="S-18"
)
async def nameless_ack(stage: Stage) -> str:
    peer, _, _ = await _delivered(stage, "client", b"one")
    return str(await stage.refused(peer, raw("ACK", "subscription:0", "receipt:nameless")))


@ACKNOWLEDGING.check("ACK", "1.1: ACK without subscription is refused", should="1.1", ours="S-18")
async def ack_without_subscription(stage: Stage) -> str:
    peer, _, messages = await _delivered(stage, "client", b"one")
    headers = stage.settlement(messages[0])
    del headers["subscription"]
    return str(await stage.refused(peer, encode(stage.version, "ACK", {**headers, "receipt": "nameless"}.items())))


@ACKNOWLEDGING.check("Client Commands", "1.0: NACK, which begins with 1.1, is refused", convention="1.0", ours="S-17")
async def nack_in_1_0(stage: Stage) -> str:
    peer, _, messages = await _delivered(stage, "client", b"one")
    headers = {**stage.settlement(messages[0]), "receipt": "early"}
    return str(await stage.refused(peer, encode(stage.version, "NACK", headers.items())))
