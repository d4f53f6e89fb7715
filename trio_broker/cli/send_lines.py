"""What ``trio-broker send`` sends: messages that it makes itself, and the lines of standard input."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from typing import Final, final

import click
import trio

from trio_broker.cli.terminal import why
from trio_broker.errors import MessageTooLarge

__all__ = ["Lines", "generate"]

_READ_BYTES: Final = 65_536
_STDIN: Final = 0


@final
class Lines:
    """The lines of standard input.

    They are read in a thread, straight from the file descriptor: a thread that a signal leaves behind in this read
    holds no lock that Python needs in order to end.
    """

    def __init__(self, line_bytes_max: int) -> None:
        self._line_bytes_max = line_bytes_max
        self._pieces: list[bytes] = []  # of a line whose end has not come yet
        self._pieces_bytes = 0
        self._ended = False

    async def read(self) -> list[bytes]:
        """Wait for lines and return them, without their newlines; none at the end."""
        await trio.lowlevel.checkpoint()
        while not self._ended:
            try:
                data = await trio.to_thread.run_sync(os.read, _STDIN, _READ_BYTES, abandon_on_cancel=True)
            except OSError as error:
                raise click.ClickException(f"cannot read standard input: {why(error)}") from None
            *lines, rest = data.split(b"\n")
            if lines:
                lines[0] = self._take() + lines[0]
            self._pieces.append(rest)
            self._pieces_bytes += len(rest)
            if self._pieces_bytes > self._line_bytes_max:
                raise MessageTooLarge(self._pieces_bytes, self._line_bytes_max)
            if not data:
                self._ended = True
                last = self._take()
                return [last] if last else []
            if lines:
                return lines
        return []

    def _take(self) -> bytes:
        line = b"".join(self._pieces)
        self._pieces.clear()
        self._pieces_bytes = 0
        return line


def generate(identity: str, size_bytes: int) -> Iterable[bytes]:
    """Messages without end: so many X each, or numbered texts for 0 bytes."""
    if size_bytes:
        return itertools.repeat(b"X" * size_bytes)
    return (f"Msg {number} from {identity}".encode() for number in itertools.count())
