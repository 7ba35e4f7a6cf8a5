"""Try terms that reach the plan through the supply room: renewals and what is left of a term at the horizon."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from offtake.plan.assemble import Assembled
from offtake.plan.solve import solve
from offtake.schema.settings import Limits
from tests.plan.fakes import assembled
from tests.supply import small

HOURS = 24.0


def lease(**given: Any) -> Assembled:
    """A chip for May to July that serves one request a second; May is the term unless said otherwise."""
    offer: dict[str, Any] = {"term_days": 31, "fee_usd_per_chip_hour": 2.0, "whole_units": True}
    return assembled(
        small.tables(
            settings=small.settings(end=date(2026, 7, 31)),
            offers=(small.offer(**(offer | given)),),
            tranches=(small.tranche(chips_per_unit=1.0),),
            workloads=(small.workload(rate_rps=1.0, value_usd_per_request=3.0 / 3600),),
        )
    )


@pytest.mark.parametrize(("ratio", "kept", "usd"), [(1.0, [1, 1, 1], 92 * HOURS), (2.0, [1, 0, 0], 31 * HOURS)])
def test_a_renewal_is_taken_where_it_is_worth_its_fee(ratio: float, kept: list[float], usd: float) -> None:
    one = lease(renewal_days=300, renewal_fee_ratio=ratio)
    found = solve(one.problem)
    assert found.kept[0, 0].tolist() == kept
    assert found.objective_usd == pytest.approx(usd)  # 3 USD of value less 2 of fee, an hour


def test_without_a_renewal_a_contract_ends_with_its_term() -> None:
    assert solve(lease().problem).objective_usd == pytest.approx(31 * HOURS)


@pytest.mark.parametrize(
    ("worth", "kept", "usd"),
    [(0.0, 1.0, 92 * HOURS), (0.5, 1.0, 92 * HOURS + 8 * HOURS * 0.5), (-20.0, 0.0, 0.0)],
)
def test_what_is_left_of_a_term_at_the_horizon_is_worth_what_is_said(worth: float, kept: float, usd: float) -> None:
    # a term of 100 days, of which 92 lie within the horizon
    found = solve(lease(term_days=100, terminal_usd_per_chip_hour=worth).problem)
    assert found.kept[0, 0, -1] == kept
    assert found.objective_usd == pytest.approx(usd)


def test_critical_work_survives_a_grid_that_carries_two_sites_of_one_partner() -> None:
    # cheap chips on one grid; a quarter of the work must be served without it
    def plan_with(limits: Limits) -> list[float]:
        offers = (
            small.offer("near", fee_usd_per_chip_hour=1.0, units_max=100.0, provider="own"),
            small.offer("far", fee_usd_per_chip_hour=2.0, units_max=100.0, provider="own"),
        )
        one = assembled(
            small.tables(
                settings=small.settings(signing_every_months=120),
                limits=limits,
                providers=(small.provider("own", kind="own"),),
                sites=(small.site(grid="a"), small.site("west", grid="b")),
                links=(small.link(), small.link("west")),
                offers=offers,
                tranches=(
                    small.tranche("near", chips_per_unit=1.0),
                    small.tranche("far", chips_per_unit=1.0, site="west"),
                ),
                workloads=(small.workload(rate_rps=40.0, critical=True, value_usd_per_request=1.0),),
            )
        )
        return [float(units) for units in solve(one.problem).kept[:, 0, -1]]

    assert plan_with(Limits(survive_share=0.25)) == pytest.approx([40, 0])  # one's own sites are no partner
    assert plan_with(Limits(survive_share=0.25, survive_groups="grid:*")) == pytest.approx([30, 10])
