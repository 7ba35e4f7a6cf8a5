from __future__ import annotations

from datetime import date

import pytest

from offtake.plan.result import Supply
from offtake.plan.serving import sentence_of, supplies_of
from offtake.plan.solve import Options, solve
from tests.plan.fakes import assembled
from tests.supply.small import offer, settings, tables, tranche, workload

LONG_AGO = date(2026, 1, 1)


def three_contracts(rate_rps: float) -> dict[str, Supply]:
    """50 reserved chips, 30 paid by use, an API of 10 requests a second; a chip serves one request a second."""
    whole = assembled(
        tables(
            settings=settings(end=date(2026, 9, 30)),
            workloads=(workload(rate_rps=rate_rps),),
            offers=(
                offer("reserved", signed=True, fee_usd_per_chip_hour=1.0),
                offer("hourly", signed=True, fee_usd_per_chip_hour=2.0, take_or_pay_share=0.0),
                offer("api", signed=True, tokens_per_minute_max=240_000.0, fee_usd_per_million_output_tokens=10.0),
            ),
            tranches=(
                tranche("reserved", chips_per_unit=50.0, available=LONG_AGO),
                tranche("hourly", chips_per_unit=30.0, available=LONG_AGO),
                tranche("api", chip="", chips_per_unit=0.0, available=LONG_AGO),
            ),
        )
    )
    return {one.kind: one for one in supplies_of(whole, solve(whole.problem, Options(gap=1e-9)))}


def test_each_kind_of_supply_has_the_share_of_all_requests_that_it_serves() -> None:
    found = three_contracts(100.0)
    assert {kind: one.share for kind, one in found.items()} == pytest.approx(
        {"reserved": 0.5, "by use": 0.3, "API": 0.1}
    )
    assert (found["reserved"].chips_most, found["by use"].chips_most, found["API"].chips_most) == pytest.approx(
        (50, 30, 0)
    )


def test_chips_by_use_count_only_where_they_work() -> None:
    found = three_contracts(60.0)
    assert found["by use"].share == pytest.approx(10 / 60)
    assert found["by use"].chips_mean == pytest.approx(10.0)
    assert found["reserved"].fees_usd == pytest.approx(5 * found["by use"].fees_usd / 2)
    assert found["API"].share == 0.0


def test_the_sentence_says_how_much_is_reserved_paid_by_use_and_sent_to_apis() -> None:
    supplies = [
        Supply(kind="reserved", share=0.5, chips_mean=20.0, chips_most=24.0, fees_usd=433_000.0),
        Supply(kind="by use", share=0.3, chips_mean=15.7, chips_most=64.0, fees_usd=410_000.0),
        Supply(kind="API", share=0.1, chips_mean=0.0, chips_most=0.0, fees_usd=43_700.0),
    ]
    assert sentence_of(supplies, 0.1) == (
        "Of all requests, 50% are served on reserved chips (24 at most, $433,000 in fees), 30% on chips paid by use "
        "(16 on average, 64 at most, $410,000 in fees) and 10% through APIs ($43,700 in fees); 10% are refused."
    )


def test_what_serves_nothing_is_not_told() -> None:
    nothing = Supply(kind="reserved", share=0.0, chips_mean=0.0, chips_most=0.0, fees_usd=0.0)
    assert sentence_of([nothing], 1.0) == "Of all requests, 100% are refused."
    everything = Supply(kind="API", share=1.0, chips_mean=0.0, chips_most=0.0, fees_usd=0.0)
    assert sentence_of([nothing, everything], 0.0) == "Of all requests, 100% are served through APIs; none are refused."
