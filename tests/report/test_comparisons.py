from __future__ import annotations

import pytest

from offtake.rehearse.compare import Interval
from offtake.report import comparisons
from offtake.report.parts import Figure, Grid, Page, Sentences
from offtake.report.terminal import comparison_table
from offtake.report.verdicts import beside
from tests.report.parts_of import figures_of, grid_of
from tests.report.run_folder import comparison
from tests.report.test_terminal import printed


def parts_of(*, overloaded: str = "", seeds: int = 3) -> tuple[str, Figure, Grid]:
    words, figure, grid = comparisons.section({"main": comparison(overloaded=overloaded, seeds=seeds)}).parts
    assert isinstance(words, Sentences)
    assert isinstance(figure, Figure)
    assert isinstance(grid, Grid)
    return " ".join(words.sentences), figure, grid


def test_the_page_compares_the_policies_of_the_main_rehearsal(content: Page) -> None:
    assert "policies" in [section.key for section in content.sections]
    chart = next(figure for figure in figures_of(content) if figure.key == "policies-value")
    assert chart.csv.splitlines()[:3] == [
        "policy,percent,low,high,hindsight_share,status",
        "bid_price,91.0,91.0,91.0,0.968085,stationary".replace("_", " "),
        "least_loaded,88.0,87.0,89.0,0.93617,stationary".replace("_", " "),
    ]
    rows = grid_of(content, "Policies on the same loads").rows
    assert rows[1] == [
        "least loaded", "88%", "−3 (−4 to −2)", "93.6%", "$21,300", "1.2%", "0.987", "99.9%", "88%",
    ]  # fmt: skip


def test_a_difference_whose_interval_holds_zero_is_no_difference() -> None:
    _, figure, _ = parts_of()
    assert figure.says == (
        "bid price serves 91% of the value in time, 96.8% of what hindsight could have served; "
        "least loaded serve less; prefix affinity cannot be told from it."
    )


def test_one_load_has_no_interval_and_the_page_says_so() -> None:
    words, figure, grid = parts_of(seeds=1)
    assert "no interval stands beside a difference" in words
    assert grid.rows[1][2] == "−3"
    assert "interval" not in " ".join(key.label for key in figure.legend)


def test_a_policy_that_was_overloaded_on_one_load_is_marked_wherever_its_shares_stand() -> None:
    words, figure, grid = parts_of(overloaded="least_loaded")
    assert "* not stationary on 1 of 3 loads: the requests under way keep growing in number" in words
    assert [grid.rows[1][place] for place in (1, 3, 7, 8)] == ["88%*", "93.6%*", "99.9%*", "88%*"]
    assert "*" not in " ".join(grid.rows[0])
    assert "least loaded*|" in str(figure.spec)
    lines = printed(comparison_table(comparison(overloaded="least_loaded")))
    assert [line.split().count("99.9%*") for line in lines if line.startswith("least loaded")] == [0, 1]
    assert lines[-1].endswith("holds for that length alone.")


@pytest.mark.parametrize("width", [80, 120])
def test_a_comparison_is_read_whole_on_a_terminal(width: int) -> None:
    lines = printed(comparison_table(comparison(overloaded="prefix_affinity")), width=width)
    assert [line for line in lines if "…" in line] == []
    assert any(
        line.split() == ["least", "loaded", "88%", "−3", "(−4", "to", "−2)", "93.6%", "95%", "$21,300"]
        for line in lines
    )


def test_several_comparisons_have_charts_of_their_own() -> None:
    section = comparisons.section({"main": comparison(), "bad-day": comparison(seeds=1)})
    assert [part.key for part in section.parts if isinstance(part, Figure)] == [
        "policies-value",
        "policies-value-bad-day",
    ]


def test_a_difference_that_is_a_rounding_of_sums_is_none() -> None:
    assert beside(Interval(mean=-1.1e-15, low=-1.5e-15, high=-0.7e-15), 8.0) == "0 (0 to 0)"
    assert beside(Interval(mean=0.08, low=None, high=None), 8.0) == "+1"
