from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.explorer.faults import Fault
from trio_broker.explorer.plan import Cancel, FaultAt, Interrupt, Phase, Plan, Schedule

numbers = st.integers(0, 10**6)
schedules = st.one_of(
    st.just(Schedule()), st.builds(Schedule, seed=numbers), st.builds(Schedule, turn=numbers, by=numbers)
)
disturbances = st.one_of(
    st.none(),
    st.builds(Cancel, numbers, numbers, st.sampled_from(Phase), numbers, st.none() | numbers),
    st.builds(Interrupt, numbers),
    st.builds(FaultAt, numbers, st.sampled_from(Fault)),
)


@given(st.builds(Plan, schedules, disturbances))
def test_a_token_stands_for_its_plan(plan: Plan) -> None:
    assert Plan.parse(str(plan)) == plan


@pytest.mark.parametrize(
    ("token", "plan", "axis"),
    [
        ("spawn", Plan(), "schedule"),
        ("seed7", Plan(Schedule(seed=7)), "schedule"),
        ("turn3.1", Plan(Schedule(turn=3, by=1)), "schedule"),
        ("spawn/t2:14:after:0", Plan(Schedule(), Cancel(2, 14, Phase.AFTER, 0)), "cancel"),
        ("seed1/t2:14:before:1", Plan(Schedule(seed=1), Cancel(2, 14, Phase.BEFORE, 1)), "cancel"),
        ("spawn/t2:14:after:0+3", Plan(Schedule(), Cancel(2, 14, Phase.AFTER, 0, 3)), "second cancel"),
        ("spawn/int:20", Plan(Schedule(), Interrupt(20)), "interrupt"),
        ("spawn/io:4:reset", Plan(Schedule(), FaultAt(4, Fault.RESET)), "fault"),
    ],
)
def test_tokens_stay_what_they_are(token: str, plan: Plan, axis: str) -> None:
    assert str(plan) == token
    assert Plan.parse(token) == plan
    assert plan.axis == axis


@pytest.mark.parametrize("token", ["", "spwan", "seed", "seed-1", "turn3", "turn3.", "spawn7", " spawn", "/int:3"])
def test_a_bad_schedule_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match=r"is not a replay token: it starts with spawn, seedN or turnN\.N") as caught:
        Plan.parse(token)
    assert repr(token) in str(caught.value)


@pytest.mark.parametrize(
    "token",
    [
        "spawn/",
        "spawn/t1",
        "spawn/t1:2:during:0",
        "spawn/t1:2:after:0+",
        "seed3/int:",
        "seed3/int:x",
        "turn1.1/io:4",
        "turn1.1/io:4:flood",
        "spawn/int:1/int:2",
        "spawn/int:1 ",
    ],
)
def test_a_bad_disturbance_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="is not a replay token: after the slash comes") as caught:
        Plan.parse(token)
    assert repr(token) in str(caught.value)


def rounds(schedule: Schedule, sizes: list[int]) -> tuple[list[list[int]], list[int]]:
    """The order of each round, and the choices that were noted."""
    choices: list[int] = []
    order = schedule.begin(choices)
    batches = [list(range(size)) for size in sizes]
    for batch in batches:
        order(batch)  # type: ignore[arg-type]  # any items will do
    return batches, choices


SIZES = [3, 1, 8, 2, 1, 8]


def test_spawn_leaves_every_round_as_it_is() -> None:
    assert rounds(Schedule(), SIZES) == ([list(range(size)) for size in SIZES], [3, 8, 2, 8])


def test_a_seed_shuffles_every_round_the_same_way_each_time() -> None:
    first, choices = rounds(Schedule(seed=5), SIZES)
    assert rounds(Schedule(seed=5), SIZES) == (first, choices)
    assert choices == [3, 8, 2, 8]
    assert [sorted(batch) for batch in first] == [list(range(size)) for size in SIZES]
    assert first[2] != list(range(8))
    assert first[2] != first[5]
    assert rounds(Schedule(seed=6), SIZES)[0] != first


@given(st.integers(0, 5), st.integers(1, 7))
def test_a_turn_changes_one_round_that_leaves_a_choice(turn: int, by: int) -> None:
    batches, choices = rounds(Schedule(turn=turn, by=by), SIZES)
    assert choices == [3, 8, 2, 8]
    with_choice = [index for index, size in enumerate(SIZES) if size > 1]
    for index, (batch, size) in enumerate(zip(batches, SIZES, strict=True)):
        plain = list(range(size))
        if turn < len(with_choice) and index == with_choice[turn]:
            assert batch == [*plain[by:], *plain[:by]]
        else:
            assert batch == plain
