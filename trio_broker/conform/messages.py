"""Checks of messages on their way to subscribers."""

from __future__ import annotations

from typing import Final

from trio_broker.conform.check import Chapter, Mismatch
from trio_broker.conform.frames import raw
from trio_broker.conform.stage import Stage

__all__ = ["MESSAGES"]

MESSAGES: Final = Chapter()

_ALL: Final = "1.0 1.1 1.2"
_LATER: Final = "1.1 1.2"
_MANY: Final = 50
_TEN: Final = tuple(b"%d" % number for number in range(10))


@MESSAGES.check(
    "MESSAGE", "MESSAGE has destination, message-id and the subscription's id", must=_LATER, should="1.0", ours="S-29"
)
async def message_headers(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await stage.subscribe(peer, queue, id="some-id")
    await stage.put(peer, queue, b"body")
    message = await peer.message()
    missing = [name for name in ("destination", "message-id", "subscription") if not message.get(name)]
    if missing:
        raise Mismatch(f"MESSAGE without {' and '.join(missing)}")
    if message.get("subscription") != "some-id":
        raise Mismatch(f"subscription {message.get('subscription')!r} instead of 'some-id'")
    return "all three"


@MESSAGES.check("MESSAGE", "destination of MESSAGE is what SEND had", should=_ALL, ours="S-29")
async def message_destination(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await stage.subscribe(peer, queue)
    await stage.put(peer, queue, b"body")
    destination = (await peer.message()).get("destination")
    if destination != queue:
        raise Mismatch(f"{destination!r} instead of {queue!r}")
    return "the same"


@MESSAGES.check("MESSAGE", "MESSAGE has ack where the subscription acknowledges", must="1.2", ours="S-30")
async def ack_header(stage: Stage) -> str:
    for mode in ("client", "client-individual"):
        peer, queue = await stage.connect(), stage.queue()
        await stage.subscribe(peer, queue, ack=mode)
        await stage.put(peer, queue, b"body")
        if (await peer.message()).get("ack") is None:
            raise Mismatch(f"MESSAGE without ack in the mode {mode}")
    return "ack in both modes"


@MESSAGES.check("MESSAGE", f"the message-ids of {_MANY} messages differ", must=_ALL, ours="S-29")
async def unique_ids(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await stage.subscribe(peer, queue)
    await stage.put(peer, queue, *[b"%d" % number for number in range(_MANY)])
    ids = {(await peer.message()).get("message-id") for _ in range(_MANY)}
    if len(ids) != _MANY:
        raise Mismatch(f"{len(ids)} different ones")
    return "all differ"


@MESSAGES.check(
    "SEND", f"{_MANY} messages of one sender to one queue arrive in their order", convention=_ALL, ours="S-35"
)
async def order(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await stage.subscribe(peer, queue)
    sent = [b"%d" % number for number in range(_MANY)]
    await stage.put(peer, queue, *sent)
    received = [(await peer.message()).body for _ in sent]
    if received != sent:
        index = next(index for index, body in enumerate(received) if body != sent[index])
        raise Mismatch(f"number {index} was {received[index].decode(errors='replace')}")
    return "in order"


@MESSAGES.check("SEND", "SEND without destination is answered with ERROR", must=_LATER, convention="1.0", ours="S-18")
async def send_without_destination(stage: Stage) -> str:
    return str(await stage.refused_with_error(await stage.connect(), raw("SEND", "receipt:none", body=b"body")))


@MESSAGES.check("Protocol Overview", "a queue keeps a message until somebody subscribes", convention=_ALL, ours="S-36")
async def queue_keeps(stage: Stage) -> str:
    queue = stage.queue()
    await stage.put(await stage.connect(), queue, b"kept")
    bodies = await stage.holds(queue, expected=1)
    if bodies != [b"kept"]:
        raise Mismatch(f"{len(bodies)} messages")
    return "kept"


@MESSAGES.check(
    "Protocol Overview", "a queue gives each message to one of two subscribers", convention=_ALL, ours="S-36"
)
async def queue_shares(stage: Stage) -> str:
    received = await _received_by_two(stage, stage.queue())
    return _judged(received, right=sorted(received[0] + received[1]) == sorted(_TEN))


@MESSAGES.check(
    "Protocol Overview", "a topic gives each message to both of two subscribers", convention=_ALL, ours="S-36"
)
async def topic_copies(stage: Stage) -> str:
    received = await _received_by_two(stage, stage.topic())
    return _judged(received, right=all(sorted(bodies) == sorted(_TEN) for bodies in received))


async def _received_by_two(stage: Stage, destination: str) -> list[list[bytes]]:
    """What each of two subscribers gets of ten messages."""
    peers = [await stage.connect(), await stage.connect()]
    for peer in peers:
        await stage.subscribe(peer, destination)
    await stage.put(await stage.connect(), destination, *_TEN)
    return [[frame.body for frame in await peer.quiet()] for peer in peers]


def _judged(received: list[list[bytes]], *, right: bool) -> str:
    seen = f"{len(received[0])} and {len(received[1])} of {len(_TEN)}"
    if right:
        return seen
    twice = any(len(bodies) != len(set(bodies)) for bodies in received)
    raise Mismatch(f"{seen}, some of them more than once" if twice else seen)
