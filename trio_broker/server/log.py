"""The server's log, which goes where the program wants it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["make_logger"]


def make_logger() -> FilteringBoundLogger:
    """A structlog front for the standard library's logger ``trio_broker``: the program decides what becomes of it."""
    standard = logging.getLogger("trio_broker")
    if not standard.handlers:
        standard.addHandler(logging.NullHandler())  # a program without logging gets none of ours on its stderr
    logger: FilteringBoundLogger = structlog.wrap_logger(
        standard,
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
    )
    return logger
