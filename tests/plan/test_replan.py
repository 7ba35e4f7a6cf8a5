"""Planning anew on a path, by hand, on a chip on lease for four hours: 5 an hour, earning 10 where there is demand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offtake.plan.nodes import Moments, Shape
from offtake.plan.problem import Held, Problem
from offtake.plan.replan import Life, given_the_past, lived
from offtake.plan.solve import Options
from tests.plan.problems import lease

EXACT = Options(gap=0.0)


def life(*demand: float) -> Life:
    """A path whose first plan keeps the chip to the end; its planner may end it after two hours.

    In half of the draws that its planner has, demand goes away after the first hour.
    """
    path = lease(1)
    held = Held(signed=np.ones((1, 1)), kept=np.ones((1, 1, 4)), hosts=np.zeros((0, 1)))
    return Life(
        path=replace(path, demand_rps=np.array(demand).reshape(1, 4, 1, 1), held=held),
        store=lease(16),
        moments=Moments(sign=np.zeros(1, dtype=int), keep=np.array([[0, 0, 2, 2]])),
        stages=[2],
        shape=Shape(stages=1, branches=2),
        scenarios=4,
    )


def test_a_planner_who_plans_anew_gives_notice_when_demand_is_gone() -> None:
    found = lived(life(1, 0, 0, 0), EXACT)
    assert found.followed_usd == pytest.approx(10 - 4 * 5)
    assert found.replanned_usd == pytest.approx(10 - 2 * 5)


def test_a_planner_who_plans_anew_keeps_what_pays() -> None:
    found = lived(life(1, 1, 1, 1), EXACT)
    assert found.followed_usd == pytest.approx(4 * 5)
    assert found.replanned_usd == pytest.approx(4 * 5)


def test_a_planner_does_not_see_that_demand_will_come_back() -> None:
    found = lived(life(1, 0, 1, 1), EXACT)
    assert found.followed_usd == pytest.approx(3 * 10 - 4 * 5)
    assert found.replanned_usd == pytest.approx(10 - 2 * 5)


def test_what_may_come_has_the_past_of_the_path_and_the_future_of_draws_that_are_like_it() -> None:
    given: Problem = given_the_past(life(0.9, 1e-6, 7, 7), 2)
    assert given.probability == pytest.approx(np.full(4, 0.25))
    assert given.demand_rps[:, :, 0, 0].tolist() == [[0.9, 1e-6, 0, 0]] * 4
    assert np.bincount(given.deliveries.scenario).tolist() == [4, 4, 4, 4]
