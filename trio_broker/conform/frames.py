"""Frames as the suite writes and reads them, judged by the specification and by nothing of the broker's own code.

What a broker writes is read in two degrees. What leaves no frame to speak of raises `Malformed`. What can be read, and
still breaks the grammar, is noted in `Frame.faults`, so that one slip of a broker fails the checks that are about it
and not all of them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Final, final

from trio_broker.errors import shorten

__all__ = ["VERSIONS", "Frame", "FrameReader", "Malformed", "encode", "escape", "raw"]

VERSIONS: Final = ("1.0", "1.1", "1.2")
"""The versions that can be checked, the lowest first."""

_SERVER_COMMANDS: Final = ("CONNECTED", "MESSAGE", "RECEIPT", "ERROR")
_BODILESS: Final = ("CONNECTED", "RECEIPT")
_LITERAL: Final = ("CONNECT", "STOMP", "CONNECTED")
_ESCAPES: Final[Mapping[str, Mapping[str, str]]] = {
    "1.0": {},
    "1.1": {"\\": "\\\\", "\n": "\\n", ":": "\\c"},
    "1.2": {"\\": "\\\\", "\n": "\\n", ":": "\\c", "\r": "\\r"},
}
_ESCAPE: Final = re.compile(r"\\(.?)", re.DOTALL)
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_HEAD_BYTES_MAX: Final = 65_536
_BODY_BYTES_MAX: Final = 16 * 1024 * 1024


class Malformed(Exception):
    """What came is no frame. The text says why."""


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """A frame that a broker sent.

    Attributes:
        command: what the frame is.
        headers: names and values in their order, without escapes.
        body: as it came.
        faults: where it breaks the grammar and can be read all the same.
    """

    command: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    faults: tuple[str, ...] = ()

    def get(self, name: str) -> str | None:
        """The first header of this name, or None."""
        return next((value for header, value in self.headers if header == name), None)

    def __str__(self) -> str:
        text = {
            "ERROR": self.get("message") or self.body.decode(errors="replace"),
            "RECEIPT": self.get("receipt-id"),
            "CONNECTED": self.get("version"),
            "MESSAGE": self.body[:100].decode(errors="backslashreplace"),
        }[self.command]
        return self.command if text is None else f"{self.command} {shorten(' '.join(text.split()), 60)}"


@final
class FrameReader:
    """Cuts a broker's bytes into frames.

    Attributes:
        version: how heads are to be read.
        beats: line ends that came between frames.
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self.beats = 0
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> None:
        """Take bytes in the order in which they came."""
        self._buffer += data

    @property
    def unfinished(self) -> bool:
        """Whether a frame has begun and not ended."""
        self._skip_line_ends()
        return bool(self._buffer)

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None until more bytes came. Raises `Malformed`."""
        self._skip_line_ends()
        match = _BLANK_LINE.search(self._buffer)
        if b"\0" in self._buffer[: match.start() if match else len(self._buffer)]:
            raise Malformed(f"a NUL before the blank line that ends the headers: {_show(self._buffer)}")
        if match is None or match.start() > _HEAD_BYTES_MAX:
            if len(self._buffer) > _HEAD_BYTES_MAX:
                raise Malformed(f"no end of the headers within {_HEAD_BYTES_MAX:,} bytes: {_show(self._buffer)}")
            return None
        command, headers, faults = _read_head(bytes(self._buffer[: match.start()]), self.version)
        length = _content_length(headers)
        start = match.end()
        end = self._buffer.find(b"\0", start) if length is None else start + length
        if end < 0 or end >= len(self._buffer):
            if len(self._buffer) - start > _BODY_BYTES_MAX:
                raise Malformed(f"no end of the body within {_BODY_BYTES_MAX:,} bytes")
            return None
        if self._buffer[end]:
            raise Malformed(f"{command} with content-length {length}, and no NUL after so many bytes")
        body = bytes(self._buffer[start:end])
        del self._buffer[: end + 1]
        if body and command in _BODILESS:
            faults.append(f"{command} with a body of {len(body)} bytes")
        return Frame(command, tuple(headers), body, tuple(faults))

    def _skip_line_ends(self) -> None:
        kept = self._buffer.lstrip(b"\r\n")
        self.beats += self._buffer.count(b"\n", 0, len(self._buffer) - len(kept))
        del self._buffer[: len(self._buffer) - len(kept)]


def _read_head(raw: bytes, version: str) -> tuple[str, list[tuple[str, str]], list[str]]:
    """The command, the headers, and what is wrong with them."""
    try:
        lines = raw.decode().split("\n")
    except UnicodeDecodeError:
        raise Malformed(f"headers that are not UTF-8: {_show(raw)}") from None
    faults = []
    if any(line.endswith("\r") for line in lines):
        if version != "1.2":
            faults.append(f"lines that end in CR LF, which begin with 1.2: {_show(raw)}")
        lines = [line.removesuffix("\r") for line in lines]
    command = lines[0]
    if command not in _SERVER_COMMANDS:
        raise Malformed(f"{shorten(command, 40)} is no frame of a server")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name:
            raise Malformed(f"{command} with a header line {shorten(line, 40)}")
        if version == "1.0":
            name, value = name.strip(" "), value.strip(" ")
        elif command not in _LITERAL:
            faults += _faults_of_value(name, value, version)
            name, value = _unescape(name, version), _unescape(value, version)
        headers.append((name, value))
    return command, headers, faults


def _faults_of_value(name: str, value: str, version: str) -> list[str]:
    """What 1.1 and 1.2 do not let stand in a header as it is."""
    faults = []
    if ":" in value:
        faults.append(f"a colon without an escape in {shorten(f'{name}:{value}', 40)}")
    if "\r" in f"{name}{value}" and version == "1.2":
        faults.append(f"a carriage return without an escape in {shorten(f'{name}:{value}', 40)}")
    known = {written[1] for written in _ESCAPES[version].values()}
    if any(character not in known for text in (name, value) for character in _ESCAPE.findall(text)):
        faults.append(f"an undefined escape in {shorten(f'{name}:{value}', 40)}")
    return faults


def _unescape(text: str, version: str) -> str:
    """What the escapes stand for; an undefined one stays as it is."""
    characters = {written[1]: character for character, written in _ESCAPES[version].items()}
    return _ESCAPE.sub(lambda match: characters.get(match[1], match[0]), text)


def _content_length(headers: Iterable[tuple[str, str]]) -> int | None:
    value = next((value for name, value in headers if name == "content-length"), None)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise Malformed(f"content-length is {shorten(value, 40)}")
    if int(value) > _BODY_BYTES_MAX:
        raise Malformed(f"content-length is {shorten(value, 40)}; the suite reads up to {_BODY_BYTES_MAX:,} bytes")
    return int(value)


def escape(text: str, version: str) -> str:
    """A header's name or value as a version writes it."""
    return "".join(_ESCAPES[version].get(character, character) for character in text)


def encode(version: str, command: str, headers: Iterable[tuple[str, str]], body: bytes | None = None) -> bytes:
    """A well-formed frame.

    Args:
        version: says how headers are escaped.
        command: what the frame is.
        headers: names and values in this order.
        body: None for none; else ``content-length`` is added.
    """
    literal = command in _LITERAL
    lines = [command]
    for name, value in headers:
        lines.append(f"{name}:{value}" if literal else f"{escape(name, version)}:{escape(value, version)}")
    if body is not None:
        lines.append(f"content-length:{len(body)}")
    return "\n".join([*lines, "", ""]).encode() + (body or b"") + b"\0"


def raw(*lines: str, body: bytes = b"") -> bytes:
    """Lines, a blank line, a body and a NUL, whatever they may mean."""
    return "\n".join([*lines, "", ""]).encode() + body + b"\0"


def _show(raw: bytes | bytearray) -> str:
    return shorten(bytes(raw[:200]).decode(errors="backslashreplace"), 60)
