from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from offtake.plan.calendar import add_months, calendar_of, signing_dates
from tests.supply.small import offer, settings


def edges(**given: Any) -> list[str]:
    return [date.fromordinal(day).isoformat() for day in calendar_of(settings(**given)).edges.tolist()]


def test_weeks_come_first_then_the_rest_of_the_month_then_calendar_months() -> None:
    assert edges(weeks_first=5, end=date(2026, 8, 31)) == [
        "2026-05-01",
        "2026-05-08",
        "2026-05-15",
        "2026-05-22",
        "2026-05-29",
        "2026-06-05",
        "2026-07-01",
        "2026-08-01",
        "2026-09-01",
    ]


def test_the_last_day_counts_and_may_end_a_period_in_mid_month() -> None:
    calendar = calendar_of(settings(end=date(2026, 6, 10)))
    assert calendar.lengths.tolist() == [31, 10]
    assert calendar.hours.tolist() == [744, 240]


def test_a_horizon_shorter_than_its_weeks_is_cut() -> None:
    assert edges(weeks_first=9, end=date(2026, 5, 10)) == ["2026-05-01", "2026-05-08", "2026-05-11"]


def test_a_week_over_new_year_belongs_to_the_year_it_begins_in() -> None:
    calendar = calendar_of(settings(start=date(2026, 12, 28), end=date(2027, 1, 31), weeks_first=1))
    assert calendar.names == ["2026-12-28", "2027-01-04"]
    assert calendar.years == [2026, 2027]
    assert calendar.year_of_period.tolist() == [0, 1]


def test_a_year_in_the_plan_in_part_has_that_part_of_its_days() -> None:
    shares = calendar_of(settings(start=date(2026, 12, 28), end=date(2028, 2, 29), weeks_first=1)).share_of_year
    assert shares == pytest.approx([7 / 365, 362 / 365, 60 / 366])


def test_means_and_totals_are_over_the_days_of_each_period() -> None:
    calendar = calendar_of(settings(end=date(2026, 6, 10)))
    by_day = np.concatenate([np.full(30, 1.0), np.full(11, 11.0)])
    assert calendar.total(by_day).tolist() == [41, 110]
    assert calendar.mean(by_day) == pytest.approx([41 / 31, 11])


def test_a_day_is_found_in_its_period() -> None:
    calendar = calendar_of(settings(end=date(2026, 6, 10)))
    days = [date(2026, 5, 1), date(2026, 5, 31), date(2026, 6, 1), date(2026, 6, 11), date(2020, 1, 1)]
    assert [calendar.period_of(day.toordinal()) for day in days] == [0, 0, 1, 2, 0]


def test_money_is_discounted_from_the_middle_of_its_period() -> None:
    calendar = calendar_of(settings(start=date(2026, 1, 1), end=date(2026, 1, 31)))
    assert calendar.discount(0.10)[0] == pytest.approx(0.995961, abs=1e-6)  # 1.1 to the power −15.5/365


def test_an_offer_may_be_signed_at_the_start_and_every_few_months_up_to_its_last_day() -> None:
    given = settings(signing_every_months=3)
    assert signing_dates(offer(sign_by=date(2026, 10, 31)), given) == [
        date(2026, 5, 1),
        date(2026, 8, 1),
        date(2026, 10, 31),
    ]
    assert signing_dates(offer(sign_by=date(2026, 5, 31)), given) == [date(2026, 5, 1), date(2026, 5, 31)]
    assert signing_dates(offer(sign_by=date(2026, 8, 1)), given) == [date(2026, 5, 1), date(2026, 8, 1)]
    assert signing_dates(offer(sign_by=date(2099, 1, 1)), given)[-1] == date(2026, 11, 1)  # after the horizon
    assert signing_dates(offer(sign_by=date(2026, 4, 30)), given) == []
    assert signing_dates(offer(), given)[-1] == date(2026, 11, 1)


def test_a_signed_contract_is_signed_at_the_start_only() -> None:
    assert signing_dates(offer(signed=True), settings()) == [date(2026, 5, 1)]


def test_months_are_added_to_the_last_day_of_a_shorter_month() -> None:
    assert add_months(date(2026, 11, 30), 3) == date(2027, 2, 28)
    assert add_months(date(2026, 12, 31), 12) == date(2027, 12, 31)
