from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from offtake.demand.forecast import Branch, branches_of, expected_growth, growth_paths
from offtake.schema.settings import GrowthRow

START = date(2026, 6, 1).toordinal()


def test_without_a_fan_demand_stays() -> None:
    (path,) = growth_paths(branches_of([], START), np.array([0.0, 500.0]))
    assert path.tolist() == [1.0, 1.0]


def test_a_branch_reaches_its_yearly_growth_after_a_year() -> None:
    branch = Branch(name="6x", weight=1.0, per_year=6.0)
    (path,) = growth_paths([branch], np.array([0.0, 182.5, 365.0, 730.0]))
    assert path.tolist() == pytest.approx([1.0, 6**0.5, 6.0, 36.0])


def test_a_quarter_at_80_times_a_year_triples_demand_and_stays() -> None:
    row = GrowthRow(
        branch="80x-quarter",
        weight=1.0,
        per_year=1.0,
        stress_per_year=80,
        stress_from=date(2026, 7, 1),
        stress_days=92,
    )
    (path,) = growth_paths(branches_of([row], START), np.array([0.0, 30.0, 76.0, 122.0, 300.0]))
    assert path.tolist() == pytest.approx([1.0, 1.0, 1.738, 3.018, 3.018], abs=2e-3)


def test_a_stress_that_began_before_the_horizon_counts_from_its_start() -> None:
    row = GrowthRow(branch="s", weight=1, per_year=1, stress_per_year=10, stress_from=date(2026, 5, 2), stress_days=60)
    (path,) = growth_paths(branches_of([row], START), np.array([0.0, 30.0, 60.0]))
    assert path.tolist() == pytest.approx([1.0, 10 ** (30 / 365), 10 ** (30 / 365)])


def test_a_stress_without_a_first_day_begins_with_the_horizon() -> None:
    row = GrowthRow(branch="s", weight=1, per_year=1, stress_per_year=10, stress_days=365)
    (path,) = growth_paths(branches_of([row], START), np.array([365.0]))
    assert path[0] == pytest.approx(10.0)


def test_the_expected_growth_weighs_the_branches() -> None:
    fan = [Branch(name="a", weight=0.25, per_year=1.0), Branch(name="b", weight=0.75, per_year=5.0)]
    assert expected_growth(fan, np.array([0.0, 365.0])).tolist() == pytest.approx([1.0, 4.0])
