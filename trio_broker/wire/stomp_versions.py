"""What differs between STOMP 1.0, 1.1 and 1.2: escapes, line ends, commands. docs/stomp.md numbers the clauses."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, final

from trio_broker.errors import ProtocolViolation, shorten

__all__ = ["CONNECT_COMMANDS", "LITERAL_COMMANDS", "V10", "V11", "V12", "VERSIONS", "Version", "version_of"]

CONNECT_COMMANDS: Final[Mapping[str, bool]] = MappingProxyType({"CONNECT": False, "STOMP": False})
"""What may come before a connection is made, and whether it may have a body (S-11)."""

LITERAL_COMMANDS: Final = frozenset({"CONNECT", "STOMP", "CONNECTED"})
"""Frames whose headers are written without escapes in every version (S-6)."""

_COMMANDS_10: Final = ("SEND", "SUBSCRIBE", "UNSUBSCRIBE", "BEGIN", "COMMIT", "ABORT", "ACK", "DISCONNECT")
_COMMANDS: Final = MappingProxyType({command: command == "SEND" for command in (*_COMMANDS_10, "NACK")})
_SPECIAL: Final = "\\:\n\r\0"
_ESCAPE: Final = re.compile(r"\\(.?)")


@final
@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Version:
    """One version of the protocol.

    Attributes:
        name: as in ``accept-version``.
        commands: what a client may send once it is connected, and whether that may have a body (S-4).
        escapes: what a character is written as in a header (S-5).
        crlf: a line may end in a carriage return and a line feed (S-2).
        padded: spaces around a header's name and value do not belong to it (S-8).
    """

    name: str
    commands: Mapping[str, bool]
    escapes: Mapping[str, str]
    crlf: bool = False
    padded: bool = False
    _table: dict[int, str] = dataclasses.field(init=False, repr=False)
    _characters: dict[str, str] = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_table", str.maketrans(dict(self.escapes)))
        object.__setattr__(self, "_characters", {escape[1]: character for character, escape in self.escapes.items()})

    def escape(self, text: str) -> str:
        """A header's name or value as this version writes it."""
        return text.translate(self._table)

    def unescape(self, text: str) -> str:
        """What a header's name or value stands for. Raises `ProtocolViolation` for an unknown escape (S-5)."""
        return _ESCAPE.sub(self._character, text) if self.escapes and "\\" in text else text

    def _character(self, match: re.Match[str]) -> str:
        character = self._characters.get(match[1])
        if character is None:
            allowed = " ".join(sorted(self.escapes.values()))
            raise ProtocolViolation(
                f"an unknown escape in {shorten(match.string)}; STOMP {self.name} has {allowed} and no others"
            )
        return character

    def can_write(self, name: str, value: str) -> bool:
        """Whether a header can be written in this version at all (S-7).

        None can have a NUL, at which many clients end a frame. A version without escapes has no line feeds, and one
        that pads would read a name with spaces around it as another.
        """
        if not name or "\0" in name or "\0" in value:
            return False
        if not self.escapes and ("\n" in name or "\n" in value or ":" in name):
            return False
        if self.padded and name != name.strip(" "):
            return False
        return _is_text(name) and _is_text(value)

    def write(self, name: str, value: str) -> str:
        """A header's line."""
        return f"{self.escape(name)}:{self.escape(value)}\n"

    def write_all(self, headers: Mapping[str, str]) -> bytes:
        """The lines of all headers that can be written (S-7)."""
        text = "".join([*headers, *headers.values()])
        if not self.padded and text.isascii() and not any(map(text.__contains__, _SPECIAL)) and "" not in headers:
            return "".join([f"{name}:{value}\n" for name, value in headers.items()]).encode()
        return "".join([self.write(*header) for header in headers.items() if self.can_write(*header)]).encode()


def _is_text(text: str) -> bool:
    """Whether this can be written in UTF-8: a lone surrogate cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


V10: Final = Version("1.0", MappingProxyType(dict.fromkeys(_COMMANDS_10, True)), MappingProxyType({}), padded=True)
V11: Final = Version("1.1", _COMMANDS, MappingProxyType({"\\": "\\\\", "\n": "\\n", ":": "\\c"}))
V12: Final = Version("1.2", _COMMANDS, MappingProxyType({**V11.escapes, "\r": "\\r"}), crlf=True)

VERSIONS: Final[Mapping[str, Version]] = MappingProxyType({version.name: version for version in (V10, V11, V12)})
"""All versions, the lowest first."""


def version_of(accept_version: str | None) -> Version | None:
    """The highest version in a client's list, or None if it names none of ours (S-12).

    Args:
        accept_version: names with commas between them; None for a client of 1.0, which has no such header.
    """
    if accept_version is None:
        return V10
    accepted = {name.strip() for name in accept_version.split(",")}
    common = [version for name, version in VERSIONS.items() if name in accepted]
    return common[-1] if common else None
