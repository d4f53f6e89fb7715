"""What becomes of log records: one line each on stderr, for people or for machines.

The library logs to the standard library's logger ``trio_broker``; the event is the record's message and its key-values
are the record's extras. One handler renders them, and everybody else's records too.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Final, final

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["LOG_FORMATS", "LOG_LEVELS", "escape_control_characters", "set_up_logging"]

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMATS: Final = ("console", "json")

_REPEAT_SECONDS_MIN: Final = 1.0


def set_up_logging(level: str, form: str) -> None:
    """Send all records to stderr.

    Args:
        level: one of `LOG_LEVELS`, for the broker's own records; others' are shown from ``warning`` on.
        form: one of `LOG_FORMATS`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(form))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("trio_broker").setLevel(level.upper())
    logging.getLogger("trio.serve_listeners").addFilter(_Seldom())


def _formatter(form: str) -> structlog.stdlib.ProcessorFormatter:
    processors: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if form == "json":
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        stamp = structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False)
        colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        render = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
        processors += [escape_control_characters, render]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder(), stamp],
        processors=processors,
    )


def escape_control_characters(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A processor: what peers named or sent must not break a line, forge one, or move the terminal's cursor."""
    return {_escape(name): _escape(value) if isinstance(value, str) else value for name, value in event.items()}


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


@final
class _Seldom(logging.Filter):
    """One record a second, without its traceback, and how many were left out since the last.

    Trio complains ten times a second, each time with a traceback, for as long as there are no file descriptors.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return False
        self._next = now + _REPEAT_SECONDS_MIN
        record.exc_info = None
        if self._left_out:
            record.left_out = self._left_out
            self._left_out = 0
        return True
