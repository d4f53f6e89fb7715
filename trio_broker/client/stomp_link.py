"""One STOMP connection of a client: a task that reads, one that writes, and who waits for what comes.

Theory of operation:
    *Two tasks, one direction each.* `Link.read` alone reads, and gives what came to whom it is for, without waiting for
    anybody. `Link.write` alone writes, see `Outgoing`.

    *What comes is bounded.* Messages wait in their subscription until the program takes them. What the program does
    not acknowledge is bounded by the broker, which stops at what it has prefetched; all else by not reading while it
    is over its mark. Then receipts are not read either, for one connection is one stream.

    *An end is told once and for all*, as an `Ending`: to whoever waits now, and to whoever comes later.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Protocol, final

import trio

from trio_broker.client.checking import check_heart_beat
from trio_broker.client.stomp_ending import Ending, refusal
from trio_broker.client.stomp_message import check_channel, checked_message
from trio_broker.client.stomp_outgoing import Outgoing
from trio_broker.client.stomp_publishing import Receipt
from trio_broker.client.stomp_unconfirmed import Unconfirmed, complaint
from trio_broker.errors import ProtocolViolation
from trio_broker.limits import MESSAGE_COST, Limits
from trio_broker.message import Message
from trio_broker.wire import stomp_client as wire
from trio_broker.wire.stomp_heartbeat import NO_HEART_BEAT, offer_of

__all__ = ["RECEIVE_BYTES", "Inbox", "Link", "cost_of"]

RECEIVE_BYTES = 65_536
_SILENCE = 2  # times what was agreed on: a server that beats may be late


class Inbox(Protocol):
    """Where messages that come are put."""

    def put(self, received: wire.Received) -> None:
        """This has come."""
        ...

    def end(self) -> None:
        """Nothing more will come."""
        ...


@final
class Link:
    """A conversation with a STOMP server.

    Args:
        limits: as for `connect`.
        heart_beat_seconds: as for `connect`.
        end_is_loss: an end of the connection in order is to be told as a loss.

    Attributes:
        session: what makes frames.
        outgoing: where they go.
        inboxes: who is to get messages, by the name of the subscription.
        ending: why nothing more is accepted or given, once that is so.
        ended: whether it is so, for whoever waits for that.
        cause: the same, if it was not our doing.
        numbers: for the names of receipts, subscriptions and so on: none is used twice.
    """

    def __init__(self, limits: Limits, heart_beat_seconds: float | None, *, end_is_loss: bool = False) -> None:
        check_heart_beat(heart_beat_seconds)
        offer = NO_HEART_BEAT if heart_beat_seconds is None else offer_of(heart_beat_seconds)
        self.limits = limits
        self.end_is_loss = end_is_loss
        self.session = wire.StompClientSession(limits, heart_beat=offer)
        self._relief = trio.lowlevel.ParkingLot()  # where the reader waits while too much is held
        self.outgoing = Outgoing(limits, self._relief)
        self.inboxes: dict[str, Inbox] = {}
        self.ending: Ending | None = None
        self.ended = trio.Event()
        self.cause: Ending | None = None
        self.numbers = itertools.count(1)
        self._receipts: dict[str, Receipt] = {}
        self._missing: list[Receipt] = []  # those that did not come
        self._unconfirmed = Unconfirmed()
        self._told = False  # an error of this link was raised somewhere
        self._held = {True: 0, False: 0}  # cost of messages not taken yet: those to be settled, and all others
        self._silence_seconds = math.inf
        self._is_broken = False  # nothing can be written any more
        self._over = trio.Event()  # the server is not heard any more
        self._writing = trio.CancelScope()

    # -- sending -------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise if nothing more can be sent."""
        if self.ending is not None:
            raise self.error()

    def error(self) -> Exception:
        """What to tell a caller, now that it is over."""
        ending = self.ending or Ending("closed", "this client was closed")
        self._told = True
        return ending.error()

    async def room(self) -> None:
        """Wait, in line, until there is room for a frame. Hand it over before the next checkpoint."""
        await self.outgoing.room()
        self.check()

    def check_channel(self, channel: str) -> None:
        """Raise if this cannot be a destination."""
        check_channel(channel, self.limits)

    def message(self, channel: str, body: bytes, headers: Mapping[str, str] | None) -> Message:
        """A message that may be sent, or an error that says why not."""
        return checked_message(self.session, self.limits, channel, body, headers)

    def send(self, message: Message, *, confirm: bool, counts: bool = True) -> Receipt:
        """Hand a message over. The receipt never comes if it was not asked for.

        Args:
            message: what to send.
            confirm: ask for a receipt.
            counts: leaving in order is to tell if it was not confirmed; not where its sender hears of that otherwise.
        """
        receipt_id = f"{next(self.numbers)}" if confirm else None
        self.outgoing.put(self.session.send(message, receipt=receipt_id), messages=1)
        if receipt_id is not None:
            return self._expect(receipt_id, self._unconfirmed.before(message.channel))
        if counts:
            self._unconfirmed.add(message.channel)
        return Receipt(self, 0)

    def expect(self) -> tuple[str, Receipt]:
        """A receipt to ask for with any frame but SEND, and its name."""
        receipt_id = f"{next(self.numbers)}"
        return receipt_id, self._expect(receipt_id, self._unconfirmed.before())

    def say(self, frame: bytes) -> None:
        """Hand over a frame that cannot wait. Nothing where nobody is there any more."""
        if self.ending is None:
            self.outgoing.put(frame, waited=False)

    # -- receiving -----------------------------------------------------------------------------------------------------

    def hold(self, cost: int, *, settles: bool) -> None:
        """A message waits for the program."""
        self._held[settles] += cost

    def let_go(self, cost: int, *, settles: bool) -> None:
        """It does not any more."""
        self._held[settles] -= cost
        self._relief.unpark_all()

    def take(self, data: bytes) -> bool:
        """What has come; whether more may."""
        try:
            for event in self.session.receive_data(data):
                self._dispatch(event)
            self.session.receive_data(b"")  # raises if that read ended in a violation
        except ProtocolViolation as violation:
            self.lose(Ending("violation", violation.reason))
        if not data:
            cut_off = self.session.receive_eof()
            self.lose(Ending("broken", cut_off) if cut_off else Ending("ended", "the server closed the connection"))
        return self.cause is None

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program's own tasks
    async def read(self, stream: trio.SocketStream) -> None:  # noqa: ASYNC910  a task, not a call
        """Read, and give what came to whom it is for, until the end."""
        try:
            while True:
                while self._holds_too_much():
                    await self._relief.park()
                data: bytes | None = None
                with trio.move_on_after(self._silence_seconds):
                    data = await stream.receive_some(RECEIVE_BYTES)
                if data is None:
                    self.lose(Ending("broken", f"the server was silent for {self._silence_seconds:g} s"))
                if data is None or not self.take(data):
                    break
        except trio.BrokenResourceError as error:
            self.lose(Ending("broken", f"the connection broke: {error}"))
        self._writing.cancel(reason="the server is not there any more")

    @trio.lowlevel.enable_ki_protection
    async def write(self, stream: trio.SocketStream) -> None:  # noqa: ASYNC910  as above
        """Write what is handed over, until the end."""
        try:
            with self._writing:
                await self.outgoing.write(stream)
        except trio.BrokenResourceError as error:
            ending = Ending("broken", f"the connection broke: {error}")
            self._is_broken = True
            self._relief.unpark_all()
            with trio.move_on_after(self.limits.farewell_seconds_max):
                await self._over.wait()  # the server may have said why
            self.lose(ending)

    # -- the end -------------------------------------------------------------------------------------------------------

    async def farewell(self) -> None:  # noqa: ASYNC910  it need not wait for a server that has gone
        """Accept nothing more, send what was handed over, and let the server confirm that it has dealt with it."""
        gone = self.ending is not None
        self.end(Ending("closed", "this client was closed"))
        if not gone:
            receipt_id, receipt = self.expect()
            receipt._waited_for = True
            self.outgoing.put(self.session.disconnect(receipt=receipt_id))
            with trio.move_on_after(self.limits.farewell_seconds_max):
                await receipt._over.wait()

    def lose(self, cause: Ending) -> None:
        """The server will not be heard any more."""
        self.cause = self.cause or cause
        self.end(cause)
        self.close()

    def end(self, ending: Ending) -> None:
        """Accept nothing more and give nothing more."""
        if self.ending is None:
            self.ending = ending
            self.ended.set()
            for inbox in [*self.inboxes.values()]:
                inbox.end()
            self.inboxes.clear()
        self.outgoing.end()
        self._relief.unpark_all()

    def close(self) -> None:
        """No receipt will come any more."""
        self.end(Ending("closed", "this client was closed"))
        for receipt in self._receipts.values():
            receipt._settle(come=False)
        self._missing += self._receipts.values()
        self._receipts.clear()
        self._over.set()

    def raise_what_was_lost(self) -> None:
        """After a farewell: raise if messages may be lost, or something was refused, and nobody has heard of it."""
        cause = self.cause
        if cause is not None and not cause.lost and not self._told:
            raise cause.error()
        unconfirmed = self._unconfirmed.count + sum(not receipt._waited_for for receipt in self._missing)
        if self.outgoing.unsent or unconfirmed:
            late = f"no confirmation within {self.limits.farewell_seconds_max:g} s"
            reason = late if cause is None else cause.reason
            raise trio.BrokenResourceError(f"{complaint(self.outgoing.unsent, unconfirmed)}: {reason}")

    def _expect(self, receipt_id: str, confirms: int) -> Receipt:
        receipt = self._receipts[receipt_id] = Receipt(self, confirms)
        self.outgoing.receipts_due = len(self._receipts)
        return receipt

    def _holds_too_much(self) -> bool:
        """Whether nothing more should be read for now."""
        if self.ending is not None or self._is_broken:  # what still comes of a connection that broke comes to an end
            return False
        return (
            self._held[False] >= self.limits.mailbox_bytes_max
            or self._held[True] >= self.limits.unsettled_bytes_max + self.limits.frame_bytes_max
            or self.outgoing.small_full
        )

    def _dispatch(self, event: wire.StompEvent) -> None:
        match event:
            case wire.Received():
                self._deliver(event)
            case wire.Receipt():
                receipt = self._receipts.pop(event.receipt_id, None)
                if receipt is not None:
                    receipt._settle(come=True)
                    self._unconfirmed.confirm(receipt._confirms)
                    self.outgoing.receipts_due = len(self._receipts)
                    self.outgoing.relieve()
            case wire.Connected():
                if event.heart_beat.sends_ms:
                    self.outgoing.promise(event.heart_beat.sends_ms / 1000)
                if event.heart_beat.expects_ms:
                    self._silence_seconds = event.heart_beat.expects_ms / 1000 * _SILENCE
            case _:
                self.lose(refusal(event))

    def _deliver(self, received: wire.Received) -> None:
        inbox = self.inboxes.get(received.subscription_id or "")
        if inbox is not None:
            inbox.put(received)
        elif received.ack_id is not None:  # it crossed our UNSUBSCRIBE
            self.say(self.session.nack(received))


def cost_of(message: Message) -> int:
    """What a message costs while it waits."""
    return len(message.body) + sum(len(name) + len(value) for name, value in message.headers.items()) + MESSAGE_COST
