from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from offtake.plan.tree import Chance, Tree, share_out, slip_days, tree_of
from offtake.supply.offer import NEVER
from offtake.supply.portfolio import portfolio_of
from tests.supply.small import deployment, growth, offer, settings, site, tables, tranche, way_out

FAN = (growth("slow", 0.3, 3.0), growth("fast", 0.5, 6.0), growth("wild", 0.2, 10.0))
READINGS = (
    way_out("s-1", "either", date(2026, 8, 1), weight=0.2),
    way_out("s-1a", "either", date(2026, 11, 1), weight=0.5),
    way_out("strict", "either", date(2027, 1, 28), weight=0.3),
)


def tree(**given: object) -> Tree:
    return tree_of(portfolio_of(tables(**given)))


def test_every_branch_of_growth_has_its_exact_weight() -> None:
    drawn = tree(settings=settings(scenarios=7), growth=FAN)
    weights = [drawn.probability[drawn.growth == branch].sum() for branch in range(3)]
    assert drawn.scenarios == 7
    assert weights == pytest.approx([0.3, 0.5, 0.2])


def test_the_questioned_offers_readings_have_their_exact_weight_in_every_branch() -> None:
    drawn = tree(settings=settings(scenarios=20, question="lease"), growth=FAN, exits=READINGS)
    reading = drawn.luck["lease"].reading
    for branch, weight in enumerate([0.3, 0.5, 0.2]):
        found = [drawn.probability[(drawn.growth == branch) & (reading == r)].sum() for r in range(3)]
        assert found == pytest.approx([0.2 * weight, 0.5 * weight, 0.3 * weight])


def test_readings_are_sampled_where_there_are_too_few_scenarios() -> None:
    drawn = tree(settings=settings(scenarios=8, question="lease"), growth=FAN, exits=READINGS)
    found = [drawn.probability[drawn.luck["lease"].reading == r].sum() for r in range(3)]
    assert drawn.scenarios == 8
    assert found == pytest.approx([0.2, 0.5, 0.3], abs=0.15)


def test_fewer_scenarios_than_branches_are_made_up_to_one_each() -> None:
    drawn = tree(settings=settings(scenarios=1), growth=FAN)
    assert drawn.probability.tolist() == pytest.approx([0.3, 0.5, 0.2])


def test_without_a_fan_one_scenario_is_enough() -> None:
    drawn = tree(settings=settings(scenarios=1))
    assert (drawn.names, drawn.probability.tolist(), drawn.growth.tolist()) == (["s01"], [1.0], [-1])


def test_a_single_scenario_takes_the_middle_of_every_distribution() -> None:
    drawn = tree(
        settings=settings(scenarios=1), tranches=(tranche(slip_days_max=100),), sites=(site(loss_per_year=1.0),)
    )
    assert drawn.luck["lease"].slip_days.tolist() == [[50]]
    assert drawn.lost_day["east"].tolist() == [date(2027, 1, 8).toordinal()]  # 252 of 365·ln 2 = 252.99 days


def test_adding_an_offer_changes_no_draw_of_the_others() -> None:
    some: dict[str, Any] = {
        "settings": settings(scenarios=12, seed=7),
        "growth": FAN,
        "sites": (site(loss_per_year=0.2), site("west", loss_per_year=0.2)),
        "deployments": (deployment(throughput_sd=0.2),),
    }
    lease = offer(probability=0.5, reclaim_per_year=0.4)
    slips: dict[str, Any] = {"slip_days_min": 0, "slip_days_max": 365}
    alone = tree(**some, offers=(lease,), tranches=(tranche(**slips),), exits=READINGS)
    other = offer("other", probability=0.5, reclaim_per_year=0.1)
    both = tree(
        **some,
        offers=(other, lease),
        tranches=(tranche("other", site="west", **slips), tranche(**slips)),
        exits=(way_out("x", "either", date(2026, 8, 1), offer="other"), *READINGS),
    )
    for field in ("there", "reading", "wait_years", "slip_days"):
        assert np.array_equal(getattr(alone.luck["lease"], field), getattr(both.luck["lease"], field)), field
    assert np.array_equal(alone.lost_day["east"], both.lost_day["east"])
    assert np.array_equal(alone.throughput["small", "h100"], both.throughput["small", "h100"])


def test_another_seed_gives_other_draws_and_the_same_seed_the_same() -> None:
    def waits(seed: int) -> list[float]:
        drawn = tree(settings=settings(scenarios=5, seed=seed), offers=(offer(reclaim_per_year=0.4),))
        return list(drawn.luck["lease"].wait_years.tolist())

    assert waits(1) == waits(1)
    assert waits(1) != waits(2)


def test_a_source_of_chance_covers_the_unit_interval_in_proportion_to_probability() -> None:
    probability = np.array([0.1, 0.4, 0.2, 0.3])
    numbers = Chance(3, probability).uniform("slip east")
    order = np.argsort(numbers)
    ends = np.cumsum(probability[order])
    assert np.all((numbers[order] > ends - probability[order]) & (numbers[order] < ends))


def test_an_offer_of_half_a_chance_is_there_in_about_half_of_the_weight() -> None:
    drawn = tree(settings=settings(scenarios=10), offers=(offer(firmness="letter", probability=0.5),))
    assert drawn.probability[drawn.luck["lease"].there].sum() == pytest.approx(0.5, abs=0.1)


def test_slips_follow_the_inverse_of_their_distribution() -> None:
    u = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    assert slip_days(tranche(slip_days_max=100), u).tolist() == [0, 25, 50, 75, 100]
    peaked = tranche(slip_days_min=0, slip_days_mode=100, slip_days_max=100)
    assert slip_days(peaked, u).tolist() == [0, 50, 71, 87, 100]  # 100·√u
    falling = tranche(slip_days_min=0, slip_days_mode=0, slip_days_max=100)
    assert slip_days(falling, u).tolist() == [0, 13, 29, 50, 100]
    assert slip_days(tranche(slip_days_min=30, slip_days_max=30), u).tolist() == [30] * 5


def test_tranches_at_one_site_slip_together() -> None:
    slips: dict[str, Any] = {"slip_days_min": 0, "slip_days_max": 365}
    drawn = tree(
        settings=settings(scenarios=6),
        tranches=(tranche(**slips), tranche(name="t2", **slips)),
    )
    assert np.array_equal(drawn.luck["lease"].slip_days[:, 0], drawn.luck["lease"].slip_days[:, 1])


def test_hazards_of_zero_never_strike() -> None:
    drawn = tree(settings=settings(scenarios=4), exits=READINGS)
    assert (drawn.draw(portfolio_of(tables(exits=READINGS)).offers["lease"], 1).exit_day == NEVER).all()
    assert (drawn.lost_day["east"] > date(2200, 1, 1).toordinal()).all()


def test_throughput_errors_have_mean_one_and_the_given_deviation() -> None:
    drawn = tree(settings=settings(scenarios=2000), deployments=(deployment(throughput_sd=0.2),))
    factors = drawn.throughput["small", "h100"]
    assert factors.mean() == pytest.approx(1.0, abs=0.005)
    assert factors.std() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    "weights, total, quota",
    [([0.5, 0.3, 0.2], 10, [5, 3, 2]), ([0.9, 0.05, 0.05], 4, [2, 1, 1]), ([1, 1, 1], 2, [1, 1, 1])],
)
def test_whole_numbers_are_shared_out_by_weight_with_at_least_one_each(
    weights: list[float], total: int, quota: list[int]
) -> None:
    assert share_out(np.array(weights), total).tolist() == quota


def test_curtailments_come_in_whole_events_with_the_mean_and_spread_of_a_poisson_number() -> None:
    one = tree(
        settings=settings(scenarios=4000), sites=(site(curtailment_hours_per_year=44.0, curtailment_event_hours=4.0),)
    )
    hours = one.curtailed_hours["east"]
    assert set((hours % 4.0).tolist()) == {0.0}
    assert hours.mean() == pytest.approx(44.0, rel=0.005)
    assert hours.std() == pytest.approx(4.0 * 11.0**0.5, rel=0.02)


def test_curtailment_without_a_length_is_its_mean_and_none_is_none() -> None:
    one = tree(
        settings=settings(scenarios=3),
        sites=(site(curtailment_hours_per_year=44.0, curtailment_event_hours=0.0), site("west")),
    )
    assert one.curtailed_hours["east"].tolist() == [44.0] * 3
    assert one.curtailed_hours["west"].tolist() == [0.0] * 3
