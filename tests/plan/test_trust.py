"""How far a plan can be trusted: losses by hand, and a whole portfolio."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from offtake.plan.assemble import Assembled
from offtake.plan.judging import Case, TrustOptions
from offtake.plan.leeway import leeway_of
from offtake.plan.nodes import Moments
from offtake.plan.pool import Pool
from offtake.plan.problem import Problem
from offtake.plan.result import Trust
from offtake.plan.solve import Options, solve
from offtake.plan.trust import foresight_usd, loss_of, on_own_scenarios, steadiness_of, trust_of, value_lost_usd
from tests.plan.fakes import assembled
from tests.plan.problems import newsvendor
from tests.plan.test_plan import portfolio

EXACT = Options(gap=0.0)


@pytest.fixture(scope="module")
def small() -> Assembled:
    return assembled(portfolio())


def case_of(small: Assembled, problem: Problem) -> Case:
    """A case about a problem that is stated whole; the portfolio behind it lends its settings alone."""
    shape = (problem.vintages.offer.size, problem.period_hours.size)
    moments = Moments(sign=np.zeros(shape[0], dtype=int), keep=np.zeros(shape, dtype=int))
    whole = replace(small, problem=problem, contracts=replace(small.contracts, moments=moments))
    pool = Pool(problem, EXACT)
    return Case(assembled=whole, solution=pool.solve(), pool=pool, solver=EXACT)


def test_rules_lose_what_a_newsvendor_loses_by_them(small: Assembled) -> None:
    # 70 earns 262.5; the mean, 55: 246.25; 80: 10·52 − 3.25·80 = 260.
    case = case_of(small, newsvendor(units_max=80.0))
    judged = on_own_scenarios(case)
    losses = {rule.key: loss_of(case, rule, judged.by_rule[rule.key]).loss_usd for rule in judged.rules}
    assert judged.mean_plan_loss_usd == pytest.approx(16.25)
    assert losses == pytest.approx(
        {
            "look-back": 16.25,
            "all on demand": 262.5,
            "longest terms": 16.25,
            "sign everything": 2.5,
            "sign nothing": 262.5,
        }
    )


def test_foresight_is_worth_to_a_newsvendor_what_the_closed_form_says(small: Assembled) -> None:
    assert foresight_usd(case_of(small, newsvendor())) == pytest.approx(371.25 - 262.5)


def test_a_rule_that_breaks_a_limit_says_so_instead_of_a_number(small: Assembled) -> None:
    problem = newsvendor(units_max=80.0, fee_usd=2.25)
    problem = replace(
        problem,
        vintages=replace(problem.vintages, prepay_usd=np.ones(1)),
        limits=replace(problem.limits, prepay_usd_max=75.0),
    )
    case = case_of(small, problem)
    judged = on_own_scenarios(case)
    everything = loss_of(case, judged.rules[3], judged.by_rule["sign everything"])
    assert everything.rule == "sign everything"
    assert everything.loss_usd is None
    assert any("prepay" in sentence for sentence in everything.breaks)


def test_an_order_may_move_as_far_as_one_in_a_hundred_of_its_value_lets_it(small: Assembled) -> None:
    # 1% of 262.5 is 2.625. Below 70 a chip earns 0.75, above it loses 0.25 up to 80 and 1.25 beyond: 66.5 to 80.1.
    (found,) = leeway_of(case_of(small, newsvendor()), steps=14)
    assert found.without_loss_usd == pytest.approx(262.5)
    assert found.with_loss_usd == 0.0
    assert found.units_least == pytest.approx(66.5, abs=0.01)
    assert found.units_most == pytest.approx(80.1, abs=0.1)
    assert found.units_least >= 66.5
    assert found.units_most <= 80.1


def test_whole_units_move_by_whole_units(small: Assembled) -> None:
    problem = newsvendor()
    whole = replace(problem, vintages=replace(problem.vintages, whole_units=np.array([True])))
    (found,) = leeway_of(case_of(small, whole), steps=12)
    assert (found.units_least, found.units_now, found.units_most) == (67.0, 70.0, 80.0)


def test_without_steps_only_none_and_all_are_tried(small: Assembled) -> None:
    (found,) = leeway_of(case_of(small, newsvendor(units_max=80.0)), steps=0)
    assert (found.units_least, found.units_now, found.units_most) == (70.0, 70.0, 80.0)


def test_an_offer_that_does_not_pay_loses_what_its_smallest_order_loses(small: Assembled) -> None:
    # A chip costs 10.5 and earns 10, whatever the demand: one whole one loses 0.5.
    problem = newsvendor(fee_usd=10.5)
    whole = replace(problem, vintages=replace(problem.vintages, whole_units=np.array([True])))
    (found,) = leeway_of(case_of(small, whole), steps=0)
    assert found.units_now == 0.0
    assert found.without_loss_usd == 0.0
    assert found.with_loss_usd == pytest.approx(0.5)


def test_steadiness_counts_samples_and_their_extremes(small: Assembled) -> None:
    case = case_of(small, newsvendor(units_max=80.0))
    (found,) = steadiness_of(case, np.array([[70.0], [0.0], [75.0], [60.0]]))
    assert found.units_now == pytest.approx(70.0)
    assert (found.signed_share, found.units_least, found.units_most) == (0.75, 0.0, 75.0)


def test_what_is_lost_on_fresh_paths_weighs_risk() -> None:
    # Means 5 and 3; the worse half of the first is 0 and 4: a loss of −2; of the second −4 and 2: a loss of 1.
    nets = np.array([[0.0, 4.0, 6.0, 10.0], [-4.0, 2.0, 4.0, 10.0]])
    problem = replace(newsvendor(), risk_weight=0.5, risk_alpha=0.5)
    assert value_lost_usd(problem, nets, np.full(4, 0.25)) == pytest.approx((5 + 0.5 * 2) - (3 - 0.5 * 1))


@pytest.fixture(scope="module")
def judged(small: Assembled) -> Trust:
    return judge(small, 1)


def judge(small: Assembled, workers: int) -> Trust:
    options = Options(gap=1e-6, threads=1)
    asked = TrustOptions(level="quick", replan=2, workers=workers)
    pool = Pool(small.problem, options)
    found = trust_of(Case(assembled=small, solution=pool.solve(), pool=pool, options=asked, solver=options))
    assert found is not None
    return found


def test_a_whole_portfolio_is_judged_by_everything(judged: Trust) -> None:
    assert [one.rule for one in judged.rules] == [
        "look-back",
        "all on demand",
        "longest terms",
        "sign everything",
        "sign nothing",
    ]
    assert judged.foresight_usd is not None
    assert judged.foresight_usd >= 0.0
    assert judged.fresh is not None
    assert judged.fresh.mean_net_usd.low is not None
    assert judged.fresh.mean_net_usd.low < judged.fresh.mean_net_usd.estimate
    assert judged.replanned is not None
    assert judged.replanned.paths == 2
    assert [one.offer for one in judged.leeway] == [one.offer for one in judged.steadiness] == ["lease"]
    assert judged.sentences
    assert judged.left_out == ["Few paths, few other draws and few sizes were tried: ask for --trust full."]


def test_no_plan_by_a_rule_is_worth_more_than_the_bound(small: Assembled, judged: Trust) -> None:
    plan = solve(small.problem, Options(gap=1e-6, threads=1))
    losses = [one.loss_usd for one in judged.rules if one.loss_usd is not None]
    losses += [judged.mean_plan_loss_usd or 0.0]
    assert min(losses) >= plan.objective_usd - plan.bound_usd - 1e-6 * abs(plan.objective_usd)


def test_the_number_of_workers_changes_no_byte(small: Assembled, judged: Trust) -> None:
    assert msgspec.json.encode(judge(small, 2)) == msgspec.json.encode(judged)


def test_level_none_works_nothing_out(small: Assembled) -> None:
    pool = Pool(small.problem, EXACT)
    asked = TrustOptions(level="none")
    assert trust_of(Case(assembled=small, solution=pool.solve(), pool=pool, options=asked)) is None
