"""Nothing is decided on what comes later, and what a right to cancel is worth is worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offtake.plan.highs import Effort, solve_whole
from offtake.plan.nodes import LEAST, Moments, Shape, in_hindsight, node_as, nodes_of, seen_before, stages_of
from offtake.plan.problem import Problem
from offtake.plan.solve import Options, build, solve
from tests.plan.problems import frontier, lease

EXACT = Options(gap=1e-9)
SHAPE = Shape(stages=4, branches=3)
#: notice is given an hour before it takes effect, and decided on what was seen before the hour in which it is given
NOTICE = Moments(sign=np.zeros(1, dtype=np.int64), keep=np.array([[0, 0, 1, 2]]))


def some_frontier(seed: int) -> Problem:
    return frontier(scenarios=24, periods=8, blocks=1, offers=4, sites=3, workloads=2, seed=seed)


@pytest.mark.parametrize("seed", range(3))
def test_nodes_part_and_never_join_and_none_is_smaller_than_it_may_be(seed: int) -> None:
    node = node_as(some_frontier(seed), [2, 4, 6], SHAPE)
    assert (node[:, :2] == 0).all()
    for period in range(1, 8):
        for first in np.unique(node[:, period]):
            members = np.flatnonzero(node[:, period] == first)
            assert members.min() == first
            assert members.size >= LEAST
            assert np.unique(node[members, period - 1]).size == 1
    assert np.unique(node[:, -1]).size > 2


@pytest.mark.parametrize("seed", range(3))
def test_nobody_sees_what_comes_later(seed: int) -> None:
    some, rng = some_frontier(seed), np.random.default_rng([seed, 3])
    demand, chips = some.demand_rps.copy(), some.deliveries.chips.copy()
    demand[:, 4:] *= rng.lognormal(0.0, 1.0, demand[:, 4:].shape)
    chips[some.deliveries.period >= 4] *= rng.random(int((some.deliveries.period >= 4).sum()))
    other = replace(some, demand_rps=demand, deliveries=replace(some.deliveries, chips=chips))
    assert np.array_equal(seen_before(some, 4), seen_before(other, 4))
    assert np.array_equal(node_as(some, [2, 4], SHAPE), node_as(other, [2, 4], SHAPE))
    assert not np.array_equal(seen_before(some, 5), seen_before(other, 5))


def test_stages_are_dates_of_decisions_and_no_more_than_asked() -> None:
    assert stages_of(lease(), NOTICE, 4) == [1, 2]
    assert stages_of(lease(), NOTICE, 1) == [1]
    assert stages_of(lease(), NOTICE, 0) == []


def test_the_right_to_cancel_is_worth_what_notice_leaves_of_it() -> None:
    # Demand that stays earns 5 in each of 4 hours. Demand that goes earns 10 once, and pays 5 an hour: for 4 hours
    # without a right to leave; for 3 with it, since the loss is seen in the second hour, notice is given in the third
    # and takes effect in the fourth; for 2 if the first hour told the future.
    without = replace(lease(), vintages=replace(lease().vintages, lock_until=np.full(1, 4)))
    assert solve(without, EXACT).objective_usd == pytest.approx((20 - 10) / 2)
    right = replace(lease(), nodes=nodes_of(lease(), NOTICE, SHAPE))
    plan = solve(right, EXACT)
    assert plan.objective_usd == pytest.approx((20 - 5) / 2)
    assert plan.kept[0, 0] == pytest.approx([1, 1, 1, 1])
    assert plan.kept[0, -1] == pytest.approx([1, 1, 1, 0])
    foresight = replace(lease(), nodes=in_hindsight(lease(), NOTICE))
    assert solve(foresight, EXACT).objective_usd == pytest.approx((20 - 0) / 2)


def test_waiting_for_news_is_worth_what_it_saves() -> None:
    # Signed in the third hour, when demand is known: 2 hours at 4 in half the scenarios.
    two = lease(fee_usd=8.0)
    later = replace(two.vintages, sign_period=np.full(1, 2), lock_until=np.full(1, 4))
    paid = later.paid_usd.copy()
    paid[:, :, :2] = 0.0
    entries = two.deliveries.period >= 2
    deliveries = replace(two.deliveries, chips=np.where(entries, 1.0, 0.0))
    waits = replace(two, vintages=replace(later, paid_usd=paid), deliveries=deliveries)
    moments = Moments(sign=np.full(1, 2), keep=np.array([[2, 2, 2, 2]]))
    assert solve(waits, EXACT).objective_usd == pytest.approx(0.0)
    plan = solve(replace(waits, nodes=nodes_of(waits, moments, SHAPE)), EXACT)
    assert plan.objective_usd == pytest.approx(0.5 * 2 * (10 - 8))
    assert plan.signed[0].tolist() == pytest.approx([1.0] * 4 + [0.0] * 4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1))
def test_cutting_planes_agree_with_the_extensive_form_on_a_tree(seed: int) -> None:
    some = some_frontier(seed)
    vintages, periods = some.vintages, np.arange(8)
    keep = np.maximum(periods - 2, vintages.sign_period[:, None])
    tree = replace(some, nodes=nodes_of(some, Moments(sign=vintages.sign_period, keep=keep), SHAPE))
    model = build(tree)
    program = model.blocks.build(model.units.usd)
    whole = solve_whole(program, Effort(gap=1e-4))
    split = solve(tree, Options(gap=1e-4))
    assert split.algorithm.startswith("cutting planes")
    assert split.objective_usd == pytest.approx(-whole.objective * program.objective_unit, rel=3e-4)
    assert split.objective_usd >= solve(some, Options(gap=1e-4)).objective_usd * (1 - 3e-4)
