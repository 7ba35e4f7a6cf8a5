"""A newsvendor by hand.

One month of 30 days (2,592,000 s), a chip serves 1 request/s, a request is worth 0.001 USD, so a busy chip earns
2,592 USD a month. Demand is 100, 200 or 300 requests/s with probability 0.3, 0.5 and 0.2. A chip costs 1 USD an
hour: 720 USD a month. The k-th hundred of chips earns 2,592 × P(demand ≥ k hundred) = 2,592, 1,814.4 and 518.4 USD
a chip: worth having twice, not a third time.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from offtake.errors import InputError
from offtake.plan.appraise import (
    Case,
    appraisal_of,
    appraise,
    at_fee,
    barred,
    break_even_ratio,
    forced_in_full,
    with_forced,
    write_appraisal,
)
from offtake.plan.assemble import Assembled
from offtake.plan.problem import Problem
from offtake.plan.result import Appraisal
from offtake.plan.solution import Solution
from offtake.plan.solve import Options, solve
from offtake.schema.settings import Limits, Risk
from tests.plan.fakes import assembled
from tests.supply.small import growth, offer, settings, tables, tranche, workload

JUNE = settings(start=date(2026, 6, 1), end=date(2026, 6, 30), scenarios=3)
FAN = (growth("low", 0.3, 1.0), growth("middle", 0.5, 1.0), growth("high", 0.2, 1.0))
DEMAND = np.array([100.0, 200.0, 300.0]).reshape(3, 1, 1)
OPTIONS = Options(gap=1e-9)


def exactly(problem: Problem) -> Solution:
    return solve(problem, OPTIONS)


def newsvendor(*, fee: float = 1.0, risk: float = 0.0, **terms: Any) -> Assembled:
    return assembled(
        tables(
            settings=JUNE,
            growth=FAN,
            risk=Risk(weight=risk, alpha=0.8),
            workloads=(workload(value_usd_per_request=0.001),),
            offers=(offer(**({"units_max": 3.0, "fee_usd_per_chip_hour": fee} | terms)),),
            tranches=(tranche(chips_per_unit=100.0, available=date(2026, 6, 1)),),
        ),
        rate_rps=DEMAND,
    )


def appraised(some: Assembled) -> Appraisal:
    problem = some.problem
    best, without = solve(problem, OPTIONS), solve(barred(problem, 0), OPTIONS)
    full = best.signed[:, 0].sum() == pytest.approx(3.0)
    forced = None if full else solve(forced_in_full(problem, 0), OPTIONS)
    case = Case(assembled=some, offer=0, best=best, without=without, forced=forced)
    return appraisal_of(case, break_even_ratio(case, exactly))


def test_the_newsvendor_signs_what_pays_on_average() -> None:
    found = appraised(newsvendor())
    assert found.sign
    assert found.units == pytest.approx(2.0)
    assert found.without_usd == pytest.approx(0.0)
    assert found.difference_usd == pytest.approx(296_640.0)  # 259,200 + 181,440 − 2 × 72,000
    assert found.forced_usd == pytest.approx(276_480.0)  # and 51,840 − 72,000 more for the third


def test_each_scenario_tells_its_own_difference() -> None:
    found = appraised(newsvendor())
    assert found.difference_by_scenario_usd == pytest.approx([115_200, 374_400, 374_400])
    assert found.scenario_probability == pytest.approx([0.3, 0.5, 0.2])
    assert found.mean_difference_usd == pytest.approx(296_640)
    assert found.proves_right_share == pytest.approx(1.0)


def test_the_break_even_fee_of_a_fixed_size_is_its_fee_and_its_value_over_its_fee() -> None:
    found = appraised(newsvendor(all_or_nothing=True))
    assert found.fee_paid_usd == pytest.approx(216_000)
    assert found.break_even_fee_ratio == pytest.approx(1 + 276_480 / 216_000)


def test_the_break_even_fee_of_an_offer_that_can_be_had_in_part_is_that_of_its_best_part() -> None:
    """At 3.06 times the fee the two hundred chips of today's plan are worth nothing; the first hundred still are."""
    found = appraised(newsvendor())
    assert found.fee_paid_usd == pytest.approx(144_000)
    assert found.break_even_fee_ratio == pytest.approx(2_592 / 720)


def test_the_answer_tells_of_each_fee_which_size_of_a_divisible_offer_it_is_for() -> None:
    answer = appraised(newsvendor()).answer
    assert "at this size the fee could be 306% of the fee asked (3.06 USD a chip-hour)" in answer
    assert answer.endswith("; some of it pays up to 360% of the fee asked (3.6 USD a chip-hour).")
    assert "flips" not in answer


def test_where_the_size_that_is_priced_is_the_last_that_pays_only_one_fee_is_told() -> None:
    answer = appraised(newsvendor(fee=3.0)).answer  # one hundred chips
    assert answer.endswith("at this size the fee could be 120% of the fee asked (3.6 USD a chip-hour).")


@pytest.mark.parametrize(("fee", "share"), [(1.0, "228%"), (4.0, "57%")])
def test_the_answer_about_all_or_nothing_flips_at_one_fee(fee: float, share: str) -> None:
    answer = appraised(newsvendor(fee=fee, all_or_nothing=True)).answer
    assert answer.endswith(f", and the answer flips at {share} of the fee asked (2.28 USD a chip-hour).")


def test_above_the_break_even_fee_the_best_plan_takes_nothing_and_below_it_something() -> None:
    some = newsvendor()
    dearer, cheaper = (solve(at_fee(some, 0, 3.6 * share), OPTIONS).signed[:, 0].sum() for share in (1.01, 0.99))
    assert dearer == pytest.approx(0.0)
    assert cheaper == pytest.approx(1.0)


def test_an_offer_that_loses_is_left_and_the_fee_at_which_it_flips_is_that_of_its_best_part() -> None:
    found = appraised(newsvendor(fee=4.0))
    assert not found.sign
    assert found.difference_usd == pytest.approx(0.0)
    assert found.forced_usd == pytest.approx(492_480 - 864_000)
    assert found.break_even_fee_ratio == pytest.approx(0.9)  # 2,592 of 2,880; held in full, 492,480 of 864,000
    assert found.proves_right_share == 0
    assert found.answer.startswith("Do not sign lease: in full it would lose $371,520")
    assert "signing it in full flips at 57% of the fee asked (2.28 USD a chip-hour)" in found.answer
    assert found.answer.endswith("; some of it pays up to 90% of the fee asked (3.6 USD a chip-hour).")


def test_where_signing_proves_right_only_in_high_demand_the_share_says_so() -> None:
    found = appraised(newsvendor(fee=3.0, all_or_nothing=True))
    assert not found.sign
    assert found.difference_by_scenario_usd == pytest.approx([-388_800, -129_600, 129_600])
    assert found.proves_right_share == pytest.approx(0.2)


def test_with_a_weight_on_risk_the_fee_at_which_it_flips_is_lower() -> None:
    """The worst 20% lie in low demand: 43,200 there and 276,480 on average make 319,680 (weight 1)."""
    found = appraised(newsvendor(risk=1.0, all_or_nothing=True))
    assert found.units == pytest.approx(3.0)
    assert found.difference_usd == pytest.approx(319_680)
    assert found.cvar_difference_usd == pytest.approx(-43_200)
    assert found.break_even_fee_ratio == pytest.approx(1 + 319_680 / 432_000)  # fees count twice


def test_a_signed_contract_is_appraised_against_not_having_it() -> None:
    some = newsvendor(fee=4.0, signed=True)
    found = appraised(some)
    assert found.units == pytest.approx(3.0)
    assert found.difference_usd == pytest.approx(492_480 - 864_000)
    assert found.answer.startswith("lease is signed: having it loses $371,520")


def test_forcing_signs_the_first_date_in_full_and_no_other() -> None:
    some = assembled(tables(settings=settings(), offers=(offer(units_max=5.0, units_min=2.0),)))
    vintages = forced_in_full(some.problem, 0).vintages
    assert vintages.signed.tolist() == [True, False, False]
    assert vintages.units_max.tolist() == [5, 0, 0]


def test_an_appraisal_tells_what_is_displaced() -> None:
    rival = offer("rival", units_max=3.0, fee_usd_per_chip_hour=1.5)
    some = assembled(
        tables(
            settings=JUNE,
            growth=FAN,
            workloads=(workload(value_usd_per_request=0.001),),
            offers=(offer(units_max=3.0, fee_usd_per_chip_hour=1.0), rival),
            tranches=(tranche(available=date(2026, 6, 1)), tranche("rival", available=date(2026, 6, 1))),
        ),
        rate_rps=DEMAND,
    )
    found = appraised(some)
    assert found.difference_usd == pytest.approx(72_000)  # the rival's two hundred chips cost half as much again
    assert found.displaces == ["rival: 2 units less (−0.28 MW)."]


def test_an_appraisal_tells_how_much_less_is_paid_by_use() -> None:
    on_demand = offer("rival", signed=True, units_max=3.0, fee_usd_per_chip_hour=1.5, take_or_pay_share=0.0)
    some = assembled(
        tables(
            settings=JUNE,
            growth=FAN,
            workloads=(workload(value_usd_per_request=0.001),),
            offers=(offer(units_max=3.0, fee_usd_per_chip_hour=1.0), on_demand),
            tranches=(tranche(available=date(2026, 6, 1)), tranche("rival", available=date(2026, 6, 1))),
        ),
        rate_rps=DEMAND,
    )
    found = appraised(some)
    # 190 chips on average at 1.5 USD an hour without; the third hundred in a fifth of the futures with two units.
    assert found.units == pytest.approx(2.0)
    assert found.displaces == ["rival: $183,600 less paid for its use."]


def test_an_appraisal_is_written_whole_under_the_offers_name(tmp_path: Any) -> None:
    found = appraised(newsvendor())
    write_appraisal(found, tmp_path)
    again = write_appraisal(found, tmp_path)
    assert again == tmp_path / "appraise" / "lease"
    assert [one.name for one in again.iterdir()] == ["appraisal.json"]
    assert [one.name for one in tmp_path.iterdir()] == ["appraise"]


def test_an_unknown_offer_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="Did you mean 'lease'"):
        appraise(tables(), "leese")


def test_an_offer_that_no_plan_could_hold_in_full_says_which_limit_is_in_the_way() -> None:
    some = assembled(
        tables(
            settings=JUNE,
            limits=Limits(budget_usd_per_year=1000.0),
            offers=(offer(fee_usd_per_chip_hour=1.0, all_or_nothing=True),),
            tranches=(tranche(available=date(2026, 6, 1)),),
        )
    )
    best = solve(some.problem, OPTIONS)
    case = with_forced(Case(assembled=some, offer=0, best=best, without=best, forced=None), solve)
    found = appraisal_of(case, break_even_ratio(case, solve))
    assert found.answer == "Do not sign lease: no plan that has all of it keeps the limits."
    assert "budget" in " ".join(found.sentences)
    assert found.forced_usd is None
    assert found.displaces == []
