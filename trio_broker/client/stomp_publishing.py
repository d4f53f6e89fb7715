"""Sending in two steps: a permit, which is waited for, and a receipt, which may be."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, final

import trio

from trio_broker.errors import MessageTooLarge
from trio_broker.message import as_body

if TYPE_CHECKING:
    from trio_broker.client.stomp_link import Link

__all__ = ["Permit", "Receipt"]


@final
class Receipt:
    """The broker's word that it has dealt with something, when it comes. Made by `Permit.send`."""

    __slots__ = ("_come", "_confirms", "_link", "_over", "_waited_for")

    def __init__(self, link: Link, confirms: int) -> None:
        self._link = link
        self._confirms = confirms  # what its coming says of other messages, for `Unconfirmed.confirm`
        self._waited_for = False  # if it does not come somebody hears of it
        self._come = False
        self._over = trio.Event()  # nothing more is to be waited for

    async def confirmed(self) -> None:
        """Wait until the broker has confirmed. May be called again, and in several tasks.

        Raises:
            ServerRefused: the broker said no, to this or to something else.
            trio.BrokenResourceError: the connection ended before; whether the message was accepted is not known.
            trio.ClosedResourceError: the client's block was left before.

        Cancellation: atomic. Only the waiting ends; the confirmation can be waited for again. No deadline but the
        caller's. Always a checkpoint.
        """
        self._waited_for = True
        await self._over.wait()
        if not self._come:
            raise self._link.error()

    def _settle(self, come: bool) -> None:
        """It has come, or it never will."""
        self._come = come
        self._over.set()


@final
class Permit:
    """Room for one message. Made by `StompClient.reserve`. Send with it, or `release` it: it is kept until then.

    ::

        with await client.reserve() as permit:  # released at the end of the block, unless it was used
            permit.send("/queue/jobs", next_job())
    """

    __slots__ = ("_body_bytes_max", "_cost", "_link", "_open")

    def __init__(self, link: Link, body_bytes_max: int, cost: int) -> None:
        self._link = link
        self._body_bytes_max = body_bytes_max
        self._cost = cost
        self._open = True
        link.outgoing.reserve(cost)

    @trio.lowlevel.enable_ki_protection
    def send(self, channel: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> Receipt:
        """Hand a message over for sending, which uses the permit up.

        Args:
            channel: the name, as for `StompClient.publish`.
            body: the payload, at most as large as was reserved.
            headers: what goes with it, as for `StompClient.publish`.

        Returns:
            what to wait for if it matters whether the message was accepted.

        Raises:
            InvalidChannel, MessageTooLarge, ValueError: this message cannot be sent; the permit is still good.
            RuntimeError: the permit was used or released.
            ServerRefused, trio.BrokenResourceError, trio.ClosedResourceError: the connection is over.

        Cancellation: never; this is synchronous.
        """
        if not self._open:
            raise RuntimeError("a permit is good for one message, and this one was used or released")
        body = as_body(body, self._link.limits.frame_bytes_max)
        if len(body) > self._body_bytes_max:
            raise MessageTooLarge(len(body), self._body_bytes_max)
        message = self._link.message(channel, body, headers)
        self._link.check()
        receipt = self._link.send(message, confirm=True)
        self.release()
        return receipt

    @trio.lowlevel.enable_ki_protection
    def release(self) -> None:
        """Give the room back, if the permit was not used. Idempotent.

        Cancellation: never; this is synchronous.
        """
        if self._open:
            self._open = False
            self._link.outgoing.give_back(self._cost)

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
