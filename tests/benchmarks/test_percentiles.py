import pytest

from benchmarks.harness.percentiles import Spread, paired_ratios, percentiles_of_sorted, spread


def test_nearest_rank_on_a_hundred_values() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentiles_of_sorted(values, [50, 99, 100, 0.5, 0]) == [50, 99, 100, 1, 1]


def test_three_nines_of_41_000_is_a_whole_rank_although_floats_say_a_little_more() -> None:
    values = [float(number) for number in range(1, 41_001)]
    assert percentiles_of_sorted(values, [99.9]) == [40_959]


def test_one_value_is_every_percentile() -> None:
    assert percentiles_of_sorted([7.0], [0.1, 50, 99.9]) == [7, 7, 7]


def test_no_values_have_no_percentiles() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentiles_of_sorted([], [50])


def test_spread_has_the_ends() -> None:
    assert spread([3.0, 1.0, 2.0, 9.0, 4.0]) == Spread(3.0, 1.0, 9.0)


def test_ratios_are_taken_round_by_round() -> None:
    # The machine was twice as slow in the second round, for both.
    assert paired_ratios([10.0, 5.0], [5.0, 2.5]) == [2.0, 2.0]


def test_rounds_that_do_not_match_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_ratios([1.0, 2.0], [1.0])
