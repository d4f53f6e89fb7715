"""The tree of errors, its fields and its texts."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import re
from collections.abc import Callable

import pytest
import trio

from trio_broker import errors
from trio_broker.errors import (
    BrokerDraining,
    BrokerError,
    InvalidChannel,
    LimitReached,
    MessageTooLarge,
    NotOutstanding,
    ProtocolViolation,
    PublishStalled,
    ServerRefused,
    SubscriptionEvicted,
    shorten,
)

CASES: list[tuple[BrokerError, str, dict[str, object]]] = [
    (InvalidChannel("", "it is empty"), "channel '': it is empty", {"name": "", "reason": "it is empty"}),
    (
        MessageTooLarge(1_000_001, 1_000_000),
        "a payload of 1,000,001 bytes; at most 1,000,000 are allowed",
        {"size_bytes": 1_000_001, "allowed_bytes": 1_000_000},
    ),
    (
        LimitReached("channels_max", 16_384),
        "the limit channels_max (16,384) is reached",
        {"limit": "channels_max", "allowed": 16_384},
    ),
    (
        NotOutstanding(1_000, "was never made"),
        "delivery 1,000 was never made",
        {"number": 1_000, "reason": "was never made"},
    ),
    (BrokerDraining(), "the broker is draining: nothing new is accepted", {}),
    (
        PublishStalled("/queue/a", 60.0),
        "'/queue/a' took no message for 60 s",
        {"channel": "/queue/a", "waited_seconds": 60.0, "limit": None},
    ),
    (
        PublishStalled("/queue/a", 60.0, "memory_bytes_max"),
        "'/queue/a' took no message for 60 s: the limit memory_bytes_max is reached",
        {"channel": "/queue/a", "waited_seconds": 60.0, "limit": "memory_bytes_max"},
    ),
    (
        SubscriptionEvicted("/topic/a", "it was slow"),
        "evicted from '/topic/a': it was slow",
        {"channel": "/topic/a", "reason": "it was slow"},
    ),
    (
        ServerRefused("wrong passcode", "Ask\nAnn.", "7"),
        "the server said: 'wrong passcode': 'Ask\\nAnn.'",
        {"message": "wrong passcode", "detail": "Ask\nAnn.", "receipt_id": "7"},
    ),
    (ProtocolViolation("an empty name"), "an empty name", {"reason": "an empty name"}),
]


def _pickled(error: BrokerError, protocol: int) -> BrokerError:
    """As it comes out of another process."""
    remade: BrokerError = pickle.loads(pickle.dumps(error, protocol))
    return remade


def classes() -> dict[str, type[BaseException]]:
    """All exceptions that the module makes."""
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == errors.__name__
    }


def bases_outside(error: type[BaseException]) -> list[str]:
    """Its bases that are not ours, as people write them."""
    return [
        base.__name__ if base.__module__ == "builtins" else f"trio.{base.__name__}"
        for base in error.__bases__
        if not issubclass(base, BrokerError) and base is not Exception
    ]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"[├└]── (\w+) +\w[^(\n]*?(?: +\(also an? ([\w.]+)\))?$", errors.__doc__, re.MULTILINE)
    assert re.search(r"^    BrokerError$", errors.__doc__, re.MULTILINE)
    leaves = {name: error for name, error in classes().items() if error is not BrokerError}
    assert [name for name, _ in drawn] == [name for name in vars(errors) if name in leaves]  # in the same order
    for name, also in drawn:
        assert leaves[name].__bases__[0] is BrokerError
        assert bases_outside(leaves[name]) == ([also] if also else [])


def test_the_door_lists_every_error() -> None:
    assert sorted(classes()) == errors.__all__


def test_every_error_has_a_case_here() -> None:
    assert {type(error) for error, _, _ in CASES} == set(classes().values()) - {BrokerError}


@pytest.mark.parametrize(("error", "text", "fields"), CASES, ids=[type(case[0]).__name__ for case in CASES])
def test_text_for_people_and_fields_for_programs(error: BrokerError, text: str, fields: dict[str, object]) -> None:
    assert str(error) == text
    assert vars(error) == fields
    assert "\n" not in str(error)


@pytest.mark.parametrize("error", [case[0] for case in CASES], ids=[type(case[0]).__name__ for case in CASES])
def test_every_field_is_documented(error: BrokerError) -> None:
    documented = re.findall(r"^    (\w+): ", inspect.getdoc(type(error)) or "", re.MULTILINE)
    assert documented == list(vars(error))


def test_a_caller_of_trio_needs_no_new_except_clause() -> None:
    with pytest.raises(trio.BrokenResourceError):
        raise SubscriptionEvicted("/topic/a", "it was slow")
    with pytest.raises(ValueError, match="channel"):
        raise InvalidChannel("", "it is empty")


@pytest.mark.parametrize(
    "error",
    [InvalidChannel("n\n" * 500, "x"), PublishStalled("n\n" * 500, 1), SubscriptionEvicted("n\n" * 500, "x")],
    ids=lambda error: type(error).__name__,
)
def test_a_name_from_outside_cannot_forge_or_flood_a_log(error: BrokerError) -> None:
    assert str(error).isprintable()
    assert len(str(error)) < 200


@pytest.mark.parametrize(
    ("message", "detail", "said"),
    [
        ("no", "", "'no'"),
        ("no", "no; yes is allowed", "'no; yes is allowed'"),
        ("no", "no", "'no'"),
        ("no", "never", "'no': 'never'"),
        ("", "never", "'never'"),
        ("", "", "''"),
    ],
)
def test_what_a_server_says_is_told_once(message: str, detail: str, said: str) -> None:
    assert str(ServerRefused(message, detail)) == f"the server said: {said}"


class Theirs(BrokerError):
    """An error that a program makes of ours."""

    def __init__(self, *, fact: int) -> None:
        super().__init__("a text")
        self.fact = fact


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, *(functools.partial(_pickled, protocol=each) for each in (0, 2, 5))]
)
def test_every_error_can_be_pickled_and_copied(again: Callable[[BrokerError], BrokerError]) -> None:
    for error in (*(case[0] for case in CASES), Theirs(fact=1)):
        error.add_note("noted")
        copied = again(error)
        assert copied is not error
        assert (type(copied), str(copied), vars(copied)) == (type(error), str(error), vars(error))
        del error.__notes__


def test_shorten() -> None:
    assert shorten("abc") == "'abc'"
    assert shorten("a\x1bc") == r"'a\x1bc'"
    assert shorten("a" * 80) == repr("a" * 80)
    assert shorten("a" * 81) == repr("a" * 79 + "…")
    assert shorten("abcdef", 4) == "'abc…'"
