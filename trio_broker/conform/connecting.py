"""Checks of how a conversation begins."""

from __future__ import annotations

import re
from typing import Final

from trio_broker.conform.check import Chapter, Mismatch, NotShown
from trio_broker.conform.frames import VERSIONS, encode
from trio_broker.conform.peer import End
from trio_broker.conform.stage import Stage

__all__ = ["CONNECTING"]

CONNECTING: Final = Chapter()

_ALL: Final = "1.0 1.1 1.2"
_SERVER: Final = re.compile(r"[^\s/]+(/[^\s/]+)?( .*)?")
_RAPID: Final = 20


@CONNECTING.check(
    "Connecting", "CONNECT is answered with CONNECTED, in the version that was offered", must=_ALL, ours="S-11 S-12"
)
async def connected(stage: Stage) -> str:
    _, frame = await stage.greet(stage.connect_headers())
    version = frame.get("version")
    if version != stage.version and not (version is None and stage.version == "1.0"):
        raise Mismatch(f"{frame}, without a version" if version is None else str(frame))
    return str(frame)


@CONNECTING.check("Protocol Negotiation", "CONNECT without accept-version means 1.0", must="1.0", ours="S-12")
async def no_accept_version(stage: Stage) -> str:
    headers = stage.connect_headers()
    del headers["accept-version"]
    _, frame = await stage.greet(headers)
    if frame.get("version") not in {None, "1.0"}:
        raise Mismatch(str(frame))
    return str(frame)


@CONNECTING.check(
    "Protocol Negotiation", "of several versions the highest that both know is spoken", must=_ALL, ours="S-12"
)
async def highest_version(stage: Stage) -> str:
    offered = [*VERSIONS[: VERSIONS.index(stage.version) + 1], "9.9"]
    return await _chosen(stage, ",".join(offered))


@CONNECTING.check(
    "Protocol Negotiation",
    "the highest common version is spoken in whatever order they are listed",
    convention=_ALL,
    ours="S-12",
)
async def highest_version_of_any_order(stage: Stage) -> str:
    offered = ["9.9", *reversed(VERSIONS[: VERSIONS.index(stage.version) + 1])]
    return await _chosen(stage, ",".join(offered))


async def _chosen(stage: Stage, offered: str) -> str:
    _, frame = await stage.greet(stage.connect_headers(offered))
    if (frame.get("version") or "1.0") != stage.version:
        raise Mismatch(f"{frame} for accept-version {offered}")
    return f"{frame} for {offered}"


@CONNECTING.check(
    "Protocol Negotiation",
    "without a common version there is an ERROR, and the connection is closed",
    must="1.2",
    ours="S-12 S-42",
)
async def no_common_version(stage: Stage) -> str:
    peer = await stage.open()
    error = await stage.refused_with_error(peer, _unknown_version(stage))
    return await stage.closed_after(peer, error)


@CONNECTING.check(
    "Protocol Negotiation",
    "the ERROR without a common version lists the broker's versions in its version header",
    should="1.2",
    ours="S-12",
)
async def no_common_version_lists(stage: Stage) -> str:
    peer = await stage.open()
    error = await stage.refused_with_error(peer, _unknown_version(stage))
    listed = error.get("version")
    if listed is None or stage.version not in {name.strip() for name in listed.split(",")}:
        raise Mismatch(f"{error} with version {listed!r}" if listed else f"{error} without a version header")
    return f"version:{listed}"


def _unknown_version(stage: Stage) -> bytes:
    return encode("1.2", "CONNECT", stage.connect_headers("9.9").items())


@CONNECTING.check("CONNECT or STOMP Frame", "STOMP connects as CONNECT does", must="1.2", should="1.1", ours="S-11")
async def stomp_frame(stage: Stage) -> str:
    _, frame = await stage.greet(stage.connect_headers(), command="STOMP")
    return str(frame)


@CONNECTING.check("Connecting", "a frame before CONNECT is refused", convention=_ALL, ours="S-11")
async def frame_before_connect(stage: Stage) -> str:
    peer = await stage.open()
    wrong = encode(stage.version, "SEND", {"destination": stage.queue(), "receipt": "early"}.items(), b"early")
    return str(await stage.refused(peer, wrong))


@CONNECTING.check("Connecting", "a second CONNECT is refused", convention=_ALL, ours="S-11")
async def second_connect(stage: Stage) -> str:
    peer = await stage.connect()
    return str(await stage.refused(peer, encode(stage.version, "CONNECT", stage.connect_headers().items())))


@CONNECTING.check(
    "Header receipt", "CONNECT, which may not ask for a receipt, is given none", convention=_ALL, ours="S-11"
)
async def no_receipt_for_connect(stage: Stage) -> str:
    headers = {**stage.connect_headers(), "receipt": "none"}
    peer = await stage.open()
    await peer.send(encode(stage.version, "CONNECT", headers.items()))
    frames, end = await peer.quiet_or_end()
    seen = ", ".join(map(str, frames if end is None else [*frames, end])) or "nothing"
    if any(frame.command == "RECEIPT" for frame in frames):
        raise Mismatch(seen)
    return seen


@CONNECTING.check("Value Encoding", "a backslash in CONNECT is no escape", should="1.1 1.2", ours="S-6")
async def no_escapes_in_connect(stage: Stage) -> str:
    _, frame = await stage.greet({**stage.connect_headers(), "x-note": "a\\tb"})
    return str(frame)


@CONNECTING.check(
    "CONNECTED Frame",
    "server, if it is there, is a name, perhaps a slash and a version, perhaps a comment",
    must="1.1 1.2",
    ours="S-14",
)
async def server_header(stage: Stage) -> str:
    _, frame = await stage.greet(stage.connect_headers())
    server = frame.get("server")
    if server is None:
        raise NotShown("no server header")
    if not _SERVER.fullmatch(server):
        raise Mismatch(f"server:{server}")
    return f"server:{server}"


@CONNECTING.check(
    "CONNECTED Frame", "session, if it is there, differs from one connection to the next", must="1.1 1.2", should="1.0"
)
async def session_header(stage: Stage) -> str:
    sessions = [(await stage.greet(stage.connect_headers()))[1].get("session") for _ in range(2)]
    if sessions == [None, None]:
        raise NotShown("no session header")
    if sessions[0] == sessions[1]:
        raise Mismatch(f"session:{sessions[0]} twice")
    return "two sessions"


@CONNECTING.check(
    "Connection Lingering",
    f"{_RAPID} clients that connect and leave at once do no harm",
    must="1.1 1.2",
    convention="1.0",
)
async def rapid_clients(stage: Stage) -> str:
    for _ in range(_RAPID):
        peer = await stage.open()
        await peer.send(encode(stage.version, "CONNECT", stage.connect_headers().items()))
        await peer.close()
    await stage.connect()
    return "the next one is served"


@CONNECTING.check(
    "Connecting",
    "where something else than STOMP is spoken there is an ERROR, or the connection is closed",
    convention="1.2",
    ours="S-17",
)
async def another_protocol(stage: Stage) -> str:
    peer = await stage.open()
    await peer.send(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n\0")
    peer.waiting = "an ERROR or the end"
    try:
        came = await peer.receive()
    except Mismatch as answer:  # in the other protocol's words, perhaps
        while await peer.data() is None:
            pass
        return f"{answer}; then the end"
    if not isinstance(came, End) and came.command != "ERROR":
        raise Mismatch(str(came))
    return str(came)
