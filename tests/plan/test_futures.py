"""Read the plan's futures off portfolios small enough to work out by hand: one site, 100 chips, one week in June."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from offtake.fleet import Scenario, check_fleet
from offtake.plan.assemble import Assembled
from offtake.plan.cuts import cut_week
from offtake.plan.fleets import fleet_of
from offtake.plan.futures import with_futures
from offtake.plan.solve import Options, solve
from tests.plan.fakes import assembled
from tests.supply.small import chip, deployment, offer, settings, shock, site, tables, tranche, way_out

MONDAY = date(2026, 6, 8)
EARLY = date(2026, 5, 1)


def futures(some: Assembled) -> list[Scenario]:
    plan = solve(some.problem, Options(gap=1e-9))
    cut = cut_week(some, plan, MONDAY)
    fleet = with_futures(cut, fleet_of(cut, "0", ""))
    assert check_fleet(fleet, "fleet.json") == []
    return fleet.scenarios


def small(scenarios: int, *, slips: dict[str, Any] | None = None, **given: Any) -> Assembled:
    """One signed offer of 100 chips that is needed in full."""
    known: dict[str, Any] = {
        "settings": settings(start=date(2026, 6, 1), end=date(2026, 6, 30), scenarios=scenarios),
        "offers": (offer(signed=True),),
        "tranches": (tranche(**({"available": EARLY} | (slips or {}))),),
    }
    rates = given.pop("rates", np.full((scenarios, 1, 1), 90.0))
    return assembled(tables(**(known | given)), rate_rps=rates)


def test_nothing_happens_in_a_plan_without_chance() -> None:
    (only,) = futures(small(1))
    assert (only.probability, only.demand_factor, only.events) == (1.0, [1.0], [])


def test_demand_is_told_over_that_of_the_fleet() -> None:
    found = futures(small(3, rates=np.array([[[45.0]], [[90.0]], [[180.0]]])))
    assert [one.demand_factor for one in found] == [[0.5], [1.0], [2.0]]
    assert sum(one.probability for one in found) == pytest.approx(1.0)


def test_a_tranche_that_slips_into_the_week_is_late_until_its_day() -> None:
    # Due on 1 June, it slips by 0 to 20 days: the median scenario of demand has the chips of its own mean.
    found = futures(small(8, slips={"available": date(2026, 6, 1), "slip_days_max": 20},
                          offers=(offer(),)))  # fmt: skip
    late = [event for one in found for event in one.events if event.kind == "late_tranche"]
    assert late
    assert all(event.target == "east/h100/small" and event.start_hour == 0.0 for event in late)
    assert all(event.hours % 24 == 0 and 0 < event.hours <= 168 for event in late)
    assert max(event.value for event in late) == 1.0


def test_chips_of_another_kind_leave_those_promised_away_all_week() -> None:
    found = futures(
        small(
            4,
            chips=(chip(), chip("h200")),
            deployments=(deployment(), deployment(chip_name="h200")),
            slips={"substitute_chip": "h200", "substitute_probability": 0.5},
        )
    )
    told = [[(event.kind, event.hours, event.value) for event in one.events] for one in found]
    assert sorted(told) == [[], [], [("late_tranche", 168.0, 1.0)], [("late_tranche", 168.0, 1.0)]]


def test_a_partner_that_leaves_before_the_week_has_reclaimed_everything() -> None:
    found = futures(
        small(
            6,
            offers=(offer(signed=True, reclaim_per_year=10.0),),
            exits=(way_out("plain", "provider", date(2026, 4, 1), notice_days=1),),
        )
    )
    gone = [event for one in found for event in one.events if event.kind == "reclaim"]
    assert gone
    assert {(event.target, event.value) for event in gone} == {("east/h100/small", 1.0)}
    assert all(event.start_hour + event.hours == 168.0 for event in gone)


def test_curtailment_comes_as_often_as_the_site_says() -> None:
    cut = site(curtailment_hours_per_year=88.0, curtailment_share=0.4)  # 44 events of 2 h: 0.84 a week
    found = futures(small(100, sites=(cut,)))
    hit = [event for one in found for event in one.events]
    assert {(event.kind, event.target, event.hours, event.value) for event in hit} == {
        ("curtailment", "east", 2.0, 0.4)
    }
    assert len(hit) in {84, 85}


def test_surges_fall_on_the_hours_of_the_week() -> None:
    found = futures(small(20, shocks=(shock("viral", per_year=60.0, multiplier=2.0, days=3.0),)))
    hit = [event for one in found for event in one.events]
    assert hit
    assert {(event.kind, event.target, event.value) for event in hit} == {("surge", "", 2.0)}
    assert all(0 < event.hours <= 72 and event.start_hour + event.hours <= 168 for event in hit)


def test_a_lost_site_is_told_once_and_its_chips_are_not_reclaimed_too() -> None:
    found = futures(small(12, sites=(site(loss_per_year=6.0),)))
    kinds = [[event.kind for event in one.events] for one in found]
    assert ["lost_site"] in kinds
    assert all(kind in (["lost_site"], []) for kind in kinds)


def test_a_deployment_slower_than_its_table_is_slow_all_week() -> None:
    row = tables().deployments[0].model_copy(update={"throughput_sd": 0.2})
    found = futures(small(5, deployments=(row,)))
    factors = [event.value for one in found for event in one.events]
    assert len(factors) == 4  # all but the fleet's own scenario
    assert len(set(factors)) == 4
