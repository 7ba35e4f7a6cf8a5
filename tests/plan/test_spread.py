"""Intervals of means and tails, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from offtake.plan.objective import cvar_usd
from offtake.plan.spread import batch_range, mean_range


def test_the_interval_of_a_mean_is_students() -> None:
    # Four values of mean 5 and deviation 2: t(3) at 97.5% is 3.18245, over the root of 4.
    values = 5 + 2 * np.sqrt(3 / 4) * np.array([1.0, 1.0, -1.0, -1.0])
    found = mean_range(values)
    assert found.estimate == pytest.approx(5.0)
    assert found.low == pytest.approx(5 - 3.18245, abs=1e-4)
    assert found.high == pytest.approx(5 + 3.18245, abs=1e-4)


def test_one_value_has_no_interval() -> None:
    assert mean_range(np.array([3.0])).low is None
    assert batch_range([(np.array([3.0]), np.ones(1))], lambda some, _: float(some[0])).high is None


def test_batches_of_weighted_draws_have_students_interval_over_batches() -> None:
    # Batch means 1, 2 and 3: 2 ± 4.30265 / √3.
    batches = [(np.array([m - 1.0, m + 3.0]), np.array([0.75, 0.25])) for m in (1.0, 2.0, 3.0)]
    found = batch_range(batches, lambda values, weights: float(weights @ values))
    assert found.estimate == pytest.approx(2.0)
    assert found.high == pytest.approx(2 + 4.30265 / np.sqrt(3), abs=1e-4)


def test_the_tail_of_batches_is_that_of_all_draws_together() -> None:
    batches = [(np.array([-4.0, 10.0]), np.full(2, 0.5)), (np.array([-2.0, 6.0]), np.full(2, 0.5))]
    found = batch_range(batches, lambda nets, weights: cvar_usd(-nets, weights, 0.5))
    assert found.estimate == pytest.approx(3.0)  # the worse half: −4 and −2


def test_what_is_drawn_together_is_compared_together() -> None:
    both = [(np.stack([nets, nets - 3.0]), np.full(2, 0.5)) for nets in (np.array([1.0, 9.0]), np.array([5.0, 7.0]))]
    found = batch_range(both, lambda nets, weights: float(weights @ (nets[0] - nets[1])))
    assert (found.low, found.estimate, found.high) == (3.0, 3.0, 3.0)
