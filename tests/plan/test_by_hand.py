"""The two cases of docs/by-hand.md: the formulas there, and the program to the cent."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from offtake.plan.assemble import amended, told_alike
from offtake.plan.clauses import amendments
from offtake.plan.negotiate import negotiate
from offtake.plan.plan import PlanOptions, make_plan, prepare
from offtake.plan.solve import Options
from offtake.schema.read import read_folder

BY_HAND = Path(__file__).parents[2] / "examples" / "by-hand"
CENT = 0.01
OPTIONS = PlanOptions(solver=Options(gap=0.0))


def mean_over_june(growth: float) -> float:
    """Give the mean of 100 · g^(t / 365) over the middles of 30 days."""
    return 100 * math.pow(growth, 1 / 730) * (math.pow(growth, 30 / 365) - 1) / (30 * (math.pow(growth, 1 / 365) - 1))


def test_the_newsvendor_signs_the_critical_share_and_earns_the_closed_form() -> None:
    tables = read_folder(BY_HAND / "newsvendor")
    (rate,) = {lane.rps_per_chip for lane in prepare(tables, OPTIONS).placement.lanes}
    order = mean_over_june(30.0)
    assert 0.2 < 2_160 / (2_592 * rate) < 0.7
    found = negotiate(tables, "reserved", OPTIONS)
    assert found.units == pytest.approx(order / rate, rel=1e-9)
    worth = 2_592 * (0.3 * 100 + 0.7 * order) - 2_160 * order / rate
    assert found.difference_usd == pytest.approx(worth, abs=CENT)
    assert found.break_even_fee_ratio == pytest.approx(2_592 * rate / 2_160, rel=1e-6)


def test_the_lease_and_its_right_to_leave_are_worth_what_paper_says() -> None:
    found = negotiate(read_folder(BY_HAND / "lease"), "reserved", OPTIONS)
    fall = 10 ** (-300 / 365)
    august = sum(fall ** (day + 0.5) for day in range(31))
    stays, goes = 184 * 8_640 - 600_000, (31 + august) * 8_640 - 400_000
    assert found.difference_usd == pytest.approx((stays + goes) / 2, abs=CENT)
    assert found.right is not None
    assert found.right.notice_days == 31
    assert found.right.none_usd == pytest.approx((stays + goes - 200_000) / 2, abs=CENT)
    assert found.right.right_usd == pytest.approx(100_000, abs=CENT)
    assert found.right.right_in_foresight_usd == pytest.approx(200_000, abs=CENT)
    assert any("100,000" in text and "31 days" in text for text in found.sentences)


def test_a_notice_thirty_days_shorter_is_worth_the_month_that_it_saves_where_demand_goes() -> None:
    # On 1 September the loss is seen; a day's notice then saves October too, in half the futures.
    found = negotiate(read_folder(BY_HAND / "lease"), "reserved", OPTIONS)
    by_name = {one.clause: one for one in found.clauses}
    assert by_name["our notice"].worth_usd == pytest.approx(50_000, abs=CENT)
    assert by_name["our notice"].value_usd == pytest.approx(480_774.50, abs=CENT)
    # Nothing is known before August, so a right to be out in July adds nothing.
    assert by_name["our lock"].worth_usd == pytest.approx(0, abs=CENT)
    changed = {one.branch: one.regret_usd["sign"] - one.regret_usd["amend"] for one in found.branches}
    assert changed == pytest.approx({"stays": 0, "goes": 100_000}, abs=CENT)


def test_a_plan_with_the_shorter_notice_is_worth_that_much_more() -> None:
    tables = read_folder(BY_HAND / "lease")
    day = next(one for one in amendments(tables, "reserved") if one.clause == "our notice").tables
    usd = [make_plan(some, OPTIONS).result.objective_usd for some in (tables, day)]
    assert usd == pytest.approx([430_774.50, 480_774.50], abs=CENT)


def test_terms_without_a_new_date_are_told_nothing_new() -> None:
    tables = read_folder(BY_HAND / "lease")
    some = prepare(tables, OPTIONS)
    told = {
        one.clause: len(told_alike(some, amended(some, one.tables), 0)) == 1 for one in amendments(tables, "reserved")
    }
    assert not told.pop("our notice")
    assert all(told.values())


def test_where_all_is_decided_today_a_shorter_notice_brings_no_news() -> None:
    tables = read_folder(BY_HAND / "lease")
    tables = replace(tables, settings=tables.settings.model_copy(update={"stages": 0}))
    some = prepare(tables, OPTIONS)
    day = next(one for one in amendments(tables, "reserved") if one.clause == "our notice").tables
    ((base, other),) = told_alike(some, amended(some, day), 0)
    assert base.decided.keep_as.max() == other.decided.keep_as.max() == 0


def test_the_curves_of_a_lot_end_at_what_signing_it_is_worth_and_keep_it_whole() -> None:
    found = negotiate(read_folder(BY_HAND / "lease"), "reserved", OPTIONS)
    for point in (found.sizes[-1], found.starts[0]):
        assert point.units == 1.0
        assert point.value_usd == pytest.approx(found.difference_usd, abs=CENT)
    # A quarter of the lot costs a quarter, whole until October; its chips are still more than are ever needed.
    assert found.sizes[0].value_usd == pytest.approx(found.difference_usd + 0.75 * 500_000, abs=CENT)


def test_the_curve_over_start_puts_delivery_and_ways_out_off_together() -> None:
    found = negotiate(read_folder(BY_HAND / "lease"), "reserved", OPTIONS)
    assert [one.delivery_date for one in found.starts] == ["2026-07-01", "2026-09-29", "2026-12-28"]
    assert {one.sign_date for one in found.starts} == {"2026-07-01"}
    # Two days of September's thousand chips are as many chip-hours as that month needs, so it is served whole. Where
    # demand stays that is 122 days; where it goes, nothing is served, and the way out opens with November.
    stays, goes = 122 * 8_640 - 100_000 * (2 / 30 + 3), -100_000 * (2 / 30 + 1)
    # Four days of December's are more than it needs too; there is no way out before the plan ends.
    last = 31 * 8_640 / 2 - 100_000 * 4 / 31
    assert [one.value_usd for one in found.starts[1:]] == pytest.approx([(stays + goes) / 2, last], abs=CENT)
    assert found.starts[2].break_even_fee_ratio == pytest.approx(31 * 8_640 / 2 / (100_000 * 4 / 31))
