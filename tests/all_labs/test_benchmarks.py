"""The arithmetic of `make bench`: medians, ratios, verdicts and peers that are not there."""

import itertools

import pytest

from tests.benchmarks import report
from tests.benchmarks.measure import Goal, Missing, Row, attempt, measure


def row(ours, theirs, better="lower", goals=()):
    contestants = {"ours": iter(ours).__next__, "theirs": iter(theirs).__next__}
    return Row(1, "what", "us", better, contestants, list(goals))


def absent() -> float:
    raise Missing("not installed")


def test_the_contestants_take_turns():
    order = itertools.count()
    contestants = {"ours": lambda: next(order), "theirs": lambda: next(order)}
    result = measure(Row(1, "what", "us", "lower", contestants), 3)
    assert result.figures == {"ours": [0, 2, 4], "theirs": [1, 3, 5]}


def test_the_ratio_is_the_median_of_the_ratios_of_each_round():
    result = measure(row([10, 20, 90], [10, 10, 30]), 3)
    assert result.median("ours") == 20
    assert result.ratio("theirs") == 2  # of 1, 2 and 3; that of the medians is the same by chance
    assert measure(row([1, 100, 9], [1, 10, 10]), 3).ratio("theirs") == 1  # of the medians: 0.9


@pytest.mark.parametrize(
    "better, ours, met",
    [("lower", 11, True), ("lower", 12, False), ("higher", 11, True), ("higher", 10, False)],
)
def test_a_goal_is_met_up_to_its_very_ratio(better, ours, met):
    goal = Goal("theirs", 1.1)
    result = measure(row([ours], [10], better, [goal]), 1)
    assert result.met(goal) is met
    assert report.table(result)[-1].endswith("met" if met else "MISSED")


def test_a_peer_that_is_not_installed_is_named_and_its_goals_are_unknown():
    goals = [Goal("absent", 1.0), Goal("broken", 1.0)]
    contestants = {"ours": lambda: 1.0, "absent": absent, "broken": attempt(absent)}
    result = measure(Row(1, "what", "us", "lower", contestants, goals), 2)
    assert result.figures == {"ours": [1.0, 1.0]}
    assert "    absent: left out: not installed" in report.table(result)
    assert report.summary([result]) == "0 goals met, 0 missed, 2 unknown for want of a peer"
    assert "broken" not in "\n".join(report.text_chart([result]))


def test_the_summary_counts_the_goals():
    goals = [Goal("theirs", 0.5), Goal("theirs", 2.0)]
    assert report.summary([measure(row([1], [1], "lower", goals), 1)]) == "1 goals met, 1 missed"


@pytest.mark.parametrize(
    "value, text",
    [(0, "0.000"), (0.01234, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (12345.6, "12,346")],
)
def test_figures_have_three_digits_or_all_of_them(value, text):
    assert report.number(value) == text


def test_the_longest_bar_is_that_of_the_largest_median():
    chart = report.text_chart([measure(row([5], [10]), 1)])
    assert chart[1].count("#") == report.WIDTH // 2 and chart[2].count("-") == report.WIDTH
