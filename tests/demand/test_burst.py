from __future__ import annotations

import pytest

from offtake.demand.burst import Burst, index_of_dispersion, interarrival_cv, thin
from offtake.demand.burst_fit import fit_bursts


def test_without_bursts_arrivals_are_poisson() -> None:
    assert index_of_dispersion([], 60) == 1
    assert interarrival_cv([], 3.0) == pytest.approx(1.0, abs=2e-3)


def test_dispersion_of_a_long_window_is_one_plus_twice_the_size() -> None:
    assert index_of_dispersion([Burst(1.0, 10.0, 0.5)], 1e6) == pytest.approx(21.0, rel=1e-5)
    assert index_of_dispersion([Burst(0.25, 10.0, 0.5)], 1e6) == pytest.approx(6.0, rel=1e-5)


def test_dispersion_of_a_window_as_long_as_the_burst_is_two_thirds_of_it() -> None:
    assert index_of_dispersion([Burst(1.0, 3.0, 5.0)], 5.0) == pytest.approx(1 + 6 * 2 / 3)


def test_bursts_far_apart_make_gaps_as_a_compound_process_does() -> None:
    # Bursts of no length, 1 a second, each exponential with mean 9: a tenth of the bursts are empty, so groups come
    # at 0.9 a second and hold 10 on average. Of ten gaps nine are 0 and one is exponential: CV² = 2·10 − 1.
    assert interarrival_cv([Burst(1.0, 9.0, 1e-6)], 9.0) == pytest.approx(19**0.5, rel=0.01)


def test_thinning_lowers_the_dispersion_above_poisson_in_proportion() -> None:
    bursts = [Burst(0.8, 40.0, 300.0), Burst(0.1, 5.0, 2.0)]
    for window in (1, 10, 60):
        above = index_of_dispersion(bursts, window) - 1
        assert index_of_dispersion(thin(bursts, 10), window) - 1 == pytest.approx(above / 10)


def test_thinned_bursts_are_fewer_than_their_requests() -> None:
    (burst,) = thin([Burst(0.8, 40.0, 300.0)], 1000)
    assert burst.size_mean == 2.0
    assert burst.share == pytest.approx(0.8 * 0.04 / 2)


def test_fitting_finds_the_figures_it_was_given() -> None:
    truth = [Burst(0.6, 30.0, 12.0)]
    windows = (1, 3, 10, 30, 60)
    found = fit_bursts({window: index_of_dispersion(truth, window) for window in windows}, interarrival_cv(truth, 4), 4)
    for window in (2, 20, 100):
        assert index_of_dispersion(found, window) == pytest.approx(index_of_dispersion(truth, window), rel=0.02)
    assert interarrival_cv(found, 4) == pytest.approx(interarrival_cv(truth, 4), rel=0.05)


def test_counts_steadier_than_poisson_have_no_bursts() -> None:
    assert fit_bursts({1: 0.98, 60: 0.7}, 0.9, 10.0) == ()
