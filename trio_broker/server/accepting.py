"""What a server accepts, and from whom: listeners and streams whose closing cannot fail."""

from __future__ import annotations

from typing import Any, TypeAlias, final

import trio

from trio_broker.server.log import make_logger

__all__ = ["Accepted", "AnyListener", "Guarded"]

AnyListener: TypeAlias = trio.abc.Listener[Any]
"""A listener of any kind of stream."""


@final
class Accepted(trio.abc.AsyncResource):
    """A stream that was accepted, and whose closing cannot fail.

    The accept loop closes what it accepted once more after the connection has ended, outside of the connection's
    error boundary; a stream that fails there must not end the server.
    """

    __slots__ = ("stream",)

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream

    async def aclose(self) -> None:  # noqa: ASYNC910  the stream's own affair
        try:
            await self.stream.aclose()
        except Exception:  # noqa: BLE001  an error boundary as `Server._handle`'s, of which this is the rest
            make_logger().exception("a stream could not be closed")


@final
class Guarded(trio.abc.Listener[Accepted]):
    """A listener whose streams' closing cannot fail."""

    __slots__ = ("_listener",)

    def __init__(self, listener: AnyListener) -> None:
        self._listener = listener

    async def accept(self) -> Accepted:
        return Accepted(await self._listener.accept())

    async def aclose(self) -> None:
        await self._listener.aclose()
