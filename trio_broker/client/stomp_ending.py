"""Why a STOMP conversation is over, and what whoever waits in it is told."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias, final

import trio

from trio_broker.errors import ProtocolViolation, ServerRefused
from trio_broker.wire.stomp_client import ServerError
from trio_broker.wire.stomp_heartbeat import HEART_BEAT_MISSED

__all__ = ["Ending", "Kind", "refusal"]

Kind: TypeAlias = Literal["closed", "ended", "broken", "violation", "refused"]
"""We closed it; the server closed it in order; it broke; the server sent what it must not; the server sent ERROR."""


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """The end of a conversation.

    Attributes:
        kind: whose doing it was.
        reason: why, in one line.
        said: the server's ERROR, where it refused something.
    """

    kind: Kind
    reason: str
    said: ServerError | None = None

    @property
    def lost(self) -> bool:
        """Whether the connection went without anybody having done wrong: another may do better."""
        return self.kind in {"ended", "broken"}

    def error(self) -> Exception:
        """What to raise: a new one each time, since each has a traceback of its own."""
        if self.said is not None:
            return _refused(self.said)
        if self.kind == "violation":
            return ProtocolViolation(self.reason)
        if self.kind == "closed":
            return trio.ClosedResourceError(self.reason)
        return trio.BrokenResourceError(self.reason)


def refusal(said: ServerError) -> Ending:
    """The end that the server made with ERROR. One for our silence refuses nothing: the connection is lost."""
    if said.headers.get(HEART_BEAT_MISSED) == "true":
        return Ending("broken", str(_refused(said)))
    return Ending("refused", str(_refused(said)), said)


def _refused(said: ServerError) -> ServerRefused:
    return ServerRefused(said.message, said.detail.decode(errors="backslashreplace"), said.receipt_id)
