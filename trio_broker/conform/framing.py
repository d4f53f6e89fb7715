"""Checks of how frames are cut: line ends, lengths, bodies."""

from __future__ import annotations

from typing import Final

import trio

from trio_broker.conform.check import Chapter, Mismatch
from trio_broker.conform.frames import encode, raw
from trio_broker.conform.peer import Peer
from trio_broker.conform.stage import Stage

__all__ = ["FRAMING"]

FRAMING: Final = Chapter()

_ALL: Final = "1.0 1.1 1.2"
_LATER: Final = "1.1 1.2"
_BINARY: Final = bytes(range(256))
_LARGE_BYTES: Final = 256 * 1024
_PAUSE_SECONDS: Final = 0.01  # so that the network does not put the bytes together again


async def _subscribed(stage: Stage) -> tuple[Peer, str]:
    """A peer that hears itself, and where."""
    peer, queue = await stage.connect(), stage.queue()
    await stage.subscribe(peer, queue)
    return peer, queue


async def _arrives(peer: Peer, body: bytes) -> str:
    """Wait for a message that must have this body."""
    message = await peer.message()
    if message.body != body:
        if len(message.body) != len(body):
            raise Mismatch(f"a body of {len(message.body):,} bytes instead of {len(body):,}: {message}")
        raise Mismatch(f"another body of {len(body):,} bytes: {message}")
    return str(message) if len(body) < 64 else f"MESSAGE with the same {len(body):,} bytes"


@FRAMING.check("STOMP Frames", "line feeds between frames mean nothing", must=_ALL, ours="S-2 S-16")
async def line_feeds_between(stage: Stage) -> str:
    peer, queue = await _subscribed(stage)
    await peer.send(b"\n\n\n" + encode(stage.version, "SEND", [("destination", queue)], b"one") + b"\n\n")
    return await _arrives(peer, b"one")


@FRAMING.check("STOMP Frames", "carriage returns with line feeds between frames mean nothing", must="1.2", ours="S-2")
async def crlf_between(stage: Stage) -> str:
    peer, queue = await _subscribed(stage)
    await peer.send(b"\r\n\r\n" + encode(stage.version, "SEND", [("destination", queue)], b"one") + b"\r\n")
    return await _arrives(peer, b"one")


@FRAMING.check("STOMP Frames", "a line may end in a carriage return and a line feed", must="1.2", ours="S-2")
async def crlf_lines(stage: Stage) -> str:
    peer, queue = await _subscribed(stage)
    await peer.send(f"SEND\r\ndestination:{queue}\r\nx-end:value\r\n\r\none\0".encode())
    message = await peer.message()
    if message.body != b"one" or message.get("x-end") != "value":
        raise Mismatch(f"{message} with x-end {message.get('x-end')!r}")
    return str(message)


@FRAMING.check(
    "STOMP Frames", "CONNECT may have lines that end in a carriage return and a line feed", must="1.2", ours="S-2"
)
async def crlf_in_connect(stage: Stage) -> str:
    lines = [f"{name}:{value}" for name, value in stage.connect_headers().items()]
    peer = await stage.open()
    await peer.send("\r\n".join(["CONNECT", *lines, "", "\0"]).encode())
    return str(await peer.expect("CONNECTED", lambda frame: frame.command == "CONNECTED"))


@FRAMING.check("STOMP Frames", "a frame may arrive byte by byte", must=_ALL, ours="S-44")
async def single_bytes(stage: Stage) -> str:
    peer, queue = await _subscribed(stage)
    for byte in encode(stage.version, "SEND", [("destination", queue)], b"one by one"):
        await peer.send(bytes([byte]))
        await trio.sleep(_PAUSE_SECONDS)
    return await _arrives(peer, b"one by one")


@FRAMING.check("STOMP Frames", "several frames may arrive at once", must=_ALL, ours="S-44")
async def frames_at_once(stage: Stage) -> str:
    peer, queue = await _subscribed(stage)
    bodies = [b"%d" % number for number in range(5)]
    await peer.send(b"".join(encode(stage.version, "SEND", [("destination", queue)], body) for body in bodies))
    for body in bodies:
        await _arrives(peer, body)
    return "5 messages"


@FRAMING.check(
    "Header content-length",
    "with content-length a body has so many bytes, NULs and whole frames included",
    must=_ALL,
    ours="S-3 S-31",
)
async def nuls_in_body(stage: Stage) -> str:
    peer, queue = await _subscribed(stage)
    body = b"a\0b\n\0\nSEND\ndestination:" + queue.encode() + b"\n\nno frame\0c"
    await peer.frame("SEND", {"destination": queue}, body)
    return await _arrives(peer, body)


@FRAMING.check("Header content-length", "without content-length the first NUL ends the body", must=_ALL, ours="S-3")
async def body_without_length(stage: Stage) -> str:
    peer, queue = await _subscribed(stage)
    await peer.send(raw("SEND", f"destination:{queue}", body=b"until here"))
    return await _arrives(peer, b"until here")


@FRAMING.check("Body", "a body may be empty", must=_ALL, ours="S-3")
async def empty_body(stage: Stage) -> str:
    peer, queue = await _subscribed(stage)
    await peer.send(raw("SEND", f"destination:{queue}"))
    message = await peer.message()
    if message.body:
        raise Mismatch(str(message))
    return "MESSAGE without a body"


@FRAMING.check("Body", "a body with every byte there is arrives as it was sent", must=_ALL, ours="S-31")
async def binary_body(stage: Stage) -> str:
    peer, queue = await _subscribed(stage)
    await peer.frame("SEND", {"destination": queue}, _BINARY)
    return await _arrives(peer, _BINARY)


@FRAMING.check("Body", "white space and line ends around a body belong to it", must=_ALL, ours="S-31")
async def padded_body(stage: Stage) -> str:
    peer, queue = await _subscribed(stage)
    await peer.frame("SEND", {"destination": queue}, b"\r\n\n  padded \n")
    return await _arrives(peer, b"\r\n\n  padded \n")


@FRAMING.check("Body", f"a body of {_LARGE_BYTES // 1024} KiB arrives whole", convention=_ALL, ours="S-10")
async def large_body(stage: Stage) -> str:
    peer, queue = await _subscribed(stage)
    body = _BINARY * (_LARGE_BYTES // len(_BINARY))
    await peer.frame("SEND", {"destination": queue}, body)
    return await _arrives(peer, body)


@FRAMING.check(
    "Header content-length", "MESSAGE with a body has content-length", should=_LATER, convention="1.0", ours="S-31"
)
async def message_has_length(stage: Stage) -> str:
    peer, queue = await _subscribed(stage)
    await stage.put(peer, queue, b"some")
    length = (await peer.message()).get("content-length")
    if length is None:
        raise Mismatch("no content-length")
    return f"content-length:{length}"


@FRAMING.check(
    "Header content-length", "a body that goes on after its content-length is refused", should=_ALL, ours="S-3"
)
async def body_over_length(stage: Stage) -> str:
    peer = await stage.connect()
    wrong = raw("SEND", f"destination:{stage.queue()}", "content-length:3", "receipt:long", body=b"four")
    return str(await stage.refused(peer, wrong))


@FRAMING.check("Header content-length", "a content-length that is no number is refused", convention=_ALL, ours="S-3")
async def length_is_a_number(stage: Stage) -> str:
    peer = await stage.connect()
    wrong = raw("SEND", f"destination:{stage.queue()}", "content-length:four", "receipt:no-number", body=b"four")
    return str(await stage.refused(peer, wrong))


@FRAMING.check("Body", "a frame that may not have a body is refused with one", should=_LATER, ours="S-4")
async def forbidden_body(stage: Stage) -> str:
    peer = await stage.connect()
    wrong = raw("BEGIN", "transaction:t", "content-length:4", "receipt:body", body=b"body")
    return str(await stage.refused(peer, wrong))


@FRAMING.check("SUBSCRIBE", "the body of SUBSCRIBE is ignored", must="1.0", ours="S-4")
async def ignored_body(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await peer.send(raw("SUBSCRIBE", f"destination:{queue}", "receipt:subscribed", body=b"ignored"))
    await peer.receipt("subscribed", "SUBSCRIBE with a body")
    await stage.put(peer, queue, b"one")
    return await _arrives(peer, b"one")


@FRAMING.check(
    "STOMP Frames",
    "commands are case sensitive: what says send is not carried out",
    must=_LATER,
    convention="1.0",
    ours="S-17",
)
async def lower_case_command(stage: Stage) -> str:
    peer, queue = await _subscribed(stage)
    return await _not_carried_out(peer, raw("send", f"destination:{queue}", body=b"small"))


@FRAMING.check(
    "STOMP Frames",
    "names of headers are case sensitive: Destination is not destination",
    must=_LATER,
    convention="1.0",
    ours="S-18",
)
async def upper_case_header(stage: Stage) -> str:
    peer, queue = await _subscribed(stage)
    return await _not_carried_out(peer, raw("SEND", f"Destination:{queue}", body=b"large"))


async def _not_carried_out(peer: Peer, wrong: bytes) -> str:
    """Write what must not become a MESSAGE: the broker may answer with something else, or close, or ignore it."""
    await peer.send(wrong)
    frames, end = await peer.quiet_or_end()
    for came in frames:
        if came.command == "MESSAGE":
            raise Mismatch(str(came))
    return ", ".join(map(str, frames if end is None else [*frames, end])) or "ignored"


@FRAMING.check("Augmented BNF", "a header line without a colon is refused", convention=_ALL, ours="S-1")
async def header_without_colon(stage: Stage) -> str:
    peer = await stage.connect()
    return str(await stage.refused(peer, raw("SEND", f"destination:{stage.queue()}", "receipt:colon", "no colon here")))


@FRAMING.check("Client Frames", "an unknown command is refused", convention=_ALL, ours="S-17")
async def unknown_command(stage: Stage) -> str:
    peer = await stage.connect()
    return str(await stage.refused(peer, raw("PUBLISH", f"destination:{stage.queue()}", "receipt:unknown")))
