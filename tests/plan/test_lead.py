"""What a week of lead time is worth: sums done by hand, with and without somebody who waits."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from offtake.plan.judging import Case
from offtake.plan.lead import lead_prices
from offtake.plan.pool import Pool
from offtake.plan.result import Price
from offtake.plan.solve import Options
from tests.plan.fakes import assembled
from tests.supply import small

EXACT = Options(gap=1e-9)
WEEK_HOURS = 7 * 24.0


def lead(value_usd: float = 3.0, available: date = date(2026, 6, 15), lead_days: int = 0, **given: Any) -> list[Price]:
    """A chip from mid-June on that serves one request a second, for 2 USD an hour; one more in May if it is asked."""
    offer: dict[str, Any] = {"fee_usd_per_chip_hour": 2.0, "whole_units": True}
    one = assembled(
        small.tables(
            settings=small.settings(end=date(2026, 7, 31), signing_every_months=120),
            offers=(small.offer(**(offer | given)),),
            tranches=(small.tranche(chips_per_unit=1.0, available=available, lead_days=lead_days),),
            workloads=(small.workload(rate_rps=1.0, value_usd_per_request=value_usd / 3600),),
        )
    )
    pool = Pool(one.problem, EXACT)
    return lead_prices(Case(assembled=one, solution=pool.solve(), pool=pool, solver=EXACT))


@pytest.mark.parametrize("signed", [False, True])
def test_a_week_of_lead_time_is_worth_what_a_week_of_the_chip_earns(signed: bool) -> None:
    (price,) = lead(signed=signed)
    assert price.price == pytest.approx(WEEK_HOURS * (3.0 - 2.0))
    assert price.unit == "USD per week"
    assert price.when == "promised for 2026-06-15"
    assert price.sentence == (
        "Delivery of lease: a week sooner adds $168, a week later costs $168, with what is signed held."
    )


def test_a_contract_that_loses_money_is_better_late() -> None:
    (price,) = lead(value_usd=1.5, signed=True)
    assert price.price == pytest.approx(-WEEK_HOURS * 0.5)
    assert "a week sooner costs $84, a week later adds $84" in price.sentence


def test_an_offer_is_not_promised_before_the_first_day() -> None:
    (price,) = lead(available=date(2026, 5, 1))
    assert price.price == pytest.approx(WEEK_HOURS)
    assert price.sentence == "Delivery of lease: a week later costs $168, with what is signed held."


def test_a_lead_time_from_signing_is_moved_too() -> None:
    (price,) = lead(available=date(2026, 1, 1), lead_days=45)
    assert price.when == "promised for 2026-06-15"
    assert "a week sooner adds $168, a week later costs $168" in price.sentence


def test_what_is_there_already_or_left_has_no_price_of_lead_time() -> None:
    assert lead(available=date(2026, 5, 1), signed=True) == []
    assert lead(value_usd=1.0) == []
