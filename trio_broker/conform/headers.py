"""Checks of how headers are written, read and passed on."""

from __future__ import annotations

from typing import Final

from trio_broker.conform.check import Chapter, Mismatch, NotShown
from trio_broker.conform.frames import Frame, raw
from trio_broker.conform.stage import Stage

__all__ = ["HEADERS"]

HEADERS: Final = Chapter()

_ALL: Final = "1.0 1.1 1.2"
_LATER: Final = "1.1 1.2"


async def _sent(stage: Stage, *lines: str) -> Frame:
    """What becomes of a message with these header lines."""
    peer, queue = await stage.connect(), stage.queue()
    await stage.subscribe(peer, queue)
    await peer.send(raw("SEND", f"destination:{queue}", *lines, body=b"body"))
    return await peer.message()


def _has(message: Frame, name: str, value: str) -> str:
    """Demand a header; the line for the report."""
    seen = message.get(name)
    if seen != value:
        names = {header for header, _ in message.headers}
        raise Mismatch(f"{name!r} is {seen!r}" if seen is not None else f"no {name!r} among {sorted(names)}")
    return f"{name!r} is {seen!r}"


@HEADERS.check("SEND", "a header of the user's is passed on in MESSAGE", must=_LATER, convention="1.0", ours="S-20")
async def user_header(stage: Stage) -> str:
    return _has(await _sent(stage, "x-user:a value"), "x-user", "a value")


@HEADERS.check(
    "Header content-type", "content-type is passed on in MESSAGE", should=_LATER, convention="1.0", ours="S-20"
)
async def content_type(stage: Stage) -> str:
    return _has(await _sent(stage, "content-type:text/plain"), "content-type", "text/plain")


@HEADERS.check(
    "Value Encoding",
    "the escapes of a line feed, a colon and a backslash are read and written",
    must=_LATER,
    ours="S-5",
)
async def escapes(stage: Stage) -> str:
    return _has(await _sent(stage, r"x-escaped:a\nb\cc\\d"), "x-escaped", "a\nb:c\\d")


@HEADERS.check("Value Encoding", "the escape of a carriage return is read and written", must="1.2", ours="S-5")
async def escaped_return(stage: Stage) -> str:
    return _has(await _sent(stage, r"x-escaped:a\rb"), "x-escaped", "a\rb")


@HEADERS.check(
    "Value Encoding",
    "escapes are read from left to right: an escaped backslash before an n is no line feed",
    must=_LATER,
    ours="S-5",
)
async def escaped_backslash(stage: Stage) -> str:
    return _has(await _sent(stage, r"x-escaped:a\\nb"), "x-escaped", "a\\nb")


@HEADERS.check("Value Encoding", "the names of headers have escapes too", must=_LATER, ours="S-5")
async def escaped_name(stage: Stage) -> str:
    return _has(await _sent(stage, r"x\cname:value"), "x:name", "value")


@HEADERS.check(
    "Value Encoding",
    "a header with escapes is read by a subscriber of another version",
    convention=_LATER,
    ours="S-5 S-7",
)
async def escapes_across_versions(stage: Stage) -> str:
    other = {"1.1": "1.2", "1.2": "1.1"}[stage.version]
    try:
        reader = await stage.connect(version=other)
    except Mismatch:
        raise NotShown(f"{other} is not spoken") from None
    queue = stage.queue()
    await stage.subscribe(reader, queue)
    peer = await stage.connect()
    await peer.send(raw("SEND", f"destination:{queue}", r"x-escaped:a\nb\cc\\d", body=b"body"))
    return f"in {other}: " + _has(await reader.message(), "x-escaped", "a\nb:c\\d")


@HEADERS.check("Value Encoding", "an undefined escape ends the conversation", must=_LATER, ours="S-5")
async def undefined_escape(stage: Stage) -> str:
    return await _fatal(stage, r"x-escaped:a\tb")


@HEADERS.check(
    "Value Encoding",
    "the escape of a carriage return, which begins with 1.2, ends the conversation",
    must="1.1",
    ours="S-5",
)
async def undefined_return(stage: Stage) -> str:
    return await _fatal(stage, r"x-escaped:a\rb")


@HEADERS.check("Value Encoding", "a backslash at the end of a value ends the conversation", must=_LATER, ours="S-5")
async def unfinished_escape(stage: Stage) -> str:
    return await _fatal(stage, "x-escaped:a\\")


async def _fatal(stage: Stage, line: str) -> str:
    peer = await stage.connect()
    wrong = raw("SEND", f"destination:{stage.queue()}", "receipt:fatal", line)
    return await stage.closed_after(peer, await stage.refused(peer, wrong))


@HEADERS.check("Receipt", "1.0 has no escapes: a backslash in receipt comes back as it is", must="1.0", ours="S-5")
async def no_escapes(stage: Stage) -> str:
    peer = await stage.connect()
    await peer.send(raw("SEND", f"destination:{stage.queue()}", r"receipt:C\temp\n"))
    receipt = await peer.expect("a RECEIPT", lambda frame: frame.command == "RECEIPT")
    return _has(receipt, "receipt-id", r"C\temp\n")


@HEADERS.check(
    "RECEIPT",
    "receipt comes back with the same characters, those with escapes and others",
    must=_LATER,
    ours="S-5 S-21",
)
async def receipt_characters(stage: Stage) -> str:
    peer = await stage.connect()
    await peer.send(raw("SEND", f"destination:{stage.queue()}", r"receipt:a\cb\\c\né"))
    receipt = await peer.expect("a RECEIPT", lambda frame: frame.command == "RECEIPT")
    return _has(receipt, "receipt-id", "a:b\\c\né")


@HEADERS.check("Value Encoding", "spaces at the ends of a value are kept", must=_LATER, ours="S-8")
async def spaces_of_value(stage: Stage) -> str:
    return _has(await _sent(stage, "x-padded:  value "), "x-padded", "  value ")


@HEADERS.check("Value Encoding", "spaces at the ends of a name are kept", must=_LATER, ours="S-8")
async def spaces_of_name(stage: Stage) -> str:
    return _has(await _sent(stage, " x-padded :value"), " x-padded ", "value")


@HEADERS.check(
    "Connecting",
    "a destination with a space before it, as in the examples of 1.0, is the one without",
    convention="1.0",
    ours="S-8",
)
async def padded_destination(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await stage.subscribe(peer, queue)
    await peer.send(raw("SEND", f"destination: {queue}", body=b"body"))
    return str(await peer.message())


@HEADERS.check(
    "Repeated Header Entries",
    "of a repeated header of the user's the first is the value",
    should=_LATER,
    convention="1.0",
    ours="S-9",
)
async def repeated_user_header(stage: Stage) -> str:
    return _has(await _sent(stage, "x-twice:first", "x-twice:second"), "x-twice", "first")


@HEADERS.check(
    "Repeated Header Entries",
    "of a repeated destination the first is the value",
    should=_LATER,
    convention="1.0",
    ours="S-9",
)
async def repeated_destination(stage: Stage) -> str:
    peer, first, second = await stage.connect(), stage.queue(), stage.queue()
    await stage.subscribe(peer, first, id="first")
    await stage.subscribe(peer, second, id="second")
    await peer.send(raw("SEND", f"destination:{first}", f"destination:{second}", body=b"body"))
    return _has(await peer.message(), "subscription", "first")


@HEADERS.check("Value Encoding", "names and values are UTF-8", must=_LATER, convention="1.0", ours="S-1")
async def utf8_header(stage: Stage) -> str:
    return _has(await _sent(stage, "x-größe:über 日本 🎈"), "x-größe", "über 日本 🎈")


@HEADERS.check("Augmented BNF", "a value may be empty", must=_LATER, ours="S-1")
async def empty_value(stage: Stage) -> str:
    return _has(await _sent(stage, "x-empty:"), "x-empty", "")


@HEADERS.check("SEND", "receipt and transaction of SEND are not passed on in MESSAGE", convention=_ALL, ours="S-20")
async def protocol_headers(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await stage.subscribe(peer, queue)
    await peer.receipted("BEGIN", {"transaction": "t"})
    await peer.frame("SEND", {"destination": queue, "transaction": "t", "receipt": "passed-on"}, b"body")
    await peer.frame("COMMIT", {"transaction": "t"})
    message = await peer.message()
    passed = [name for name in ("receipt", "transaction") if message.get(name) is not None]
    if passed:
        raise Mismatch(f"MESSAGE with {' and '.join(passed)}")
    return "neither"


@HEADERS.check("Augmented BNF", "MESSAGE and RECEIPT are written without a fault", must=_ALL, ours="S-1 S-5")
async def grammar(stage: Stage) -> str:
    peer, queue = await stage.connect(), stage.queue()
    await stage.subscribe(peer, queue, ack="client")
    colon = ":" if stage.version == "1.0" else "\\c"
    await peer.send(raw("SEND", f"destination:{queue}", "receipt:r-1", f"x-user:a{colon}b", body=b"body"))
    for frame in (await peer.receipt("r-1"), await peer.message()):
        if frame.faults:
            raise Mismatch(f"{frame.command}: {frame.faults[0]}")
    return "no fault"
