from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from offtake.plan.calendar import Calendar
from offtake.supply.delivery import Draw, as_promised, deliver, first_days
from offtake.supply.offer import NEVER, buyer_lock_day, provider_exit_day, terms_of
from tests.supply.small import offer, tranche, way_out

MAY_1 = date(2026, 5, 1).toordinal()
MONTHS = Calendar(edges=np.array([date(2026, m, 1).toordinal() for m in (5, 6, 7, 8, 9)]))


def luck(slips: list[int], **given: Any) -> Draw:
    count = len(slips)
    known: dict[str, Any] = {
        "there": np.ones(count, dtype=np.bool_),
        "slip_days": np.array(slips).reshape(count, 1),
        "exit_day": np.full(count, NEVER),
        "lost_day": np.full((count, 1), NEVER),
    }
    return Draw(**(known | given))


def monthly(draw: Draw, *, sign_day: int = MAY_1, terms: dict[str, Any] | None = None, **given: Any) -> Any:
    some = terms_of(offer(**(terms or {})), (tranche(**given),), ())
    return MONTHS.mean(deliver(some, sign_day, draw, MONTHS.days).counted[:, 0])


def test_a_tranche_that_comes_in_mid_month_counts_for_the_days_on_which_it_is_there() -> None:
    may, june = monthly(luck([0]), available=date(2026, 5, 22))[0, :2]
    assert may == pytest.approx(10 / 31)
    assert june == 1


def test_each_scenario_slips_by_its_own_days() -> None:
    shares = monthly(luck([0, 15, 45]), available=date(2026, 6, 1))
    assert shares[:, 1] == pytest.approx([1, 0.5, 0])
    assert shares[:, 2] == pytest.approx([1, 1, 16 / 31])


def test_a_ramp_delivers_half_of_its_chips_on_average() -> None:
    shares = monthly(luck([0]), available=date(2026, 6, 1), ramp_days=30)
    assert shares[0, 1] == pytest.approx(0.5)
    assert shares[0, 2] == 1


def test_capacity_counts_only_after_its_qualification() -> None:
    assert monthly(luck([0]), available=date(2026, 6, 1), qualification_days=15)[0, 1] == pytest.approx(0.5)


def test_the_lead_time_runs_from_the_signature() -> None:
    late = date(2026, 6, 11).toordinal()
    assert monthly(luck([0]), sign_day=late, lead_days=30, available=date(2026, 6, 1))[0, 1:3] == pytest.approx(
        [0, 21 / 31]
    )


def test_the_term_runs_from_the_first_delivery() -> None:
    shares = monthly(luck([10]), available=date(2026, 5, 1), terms={"term_days": 31})
    assert shares[0] == pytest.approx([21 / 31, 10 / 30, 0, 0])


def test_nothing_comes_after_the_providers_exit_or_the_loss_of_the_site() -> None:
    june_16 = date(2026, 6, 16).toordinal()
    assert monthly(luck([0], exit_day=np.array([june_16])))[0] == pytest.approx([1, 0.5, 0, 0])
    assert monthly(luck([0], lost_day=np.array([[june_16]])))[0] == pytest.approx([1, 0.5, 0, 0])


def test_what_a_signed_contract_has_delivered_slips_no_more() -> None:
    some = terms_of(offer(signed=True), (tranche(available=date(2026, 1, 1)),), ())
    assert first_days(some, MAY_1, luck([90]))[0, 0] == date(2026, 1, 1).toordinal()
    coming = terms_of(offer(signed=True), (tranche(available=date(2026, 6, 1), lead_days=400),), ())
    assert first_days(coming, MAY_1, luck([30]))[0, 0] == date(2026, 7, 1).toordinal()


def test_the_provider_leaves_on_the_first_day_of_the_reading_that_holds_plus_its_wait() -> None:
    exits = (
        way_out("s-1", "either", date(2026, 8, 1), weight=0.2),
        way_out("s-1a", "either", date(2026, 11, 1), weight=0.5),
        way_out("strict", "buyer", date(2027, 1, 28), weight=0.3),
    )
    some = terms_of(offer(), (tranche(),), exits)
    days = provider_exit_day(some, MAY_1, np.array([0, 1, 2, 0]), np.array([0.0, 1.0, 0.0, np.inf]))
    assert [date.fromordinal(day) for day in days[:2].tolist()] == [date(2026, 8, 1), date(2027, 11, 1)]
    assert days[2:].tolist() == [NEVER, NEVER]


def test_a_later_signature_cannot_shorten_the_notice() -> None:
    some = terms_of(offer(), (tranche(),), (way_out("only", "either", date(2026, 8, 1), notice_days=90),))
    july_1 = date(2026, 7, 1).toordinal()
    assert provider_exit_day(some, july_1, np.array([0]), np.array([0.0]))[0] == date(2026, 9, 29).toordinal()
    assert buyer_lock_day(some, july_1) == date(2026, 9, 29).toordinal()


def test_the_buyer_is_bound_to_the_latest_day_of_any_reading_with_weight() -> None:
    exits = (
        way_out("early", "buyer", date(2026, 8, 1), weight=0.4),
        way_out("late", "either", date(2026, 11, 1), weight=0.6),
        way_out("never", "provider", date(2026, 11, 1), weight=0.0),
    )
    assert buyer_lock_day(terms_of(offer(), (tranche(),), exits), MAY_1) == date(2026, 11, 1).toordinal()
    one_sided = terms_of(offer(), (tranche(),), (*exits[:1], way_out("no", "provider", date(2026, 8, 1))))
    assert buyer_lock_day(one_sided, MAY_1) == NEVER
    assert buyer_lock_day(terms_of(offer(), (tranche(),), ()), MAY_1) == NEVER


def test_a_renewal_goes_on_where_the_term_ends_and_the_buyer_is_free_from_there() -> None:
    some = terms_of(offer(term_days=60, renewal_days=30), (tranche(slip_days_max=10),), ())
    chance = as_promised(some)
    days = np.arange(MAY_1, MAY_1 + 123, dtype=np.int64)
    assert deliver(some, MAY_1, chance, days).alive.sum() == 90
    assert buyer_lock_day(some, MAY_1) == MAY_1 + 70  # as late as the term can end


def test_a_right_to_cancel_before_the_end_of_the_term_stays_with_a_renewal() -> None:
    exits = (way_out("only", "buyer", date(2026, 6, 1), notice_days=10),)
    some = terms_of(offer(term_days=60, renewal_days=30), (tranche(),), exits)
    assert buyer_lock_day(some, MAY_1) == date(2026, 6, 1).toordinal()
