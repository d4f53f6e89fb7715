"""Heart-beats: something is sent when nothing else was for a while, and a peer that is silent for too long is ended.

Two tasks of a connection, only where its peer asked for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, final

import trio

from trio_broker.wire.stomp import HEART_BEAT, HeartBeat

if TYPE_CHECKING:
    from trio_broker.server.dialect import Conversation

__all__ = ["Beating"]

_MARGIN: Final = 2
"""How many times the agreed time a peer may be silent: what it sent in time may arrive late."""

_LOOKS: Final = 2
"""How often in the agreed time it is asked whether something was sent: so the time between two sends is not more, but
for what the machine is late."""


@final
class Beating:
    """One connection's heart-beats.

    Args:
        agreed: what holds for the server.
        conversation: the connection's.
        give_up: called with the reason when the peer was silent for too long.
    """

    __slots__ = ("_agreed", "_conversation", "_give_up", "_heard_at", "_scopes")

    def __init__(self, agreed: HeartBeat, conversation: Conversation, give_up: Callable[[str], None]) -> None:
        self._agreed = agreed
        self._conversation = conversation
        self._give_up = give_up
        self._heard_at = trio.current_time()
        self._scopes: list[trio.CancelScope] = []  # one for each task

    def start(self) -> None:
        """Begin, in the connection's nursery."""
        if self._agreed.sends_ms:
            self._begin(self._send)
        if self._agreed.expects_ms:
            self._begin(self._expect)

    def hear(self) -> None:
        """The peer sent something."""
        self._heard_at = trio.current_time()

    def stop(self) -> None:
        """End."""
        for scope in self._scopes:
            scope.cancel(reason="nothing is read from the peer any more")

    def _begin(self, direction: Callable[[], Awaitable[None]]) -> None:
        scope = trio.CancelScope()
        self._scopes.append(scope)
        self._conversation.tasks.start_soon(self._run, scope, direction)

    @trio.lowlevel.enable_ki_protection  # as the reader, whose task is the server's
    async def _run(self, scope: trio.CancelScope, direction: Callable[[], Awaitable[None]]) -> None:
        with scope:
            await direction()

    async def _send(self) -> None:
        """Send a heart-beat whenever nothing else was sent (S-16)."""
        speaker = self._conversation.speaker
        while True:
            writes = speaker.writes
            await trio.sleep(self._agreed.sends_ms / 1000 / _LOOKS)
            if speaker.writes == writes and not speaker.is_writing:  # what is being written is as good
                speaker.outbox.put_control(HEART_BEAT)

    async def _expect(self) -> None:
        """End a peer that is silent for too long. While nothing is read from it, it is not judged."""
        patience_seconds = self._agreed.expects_ms / 1000 * _MARGIN
        while True:
            await trio.sleep_until(self._heard_at + patience_seconds)
            if not self._conversation.is_reading():
                self.hear()
            elif trio.current_time() >= self._heard_at + patience_seconds:
                self._give_up(
                    f"nothing came for {patience_seconds:g} s; a heart-beat was promised every "
                    f"{self._agreed.expects_ms:,} ms"
                )
                return
