"""The newsvendor of ``test_appraise`` at the table: what each clause is worth is worked out by hand.

A chip earns 2,592 USD a month when busy and costs 720. Demand is 100, 200 or 300 with probability 0.3, 0.5 and 0.2, so
that units of a hundred chips add 187,200, 109,440 and -20,160 USD: the plan signs two.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offtake.plan.appraise import Case, appraisal_of, barred, break_even_ratio, case_of, gap_for, with_forced
from offtake.plan.clauses import amendments
from offtake.plan.negotiate import Desk, deepened, part_of, size_points, worth_of
from offtake.plan.plan import PlanOptions
from offtake.plan.result import Appraisal, OffersAppraisal
from offtake.plan.solve import Options, solve
from offtake.plan.substitutes import appraise_all, pair_of, write_offers
from offtake.schema.read import read_folder
from tests.plan.test_appraise import exactly, newsvendor
from tests.supply.small import chip, growth, offer, settings, tables, tranche, way_out, workload

OPTIONS = Options(gap=1e-9)


@pytest.fixture(scope="module")
def sheet() -> Appraisal:
    some = newsvendor()
    best, without = solve(some.problem, OPTIONS), solve(barred(some.problem, 0), OPTIONS)
    case = Case(assembled=some, offer=0, best=best, without=without, forced=None)
    told: list[float] = []
    desk = Desk(case=case, solve=exactly, progress=lambda _stage, done: told.append(done))
    found = deepened(appraisal_of(case, break_even_ratio(case, exactly)), desk)
    assert told[-1] == 1.0
    return found


def test_a_clause_is_worth_what_it_adds_with_everything_planned_anew(sheet: Appraisal) -> None:
    worth = {one.clause: one.worth_usd for one in sheet.clauses}
    assert worth["fee"] == pytest.approx(0.05 * 720 * 200)
    # A fifth of the fee is then paid for use only: the second hundred is idle with probability 0.3.
    assert worth["take-or-pay"] == pytest.approx(0.2 * 720 * 100 * 0.3)
    assert worth["size"] == pytest.approx(0.0, abs=1e-6)
    assert [one.worth_usd for one in sheet.clauses] == sorted(worth.values(), reverse=True)


def test_the_curve_gives_value_and_break_even_fee_of_each_size(sheet: Appraisal) -> None:
    assert [point.units for point in sheet.sizes] == [0.75, 1.5, 2.25, 3.0]
    assert [point.value_usd for point in sheet.sizes] == pytest.approx([140_400, 241_920, 291_600, 276_480])
    fees = [72_000 * units for units in (0.75, 1.5, 2.25, 3.0)]
    ratios = [1 + value / fee for value, fee in zip((140_400, 241_920, 291_600, 276_480), fees, strict=True)]
    assert [point.break_even_fee_ratio for point in sheet.sizes] == pytest.approx(ratios)


@pytest.mark.parametrize("lot", [{"units_max": 1.0, "whole_units": True}, {"units_max": 1.0, "all_or_nothing": True}])
def test_a_lot_has_a_curve_over_the_sizes_that_it_could_have(lot: dict[str, Any]) -> None:
    some = newsvendor(**lot)
    best, without = exactly(some.problem), exactly(barred(some.problem, 0))
    case = Case(assembled=some, offer=0, best=best, without=without, forced=None)
    points = list(size_points(Desk(case=case, solve=exactly, progress=lambda _stage, _done: None)))
    assert [point.units for point in points] == [0.25, 0.5, 0.75, 1.0]
    # Up to a hundred chips are busy in every future and add 1,872 USD each.
    assert [point.value_usd for point in points] == pytest.approx([46_800, 93_600, 140_400, 187_200])


@pytest.mark.parametrize(
    "terms, part",
    [
        ({}, 1.5),
        ({"whole_units": True}, 1.0),
        ({"units_min": 2.0}, 0.0),
        ({"all_or_nothing": True}, 0.0),
        ({"whole_units": True, "units_max": 1.0}, 0.0),
    ],
)
def test_a_part_is_one_that_can_be_had(terms: dict[str, Any], part: float) -> None:
    assert part_of(offer(**({"units_max": 8.0} | terms)), 3.0) == part


def test_each_choice_is_regretted_where_another_would_have_been_better(sheet: Appraisal) -> None:
    low, middle, high = sheet.branches
    assert (low.branch, middle.branch, high.branch) == ("low", "middle", "high")
    # With demand for one hundred, one unit earns 187,200, two earn 115,200, and 7,200 more at 5% off the fee.
    assert low.regret_usd == pytest.approx({"sign": 72_000, "ration": 187_200, "amend": 64_800, "part": 0}, abs=1e-6)
    assert high.regret_usd == pytest.approx({"sign": 7_200, "ration": 381_600, "amend": 0, "part": 194_400}, abs=1e-6)


def test_a_choice_that_there_is_not_is_explained(sheet: Appraisal) -> None:
    assert sheet.no_choice == {"wait": "it can be signed on the first day alone"}


def test_the_months_add_up_to_the_change_of_the_mean(sheet: Appraisal) -> None:
    assert sum(sheet.difference_by_period_usd) == pytest.approx(sheet.mean_difference_usd)
    assert len(sheet.period_names) == len(sheet.difference_by_period_usd)


def test_the_gap_leaves_no_more_open_than_a_hundredth_of_the_value_of_the_offer() -> None:
    some = newsvendor()
    best, without = exactly(some.problem), exactly(barred(some.problem, 0))  # 296,640 USD and nothing
    case = Case(assembled=some, offer=0, best=best, without=without, forced=None)
    assert gap_for(case, 1e-3) == 1e-3
    loose = replace(case, best=replace(best, bound_usd=best.objective_usd + 2_000.0))
    assert gap_for(loose, 1e-2) == pytest.approx(0.005)
    assert gap_for(loose, 1e-1) == pytest.approx(0.01)  # a tenth of what was asked for
    assert gap_for(loose, 1e-3) == 1e-3
    assert gap_for(replace(loose, without=best, best=best), 1e-3) == 1e-3


def test_what_changes_nothing_on_the_shipped_example_is_worth_next_to_nothing() -> None:
    tables = read_folder(Path(__file__).parents[2] / "examples" / "three-contracts")
    case, ask = case_of(tables, "reserved-h100", PlanOptions())
    desk = Desk(case=case, solve=ask, progress=lambda _stage, _done: None)
    assert case.gap < Options().gap
    known = appraisal_of(case, 1.0)
    idle = [one for one in amendments(tables, "reserved-h100") if one.clause in {"our notice", "size", "prepay"}]
    worth = [worth_of(known, desk, one) for one in idle]
    assert [one is not None and abs(one.worth_usd) < 0.01 * known.difference_usd for one in worth] == [True] * 3


def test_a_lot_that_loses_flips_at_the_clause_that_saves_it() -> None:
    # All 300 chips or none, at 2 USD an hour: 432,000 against 2,592 x (100 + 70 + 20) = 492,480 - so 2.3 USD: a loss of
    # 4,320 that 5% off the fee (24,840) turns, and that no other clause has to be moved for.
    some = newsvendor(fee=2.3, all_or_nothing=True)
    best, without = solve(some.problem, OPTIONS), solve(barred(some.problem, 0), OPTIONS)
    assert not best.signed.any()
    case = Case(assembled=some, offer=0, best=best, without=without, forced=None)
    case = with_forced(case, exactly)
    desk = Desk(case=case, solve=exactly, progress=lambda _stage, _done: None)
    found = deepened(appraisal_of(case, break_even_ratio(case, exactly)), desk)
    by_name = {one.clause: one for one in found.clauses}
    assert found.forced_usd == pytest.approx(492_480 - 496_800)
    assert by_name["fee"].value_usd == pytest.approx(492_480 - 496_800 * 0.95)
    assert by_name["fee"].flips
    assert found.flip


def test_every_clause_moves_one_thing_and_leaves_the_others() -> None:
    lease = tables(
        settings=settings(start=date(2026, 6, 1), end=date(2026, 12, 31)),
        offers=(offer(fee_usd_per_chip_hour=1.0, prepay_share=0.2, term_days=200, reclaim_per_year=1.0),),
        chips=(chip(), chip("h200")),
        tranches=(
            tranche(
                available=date(2026, 8, 1),
                lead_days=40,
                slip_days_max=20,
                ramp_days=10,
                substitute_chip="h200",
                substitute_probability=0.25,
            ),
        ),
        exits=(way_out("only", "either", date(2026, 10, 1), notice_days=60, fee_usd_per_unit=1_000.0),),
    )
    some = {one.clause: one for one in amendments(lease, "lease")}
    assert set(some) >= {"fee", "our notice", "our lock", "their notice", "reclaim right", "lead time", "ramp", "term"}
    for one in some.values():
        changed = [
            name for name in ("offers", "tranches", "exits") if getattr(one.tables, name) != getattr(lease, name)
        ]
        assert len(changed) == 1, one.clause
        assert one.tables == replace(lease, **{changed[0]: getattr(one.tables, changed[0])})
    assert some["our notice"].tables.exits[0].notice_days == 30
    assert some["our notice"].tables.exits[1].notice_days == 60
    assert some["their notice"].tables.exits[1].notice_days == 150
    assert some["lead time"].tables.tranches[0].available == date(2026, 7, 2)
    assert [one.fee_usd_per_unit for one in some["our cancelling fee"].tables.exits] == [500.0, 1_000.0]
    assert [one.fee_usd_per_unit for one in some["their cancelling fee"].tables.exits] == [1_000.0, 74_000.0]
    assert some["substitution"].tables.tranches[0].substitute_probability == 0.0
    assert some["prepay"].tables.offers[0].prepay_share == 0.0
    assert amendments(lease, "lease", 2.0)[0].tables.offers[0].fee_usd_per_chip_hour == pytest.approx(0.9)


def test_two_of_a_kind_stand_in_for_each_other(tmp_path: Path) -> None:
    both = tables(
        settings=settings(start=date(2026, 6, 1), end=date(2026, 6, 30), scenarios=1),
        growth=(growth("only", 1.0, 1.0),),
        workloads=(workload(rate_rps=1.0, value_usd_per_request=1.0),),
        offers=(offer("a", fee_usd_per_chip_hour=1.0), offer("b", fee_usd_per_chip_hour=1.0)),
        tranches=tuple(tranche(one, chips_per_unit=100.0, available=date(2026, 6, 1)) for one in "ab"),
    )
    found = appraise_all(both, PlanOptions(solver=OPTIONS))
    assert [one.worth_usd for one in found.offers] == pytest.approx([0.0, 0.0], abs=1e-3)
    (pair,) = found.pairs
    assert (pair.one, pair.other, pair.kind) == ("a", "b", "substitutes")
    assert pair.together_usd > 0
    path = write_offers(found, tmp_path)
    assert msgspec.json.decode((path / "offers.json").read_bytes(), type=OffersAppraisal) == found


def test_what_the_solver_leaves_open_is_not_called_a_relation() -> None:
    assert pair_of("a", "b", 1.9, 1.0).kind == "apart"
    assert pair_of("a", "b", -2.1, 1.0).kind == "complements"
