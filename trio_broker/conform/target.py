"""The broker under test: where it is, and what has to be known of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import final

import trio

__all__ = ["Target"]


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A STOMP broker.

    Attributes:
        open_stream: makes a connection to it.
        vhost: sent as ``host``.
        login: sent with CONNECT; None for no such header.
        passcode: the same.
        queue_prefix: makes a destination one that gives each message to one subscription.
        topic_prefix: makes a destination one that gives each message to every subscription.
        check_seconds_max: a check that has not ended by then has failed.
        quiet_seconds: when nothing came for so long, nothing comes.
        close_seconds: how long a broker may take to close a connection that it has to close.
    """

    open_stream: Callable[[], Awaitable[trio.abc.Stream]]
    vhost: str = "localhost"
    login: str | None = None
    passcode: str | None = None
    queue_prefix: str = "/queue/"
    topic_prefix: str = "/topic/"
    check_seconds_max: float = 10.0
    quiet_seconds: float = 0.5
    close_seconds: float = 2.0
