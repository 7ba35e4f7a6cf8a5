from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offtake.errors import InfeasibleError
from offtake.plan.pool import Pool
from offtake.plan.problem import Problem
from offtake.plan.solution import Solution
from offtake.plan.solve import Options, solve
from tests.plan.problems import frontier, newsvendor

OPTIONS = Options(gap=1e-4)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return frontier(scenarios=3, periods=10, blocks=3, offers=6, sites=5, workloads=3, seed=2)


@pytest.fixture
def pool(problem: Problem) -> Pool:
    return Pool(problem, OPTIONS)


def agree(one: Solution, other: Solution) -> bool:
    """Two searches of one question must have bounds above each other's plans, and be within their gaps."""
    tolerance = 1e-7 * abs(one.objective_usd)
    return one.objective_usd <= other.bound_usd + tolerance and other.objective_usd <= one.bound_usd + tolerance


def of_offer(problem: Problem, offer: int, units: float) -> np.ndarray:
    return np.where(problem.vintages.offer == offer, units, np.nan)[:, None]


@pytest.mark.slow
def test_questions_after_a_plan_are_answered_as_if_asked_alone(problem: Problem, pool: Pool) -> None:
    plan = pool.solve()
    assert plan.algorithm.startswith("cutting planes")
    assert agree(plan, solve(problem, OPTIONS))
    signed = [o for o in range(6) if plan.signed[problem.vintages.offer == o].any()]
    assert signed
    for offer in signed[:2]:
        banned = pool.solve(upper={"signed": of_offer(problem, offer, 0.0)})
        assert not banned.signed[problem.vintages.offer == offer].any()
        none = np.where(problem.vintages.offer == offer, 0.0, problem.vintages.units_max)
        least = np.where(problem.vintages.offer == offer, 0.0, problem.vintages.units_min)
        alone = replace(problem, vintages=replace(problem.vintages, units_max=none, units_min=least))
        assert agree(banned, solve(alone, OPTIONS))


@pytest.mark.slow
def test_a_question_with_other_fees_and_other_deliveries_is_answered_as_if_asked_alone(
    problem: Problem, pool: Pool
) -> None:
    pool.solve()
    dear = replace(problem, vintages=replace(problem.vintages, paid_usd=problem.vintages.paid_usd * 1.2))
    late = replace(problem.deliveries, chips=problem.deliveries.chips * np.where(problem.deliveries.period < 4, 0.5, 1))
    poor = replace(problem, deliveries=late, demand_rps=problem.demand_rps * 1.1)
    for changed in (dear, poor, problem):
        assert agree(pool.solve(changed), solve(changed, OPTIONS))


@pytest.mark.slow
def test_what_is_forced_is_signed_and_worth_no_more_than_what_is_free(problem: Problem, pool: Pool) -> None:
    plan = pool.solve()
    first = np.zeros((problem.vintages.offer.size, 1)) * np.nan
    vintage = int(np.flatnonzero(plan.signed.max(axis=1) < problem.vintages.units_max)[0])
    first[vintage] = problem.vintages.units_max[vintage]
    forced = pool.solve(lower={"signed": first})
    assert forced.signed[vintage] == pytest.approx(problem.vintages.units_max[vintage])
    assert forced.objective_usd <= plan.bound_usd * (1 + 1e-9)


@pytest.mark.slow
def test_the_same_questions_in_the_same_order_give_the_same_answers_for_any_number_of_workers(problem: Problem) -> None:
    answers = []
    for threads in (1, 3):
        pool = Pool(problem, replace(OPTIONS, threads=threads))
        banned = pool.solve(), pool.solve(upper={"signed": of_offer(problem, 1, 0.0)})
        answers.append([(one.signed.tobytes(), one.served_rps.tobytes(), one.objective_usd) for one in banned])
    assert answers[0] == answers[1]


@pytest.mark.slow
def test_a_question_without_an_answer_is_explained_and_the_next_is_answered(problem: Problem, pool: Pool) -> None:
    plan = pool.solve()
    limits = replace(problem.limits, budget_usd=np.array([1e9]))
    with pytest.raises(InfeasibleError):
        pool.solve(replace(problem, limits=limits))
    assert agree(pool.solve(), plan)


def test_a_small_problem_is_answered_whole() -> None:
    pool = Pool(newsvendor(), Options(gap=1e-9))
    assert pool.solve().objective_usd == pytest.approx(262.5)
    assert pool.solve(upper={"signed": np.array([[20.0]])}).signed.max() == pytest.approx(20)
    assert pool.solve().objective_usd == pytest.approx(262.5)


@pytest.mark.slow
def test_a_question_may_be_answered_to_a_wider_gap(pool: Pool) -> None:
    plan = pool.solve()
    rough = pool.solve(gap=0.02)
    assert rough.gap <= 0.02
    assert agree(rough, plan)
