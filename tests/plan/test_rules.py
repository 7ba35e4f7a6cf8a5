"""What each simple rule signs, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offtake.plan.problem import Problem
from offtake.plan.rules import rules_of, todays_demand
from tests.plan.farmer import farmer
from tests.plan.problems import newsvendor, tiny


def units(problem: Problem, key: str) -> list[float]:
    return [float(one) for rule in rules_of(problem) if rule.key == key for one in rule.units]


def test_look_back_covers_the_demand_that_is_exceeded_in_one_hour_of_twenty() -> None:
    one = newsvendor((55.0,))
    blocks = replace(
        one,
        axes=replace(one.axes, blocks=["peak", "day", "night"]),
        block_share=np.array([0.05, 0.45, 0.5]),
        demand_rps=np.array([90.0, 60.0, 20.0]).reshape(1, 1, 3, 1),
        power_kw=np.full((1, 1, 3, 1), np.inf),
    )
    assert todays_demand(blocks) == pytest.approx([60.0])
    assert units(blocks, "look-back") == pytest.approx([60.0])


def test_look_back_takes_the_mean_of_what_may_be_asked_today() -> None:
    assert units(newsvendor(), "look-back") == pytest.approx([55.0])


def test_sign_everything_and_sign_nothing_do_what_they_say() -> None:
    assert units(newsvendor(units_max=80.0), "sign everything") == [80.0]
    assert units(newsvendor(units_max=80.0), "sign nothing") == [0.0]


def test_look_back_takes_the_cheapest_and_longest_terms_the_longest_of_two_commitments() -> None:
    # Chips for 2 and for 3 an hour, the dear ones for two hours, 40 of each; 55 are needed.
    one = newsvendor((55.0,))
    two = replace(
        one,
        axes=replace(one.axes, periods=["first", "second"], offers=["dear", "cheap"], vintages=["dear", "cheap"]),
        period_hours=np.ones(2),
        discount=np.ones(2),
        demand_rps=np.full((1, 2, 1, 1), 55.0),
        vintages=replace(
            one.vintages,
            offer=np.array([0, 1]),
            sign_period=np.zeros(2, dtype=int),
            units_min=np.zeros(2),
            units_max=np.full(2, 40.0),
            whole_units=np.zeros(2, dtype=bool),
            all_or_nothing=np.zeros(2, dtype=bool),
            signed=np.zeros(2, dtype=bool),
            term_until=np.array([2, 1]),
            paid_usd=np.array([[[3.0, 3.0]], [[2.0, 0.0]]]),
            prepay_usd=np.zeros(2),
        ),
        deliveries=replace(
            one.deliveries,
            scenario=np.zeros(3, dtype=int),
            vintage=np.array([0, 0, 1]),
            period=np.array([0, 1, 0]),
            cell=np.zeros(3, dtype=int),
            chips=np.ones(3),
            elastic=np.zeros(3, dtype=bool),
            used_usd_per_chip_hour=np.zeros(3),
            group_member=np.ones((3, 1), dtype=bool),
        ),
    )
    assert units(two, "look-back") == pytest.approx([15.0, 40.0])
    assert units(two, "longest terms") == pytest.approx([40.0, 15.0])
    shut = replace(two, exclusive=[[0, 1]])
    assert units(shut, "look-back") == pytest.approx([0.0, 40.0])


def test_whole_units_are_rounded_up_and_lots_are_taken_whole() -> None:
    one = newsvendor((55.0,))
    eights = replace(one, deliveries=replace(one.deliveries, chips=np.array([8.0])))
    whole = replace(eights, vintages=replace(eights.vintages, whole_units=np.array([True])))
    assert units(whole, "look-back") == [7.0]
    lot = replace(whole, vintages=replace(whole.vintages, all_or_nothing=np.array([True]), units_max=np.array([100.0])))
    assert units(lot, "look-back") == [100.0]


def test_all_on_demand_signs_what_is_paid_by_use_and_commits_to_nothing_on_any_date() -> None:
    # tiny: own fleet (signed), a lease today or later, elastic spot of 40 units, an API of 50.
    found = units(tiny(), "all on demand")
    assert np.isnan(found[0])
    assert found[1:] == [0.0, 0.0, 40.0, 50.0]


@pytest.mark.parametrize("key", ["look-back", "all on demand", "longest terms", "sign everything", "sign nothing"])
def test_no_rule_commits_on_a_later_date(key: str) -> None:
    # tiny: own fleet (signed), a lease today or later, elastic spot, an API. The lease of the later date is the third.
    found = units(tiny(), key)
    assert np.isnan(found[0])
    assert found[2] == 0.0


def test_a_rule_that_says_nothing_of_use_leaves_it_to_the_planner_and_signing_nothing_forgoes_it() -> None:
    assert np.isnan(units(tiny(), "look-back")[3:]).all()
    assert units(tiny(), "sign nothing")[1:] == [0.0, 0.0, 0.0, 0.0]


def test_a_chip_covers_only_the_work_that_may_run_on_it() -> None:
    # The farmer's fields: wheat serves wheat alone, so that covering it all takes fields of every crop.
    found = units(farmer(), "look-back")
    assert all(acres > 0 for acres in found)
