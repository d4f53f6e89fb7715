"""Work that goes on with another connection when the one that it has is lost."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar, final

import trio

from trio_broker.client.stomp import StompClient
from trio_broker.client.stomp_opening import open_stomp
from trio_broker.errors import BrokerError
from trio_broker.limits import Limits

__all__ = ["BackOff", "run_reconnecting"]

T = TypeVar("T")


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """How long to wait before another attempt: each time twice as long, within bounds, less up to a half by chance.

    Chance keeps the clients of a broker that has restarted from all coming back in the same moment.

    Attributes:
        first_seconds: after the first failure.
        longest_seconds: at most. A connection that stood for as long as this makes a new beginning.
        failures_max: how many failures in a row are one too many; None for no end.
    """

    first_seconds: float = 0.1
    longest_seconds: float = 30.0
    failures_max: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.first_seconds <= self.longest_seconds:
            raise ValueError(
                f"first_seconds is {self.first_seconds!r} and longest_seconds {self.longest_seconds!r}; "
                "they must be more than 0, and the first not more than the longest"
            )
        if self.failures_max is not None and self.failures_max < 1:
            raise ValueError(f"failures_max is {self.failures_max}; at least 1 is required, or None")

    def delay_seconds(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        doublings = min(failures - 1, 64)  # beyond which the longest is reached from any sensible beginning
        longest = min(self.longest_seconds, self.first_seconds * 2.0**doublings)
        return longest * random.uniform(0.5, 1.0)


async def run_reconnecting(
    work: Callable[[StompClient], Awaitable[T]],
    host: str = "127.0.0.1",
    port: int = 25_000,
    *,
    limits: Limits | None = None,
    login: str | None = None,
    passcode: str | None = None,
    heart_beat_seconds: float | None = 10.0,
    back_off: BackOff | None = None,
) -> T:
    """Connect with STOMP and call ``work(client)``; if the connection is lost, wait, connect again, and call it again.

    ::

        async def consume(client):
            async with client.subscribe("/queue/jobs", ack="client-individual") as jobs:
                async for message in jobs:
                    async with message.process():
                        ...

        await trio_broker.run_reconnecting(consume, "127.0.0.1", 25000)

    Repeated are connecting, and ``work`` from its beginning, with a new client: its subscriptions are made again
    because it makes them again. Never repeated is anything that a client was asked to do: no message is sent twice, no
    request, acknowledgement or transaction. What was not confirmed when a connection was lost has happened or not, and
    ``work`` has to know what to do about that; what it had not acknowledged comes back, marked `Message.redelivered`.

    A loss is: the broker cannot be reached or does not answer (also at first), or closes the connection, or it breaks,
    or either side was silent for too long, as a program is that was suspended, *and* ``work`` raises
    `trio.BrokenResourceError` because of it, alone or in a group. Here the end of a connection in order is told so too,
    and does not end an ``async for``: when ``work`` returns it is done. Nothing else is caught: not an exception of
    another kind, not `ServerRefused`, which a new connection would hear again, and nothing that is raised after
    ``work`` has returned.

    Args:
        work: what to do with a connection.
        host, port, limits, login, passcode, heart_beat_seconds: as for `connect`.
        back_off: how long to wait between attempts.

    Returns:
        what ``work`` returns.

    Raises:
        The last loss, when there were ``failures_max`` in a row; all that `connect` and ``work`` raise otherwise.

    Cancellation: partial. Whatever is under way ends, the connection is closed, and nothing is tried again; what
    ``work`` had done is done. Deadlines: the caller's; ``handshake_seconds_max`` for each attempt, and once more for
    the server's answer. Always a checkpoint.
    """
    back_off = back_off or BackOff()
    failures = 0
    while True:
        began = math.inf
        client: StompClient | None = None
        returned = False
        try:
            async with open_stomp(
                host,
                port,
                limits=limits,
                login=login,
                passcode=passcode,
                heart_beat_seconds=heart_beat_seconds,
                end_is_loss=True,
            ) as client:
                began = trio.current_time()
                result = await work(client)
                returned = True
            return result
        except (OSError, trio.BrokenResourceError, BaseExceptionGroup) as error:  # noqa: ASYNC103  raised unless a loss
            if trio.current_time() - began >= back_off.longest_seconds:
                failures = 0
            failures += 1
            if returned or not _is_loss(client, error) or failures == back_off.failures_max:
                raise
        await trio.sleep(back_off.delay_seconds(failures))


def _is_loss(client: StompClient | None, error: BaseException) -> bool:
    """Whether this was raised because the connection was lost, or there was none."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_loss(client, inner) for inner in error.exceptions)
    if client is None:
        return isinstance(error, OSError | trio.BrokenResourceError) and not isinstance(error, BrokerError)
    broken = isinstance(error, trio.BrokenResourceError) and not isinstance(error, BrokerError)
    return broken and client._link.cause is not None and client._link.cause.lost
