from __future__ import annotations

import numpy as np
import pytest

from offtake.demand.shock import Shock, ShockEvents, expected_shock, sample_shocks, shock_paths

NEWS = Shock(name="news", per_year=4.0, multiplier=1.5, days=7.0)
LAUNCH = Shock(name="launch", per_year=2.0, multiplier=3.0, days=20.0)
MONTHS = np.arange(0.0, 721.0, 30.0)


def events(*found: tuple[int, int, float]) -> ShockEvents:
    scenario, kind, start = zip(*found, strict=True)
    return ShockEvents(np.array(scenario), np.array(kind), np.array(start, dtype=float))


def test_a_shock_raises_a_period_by_the_share_it_covers() -> None:
    paths = shock_paths([NEWS, LAUNCH], events((1, 1, 25.0)), np.array([0.0, 30.0, 60.0]), 2)
    assert paths[0].tolist() == [1.0, 1.0]
    assert paths[1].tolist() == pytest.approx([1 + 2 * 5 / 30, 1 + 2 * 15 / 30])


def test_two_shocks_at_once_add_what_each_adds() -> None:
    paths = shock_paths([NEWS, LAUNCH], events((0, 0, 0.0), (0, 1, 0.0)), np.array([0.0, 7.0]), 1)
    assert paths.tolist() == [[3.5]]


def test_falls_never_leave_less_than_no_demand() -> None:
    outage = Shock(name="outage", per_year=1.0, multiplier=0.2, days=5.0)
    assert shock_paths([outage], events((0, 0, 0.0), (0, 0, 1.0)), np.array([1.0, 2.0]), 1).tolist() == [[0.0]]


def test_without_shocks_demand_is_left_alone() -> None:
    found = sample_shocks([], 365.0, 5, seed=1)
    assert shock_paths([], found, MONTHS, 5).tolist() == np.ones((5, 24)).tolist()
    assert expected_shock([]) == 1.0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_mean_multiplier_is_the_analytic_one_in_every_period(seed: int) -> None:
    # 1 + 4·7/365·0.5 + 2·20/365·2 = 1.2575; the standard error of the mean over all is about 0.005.
    assert expected_shock([NEWS, LAUNCH]) == pytest.approx(1.25753, abs=1e-5)
    paths = shock_paths([NEWS, LAUNCH], sample_shocks([NEWS, LAUNCH], 720.0, 2000, seed), MONTHS, 2000)
    assert paths.mean() == pytest.approx(1.2575, abs=0.02)
    assert paths[:, 0].mean() == pytest.approx(1.2575, abs=0.06)  # shocks that began before day 0 count too


def test_more_scenarios_and_other_kinds_leave_a_scenario_as_it_was() -> None:
    few = sample_shocks([NEWS], 365.0, 3, seed=9)
    many = sample_shocks([NEWS, LAUNCH], 365.0, 30, seed=9)
    mine = (many.kind == 0) & (many.scenario < 3)
    assert many.start_day[mine].tolist() == few.start_day.tolist()


def test_a_higher_rate_brings_the_same_events_sooner() -> None:
    slow = sample_shocks([NEWS], 3650.0, 1, seed=4).start_day + 7
    fast = sample_shocks([Shock(name="news", per_year=8.0, multiplier=1.5, days=7.0)], 3650.0, 1, seed=4).start_day + 7
    assert fast[: slow.size] == pytest.approx(slow / 2)
