"""What can go wrong, as one tree.

::

    BrokerError
    ├── InvalidChannel            you: the name of a channel is not one            (also a ValueError)
    ├── MessageTooLarge           you: a payload over the limit                    (also a ValueError)
    ├── LimitReached              not now: a limit is used up, of the broker or a client
    ├── BrokerDraining            not now, nor later: the broker is on its way out
    ├── PublishStalled            they: the channel took nothing for too long
    ├── NotOutstanding            you: settled what is not to be settled
    ├── SubscriptionEvicted       you: a subscription that did not keep up         (also a trio.BrokenResourceError)
    ├── ServerRefused             you, or not now: the server ended the connection (also a trio.BrokenResourceError)
    └── ProtocolViolation         they: the peer sent what the protocol forbids

Facts are in fields, so that a program can decide on them; the text is for people. Broken and closed transports are
Trio's own errors: ``trio.BrokenResourceError``, ``trio.ClosedResourceError``, ``trio.EndOfChannel``.
"""

from __future__ import annotations

import trio

__all__ = [
    "BrokerDraining",
    "BrokerError",
    "InvalidChannel",
    "LimitReached",
    "MessageTooLarge",
    "NotOutstanding",
    "ProtocolViolation",
    "PublishStalled",
    "ServerRefused",
    "SubscriptionEvicted",
]


class BrokerError(Exception):
    """The root of everything this package raises of its own. Each can be pickled and copied, with its facts."""

    def __reduce__(self) -> tuple[object, ...]:
        return _remake, (type(self), self.args), vars(self)


class InvalidChannel(BrokerError, ValueError):
    """The name of a channel is not one.

    Attributes:
        name: the name that was given.
        reason: what is wrong with it, and what is allowed.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"channel {shorten(name)}: {reason}")
        self.name = name
        self.reason = reason


class MessageTooLarge(BrokerError, ValueError):
    """A payload is larger than a frame may be.

    Attributes:
        size_bytes: how large it is.
        allowed_bytes: how large it may be.
    """

    def __init__(self, size_bytes: int, allowed_bytes: int) -> None:
        super().__init__(f"a payload of {size_bytes:,} bytes; at most {allowed_bytes:,} are allowed")
        self.size_bytes = size_bytes
        self.allowed_bytes = allowed_bytes


class LimitReached(BrokerError):
    """A limit is used up, of the broker, or of the client that was asked; nothing was changed.

    Attributes:
        limit: the field's name in `Limits`.
        allowed: its value.
    """

    def __init__(self, limit: str, allowed: float) -> None:
        super().__init__(f"the limit {limit} ({allowed:,}) is reached")
        self.limit = limit
        self.allowed = allowed


class BrokerDraining(BrokerError):
    """The broker is ending: the message was not accepted and has reached nobody."""

    def __init__(self) -> None:
        super().__init__("the broker is draining: nothing new is accepted")


class PublishStalled(BrokerError):
    """A message waited for its channel and the channel took nothing in all that time. It has reached nobody.

    Attributes:
        channel: the channel's name.
        waited_seconds: how long nothing moved.
        limit: the field's name in `Limits`, if one kept it out that is not the channel's own.
    """

    def __init__(self, channel: str, waited_seconds: float, limit: str | None = None) -> None:
        why = "" if limit is None else f": the limit {limit} is reached"
        super().__init__(f"{shorten(channel)} took no message for {waited_seconds:g} s{why}")
        self.channel = channel
        self.waited_seconds = waited_seconds
        self.limit = limit


class NotOutstanding(BrokerError):
    """An acknowledgement names a delivery that is not to be settled; nothing was changed.

    Attributes:
        number: of the delivery, as the acknowledgement has it.
        reason: what is wrong with it.
    """

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"delivery {number:,} {reason}")
        self.number = number
        self.reason = reason


class SubscriptionEvicted(BrokerError, trio.BrokenResourceError):
    """The broker ended this subscription because its owner did not keep up.

    Attributes:
        channel: the channel's name.
        reason: which rule it broke.
    """

    def __init__(self, channel: str, reason: str) -> None:
        super().__init__(f"evicted from {shorten(channel)}: {reason}")
        self.channel = channel
        self.reason = reason


class ServerRefused(BrokerError, trio.BrokenResourceError):
    """The server ended a STOMP connection with ERROR, and says why.

    Attributes:
        message: why, in short, in the server's words.
        detail: why, at length; may be empty.
        receipt_id: of the frame that was at fault, if the server says.
    """

    def __init__(self, message: str, detail: str = "", receipt_id: str | None = None) -> None:
        said = shorten(detail, 400) if detail else shorten(message)
        if detail and not detail.startswith(message):  # else it says that, too
            said = f"{shorten(message)}: {said}"
        super().__init__(f"the server said: {said}")
        self.message = message
        self.detail = detail
        self.receipt_id = receipt_id


class ProtocolViolation(BrokerError):
    """The peer sent what the protocol forbids; the conversation is over.

    Attributes:
        reason: what was wrong and what is allowed.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _remake(kind: type[BrokerError], args: tuple[object, ...]) -> BrokerError:
    """An error with this text, whatever its ``__init__`` takes; its facts come after."""
    return kind.__new__(kind, *args)


def shorten(text: str, limit: int = 80) -> str:
    """A name that came from outside, quoted and cut so that it cannot forge or flood a line of a log."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
