"""What foresight is worth, and what planning on the mean loses: published figures, and figures by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offtake.plan.foresight import alone_in_foresight, first_day, mean_scenario, perfect_information_usd
from offtake.plan.nodes import Moments
from offtake.plan.problem import Problem
from offtake.plan.solve import Options, solve
from tests.plan.farmer import farmer
from tests.plan.problems import newsvendor

EXACT = Options(gap=0.0)


def now(problem: Problem) -> Moments:
    size = problem.vintages.offer.size
    return Moments(sign=np.zeros(size, dtype=int), keep=np.zeros((size, problem.period_hours.size), dtype=int))


def evpi(problem: Problem) -> float:
    scenarios = range(problem.probability.size)
    nets = np.array([solve(alone_in_foresight(problem, one), EXACT).objective_usd for one in scenarios])
    return perfect_information_usd(problem, nets, solve(problem, EXACT).objective_usd)


def vss(problem: Problem) -> float:
    held = first_day(problem, now(problem), solve(mean_scenario(problem), EXACT))
    return solve(problem, EXACT).objective_usd - solve(replace(problem, held=held), EXACT).objective_usd


def test_the_farmer_earns_what_the_book_says() -> None:
    plan = solve(farmer(), EXACT)
    assert plan.objective_usd == pytest.approx(108_390.0)
    assert plan.signed[:, 0] == pytest.approx([170.0, 80.0, 250.0])


def test_the_farmers_evpi_and_vss_are_those_of_the_book() -> None:
    assert evpi(farmer()) == pytest.approx(7_015.56, abs=0.01)
    assert vss(farmer()) == pytest.approx(1_150.0)


def test_a_newsvendors_evpi_and_vss_are_those_of_the_closed_form() -> None:
    # Demand is 10, 20, … 100, a chip costs 3.25 and earns 10: the best size is 70, where 7 of 10 demands are met.
    # 70: 10·49 − 3.25·70 = 262.5; foresight: 6.75·55 = 371.25; the mean, 55: 10·42.5 − 3.25·55 = 246.25.
    assert evpi(newsvendor()) == pytest.approx(371.25 - 262.5)
    assert vss(newsvendor()) == pytest.approx(262.5 - 246.25)


def test_foresight_is_worth_as_much_where_risk_is_weighed_as_the_nets_of_foresight_say() -> None:
    # Weight 1 on the worst 2 of 10. Foresight nets 6.75·demand: mean 371.25, the worst two 67.5 and 135: +101.25.
    problem = replace(newsvendor(), risk_weight=1.0, risk_alpha=0.8)
    nets = np.array([solve(alone_in_foresight(problem, one), EXACT).objective_usd for one in range(10)])
    assert nets == pytest.approx(6.75 * np.arange(10.0, 101.0, 10.0))
    plan = solve(problem, EXACT)
    # From 20 chips on one more earns 10·P(demand > q) − 3.25 of mean and loses 3.25 of tail: above 0 up to 40.
    # 40: mean 10·34 − 130 = 210; worst two 100 − 130 = −30 and 200 − 130 = 70, so 20; 50 makes 237.5 − 12.5 = 225.
    assert plan.signed[0, 0] == pytest.approx(40.0)
    assert plan.objective_usd == pytest.approx(230.0)
    assert perfect_information_usd(problem, nets, plan.objective_usd) == pytest.approx(371.25 + 101.25 - 230.0)


def test_the_mean_scenario_has_the_mean_of_what_is_delivered_and_asked() -> None:
    mean = mean_scenario(farmer())
    assert mean.deliveries.chips == pytest.approx([2.5, 3.0, 20.0])
    assert mean_scenario(newsvendor()).demand_rps.ravel() == pytest.approx([55.0])
