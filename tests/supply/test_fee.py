from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from offtake.supply.delivery import Draw, deliver
from offtake.supply.fee import (
    cancel_usd,
    paid_usd_by_day,
    prepay_left_usd,
    prepay_usd,
    terminal_usd,
    used_usd_per_chip_hour,
)
from offtake.supply.offer import NEVER, Terms, terms_of
from tests.supply.small import offer, tranche, way_out

MAY_1 = date(2026, 5, 1).toordinal()
MAY, JUNE, JULY, AUGUST = slice(0, 31), slice(31, 61), slice(61, 92), slice(92, 123)
DAYS = np.arange(MAY_1, MAY_1 + 123, dtype=np.int64)


def terms(*tranches: Any, **given: Any) -> Terms:
    return terms_of(offer(**given), tranches or (tranche(),), ())


def draw(*, slip: int = 0, exit_day: int = NEVER, lost_day: int = NEVER, there: bool = True, tranches: int = 1) -> Draw:
    return Draw(
        there=np.array([there]),
        slip_days=np.full((1, tranches), slip),
        exit_day=np.array([exit_day]),
        lost_day=np.full((1, tranches), lost_day),
    )


def paid(some: Terms, luck: Draw, sign_day: int = MAY_1) -> Any:
    return paid_usd_by_day(some, sign_day, luck, deliver(some, sign_day, luck, DAYS))[0]


def test_a_monthly_fee_costs_the_same_in_long_and_short_months() -> None:
    days = paid(terms(fee_usd_per_month=1_000_000), draw())
    assert [days[m].sum() for m in (MAY, JUNE, JULY)] == pytest.approx([1_000_000] * 3)


def test_a_chip_hour_fee_pays_each_hour_of_each_chip() -> None:
    days = paid(terms(fee_usd_per_chip_hour=2.0), draw())
    assert days[MAY].sum() == pytest.approx(148_800.0)  # 100 chips, 31 days of 24 hours, 2 USD


def test_the_ramp_discount_halves_may_and_june_and_ends_with_its_last_day() -> None:
    some = terms(fee_usd_per_month=1_250_000_000, ramp_discount_share=0.5, ramp_discount_until=date(2026, 6, 30))
    days = paid(some, draw())
    assert [days[m].sum() for m in (MAY, JUNE, JULY)] == pytest.approx([625_000_000, 625_000_000, 1_250_000_000])


def test_with_a_full_late_remedy_nothing_is_owed_before_delivery() -> None:
    days = paid(terms(fee_usd_per_month=300_000, late_remedy_share=1.0), draw(slip=31))
    assert days[MAY].sum() == 0
    assert days[JUNE].sum() == pytest.approx(300_000)


def test_without_a_late_remedy_the_fee_runs_from_the_promised_day() -> None:
    days = paid(terms(fee_usd_per_month=300_000, late_remedy_share=0.0), draw(slip=31))
    assert days[MAY].sum() == pytest.approx(300_000)


def test_a_late_remedy_of_a_quarter_takes_a_quarter_off_what_is_late() -> None:
    hourly = paid(terms(fee_usd_per_chip_hour=1.0, late_remedy_share=0.25), draw(slip=31))
    monthly = paid(terms(fee_usd_per_month=400_000, late_remedy_share=0.25), draw(slip=31))
    assert hourly[MAY].sum() == pytest.approx(55_800.0)  # three quarters of 100 chips × 744 h × 1 USD
    assert monthly[MAY].sum() == pytest.approx(300_000)
    assert monthly[JUNE].sum() == pytest.approx(400_000)


def test_a_monthly_fee_is_owed_in_proportion_to_the_chips_that_are_not_late() -> None:
    parts = (tranche(name="a", chips_per_unit=300.0), tranche(name="b", chips_per_unit=100.0))
    some = terms(*parts, fee_usd_per_month=400_000, late_remedy_share=1.0)
    luck = Draw(
        there=np.array([True]),
        slip_days=np.array([[0, 31]]),
        exit_day=np.array([NEVER]),
        lost_day=np.full((1, 2), NEVER),
    )
    days = paid(some, luck)
    assert days[MAY].sum() == pytest.approx(300_000)
    assert days[JUNE].sum() == pytest.approx(400_000)


def test_chips_lost_with_their_site_are_no_longer_owed_even_without_a_late_remedy() -> None:
    lost = MAY_1 + 61
    days = paid(terms(fee_usd_per_month=300_000, late_remedy_share=0.0), draw(lost_day=lost))
    assert days[JUNE].sum() == pytest.approx(300_000)
    assert days[JULY].sum() == 0


def test_only_the_take_or_pay_share_is_due_whether_used_or_not() -> None:
    some = terms(fee_usd_per_chip_hour=4.0, take_or_pay_share=0.75)
    assert paid(some, draw())[0] == pytest.approx(7_200.0)  # 100 chips × 24 h × 3 USD
    assert used_usd_per_chip_hour(some, DAYS)[0] == pytest.approx(1.0)


def test_the_price_of_use_under_a_monthly_fee_is_its_hourly_equivalent() -> None:
    some = terms(fee_usd_per_month=73_000.0, take_or_pay_share=0.0)
    assert used_usd_per_chip_hour(some, DAYS)[0] == pytest.approx(1.0)  # 100 chips × 730 h


def test_the_prepayment_is_set_off_against_the_earliest_fees() -> None:
    some = terms(fee_usd_per_chip_hour=1.0, prepay_share=0.1)
    assert prepay_usd(some, MAY_1) == pytest.approx(87_600.0)  # a tenth of 100 chips × 8,760 h
    days = paid(some, draw())
    assert days[MAY].sum() == 0  # 74,400 of it
    assert days[JUNE].sum() == pytest.approx(72_000 - 13_200)
    assert days[JULY].sum() == pytest.approx(74_400)


def test_a_provider_that_leaves_returns_what_is_not_set_off() -> None:
    some = terms(fee_usd_per_chip_hour=1.0, prepay_share=0.1)
    days = paid(some, draw(exit_day=MAY_1 + 31))
    assert days[JUNE].sum() == pytest.approx(-13_200)
    assert days[31] == pytest.approx(-13_200)


def test_an_offer_whose_sites_are_all_lost_returns_what_is_not_set_off() -> None:
    some = terms(fee_usd_per_chip_hour=1.0, prepay_share=0.1)
    days = paid(some, draw(lost_day=MAY_1 + 31))
    assert days[31] == pytest.approx(-13_200)
    assert days[JULY].sum() == 0


def test_an_offer_that_cannot_be_had_returns_its_prepayment_and_costs_nothing() -> None:
    some = terms(fee_usd_per_chip_hour=1.0, prepay_share=0.1)
    assert paid(some, draw(there=False)).sum() == pytest.approx(-87_600)
    assert paid(terms(fee_usd_per_chip_hour=1.0), draw(there=False)).sum() == 0


def test_a_contract_that_runs_already_has_used_up_part_of_its_prepayment() -> None:
    some = terms(tranche(available=date(2026, 4, 1)), fee_usd_per_chip_hour=1.0, prepay_share=0.1, signed=True)
    assert prepay_left_usd(some, MAY_1) == pytest.approx(15_600.0)  # 87,600 less April's 72,000
    assert paid(some, draw())[MAY].sum() == pytest.approx(74_400 - 15_600)


def test_a_renewal_costs_its_ratio_from_the_day_on_which_the_term_is_over() -> None:
    some = terms(fee_usd_per_chip_hour=1.0, term_days=31, renewal_days=30, renewal_fee_ratio=1.5)
    days = paid(some, draw())
    assert [days[m].sum() for m in (MAY, JUNE, JULY)] == pytest.approx([74_400.0, 108_000.0, 0.0])  # 100 chips


def test_a_late_delivery_moves_the_renewal_with_it() -> None:
    some = terms(fee_usd_per_chip_hour=1.0, term_days=31, renewal_days=30, renewal_fee_ratio=0.5)
    days = paid(some, draw(slip=31))
    assert [days[m].sum() for m in (MAY, JUNE, JULY, AUGUST)] == pytest.approx([0.0, 72_000.0, 38_400.0, 0.0])


def test_nothing_of_a_renewal_is_prepaid() -> None:
    given = {"fee_usd_per_chip_hour": 1.0, "term_days": 31, "prepay_share": 0.5}
    assert prepay_usd(terms(**given, renewal_days=300), MAY_1) == pytest.approx(37_200.0)
    assert prepay_usd(terms(**given), MAY_1) == pytest.approx(37_200.0)


def test_the_hours_of_the_term_beyond_the_horizon_have_a_value_and_no_fee() -> None:
    # 123 days of horizon, 133 of term: ten days of 100 chips at 0.5 USD an hour are left
    some = terms(fee_usd_per_chip_hour=1.0, term_days=133, terminal_usd_per_chip_hour=0.5)
    days = paid(some, draw())
    assert days[-1] == pytest.approx(2_400.0)  # it is no payment
    assert days[-2] == pytest.approx(2_400.0)


@pytest.mark.parametrize(
    ("luck", "usd"),
    [
        (draw(), 12_000.0),
        (draw(slip=3), 15_600.0),  # the term moves with its deliveries
        (draw(exit_day=MAY_1 + 126), 3_600.0),
        (draw(lost_day=MAY_1 + 124), 1_200.0),
        (draw(lost_day=MAY_1 + 100), 0.0),
        (draw(there=False), 0.0),
    ],
)
def test_what_ends_the_term_ends_its_terminal_value(luck: Draw, usd: float) -> None:
    some = terms(term_days=133, terminal_usd_per_chip_hour=0.5)
    assert terminal_usd(some, luck, deliver(some, MAY_1, luck, DAYS)) == pytest.approx([usd])


def test_a_provider_that_leaves_pays_for_it_on_the_day_it_is_gone() -> None:
    luck = replace(draw(exit_day=MAY_1 + 40), exit_usd=np.array([5_000.0]))
    days = paid(terms(fee_usd_per_chip_hour=1.0), luck)
    assert days[39:42].tolist() == pytest.approx([2_400, -5_000, 0])
    over = paid(terms(fee_usd_per_chip_hour=1.0, term_days=31), luck)
    assert over[31:].tolist() == [0] * 92  # the term was over before


def test_the_buyer_pays_for_ending_a_unit_while_the_term_runs() -> None:
    way = way_out("only", "buyer", date(2026, 6, 1), notice_days=0, fee_usd_per_unit=700.0)
    starts = np.array([MAY_1, MAY_1 + 31, MAY_1 + 61])
    some = terms_of(offer(term_days=60), (tranche(),), (way,))
    assert cancel_usd(some, MAY_1, draw(), starts).tolist() == [[0, 700, 0]]
    assert cancel_usd(some, MAY_1, draw(exit_day=MAY_1 + 20), starts).tolist() == [[0, 0, 0]]
    assert cancel_usd(some, MAY_1, draw(there=False), starts).tolist() == [[0, 0, 0]]
