"""How the broker of these tests reads a client's bytes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

Flawed = Callable[[str], bool]

_ESCAPES = {"1.0": {}, "1.1": {"\\": "\\", "n": "\n", "c": ":"}, "1.2": {"\\": "\\", "n": "\n", "c": ":", "r": "\r"}}


@dataclasses.dataclass
class Request:
    command: str
    headers: dict[str, str]
    body: bytes


class Wrong(Exception):
    """What a client did wrong. A broker with the flaw of this kind takes it."""

    def __init__(self, kind: str, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.headers = headers or {}
        self.receipt: str | None = None


def cut(buffer: bytes, version: str, flawed: Flawed) -> tuple[Request | None, bytes]:
    """The first request in these bytes, or None, and what follows it."""
    if not flawed("stumbles over line ends"):
        buffer = buffer.lstrip(b"\n" if flawed("stumbles over carriage returns") else b"\r\n")
    crlf = version in {"", "1.2"} and not flawed("no CR LF")
    match = re.search(rb"\n\r?\n" if crlf else rb"\n\n", buffer)
    if match is None or (flawed("needs whole reads") and not buffer.endswith(b"\0")):
        if flawed("needs whole reads") and version:
            raise Wrong("", "half a frame")
        return None, buffer
    head, rest = buffer[: match.start()], buffer[match.end() :]
    lines = head.decode().split("\n")
    if crlf:
        lines = [line.removesuffix("\r") for line in lines]
    command = lines[0].upper() if flawed("commands in any case") else lines[0]
    headers, wrong = read_headers(lines[1:], version, command, flawed)
    length = headers.get("content-length")
    end = rest.find(b"\0")
    if length is not None and length.isdigit() and not flawed("stops at NUL"):
        end = int(length)
    elif length is not None and not length.isdigit():
        wrong = Wrong("takes any content-length", "content-length is a number")
    if end < 0 or len(rest) <= end:
        return None, buffer
    if flawed("needs a content-length") and command == "SEND" and length is None:
        wrong = Wrong("", "content-length is missing")
    if rest[end]:
        wrong = Wrong("takes longer bodies", "the body goes on")
        end = rest.find(b"\0", end)
    request = Request(command, headers, rest[:end])
    if request.body and command != "SEND" and (version != "1.0" or flawed("never ignores a body")):
        wrong = Wrong("takes any body", "a body where none may be")
    if wrong is not None:
        wrong.receipt = headers.get("receipt")
        raise wrong
    rest = rest[end + 1 :]
    return request, b"" if flawed("one frame a read") else rest


def read_headers(lines: list[str], version: str, command: str, flawed: Flawed) -> tuple[dict[str, str], Wrong | None]:
    """The headers, and what is wrong with the last line that is."""
    headers: dict[str, str] = {}
    wrong = None
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            wrong = Wrong("takes lines without a colon", "a line without a colon")
        literal = command in {"CONNECT", "STOMP"} and not flawed("escapes in CONNECT")
        try:
            if not literal:
                name, value = unescape(name, version or "1.2", flawed), unescape(value, version or "1.2", flawed)
        except Wrong as error:
            wrong = error
        if (version == "1.0" and not flawed("pads nothing")) or flawed("trims headers"):
            name, value = name.strip(), value.strip()
        if flawed("headers in any case"):
            name = name.lower()
        if flawed("ASCII alone"):
            name, value = (text.encode("ascii", "replace").decode() for text in (name, value))
        if name in headers and not flawed("the last header wins"):
            continue
        if value or not flawed("drops empty headers"):
            headers[name] = value
    return headers, wrong


def unescape(text: str, version: str, flawed: Flawed) -> str:
    known = _ESCAPES["1.2" if flawed("the escapes of 1.2 always") else version]
    if version == "1.0" and not flawed("the escapes of 1.2 always"):
        return text
    if flawed("reads no escapes"):
        return text
    if flawed("escapes one after the other"):
        for written, character in (("n", "\n"), ("c", ":"), ("r", "\r"), ("\\", "\\")):
            text = text.replace("\\" + written, character)
        return text

    def replace(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise Wrong("takes any escape", "an undefined escape")
        return known[match[1]]

    return re.sub(r"\\(.?)", replace, text)
