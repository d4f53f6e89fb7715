"""Limits refuse what makes no sense, and say which field it was."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from trio_broker.limits import BATCH_COST, MESSAGE_COST, Limits, Overflow

FIELDS = {field.name: field for field in dataclasses.fields(Limits)}
NUMBERS = [name for name in FIELDS if name != "overflow"]


def _with(name: str, value: Any) -> Limits:
    return Limits(**{name: value})


def test_the_defaults_are_valid() -> None:
    limits = Limits()
    assert limits == Limits()
    assert limits.frame_bytes_max == 2**24 - 1
    assert limits.channel_bytes_max == 255
    assert limits.overflow is Overflow.BLOCK


def test_one_may_be_changed_and_the_others_stay() -> None:
    assert Limits(frame_bytes_max=65_536) == dataclasses.replace(Limits(), frame_bytes_max=65_536)
    assert Limits(frame_bytes_max=65_536) != Limits()


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, -1, -0.5, -math.inf, math.nan])
def test_what_is_not_positive_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} is {value!r}; it must be more than 0"):
        _with(name, value)


@pytest.mark.parametrize("name", [name for name in NUMBERS if name.endswith("_seconds_max")])
def test_a_deadline_may_be_any_positive_time(name: str) -> None:
    for value in (0.001, 1e9, math.inf):
        assert getattr(_with(name, value), name) == value


def test_reads_cannot_have_a_largest_size_below_the_smallest() -> None:
    with pytest.raises(ValueError, match=r"read_bytes_max \(10\) is less than read_bytes_min \(11\)"):
        Limits(read_bytes_min=11, read_bytes_max=10)
    assert Limits(read_bytes_min=10, read_bytes_max=10).read_bytes_max == 10


def test_a_frame_cannot_be_larger_than_its_length_can_say() -> None:
    assert Limits(frame_bytes_max=2**32 - 1).frame_bytes_max == 2**32 - 1
    with pytest.raises(ValueError, match="frame_bytes_max is 4294967296; a frame's length has four bytes"):
        Limits(frame_bytes_max=2**32)


@pytest.mark.parametrize("policy", Overflow)
def test_an_overflow_policy_may_be_given_as_its_name(policy: Overflow) -> None:
    assert Limits(overflow=policy.value).overflow is policy  # type: ignore[arg-type]
    assert Limits(overflow=policy).overflow is policy


@pytest.mark.parametrize("value", ["", "BLOCK", "drop-oldest", "nothing", 0, None])
def test_another_overflow_policy_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=rf"overflow is {value!r}; allowed are block, drop_oldest, "):
        Limits(overflow=value)  # type: ignore[arg-type]


def test_limits_are_named_only_by_keyword_and_never_change() -> None:
    with pytest.raises(TypeError):
        Limits(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        _with("no_such_limit", 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().frame_bytes_max = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", FIELDS)
def test_every_limit_has_a_default_and_says_why(name: str) -> None:
    field = FIELDS[name]
    assert field.default is not dataclasses.MISSING
    assert field.metadata["why"].strip()


@pytest.mark.parametrize("name", NUMBERS)
def test_every_limit_has_its_unit_in_its_name(name: str) -> None:
    *_, unit, bound = name.split("_")
    assert bound in {"max", "min"}
    counted = {"connections", "channels", "deliveries", "headers", "messages", "subscriptions", "transactions"}
    assert unit in {"bytes", "seconds", *counted}


def test_costs_are_positive() -> None:
    assert 0 < MESSAGE_COST < BATCH_COST
