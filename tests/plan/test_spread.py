"""Intervals of means and tails, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from offtake.plan.objective import cvar_usd
from offtake.plan.spread import bootstrap_range, mean_range, tail_loss


def test_the_interval_of_a_mean_is_students() -> None:
    # Four values of mean 5 and deviation 2: t(3) at 97.5% is 3.18245, over the root of 4.
    values = 5 + 2 * np.sqrt(3 / 4) * np.array([1.0, 1.0, -1.0, -1.0])
    found = mean_range(values)
    assert found.estimate == pytest.approx(5.0)
    assert found.low == pytest.approx(5 - 3.18245, abs=1e-4)
    assert found.high == pytest.approx(5 + 3.18245, abs=1e-4)


def test_one_value_has_no_interval() -> None:
    assert mean_range(np.array([3.0])).low is None
    assert bootstrap_range(np.array([3.0]), lambda some: some.mean(axis=-1), 1).high is None


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("alpha", [0.5, 0.8, 0.9, 0.97])
def test_the_tail_of_equal_weights_is_that_of_the_objective(seed: int, alpha: float) -> None:
    net = np.random.default_rng(seed).normal(size=23)
    assert float(tail_loss(net, alpha)) == pytest.approx(cvar_usd(-net, np.full(23, 1 / 23), alpha))


def test_the_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    values = np.tile([0.0, 1.0], 200)  # deviation of the mean: 0.5 / √400 = 0.025
    found = bootstrap_range(values, lambda some: some.mean(axis=-1), 11)
    assert found.estimate == 0.5
    assert found.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.006)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.006)


def test_values_that_are_drawn_together_stay_together() -> None:
    both = np.stack([np.arange(10.0), np.arange(10.0) + 3.0])  # always 3 apart
    found = bootstrap_range(both, lambda some: (some[:, 1] - some[:, 0]).mean(axis=-1), 5)
    assert (found.low, found.estimate, found.high) == (3.0, 3.0, 3.0)
