"""The headers of messages: names that are not free, and headers that cannot be changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn, final

__all__ = ["NO_HEADERS", "OWN_HEADERS", "SharedHeaders", "check_headers"]

OWN_HEADERS: Final = frozenset({
    "ack", "content-length", "destination", "dropped-before", "message-id", "receipt", "redelivered", "subscription",
    "transaction",
})  # fmt: skip
"""What STOMP says with headers of its own, on the way to the broker or from it. It would hide a message's."""


@final
class SharedHeaders(dict[str, str]):
    """Headers that several messages have, so that nobody may change them. ``dict(headers)`` is a copy that one may."""

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("the headers of a message cannot be changed; dict(headers) makes a copy that can be")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[SharedHeaders], tuple[dict[str, str]]]:
        return SharedHeaders, (dict(self),)


NO_HEADERS: Final = SharedHeaders()


def check_headers(headers: Mapping[str, str]) -> None:
    """Whether a message can have these headers. What a message that was received has always can.

    Raises:
        TypeError: a name or a value is not a string.
        ValueError: among the names are some that STOMP uses itself.
    """
    for name, value in headers.items():
        for each in (name, value):
            if not isinstance(each, str):
                raise TypeError(f"the header {name!r}: {value!r} is not of strings alone; names and values are str")
    taken = OWN_HEADERS.intersection(headers)
    if taken:
        raise ValueError(f"headers cannot contain {', '.join(sorted(taken))}, which STOMP uses itself")
