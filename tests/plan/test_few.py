"""The sketch of a problem by a few of its scenarios, and the search that begins from its plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offtake.plan import highs
from offtake.plan.decompose import decompose
from offtake.plan.few import few_of, laid_out
from offtake.plan.highs import Effort, ProgramInfeasibleError
from offtake.plan.nodes import Moments, Shape, nodes_of
from offtake.plan.planes import nearest
from offtake.plan.problem import Problem
from offtake.plan.solve import Options, build, sketched, solve, state
from offtake.plan.split import split
from tests.plan.problems import frontier, newsvendor


def many(seed: int = 3) -> Problem:
    """Give forty scenarios of a small problem, not all as likely."""
    some = frontier(scenarios=40, periods=6, blocks=2, offers=6, sites=4, workloads=3, seed=seed)
    weight = np.linspace(1.0, 3.0, 40)
    return replace(some, probability=weight / weight.sum())


def on_a_tree(some: Problem) -> Problem:
    """Give a problem in which something is learnt twice."""
    keep = np.maximum(np.arange(6) - 1, some.vintages.sign_period[:, None])
    moments = Moments(sign=some.vintages.sign_period, keep=keep)
    return replace(some, nodes=nodes_of(some, moments, Shape(stages=2, branches=2)))


def test_a_problem_of_few_scenarios_is_not_sketched() -> None:
    assert few_of(newsvendor()) is None


def test_each_stand_in_has_the_probability_of_all_it_stands_for() -> None:
    demand = tuple(float(one) for one in range(36, 0, -1))
    few = few_of(newsvendor(demand))
    assert few is not None
    # nines by worth: 1-9, 10-18, 19-27, 28-36; the middle ones are 5, 14, 23, 32, in the order of the problem
    assert few.problem.demand_rps.ravel().tolist() == [32.0, 23.0, 14.0, 5.0]
    assert few.problem.probability == pytest.approx([0.25] * 4)
    assert few.chosen.tolist() == [4, 13, 22, 31]
    assert few.stand_in.tolist() == [0] * 9 + [1] * 9 + [2] * 9 + [3] * 9


def test_a_sketch_knows_no_more_than_the_problem_did() -> None:
    some = on_a_tree(many())
    few = few_of(some)
    assert few is not None
    assert few.problem.nodes is not None
    assert some.nodes is not None
    for period in range(6):
        whole, mine = some.nodes.node_as[few.chosen, period], few.problem.nodes.node_as[:, period]
        assert ((whole[:, None] == whole) == (mine[:, None] == mine)).all()
        assert (mine <= np.arange(mine.size)).all(), "a node is named by its first scenario"


@pytest.mark.parametrize("learning", [False, True])
def test_the_plan_of_a_sketch_is_laid_out_over_all_scenarios(learning: bool) -> None:
    some = on_a_tree(many()) if learning else many()
    model, program = state(some)
    few = few_of(some)
    assert few is not None
    sketch, small = state(few.problem, model.units)
    values = np.arange(small.cost.size, dtype=float) + 1.0
    laid = laid_out(few, sketch, model, values)
    first = model.kept[:, :, 5]
    there = first >= 0
    theirs = sketch.kept[:, few.stand_in, 5]
    if not learning:
        assert np.array_equal(laid[first[there]], values[theirs[there]])
    assert (laid[model["missed"].ids[7]] == values[sketch["missed"].ids[few.stand_in[7]]]).all()
    assert laid.size == program.cost.size


def test_the_nearest_point_meets_the_masters_rows_and_keeps_its_whole_numbers() -> None:
    model, program = state(many())
    levels = split(model, program).levels
    asked = np.full(levels.master.cost.size, 0.4)
    master = levels.master
    found = nearest(levels, asked, Effort())
    activity = master.matrix @ found
    assert (activity >= master.row_lower - 1e-6).all()
    assert (activity <= master.row_upper + 1e-6).all()
    assert (found[levels.deciding] == np.clip(0.0, master.lower, master.upper)[levels.deciding]).all()


def test_whole_numbers_that_no_plan_has_are_near_none() -> None:
    model, program = state(many())
    levels = split(model, program).levels
    hosts = np.isin(levels.columns, np.flatnonzero(np.isin(split(model, program).back.columns, model["hosts"].ids)))
    asked = np.zeros(levels.master.cost.size)
    asked[: levels.columns.size][hosts] = 1.0  # a single-site job at every site
    with pytest.raises(ProgramInfeasibleError):
        nearest(levels, asked, Effort())


@pytest.mark.slow
@pytest.mark.parametrize("learning", [False, True])
def test_a_search_from_a_sketch_finds_the_optimum_of_the_whole(learning: bool) -> None:
    some = on_a_tree(many()) if learning else many()
    plan = solve(some, Options(gap=1e-4))
    assert plan.algorithm.startswith("cutting planes")
    _, program = state(some)
    whole = highs.solve_whole(program, Effort(gap=1e-4))
    assert -plan.objective_usd / program.objective_unit == pytest.approx(whole.objective, rel=2e-4)
    assert -plan.bound_usd / program.objective_unit <= whole.objective + 1e-6 * abs(whole.objective)


@pytest.mark.slow
def test_a_hint_that_is_far_off_changes_no_bound() -> None:
    some = many()
    model, program = state(some)
    away = np.where(np.isfinite(program.upper), program.upper, 0.0)
    hinted, alone = (decompose(model, program, Effort(gap=1e-4), starts) for starts in ([away], []))
    assert hinted is not None
    assert alone is not None
    assert hinted.objective == pytest.approx(alone.objective, rel=2e-4)
    assert max(hinted.bound, alone.bound) <= min(hinted.objective, alone.objective)


def test_a_sketched_plan_is_the_same_to_the_byte_for_any_number_of_threads() -> None:
    some = many()
    one, two = (solve(some, Options(threads=threads)) for threads in (1, 2))
    assert np.array_equal(one.signed, two.signed)
    assert one.kept.tobytes() == two.kept.tobytes()
    assert one.served_rps.tobytes() == two.served_rps.tobytes()
    assert one.bound_usd == two.bound_usd


def test_a_sketch_without_a_plan_gives_no_hint() -> None:
    some = many()
    floor = replace(some.jobs, floor_chips=np.full(6, 1e12))
    model = build(replace(some, jobs=floor))
    assert sketched(model, model.blocks.build(model.units.usd), Effort()) == []
