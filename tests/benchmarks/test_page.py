import json
from pathlib import Path

import pytest

from benchmarks.harness.catalogue import all_works
from benchmarks.page import PAGE, main
from benchmarks.publish.goals import (
    COST,
    GOALS,
    GROWTHS,
    LIKENESSES,
    Bound,
    Verdict,
    all_keys,
    judge,
    unreached_keys,
)
from benchmarks.publish.reasons import find_silence, find_texts
from benchmarks.publish.results import Results, ResultsError, committed_results, read_results
from benchmarks.publish.table import BEGIN, END, NO_RESULTS, PageError, render, replace_generated
from benchmarks.publish.text import show_number
from tests.benchmarks.written import DATE, EVERYTHING, rates, write_results

EMPTY_PAGE = f"before\n{BEGIN}\nold\n{END}\nafter\n"
REASON = "This is why it is slower, and what was tried. " * 3
EXPLAINED = f"<!-- goal: latency-idle/p99 -->\n<!-- goal: memory/memory -->\n\n{REASON}\n\n## Another\n\nmatter\n"


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
    page.write_text(EMPTY_PAGE + EXPLAINED)
    assert main([str(results), "--page", str(page), "--check"]) == 1
    assert page.read_text() == EMPTY_PAGE + EXPLAINED
    assert main([str(results), "--page", str(page)]) == 0
    assert page.read_text().startswith(f"before\n{BEGIN}\n\n- Results: [results.json](results.json), {DATE}\n")
    assert page.read_text().endswith(f"\n\n{END}\nafter\n{EXPLAINED}")
    assert main([str(results), "--page", str(page), "--check"]) == 0


def test_the_check_finds_a_number_that_was_changed_by_hand(tmp_path: Path) -> None:
    page, results = tmp_path / "page.md", write_results(tmp_path / "results.json", EVERYTHING)
    page.write_text(EMPTY_PAGE + EXPLAINED)
    assert main([str(results), "--page", str(page)]) == 0
    changed = page.read_text().replace("| 2.00 (1.00 to 3.00) |", "| 2.50 (1.00 to 3.00) |")
    assert changed != page.read_text()
    page.write_text(changed)
    assert main([str(results), "--page", str(page), "--check"]) == 1


def test_the_check_finds_results_that_are_others(tmp_path: Path) -> None:
    page, results = tmp_path / "page.md", write_results(tmp_path / "results.json", EVERYTHING)
    page.write_text(EMPTY_PAGE + EXPLAINED)
    assert main([str(results), "--page", str(page)]) == 0
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
    assert "Goals: 3 reached, 2 floor, 0 missed, 22 not measured." in text


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
    assert {(name, each.figure) for each in LIKENESSES for name in (each.plain, each.varied)} <= yields


def test_the_goals_are_those_that_were_set() -> None:
    against = {(goal.work, goal.figure, goal.against): (goal.bound.value, goal.value) for goal in GOALS}
    rates = {
        "flood-16": 1.1,
        "flood-128": 1.2,
        "flood-4k": 1.5,
        "flood-64k": 1.5,
        "fanout-10-small": 4,
        "fanout-100": 5,
        "queue-10": 1,
        "interleaved-2": 0.7,
        "interleaved-16": 0.7,
        "unbatched-400": 0.8,
    }
    assert against == {(work, "rate", "nats"): (">=", value) for work, value in rates.items()} | {
        ("latency-idle", "p50", "nats"): ("<=", 1.2),
        ("latency-idle", "p99", "nats"): ("<=", 1.5),
        ("memory", "memory", "nats"): ("<=", 1),
        ("memory", "memory", None): ("<=", 14),
        ("stomp-128", "rate", "rabbitmq-stomp"): (">=", 8),
        ("stuck", "peak", None): ("<=", 4),
        ("stuck", "after", None): (">=", 0.95),
    }
    assert {(growth.key, growth.factor) for growth in GROWTHS} == {
        ("connections", 2),
        ("channels", 2),
        ("subscribers", None),
    }
    assert {each.plain for each in LIKENESSES} >= {"flood-128", "fanout-10", "queue-10"}
    assert {each.value for each in LIKENESSES} == {0.75}


def varied(folder: Path, plain: float, varied: float) -> Results:
    works = {
        "flood-128": {"trio": rates(plain, plain, plain), "nats": rates(1, 1, 1)},
        "varied-flood-128": {"trio": rates(varied, varied, varied), "nats": rates(2, 2, 2)},
    }
    return read_results([write_results(folder / "results.json", works, ["trio", "nats"])])


def test_a_varied_work_keeps_three_quarters_of_the_plain_ones_ratio_or_is_missed(tmp_path: Path) -> None:
    likeness = {each.plain: each for each in LIKENESSES}["flood-128"]
    text = render(enough := varied(tmp_path, 2.0, 3.0), tmp_path)
    assert row(text, "`flood-128` | 2.00")[1:] == ["2.00", "1.50", "0.75", ">= 0.75", "reached"]
    assert likeness.judge(enough) is Verdict.REACHED
    assert unreached_keys(enough) == []
    assert likeness.judge(varied(tmp_path, 1.0, 9.0)) is Verdict.REACHED
    less = varied(tmp_path, 2.0, 2.98)
    assert likeness.judge(less) is Verdict.MISSED
    assert unreached_keys(less) == ["varied-flood-128/likeness"]


def test_a_varied_work_without_its_plain_one_is_not_judged(tmp_path: Path) -> None:
    works = {"varied-flood-128": {"trio": rates(1, 1, 1), "nats": rates(2, 2, 2)}}
    results = read_results([write_results(tmp_path / "results.json", works, ["trio", "nats"])])
    assert {each.judge(results) for each in LIKENESSES} == {Verdict.UNKNOWN}
    assert "### With names" not in render(results, tmp_path)


@pytest.mark.parametrize(
    ("written_by_hand", "silent"),
    [
        (EXPLAINED, []),
        (EXPLAINED.replace("<!-- goal: memory/memory -->\n", ""), ["memory/memory"]),
        (EXPLAINED.replace(REASON, "It is slow."), ["latency-idle/p99", "memory/memory"]),
        (EXPLAINED.replace(REASON, "## Heading\n\n" + REASON), ["latency-idle/p99", "memory/memory"]),
        ("", ["latency-idle/p99", "memory/memory"]),
    ],
)
def test_a_goal_that_is_not_reached_needs_a_text(tmp_path: Path, written_by_hand: str, silent: list[str]) -> None:
    results = written(tmp_path)
    assert unreached_keys(results) == ["latency-idle/p99", "memory/memory"]
    page = tmp_path / "page.md"
    page.write_text(EMPTY_PAGE + written_by_hand)
    faults = find_silence(page.read_text(), results)
    assert [fault.split()[2] for fault in faults] == silent
    arguments = [str(tmp_path / "results.json"), "--page", str(page)]
    assert main(arguments) == main([*arguments, "--check"]) == bool(silent)


def test_a_text_goes_to_the_next_mark_or_heading_and_counts_only_where_a_hand_wrote_it() -> None:
    page = f"<!-- goal: a -->\none\n{BEGIN}\n<!-- goal: b -->\ntwo\n{END}\n<!-- goal: c -->\nthree\n### x\nfour\n"
    assert find_texts(page) == {"a": "one", "c": "three"}


def test_a_mark_of_a_goal_that_does_not_exist_is_a_fault(tmp_path: Path) -> None:
    text = f"<!-- goal: latency-idle/p90 -->\n{REASON}\n"
    (fault,) = find_silence(f"{EMPTY_PAGE}{EXPLAINED}{text}", written(tmp_path))
    assert "no goal latency-idle/p90" in fault
    assert {"latency-idle/p99", "growth/channels", "stuck/after", "varied-queue-10/likeness"} <= all_keys()


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
