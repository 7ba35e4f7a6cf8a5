"""Cut fleets from plans small enough to work out by hand.

One site of 100 chips at 1.4 kW busy and 0.42 kW idle; a chip serves 1 request/s, a request is worth 0.01 USD, so a busy
chip-hour earns 36 USD.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from offtake.fleet import Pool
from offtake.plan.assemble import Assembled
from offtake.plan.cuts import cut_week, default_week
from offtake.plan.fleets import fleet_of
from offtake.plan.solution import Solution
from offtake.plan.solve import Options, solve
from offtake.schema.settings import RegionRow
from tests.plan.fakes import assembled
from tests.supply.small import job, link, offer, settings, site, tables, tranche, workload

JUNE = settings(start=date(2026, 6, 1), end=date(2026, 6, 30))
TWO_BLOCKS: dict[str, Any] = {
    "blocks": ["busiest", "quietest"],
    "block_share": np.array([0.25, 0.75]),
    "block_of_hour": [0] * 42 + [1] * 126,
    "level": np.array([[1.9], [0.7]]),
}


def small(rps: float, *, terms: dict[str, Any] | None = None, **given: Any) -> Assembled:
    """One offer of 100 chips, signed."""
    known: dict[str, Any] = {
        "settings": JUNE,
        "offers": (offer(signed=True, **(terms or {})),),
        "tranches": (tranche(available=date(2026, 5, 1)),),
    }
    return assembled(tables(**(known | given)), rate_rps=np.full((1, 1, 1), rps), **TWO_BLOCKS)


def pool_of(some: Assembled, solution: Solution | None = None) -> Pool:
    plan = solution or solve(some.problem, Options(gap=1e-9))
    return fleet_of(cut_week(some, plan, date(2026, 6, 1)), "0", "").pools[0]


def test_a_fee_for_use_is_not_in_the_bid_price_too() -> None:
    pool = pool_of(small(40.0, terms={"take_or_pay_share": 0.0, "fee_usd_per_chip_hour": 3.0}))
    assert pool.usd_per_chip_hour_used == pytest.approx(3.0)
    assert pool.bid_usd_per_chip_s == pytest.approx([0.0, 0.0])


def test_the_bid_price_of_chips_for_use_is_what_they_earn_beyond_their_fee_where_all_are_busy() -> None:
    pool = pool_of(small(80.0, terms={"take_or_pay_share": 0.0, "fee_usd_per_chip_hour": 3.0}))
    assert pool.bid_usd_per_chip_s == pytest.approx([33.0 / 3600, 0.0])  # 152 requests/s are asked in the busiest block


def test_the_bid_price_holds_the_power_of_a_site_that_cannot_run_all_its_chips() -> None:
    pool = pool_of(small(80.0, sites=(site(power_kw_max=100.0),)))
    assert pool.bid_usd_per_chip_s == pytest.approx([36.0 / 3600, 0.0])
    assert pool.replicas == 59  # 0.98 kW more for each busy chip, and 42 kW idle: 58 kW / 0.98 kW


def test_a_pool_holds_the_context_of_its_model() -> None:
    assert pool_of(small(40.0)).context_tokens_max == 131_072  # the default of a model in a portfolio


def test_energy_is_paid_for_idle_chips_and_more_for_busy_ones() -> None:
    pool = pool_of(small(40.0, terms={"fee_usd_per_chip_hour": 2.0}, sites=(site(energy_usd_per_mwh=100.0),)))
    assert pool.usd_per_chip_hour == pytest.approx(2.042)
    assert pool.usd_per_chip_hour_used == pytest.approx(0.098)
    assert pool.bid_usd_per_chip_s == pytest.approx([0.0, 0.0])


def test_chips_that_train_in_the_busiest_block_do_not_serve_too() -> None:
    some = small(40.0, training=(job(),))
    plan = solve(some.problem, Options(gap=1e-9))
    training = np.zeros_like(plan.training_chips)
    training[0, 0, 0], training[0, 0, 1] = 24.0, 0.0
    assert pool_of(some, replace(plan, training_chips=training)).replicas == 76


RESERVED = offer("reserved", signed=True, fee_usd_per_chip_hour=2.0)
BY_THE_HOUR = offer("pool", signed=True, units_max=60, fee_usd_per_chip_hour=3.0, take_or_pay_share=0.25)
EARLY = date(2026, 5, 1)


def test_a_surge_may_rent_every_elastic_chip_that_is_delivered() -> None:
    some = small(
        30.0,
        sites=(site(), site("west")),
        links=(link(), link("west")),
        offers=(RESERVED, BY_THE_HOUR),
        tranches=(
            tranche("reserved", chips_per_unit=40.0, available=EARLY),
            tranche("pool", site="west", chips_per_unit=1.0, available=EARLY),
        ),
    )
    plan = solve(some.problem, Options(gap=1e-9))
    assert plan.used_chips[some.problem.deliveries.elastic].max() == pytest.approx(17.0)  # 57 asked, 40 reserved
    pools = fleet_of(cut_week(some, plan, date(2026, 6, 1)), "0", "").pools
    assert {pool.site: pool.replicas for pool in pools} == {"east": 40, "west": 60}
    assert {pool.site: pool.usd_per_chip_hour for pool in pools} == pytest.approx({"east": 2.0, "west": 0.75})
    assert {pool.site: pool.usd_per_chip_hour_used for pool in pools} == pytest.approx({"east": 0.0, "west": 2.25})


def test_elastic_chips_add_to_the_fixed_ones_of_a_cell_at_one_blended_fee() -> None:
    some = small(
        30.0,
        offers=(RESERVED, BY_THE_HOUR),
        tranches=(
            tranche("reserved", chips_per_unit=40.0, available=EARLY),
            tranche("pool", chips_per_unit=1.0, available=EARLY),
        ),
    )
    pool = pool_of(some)
    assert pool.replicas == 100
    assert pool.usd_per_chip_hour == pytest.approx(1.25)  # 40 chips at 2, 60 at a quarter of 3
    assert pool.usd_per_chip_hour_used == pytest.approx(1.35)  # 60 in 100 at three quarters of 3


def question(available: date, **given: Any) -> Assembled:
    """Four weeks from Monday 1 June 2026, then what is left of June, then months; the offer is in question."""
    known: dict[str, Any] = {
        "start": date(2026, 6, 1),
        "end": date(2026, 10, 31),
        "weeks_first": 4,
        "question": "lease",
    }
    late = {name: given.pop(name) for name in ("slip_days_max", "ramp_days", "qualification_days") if name in given}
    return assembled(
        tables(
            settings=settings(**(known | given)), offers=(offer(),), tranches=(tranche(available=available, **late),)
        )
    )


@pytest.mark.parametrize(
    ("ready", "week"),
    [
        (date(2026, 5, 1), date(2026, 6, 1)),
        (date(2026, 6, 9), date(2026, 6, 15)),
        (
            date(2026, 8, 30),
            date(2026, 9, 7),
        ),  # August's mean holds two days of the chips; September starts on a Tuesday
        (date(2026, 10, 20), date(2026, 10, 5)),  # no period starts after that: the last one's first week
        (date(2027, 3, 1), date(2026, 10, 5)),
    ],
)
def test_the_week_lies_in_a_period_that_starts_once_the_questioned_offer_is_there(ready: date, week: date) -> None:
    assert default_week(question(ready)) == week


def test_the_week_waits_for_slip_ramp_and_qualification() -> None:
    some = question(date(2026, 6, 1), slip_days_max=20, ramp_days=30, qualification_days=5)  # ready on 26 July
    assert default_week(some) == date(2026, 8, 3)


@pytest.mark.parametrize(
    ("start", "end", "week"),
    [
        (date(2026, 6, 3), date(2026, 6, 3), date(2026, 6, 1)),  # one Wednesday
        (date(2026, 6, 3), date(2026, 6, 30), date(2026, 6, 8)),
        (date(2026, 6, 3), date(2026, 6, 9), date(2026, 6, 8)),  # seven days, no week from a Monday in full
    ],
)
def test_a_short_horizon_still_has_a_week_that_begins_before_its_end(start: date, end: date, week: date) -> None:
    assert default_week(question(date(2026, 7, 1), start=start, end=end, weeks_first=0)) == week


@pytest.mark.parametrize(("far_ms", "ttft_ms"), [(200.0, 200.0), (350.0, 50.0), (900.0, 0.0)])
def test_an_api_answers_in_half_the_strictest_limit_or_in_what_the_farthest_region_leaves(
    far_ms: float, ttft_ms: float
) -> None:
    """Most ask from 20 ms away, so that the mean round trip leaves room even where the farthest region has none."""
    regions = {"us": 0.9, "asia": 0.1}
    chat = workload(ttft_ms_p95=400.0, tpot_ms_p95=60.0, regions=regions)
    slow = workload("slow", ttft_ms_p95=5000.0, tpot_ms_p95=100.0, regions=regions)
    some = assembled(
        tables(
            settings=JUNE,
            regions=(RegionRow(region="us"), RegionRow(region="asia")),
            links=(link(), link(region="asia", rtt_ms_median=far_ms, rtt_ms_p99=2 * far_ms)),
            workloads=(chat, slow),
            offers=(offer("api", signed=True, tokens_per_minute_max=6e6, fee_usd_per_million_output_tokens=1.0),),
            tranches=(tranche("api", chip="", chips_per_unit=0.0, available=EARLY),),
        )
    )
    pool = pool_of(some)
    assert pool.kind == "api"
    assert pool.ttft_ms == pytest.approx(ttft_ms)
    assert pool.tpot_ms == pytest.approx(30.0)


def test_rented_chips_run_on_the_power_that_the_fixed_ones_leave() -> None:
    some = small(
        30.0,
        sites=(site(power_kw_max=98.0),),
        offers=(RESERVED, BY_THE_HOUR),
        tranches=(
            tranche("reserved", chips_per_unit=40.0, available=EARLY),
            tranche("pool", chips_per_unit=1.0, available=EARLY),
        ),
    )
    assert pool_of(some).replicas == 70  # 40 of 1.4 kW take 56 kW; the other 42 kW carry 30 of the 60 for rent


def test_the_bid_price_holds_the_link_of_a_site_that_cannot_carry_all_its_traffic() -> None:
    # 152 requests/s are asked in the busiest block. The link carries half of what the 100 chips could serve.
    bytes_per_request = small(80.0).problem.lanes.bytes_per_request[0]
    gbit_s = 50.0 * bytes_per_request * 8 / 1e9
    pool = pool_of(small(80.0, links=(link(bandwidth_gbit_s=gbit_s, availability=1.0),)))
    assert pool.bid_usd_per_chip_s[0] == pytest.approx(36.0 / 3600)


@pytest.mark.parametrize(("shares", "mean"), [((1.0, 1.0), 1.0), ((0.0, 1.0), 0.6), ((0.5, 0.0), 0.2)])
def test_a_pool_holds_the_late_remedy_of_its_offers_by_their_chips(shares: tuple[float, float], mean: float) -> None:
    some = small(
        30.0,
        offers=(
            offer("reserved", signed=True, late_remedy_share=shares[0]),
            offer("pool", signed=True, units_max=60, late_remedy_share=shares[1]),
        ),
        tranches=(
            tranche("reserved", chips_per_unit=40.0, available=EARLY),
            tranche("pool", chips_per_unit=1.0, available=EARLY),
        ),
    )
    assert pool_of(some).late_remedy_share == pytest.approx(mean)
