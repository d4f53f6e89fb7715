"""Types of options, the options that commands share, and every limit as an option."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import click

from trio_broker.errors import InvalidChannel
from trio_broker.limits import Limits, Overflow
from trio_broker.message import validate_channel

__all__ = [
    "CLIENT_LIMITS",
    "POSITIVE_SECONDS",
    "SECONDS",
    "SIZE",
    "TEXT_A_LINE",
    "bad_value",
    "check_channel",
    "limit_options",
    "make_limits",
    "option",
]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

CLIENT_LIMITS: Final = ("frame_bytes_max", "channel_bytes_max")
"""The limits that a listener and a sender have too: they must allow what their broker allows."""

# click's newer versions make ParamType generic; its older ones do not.
if TYPE_CHECKING:
    _IntegerType = click.ParamType[int]
    _FloatType = click.ParamType[float]
else:
    _IntegerType = _FloatType = click.ParamType

_UNITS: Final = {"GIB": 1024**3, "MIB": 1024**2, "KIB": 1024, "B": 1, "": 1}
_SIZE: Final = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB|)", re.IGNORECASE | re.ASCII)


@final
class _Size(_IntegerType):
    """Bytes: a plain integer, or one with a unit, as in ``64KiB``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a size; write bytes, or a whole number of KiB, MiB or GiB: 64KiB", param, ctx)
        return int(match[1]) * _UNITS[match[2].upper()]


@final
class _Seconds(_FloatType):
    """A time of at least 0 seconds, or of more than 0, with or without an end."""

    name = "seconds"

    def __init__(self, *, positive: bool = False, endless: bool = False) -> None:
        self._positive = positive
        self._endless = endless

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if self._positive and seconds <= 0:
            self.fail(f"it must be more than 0 seconds, not {value}", param, ctx)
        if not seconds >= 0 or (math.isinf(seconds) and not self._endless):
            allowed = "more than 0" if self._positive else "0 or more"
            self.fail(f"{value!r} is not a number of seconds, {allowed}", param, ctx)
        return seconds


@final
class _TextALine(click.types.StringParamType):
    """A text. In the environment each line is one, so that there can be spaces in it."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return [line for line in rv.split("\n") if line]


SIZE: Final = _Size()
SECONDS: Final = _Seconds()
POSITIVE_SECONDS: Final = _Seconds(positive=True)
TEXT_A_LINE: Final = _TextALine()
_LIMIT_SECONDS: Final = _Seconds(positive=True, endless=True)


def option(*declarations: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    """`click.option`, whose help shows the default and the name in the environment."""
    attributes.setdefault("show_default", True)
    return click.option(*declarations, show_envvar=True, **attributes)


def limit_options(*names: str) -> Callable[[Decorated], Decorated]:
    """Offer limits as options, with the default, the unit and the reason that stand beside each in `Limits`.

    Args:
        names: fields of `Limits`; none for all.
    """

    def decorate(function: Decorated) -> Decorated:
        for field in reversed(dataclasses.fields(Limits)):
            if not names or field.name in names:
                function = _limit_option(field)(function)
        return function

    return decorate


def make_limits(values: Mapping[str, Any]) -> Limits:
    """The limits that were given as options. Raises `click.UsageError` if they are none."""
    try:
        return Limits(**values)
    except ValueError as error:
        text = str(error)
        for field in sorted(dataclasses.fields(Limits), key=lambda field: -len(field.name)):
            text = text.replace(field.name, _option_name(field.name))
        raise click.UsageError(text, click.get_current_context()) from None


def bad_value(name: str, text: str) -> click.BadParameter:
    """What to raise for a value that an option or an argument of this name cannot have."""
    return click.BadParameter(text, ctx=click.get_current_context(), param_hint=f"'{name}'")


def check_channel(name: str, option_name: str, limits: Limits) -> None:
    """Raise `click.BadParameter` unless this can be a channel's name."""
    try:
        validate_channel(name, limits.channel_bytes_max)
    except InvalidChannel as error:
        raise bad_value(option_name, str(error)) from None


def _limit_option(field: dataclasses.Field[Any]) -> Callable[[Decorated], Decorated]:
    default: Any = field.default
    kind: click.ParamType[Any]
    if isinstance(default, Overflow):
        kind = click.Choice([policy.value for policy in Overflow])
        default = default.value
    elif isinstance(default, float):
        kind = _LIMIT_SECONDS
        default = f"{default:g}"
    elif "_bytes_" in field.name:
        kind = SIZE
        default = _show_size(default)
    else:
        kind = click.IntRange(min=1)
    why = str(field.metadata["why"])
    return option(
        _option_name(field.name),
        type=kind,
        default=default,
        metavar=None
        if isinstance(kind, click.Choice)
        else ("N" if isinstance(kind, click.IntRange) else kind.name.upper()),
        help=f"{why[0].upper()}{why[1:]}.",
    )


def _option_name(field_name: str) -> str:
    return "--" + field_name.replace("_", "-")


def _show_size(size_bytes: int) -> str:
    """As a person writes it: the largest unit that leaves no remainder."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)
