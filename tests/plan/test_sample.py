"""Fresh paths: which node they follow, what they sign there, and what they earn."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from offtake.plan.nodes import Moments, nodes_from
from offtake.plan.problem import Held, Problem
from offtake.plan.sample import alone, along, followed, fresh_seed, independent, nodes_on, operate, resampled
from offtake.plan.solve import Options, solve
from offtake.schema.settings import NodeRow
from tests.plan.fakes import assembled
from tests.plan.problems import lease, newsvendor
from tests.plan.test_plan import portfolio
from tests.supply.small import settings

EXACT = Options(gap=0.0)
AT_EACH_HOUR = Moments(sign=np.zeros(1, dtype=int), keep=np.arange(4).reshape(1, 4))


def learning() -> Problem:
    """The lease, parted after two hours: scenarios 0–3 keep their demand, 4–7 lost it."""
    problem = lease()
    node = np.zeros((8, 4), dtype=int)
    node[4:, 2:] = 4
    return replace(problem, nodes=nodes_from(node, AT_EACH_HOUR))


def paths(*demand: tuple[float, ...]) -> Problem:
    """Paths of the lease with a demand of their own in each hour."""
    problem = lease(len(demand))
    return replace(problem, demand_rps=np.array(demand).reshape(len(demand), 4, 1, 1))


def test_a_path_follows_the_node_whose_past_is_nearest() -> None:
    node = followed(learning(), paths((1, 1, 1, 1), (1, 0, 0, 0), (1, 0.9, 0, 0), (1, 1e-6, 1, 1)))
    assert node.tolist() == [[0, 0, 0, 0], [0, 0, 4, 4], [0, 0, 0, 0], [0, 0, 4, 4]]


@pytest.mark.parametrize("later", [0.0, 1.0, 100.0])
def test_what_comes_after_a_date_does_not_change_the_way_taken_there(later: float) -> None:
    node = followed(learning(), paths((1, 1, later, later), (1, 0, later, later)))
    assert node[:, 2].tolist() == [0, 4]


def test_a_path_does_not_depend_on_the_paths_beside_it() -> None:
    mine = (1.0, 0.4, 1.0, 1.0)
    alone_there = followed(learning(), paths(mine))
    assert followed(learning(), paths((1, 0, 0, 0), mine, (5, 5, 5, 5)))[1].tolist() == alone_there[0].tolist()


def test_a_path_gives_notice_where_the_node_it_follows_does() -> None:
    plan = learning()
    solution = solve(plan, EXACT)
    # Keep it while demand lasts: 4 hours at 10 − 5; after two hours without demand it is ended: 10 − 2·5.
    assert solution.objective_usd == pytest.approx((20 + 0) / 2)
    fresh = paths((1, 1, 0, 0), (1, 0, 1, 1))
    held = along(plan, AT_EACH_HOUR, solution, followed(plan, fresh))
    assert held.kept[0].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    nets = [operate(alone(replace(fresh, held=held), path), EXACT).net_usd for path in range(2)]
    assert nets == pytest.approx([2 * 10 - 4 * 5, 10 - 2 * 5])


def test_a_held_order_earns_what_a_newsvendor_earns_with_it() -> None:
    fresh = newsvendor((30.0, 90.0))
    held = Held(signed=np.full((1, 2), 70.0), kept=np.full((1, 2, 1), 70.0), hosts=np.zeros((0, 1)))
    nets = [operate(alone(replace(fresh, held=held), path), EXACT).net_usd for path in range(2)]
    assert nets == pytest.approx([300 - 3.25 * 70, 700 - 3.25 * 70])


def test_a_path_whose_chips_cannot_fill_the_floor_of_research_counts_as_one_that_breaks_it() -> None:
    fresh = newsvendor((30.0,))
    fresh = replace(fresh, jobs=replace(fresh.jobs, floor_chips=np.array([20.0])))
    held = Held(signed=np.full((1, 1), 15.0), kept=np.full((1, 1, 1), 15.0), hosts=np.zeros((0, 1)))
    found = operate(alone(replace(fresh, held=held), 0), EXACT)
    assert not found.kept_limits
    assert found.net_usd == pytest.approx(-3.25 * 15)  # every chip does research
    enough = Held(signed=np.full((1, 1), 25.0), kept=np.full((1, 1, 1), 25.0), hosts=np.zeros((0, 1)))
    found = operate(alone(replace(fresh, held=enough), 0), EXACT)
    assert found.kept_limits
    assert found.net_usd == pytest.approx(5 * 10 - 3.25 * 25)


def test_a_path_whose_fees_break_the_budget_is_operated_and_counted() -> None:
    fresh = newsvendor((30.0,))
    fresh = replace(fresh, limits=replace(fresh.limits, budget_usd=np.array([100.0])))
    held = Held(signed=np.full((1, 1), 40.0), kept=np.full((1, 1, 1), 40.0), hosts=np.zeros((0, 1)))
    found = operate(alone(replace(fresh, held=held), 0), EXACT)
    assert not found.kept_limits
    assert found.net_usd == pytest.approx(300 - 130)


def test_fresh_paths_are_other_draws_from_the_same_chances() -> None:
    plan = assembled(portfolio())
    fresh = independent(plan, 200)
    growth = fresh.inputs.tree.growth
    assert fresh.problem.probability == pytest.approx(np.full(200, 1 / 200))
    assert fresh.problem.axes.vintages == plan.problem.axes.vintages
    assert growth.mean() == pytest.approx(0.5, abs=3 * 0.5 / np.sqrt(200))  # two branches, as likely
    (speed,) = fresh.inputs.tree.throughput.values()
    assert np.unique(speed).size == 200
    again = resampled(plan, 0)
    assert again.problem.probability == pytest.approx(plan.problem.probability)
    (first,), (second,) = plan.inputs.tree.throughput.values(), again.inputs.tree.throughput.values()
    assert not np.any(first == second)


def test_no_fresh_draw_has_the_seed_of_the_plan() -> None:
    assert len({7, *(fresh_seed(7, number) for number in range(1000))}) == 1001


def test_on_a_tree_of_the_users_own_a_path_knows_its_way() -> None:
    own = (
        NodeRow(node="win", start=date(2026, 6, 1), weight=0.6, demand_factor=2.0),
        NodeRow(node="lose", start=date(2026, 6, 1), weight=0.4, demand_factor=0.5),
    )
    chosen = settings(end=date(2026, 9, 30), scenarios=12, weeks_first=0, seed=5)
    plan = assembled(portfolio(nodes=own, settings=chosen))
    fresh = independent(plan, 100)
    way, node = fresh.inputs.tree.way, nodes_on(plan, fresh)
    assert (way == 0).mean() == pytest.approx(0.6, abs=3 * np.sqrt(0.24 / 100))
    assert not node[:, 0].any()
    assert plan.inputs.tree.way[node[:, -1]].tolist() == way.tolist()
    asked = fresh.problem.demand_rps[:, -1].sum(axis=(1, 2))
    assert asked[way == 0].min() > asked[way == 1].min() * 3.9
