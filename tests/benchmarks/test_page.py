import json
from pathlib import Path

import pytest

from benchmarks.harness.catalogue import all_works
from benchmarks.page import PAGE, main
from benchmarks.publish.goals import COST, GOALS, GROWTHS, Bound, Verdict, judge
from benchmarks.publish.results import Results, ResultsError, committed_results, read_results
from benchmarks.publish.table import BEGIN, END, NO_RESULTS, PageError, render, replace_generated
from benchmarks.publish.text import show_number
from tests.benchmarks.written import DATE, EVERYTHING, rates, write_results

EMPTY_PAGE = f"before\n{BEGIN}\nold\n{END}\nafter\n"


def written(folder: Path) -> Results:
    return read_results([write_results(folder / "results.json", EVERYTHING)])


def row(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_says_what_the_committed_results_say() -> None:
    assert main(["--check"]) == 0
    generated = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert generated == render(read_results(committed_results()), PAGE.parent)
    assert (generated == NO_RESULTS) == (not committed_results())


def test_no_results_are_said_to_be_none(tmp_path: Path) -> None:
    assert render(Results(), tmp_path) == NO_RESULTS


def test_only_the_generated_part_is_written_and_then_the_check_is_content(tmp_path: Path) -> None:
    page, results = tmp_path / "page.md", write_results(tmp_path / "results.json", EVERYTHING)
    page.write_text(EMPTY_PAGE)
    assert main([str(results), "--page", str(page), "--check"]) == 1
    assert page.read_text() == EMPTY_PAGE
    assert main([str(results), "--page", str(page)]) == 0
    assert page.read_text().startswith(f"before\n{BEGIN}\n\n- Results: [results.json](results.json), {DATE}\n")
    assert page.read_text().endswith(f"\n\n{END}\nafter\n")
    assert main([str(results), "--page", str(page), "--check"]) == 0


def test_the_check_finds_a_number_that_was_changed_by_hand(tmp_path: Path) -> None:
    page, results = tmp_path / "page.md", write_results(tmp_path / "results.json", EVERYTHING)
    page.write_text(EMPTY_PAGE)
    main([str(results), "--page", str(page)])
    changed = page.read_text().replace("| 2.00 (1.00 to 3.00) |", "| 2.50 (1.00 to 3.00) |")
    assert changed != page.read_text()
    page.write_text(changed)
    assert main([str(results), "--page", str(page), "--check"]) == 1


def test_the_check_finds_results_that_are_others(tmp_path: Path) -> None:
    page, results = tmp_path / "page.md", write_results(tmp_path / "results.json", EVERYTHING)
    page.write_text(EMPTY_PAGE)
    main([str(results), "--page", str(page)])
    write_results(results, {**EVERYTHING, "flood-16": {"trio": rates(21, 5, 30), "nats": rates(10, 5, 10)}})
    assert main([str(results), "--page", str(page), "--check"]) == 1


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_a_page_without_one_generated_part_is_refused(page: str) -> None:
    with pytest.raises(PageError):
        replace_generated(page, "text")


def test_figures_ratios_goals_and_verdicts_stand_in_the_row_of_their_work(tmp_path: Path) -> None:
    text = render(written(tmp_path), tmp_path)
    flood = row(text, "`flood-16` | 1 -> 1, 16 B | deliveries/s")
    assert flood[3:] == ["20.0 (5.00 to 30.0)", "2.00 (1.00 to 3.00)", "-", ">= 1.1 x nats-server", "reached"]
    latency = row(text, "`latency-idle` | one-way latency, one message at a time, 128 B | p50, \N{MICRO SIGN}s")
    assert latency[3:] == ["60.0 (60.0 to 60.0)", "1.20 (1.20 to 1.20)", "<= 1.2 x nats-server", "reached"]
    tail = row(text, "`latency-idle` | one-way latency, one message at a time, 128 B | p99, \N{MICRO SIGN}s")
    assert tail[4:] == ["1.80 (1.80 to 1.80)", "<= 1.5 x nats-server", "floor"]
    memory = row(text, "`memory`")
    assert memory[5:] == ["<= 1 x nats-server; <= 14 KiB/subscriber", "reached; floor"]
    assert "Goals: 3 reached, 2 floor, 0 missed, 11 not measured." in text


def test_who_did_not_deliver_is_named_and_has_no_ratio(tmp_path: Path) -> None:
    text = render(written(tmp_path), tmp_path)
    assert "- Redis pub/sub in `flood-16`, `flood-1m`: broke down" in text
    assert "- nats-server in `flood-1m`: broke down" in text
    assert row(text, "`flood-1m` | 1 -> 1, 1,048,576 B | deliveries/s")[4] == "-"


def test_growth_is_the_dearest_over_the_cheapest_of_all_numbers_or_nothing(tmp_path: Path) -> None:
    costs = {1: 1.0, 10: 0.8, 100: 1.0, 1000: 1.2, 10_000: 1.6}
    works = {f"channels-{number}": {"trio": rates(1, 1, 1, cost=cost)} for number, cost in costs.items()}
    results = read_results([write_results(tmp_path / "results.json", works, ["trio"])])
    growth = {each.key: each for each in GROWTHS}["channels"]
    assert growth.find(results, "trio") == 2.0
    assert growth.judge(results, "trio") is Verdict.REACHED
    del works["channels-100"]
    results = read_results([write_results(tmp_path / "results.json", works, ["trio"])])
    assert growth.find(results, "trio") is None
    assert growth.judge(results, "trio") is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("value", "bound", "verdict"),
    [
        (5.0, Bound.AT_LEAST, Verdict.REACHED),
        (4.9, Bound.AT_LEAST, Verdict.FLOOR),
        (4.0, Bound.AT_LEAST, Verdict.FLOOR),
        (3.9, Bound.AT_LEAST, Verdict.MISSED),
        (5.0, Bound.AT_MOST, Verdict.REACHED),
        (5.1, Bound.AT_MOST, Verdict.FLOOR),
        (6.25, Bound.AT_MOST, Verdict.FLOOR),
        (6.3, Bound.AT_MOST, Verdict.MISSED),
        (None, Bound.AT_LEAST, Verdict.UNKNOWN),
    ],
)
def test_a_figure_is_judged_by_its_goal_and_the_floor(value: float | None, bound: Bound, verdict: Verdict) -> None:
    assert judge(value, bound, 5.0) is verdict


def test_every_goal_is_one_for_a_figure_that_a_work_yields() -> None:
    yields = {(work.name, figure.key) for work in all_works() for figure in work.figures}
    assert {(goal.work, goal.figure) for goal in GOALS} <= yields
    assert {(name, COST) for growth in GROWTHS for _, name in growth.works} <= yields


def test_the_ratios_are_those_that_the_comparison_wrote(tmp_path: Path) -> None:
    path = write_results(tmp_path / "results.json", EVERYTHING)
    results = read_results([path])
    compared = 0
    for content in json.loads(path.read_text())["works"]:
        work = results.find(content["work"])
        assert work is not None
        for broker, ratios in content["ratios"].items():
            for key, said in ratios.items():
                found = work.ratio("trio", broker, key)
                assert said == (found and {"median": found.median, "low": found.low, "high": found.high})
                compared += said is not None
    assert compared == 17


def test_works_of_several_files_go_together_in_the_order_of_the_catalogue(tmp_path: Path) -> None:
    later = write_results(tmp_path / "1.json", {"memory": EVERYTHING["memory"]})
    earlier = write_results(tmp_path / "2.json", {"flood-16": EVERYTHING["flood-16"]})
    results = read_results([later, earlier])
    assert [work.name for work in results.works] == ["flood-16", "memory"]
    text = render(results, tmp_path)
    assert "[1.json](1.json)" in text
    assert "[2.json](2.json)" in text


def test_files_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    one = write_results(tmp_path / "1.json", {"flood-16": EVERYTHING["flood-16"]})
    other = write_results(tmp_path / "2.json", {"memory": EVERYTHING["memory"]}, ["nats", "trio"])
    with pytest.raises(ResultsError, match="flood-16 of"):
        read_results([one, one])
    with pytest.raises(ResultsError, match="holds nats against the others"):
        read_results([one, other])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"works": [{}], "labels": {"trio": "trio_broker"}}'])
def test_what_is_no_results_file_is_refused_and_the_page_left_alone(tmp_path: Path, content: str) -> None:
    page, results = tmp_path / "page.md", tmp_path / "results.json"
    page.write_text(EMPTY_PAGE)
    results.write_text(content)
    assert main([str(results), "--page", str(page)]) == 1
    assert page.read_text() == EMPTY_PAGE


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0.01234, "0.012"),
        (0.5, "0.50"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.96, "100"),
        (999.4, "999"),
        (999.6, "1.00 k"),
        (1_234_567, "1.23 M"),
        (20_000_000, "20.0 M"),
        (0, "0"),
    ],
)
def test_numbers_have_three_digits(number: float, shown: str) -> None:
    assert show_number(number) == shown


def test_nothing_is_divided_by_nothing(tmp_path: Path) -> None:
    works = {
        f"channels-{number}": {"trio": rates(1, 1, 1, cost=0.0), "nats": rates(1, 0, 1)}
        for number in (1, 10, 100, 1000, 10_000)
    }
    results = read_results([write_results(tmp_path / "results.json", works)])
    work = results.find("channels-1")
    assert work is not None
    assert work.ratio("trio", "nats", "rate") is None
    assert work.ratio("nats", "trio", COST) is None
    assert {each.key: each for each in GROWTHS}["channels"].find(results, "trio") is None
