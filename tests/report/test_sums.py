from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from offtake.report import sums

MAY, JUNE, JULY = date(2026, 5, 1), date(2026, 6, 1), date(2026, 7, 1)


def capacity(rows: list[tuple[int, date, str, str, float]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["period", "start", "provider", "firmness", "kw_mean"], orient="row")


def test_capacity_adds_the_sites_of_a_partner() -> None:
    frame = capacity([(0, MAY, "a", "firm", 3000.0), (0, MAY, "a", "firm", 1000.0), (0, MAY, "a", "option", 500.0)])
    assert sums.capacity_by_partner(frame, JUNE, 8).rows() == [
        (MAY, JUNE, "a", "firm", 4000.0),
        (MAY, JUNE, "a", "option", 500.0),
    ]


def test_the_smallest_partners_are_put_together_and_stand_last() -> None:
    frame = capacity([(0, MAY, name, "firm", kw) for name, kw in [("z", 4e3), ("a", 1e3), ("b", 2e3), ("c", 3e3)]])
    made = sums.capacity_by_partner(frame, JUNE, 3)
    assert made.select(pl.col("partner").cast(pl.String), "kw").rows() == [("z", 4e3), ("c", 3e3), ("all others", 3e3)]


def test_a_period_lasts_until_the_next_and_the_last_until_the_horizon_ends() -> None:
    frame = pl.DataFrame({"period": [0, 1], "start": [MAY, JUNE]})
    assert sums.spans(frame, JULY).rows() == [(0, MAY, JUNE), (1, JUNE, JULY)]
    assert sums.spans(frame, None).rows()[1] == (1, JUNE, date(2026, 7, 2))


def test_a_stack_puts_gains_above_zero_and_costs_below() -> None:
    frame = pl.DataFrame({"start": [MAY] * 4, "usd": [10.0, -2.0, 3.0, -4.0]})
    made = sums.stack(frame, "usd")
    assert made.select("low", "high").rows() == [(0.0, 10.0), (0.0, -2.0), (10.0, 13.0), (-2.0, -6.0)]


def demand() -> pl.DataFrame:
    columns = ["period", "start", "block", "workload", "rps_mean", "rps_p10", "rps_p90", "served_mean", "refused_mean"]
    rows = [
        (0, MAY, "night", "chat", 100.0, 80.0, 120.0, 100.0, 0.0),
        (0, MAY, "day", "chat", 400.0, 300.0, 500.0, 300.0, 100.0),
        (0, MAY, "night", "code", 0.0, 0.0, 0.0, 0.0, 0.0),
        (0, MAY, "day", "code", 200.0, 100.0, 300.0, 200.0, 0.0),
    ]
    return pl.DataFrame(rows, schema=columns, orient="row")


def test_demand_weighs_each_block_by_its_share_of_the_week() -> None:
    made = sums.demand_by_period(demand(), {"night": 0.75, "day": 0.25}, JUNE)
    assert made.rows() == [(MAY, JUNE, 225.0, 160.0, 290.0, 200.0, 25.0)]


def test_blocks_weigh_alike_where_their_shares_are_not_known() -> None:
    assert sums.demand_by_period(demand(), None, JUNE)["wanted"].to_list() == [350.0]


def test_refusals_are_a_share_of_the_workloads_own_requests() -> None:
    made = sums.refused_by_workload(demand(), {"night": 0.75, "day": 0.25}, JUNE)
    assert dict(made.select("workload", "refused_percent").rows()) == {
        "chat": pytest.approx(14.2857, abs=1e-4),
        "code": 0.0,
    }


def test_money_is_a_rate_so_that_a_week_and_a_month_compare() -> None:
    rows = [
        ("s0", 0.5, 0, MAY, "value_served", 7e9),
        ("s1", 0.5, 0, MAY, "value_served", 21e9),
        ("s0", 0.5, 0, MAY, "fees", 14e9),
        ("s1", 0.5, 0, MAY, "fees", 14e9),
        ("s0", 0.5, 0, MAY, "training_missed", 0.0),
    ]
    frame = pl.DataFrame(rows, schema=["scenario", "probability", "period", "start", "part", "usd"], orient="row")
    made = sums.money_by_period(frame, date(2026, 5, 8))
    assert [(part, round(usd / 1e9, 3)) for part, usd in made.select("part", "usd_per_month").rows()] == [
        ("value served", 60.833),
        ("fees owed", -60.833),
    ]


def test_scarcity_weighs_periods_by_their_length_and_leaves_out_what_is_free() -> None:
    rows = [
        ("work", "ohio", "h100", 0, MAY, "day", 3.0, "USD per chip-hour"),
        ("work", "ohio", "h100", 1, date(2026, 5, 11), "day", 0.0, "USD per chip-hour"),
        ("work", "utah", "h100", 0, MAY, "day", 0.0, "USD per chip-hour"),
        ("power", "utah", "", 0, MAY, "day", 9.0, "USD per kWh"),
    ]
    columns = ["family", "site", "chip", "period", "start", "block", "price", "unit"]
    prices = pl.DataFrame(rows, schema=columns, orient="row")
    assert sums.scarcity(prices, None, date(2026, 5, 31), 12).rows() == [("ohio · h100", "day", 1.0)]


def test_a_place_without_chips_of_the_plans_has_no_price_to_show() -> None:
    rows = [
        ("work", site, chip, 0, MAY, "day", 3.0, "USD per chip-hour")
        for site, chip in [("ohio", "h100"), ("ohio", "h200"), ("utah", "h100"), ("frankfurt", "api")]
    ]
    columns = ["family", "site", "chip", "period", "start", "block", "price", "unit"]
    held = pl.DataFrame({"site": ["ohio", "ohio"], "chip": ["h100", "h200"], "kw_mean": [5.0, 0.0]})
    made = sums.scarcity(pl.DataFrame(rows, schema=columns, orient="row"), held, JUNE, 12)
    assert made["place"].to_list() == ["ohio · h100"]


def test_a_scenario_that_the_plan_does_not_tell_of_still_counts() -> None:
    told = pl.DataFrame({"scenario": ["a"], "growth_branch": ["3x"], "description": ["slow"]})
    made = sums.differences(["a", "b"], [0.25, 0.75], [1e9, -2e9], told)
    assert made.rows() == [("a", "slow", "3x", 25.0, 1e9), ("b", "", "not named", 75.0, -2e9)]
