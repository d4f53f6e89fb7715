from pathlib import Path

import pytest

from benchmarks import pictures
from benchmarks.harness.percentiles import Spread
from benchmarks.peers import ALL_RECIPES
from benchmarks.pictures import find_faults, main
from benchmarks.publish.results import read_results
from benchmarks.publish.series import STYLES, Picture, make_pictures
from tests.benchmarks.written import DATE, EVERYTHING, Readings, rates, write_results


def made(folder: Path, works: dict[str, Readings] | None = None) -> dict[str, Picture]:
    results = read_results([write_results(folder / "results.json", works or EVERYTHING)])
    return {picture.name: picture for picture in make_pictures(results)}


def test_the_committed_pictures_are_those_of_the_committed_results() -> None:
    assert main(["--check"]) == 0


def test_bars_are_ratios_to_nats_server_of_all_who_did_the_work(tmp_path: Path) -> None:
    floods = made(tmp_path)["rates-floods"]
    assert "relative to nats-server" in floods.axis
    (group,) = floods.groups  # in flood-1m nats-server broke down, so there is nothing to hold the others against
    assert group.title == "1 -> 1, 16 B  (deliveries/s)"
    ours, redis = group.bars
    assert (ours.broker, ours.label, ours.ratio) == ("trio", "trio_broker", Spread(2.0, 1.0, 3.0))
    assert (redis.label, redis.ratio, redis.note) == ("Redis pub/sub", None, "did not deliver everything")


def test_who_was_not_asked_has_no_bar(tmp_path: Path) -> None:
    works: dict[str, Readings] = {"queue-10": {"trio": rates(1, 1, 1), "nats": rates(2, 2, 2)}}
    (group,) = made(tmp_path, works)["rates-others"].groups
    assert [(bar.broker, bar.ratio) for bar in group.bars] == [("trio", Spread(0.5, 0.5, 0.5))]


def test_curves_have_what_was_measured_with_units(tmp_path: Path) -> None:
    picture = made(tmp_path)["cost-channels"]
    assert picture.title == "Cost of a delivery over 1 to 10 channels"
    (panel,) = picture.panels
    assert (panel.across, panel.up) == ("channels", "broker's CPU time per delivery (\N{MICRO SIGN}s)")
    assert panel.ticks == ((1.0, "1"), (10.0, "10"))
    ours, nats = panel.lines
    assert ours.points == ((1.0, Spread(1.5, 1.5, 1.5)), (10.0, Spread(2.5, 2.5, 2.5)))
    assert nats.label == "nats-server"


def test_one_number_is_no_curve(tmp_path: Path) -> None:
    assert "cost-subscribers" not in made(tmp_path)


def test_a_cost_below_what_the_system_counts_is_not_drawn_on_a_logarithmic_axis(tmp_path: Path) -> None:
    works: dict[str, Readings] = {
        "connections-1": {"trio": rates(1, 1, 1, cost=0.0)},
        "connections-10": {"trio": rates(1, 1, 1)},
    }
    (panel,) = made(tmp_path, works)["cost-connections"].panels
    assert [place for line in panel.lines for place, _ in line.points] == [10.0]


def test_latency_has_a_panel_for_each_work_and_its_percentiles_in_order(tmp_path: Path) -> None:
    idle, half = made(tmp_path)["latency"].panels
    assert (idle.up, idle.ticks) == ("latency (\N{MICRO SIGN}s)", ((0.0, "p50"), (1.0, "p99"), (2.0, "p99.9")))
    assert [found.median for _, found in idle.lines[0].points] == [60, 90, 180]
    assert [found.median for _, found in half.lines[0].points] == [120, 180, 360]


def test_the_small_print_has_the_machine_and_the_date(tmp_path: Path) -> None:
    for picture in made(tmp_path).values():
        (line,) = picture.footer
        assert line.endswith(DATE)
        assert "CPUs" in line
        assert "trio_broker; nats-server; Redis pub/sub" in line


def test_a_digest_changes_with_a_number_and_with_nothing_else(tmp_path: Path) -> None:
    path = write_results(tmp_path / "results.json", EVERYTHING)
    once, again = ([each.digest() for each in make_pictures(read_results([path]))] for _ in range(2))
    assert once == again
    content = path.read_text()
    path.write_text(content.replace('"rate": 30', '"rate": 31', 1))
    assert path.read_text() != content
    changed = [each.digest() for each in make_pictures(read_results([path]))]
    assert [before == after for before, after in zip(once, changed, strict=True)].count(False) == 1
    assert len(set(once)) == len(once)


def test_the_check_tells_missing_wrong_and_left_over_files(tmp_path: Path) -> None:
    picture = made(tmp_path)["latency"]
    folder = tmp_path / "pictures"
    assert find_faults([picture], folder) == ["latency.png is missing", "latency.svg is missing"]
    folder.mkdir()
    for kind in ("png", "svg"):
        (folder / f"latency.{kind}").write_text(f"... {picture.digest()} ...")
    assert find_faults([picture], folder) == []
    (folder / "latency.svg").write_text(f"... {made(tmp_path)['rates-floods'].digest()} ...")
    (folder / "older.png").write_text("")
    assert find_faults([picture], folder) == [
        "older.png belongs to no result",
        "latency.svg has other numbers than the results",
    ]


def test_the_check_needs_no_drawing_and_drawing_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = str(write_results(tmp_path / "results.json", EVERYTHING))
    monkeypatch.setattr(pictures, "WITHOUT_DRAWING", "no matplotlib; scripts/bench-peers installs it")
    assert main([results, "--into", str(tmp_path), "--check"]) == 1
    assert "latency.svg is missing" in capsys.readouterr().err
    assert main([results, "--into", str(tmp_path)]) == 1
    assert "scripts/bench-peers" in capsys.readouterr().err


def test_every_broker_has_a_colour_and_a_marker_of_its_own() -> None:
    assert set(STYLES) == set(ALL_RECIPES)
    for values in zip(*STYLES.values(), strict=True):
        assert len(set(values)) == len(STYLES)
