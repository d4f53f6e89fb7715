"""The head of a STOMP frame, which is all of it but the body, and frames on their way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, final

from trio_broker.errors import ProtocolViolation, shorten
from trio_broker.limits import Limits
from trio_broker.wire.stomp_versions import LITERAL_COMMANDS, Version

__all__ = ["Head", "encode_frame", "forbidden_body", "parse_decimal", "parse_head", "required"]

_DIGITS_MAX: Final = 18


@final
class Head:
    """A frame without its body.

    Attributes:
        command: what the frame is.
        headers: what it says; where a header is repeated the first counts (S-9).
        raw: the head as it came.
        length: of the body in bytes, where the frame says.
        meaning: what a session made of this head, so that it need not be judged again when it repeats.
    """

    __slots__ = ("command", "headers", "length", "meaning", "raw")

    def __init__(self, command: str, headers: dict[str, str], raw: bytes, length: int | None) -> None:
        self.command = command
        self.headers = headers
        self.raw = raw
        self.length = length
        self.meaning: Any = None


def parse_head(raw: bytes, version: Version, commands: Mapping[str, bool], limits: Limits) -> Head:
    """Parse a head and judge it (S-1 to S-10).

    Args:
        raw: from the command to the blank line.
        version: how it is to be read.
        commands: what may come, and whether that may have a body.
        limits: ``headers_max`` and ``frame_bytes_max`` are used.

    Raises:
        ProtocolViolation: it is none, or may not come.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        named = shorten(raw.decode(errors="backslashreplace"))
        raise ProtocolViolation(f"headers that are not UTF-8: {named}") from None
    lines = text.split("\n")
    literal = lines[0].removesuffix("\r") in LITERAL_COMMANDS
    if "\r" in text:
        lines = _without_returns(lines, version, literal)
    command = lines[0]
    body_allowed = commands.get(command)
    if body_allowed is None:
        allowed = ", ".join(commands)
        raise ProtocolViolation(f"{shorten(command)} is not a command that may come here; allowed are {allowed}")
    if len(lines) - 3 > limits.headers_max:
        raise ProtocolViolation(f"{len(lines) - 3} headers in one frame; at most {limits.headers_max} are allowed")
    headers = _parse_lines(lines[1:-2], version, "\\" in text and not literal)
    length = headers.get("content-length")
    return Head(command, headers, raw, None if length is None else _body_length(command, length, body_allowed, limits))


def _parse_lines(lines: list[str], version: Version, escaped: bool) -> dict[str, str]:
    """The headers that these lines are."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if version.padded:
            name, value = name.strip(" "), value.strip(" ")
        if not colon or not name:
            raise ProtocolViolation(f"a header line {shorten(line)}; a name, a colon and a value are required")
        if escaped:
            name, value = version.unescape(name), version.unescape(value)
        if name not in headers:
            headers[name] = value
    return headers


def _without_returns(lines: list[str], version: Version, literal: bool) -> list[str]:
    """The lines without the carriage returns that may end them (S-2)."""
    if not literal and not version.crlf:
        if lines[-2]:
            raise ProtocolViolation(
                f"a line that ends in a carriage return; in STOMP {version.name} lines end in a line feed alone"
            )
        return lines
    lines = [line.removesuffix("\r") for line in lines]
    if not literal and any("\r" in line for line in lines):
        raise ProtocolViolation("a carriage return inside a header; write it as \\r")
    return lines


def _body_length(command: str, value: str, body_allowed: bool, limits: Limits) -> int:
    """How long the body is that a head announces, if it may be so long (S-3, S-4, S-10)."""
    length = parse_decimal(value)
    if length is None:
        raise ProtocolViolation(f"content-length is {shorten(value)}; a decimal number of bytes is required")
    if length and not body_allowed:
        raise forbidden_body(command)
    if length > limits.frame_bytes_max:
        raise ProtocolViolation(f"a body of {length:,} bytes; at most {limits.frame_bytes_max:,} are allowed")
    return length


def required(head: Head, name: str) -> str:
    """A header that a frame must have (S-18). Raises `ProtocolViolation` if it has not."""
    value = head.headers.get(name)
    if value is None:
        raise ProtocolViolation(f"{head.command} without {name}; that header is required")
    return value


def encode_frame(
    version: Version, command: str, headers: Iterable[tuple[str, str]], body: bytes | None = None
) -> bytes:
    """A frame as a version writes it (S-1).

    Args:
        version: says how headers are escaped.
        command: what the frame is.
        headers: in this order. All must be such that `Version.can_write` them.
        body: None for none; else ``content-length`` is added.
    """
    write = "{}:{}\n".format if command in LITERAL_COMMANDS else version.write
    text = "".join([command, "\n", *(write(name, value) for name, value in headers)])
    if body is None:
        return f"{text}\n\0".encode()
    return b"%bcontent-length:%d\n\n%b\0" % (text.encode(), len(body), body)


def parse_decimal(text: str) -> int | None:
    """A number of decimal digits and nothing else, or None for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else None


def forbidden_body(command: str) -> ProtocolViolation:
    """The refusal of a body where none may be (S-4)."""
    return ProtocolViolation(f"a body in {command}; only SEND, MESSAGE and ERROR may have one")
