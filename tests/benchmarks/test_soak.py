"""What counts as growth under a flood that does not end."""

import pytest

from benchmarks.soak import GRAIN, find_growth, parse_arguments

LEVEL = [100 * GRAIN] * 100


def test_a_level_memory_has_not_grown_whatever_the_warm_up_did() -> None:
    assert find_growth(LEVEL) is None
    assert find_growth([500 * GRAIN] * 10 + LEVEL[10:]) is None
    assert find_growth([GRAIN] * 10 + LEVEL[10:]) is None


@pytest.mark.parametrize("place", [20, 60, 99])
def test_one_look_above_the_allowance_is_growth(place: int) -> None:
    looks = list(LEVEL)
    looks[place] = 106 * GRAIN
    assert find_growth(looks) is None
    looks[place] = 107 * GRAIN
    growth = find_growth(looks)
    assert growth is not None
    assert "107.0 MiB, after 100.0 MiB" in growth


def test_a_slow_leak_is_growth() -> None:
    assert find_growth([100 * GRAIN + number * GRAIN // 5 for number in range(100)]) is not None


def test_too_short_a_time_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--minutes", "0.5"])
    assert "20 looks take at least 1 minutes" in capsys.readouterr().err
