"""Before a benchmark's clock starts: every subscription is known to be in place, and nothing else is on the way.

The framed protocol tells nobody that a subscription has begun, so only a message that has come through proves it. What
is sent for that must all have arrived before the first message counts.
"""

from __future__ import annotations

import dataclasses
from typing import Final, final

import click
import trio

from trio_broker.cli.bench_measure import Work
from trio_broker.errors import ProtocolViolation
from trio_broker.limits import Limits
from trio_broker.message import Message
from trio_broker.wire import FramedClientSession

__all__ = ["LoadFailed", "Member", "Probe"]

_PROBE_SECONDS: Final = 0.02  # between two rounds
_READ_BYTES: Final = 65_536


class LoadFailed(click.ClickException):
    """The work could not even begin."""


@final
@dataclasses.dataclass(slots=True, eq=False)
class Member:
    """A subscriber.

    Attributes:
        label: what it is called.
        stream: its connection.
        probes: how many probes it has received.
        closed: it has received the probe after which none comes.
        bytes: what it has received since the clock started.
        seconds: when it received the last of these, after the start.
    """

    label: str
    stream: trio.abc.Stream
    probes: int = 0
    closed: bool = False
    bytes: int = 0
    seconds: float = 0.0


@final
class Probe:
    """Small messages until every subscriber has had one, and then until all that were sent have arrived.

    On a topic, messages of one publisher arrive in order: when the last probe is there, all are. On a queue, which
    loses none, they are counted.
    """

    def __init__(self, work: Work, members: list[Member], limits: Limits) -> None:
        self.done = False  # every subscription is in place, and no probe is on the way
        self._work = work
        self._members = members
        self._limits = limits
        self._sent = 0
        self._failure: str | None = None
        self._scope = trio.CancelScope()
        self._news = trio.lowlevel.ParkingLot()
        self._probe, self._last = work.run + b"?", work.run + b"."

    async def carry_out(self, publisher: trio.abc.Stream) -> None:
        """Send probes from one publisher until `done`.

        Raises:
            LoadFailed: a connection ended, or the channel has messages of somebody else.

        Cancellation: partial. Probes may be on the way; the connections are good for nothing but to be closed.
        """
        with self._scope:
            await self._exchange(publisher)
        if self._failure is not None:
            raise LoadFailed(self._failure)

    async def _exchange(self, publisher: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            for member in self._members:
                nursery.start_soon(self._receive, member)
            while not all(member.probes for member in self._members):
                # A queue deals them out one by one.
                await self._send(publisher, self._probe, len(self._members) if self._work.shared else 1)
                with trio.move_on_after(_PROBE_SECONDS):
                    await trio.lowlevel.checkpoint()
                    while not all(member.probes for member in self._members):
                        await self._news.park()
            if not self._work.shared:
                await self._send(publisher, self._last, 1)
            while not self._all_arrived():
                await self._news.park()
            self.done = self._failure is None
            nursery.cancel_scope.cancel(reason="every subscription is in place")

    def state(self) -> str:
        """What is still waited for."""
        silent = sum(not member.probes for member in self._members)
        if len(self._members) < self._work.subscribers or not self._sent:
            return f"only {len(self._members):,} of {self._work.subscribers:,} subscribers were connected"
        if silent:
            return f"{silent:,} of {self._work.subscribers:,} subscribers had not received any message"
        return "not all messages had arrived that were sent to try the way"

    def _all_arrived(self) -> bool:
        if self._work.shared:
            return sum(member.probes for member in self._members) == self._sent
        return all(member.closed for member in self._members)

    async def _send(self, publisher: trio.abc.Stream, body: bytes, count: int) -> None:
        message = FramedClientSession(None, self._limits).encode(Message(self._work.channel, body))
        self._sent += count
        try:
            await publisher.send_all(message * count)
        except trio.BrokenResourceError:
            self._refuse("the broker disconnected publisher 1 before the start")
            await trio.lowlevel.checkpoint()

    async def _receive(self, member: Member) -> None:
        session = FramedClientSession(self._work.channel, self._limits)
        await trio.lowlevel.checkpoint()
        while not member.closed:
            try:
                data = bytes(await member.stream.receive_some(_READ_BYTES))
                bodies = session.receive_data(data)
            except (trio.BrokenResourceError, ProtocolViolation) as error:
                self._refuse(f"{member.label} failed before the start: {error}")
                return
            if not data:
                self._refuse(f"the broker disconnected {member.label} before the start")
                return
            for body in bodies:
                if body not in {self._probe, self._last}:
                    self._refuse(f"somebody else's messages are in {self._work.channel}")
                    return
                member.probes += 1
                member.closed = body == self._last
            self._news.unpark_all()

    def _refuse(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._scope.cancel(reason=reason)
