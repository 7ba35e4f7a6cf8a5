"""Fit bursts to measured figures.

Comes in: measured dispersion at several windows, CV and rate. Goes out: components of
:mod:`offtake.demand.burst`. It draws nothing. Only what measures a trace loads it: a plan need not wait for the
optimiser.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import least_squares

from offtake.demand.burst import SIZE_MEAN_MAX, SIZE_MEAN_MIN, Burst, Floats, index_of_dispersion, interarrival_cv

DURATION_S_MIN, DURATION_S_MAX = 0.05, 300.0  # longer swings are drift: a shape's matter, not a burst's


def fit_bursts(dispersion: Mapping[float, float], cv: float, rate_rps: float) -> tuple[Burst, ...]:
    """Return the fewest components that match the index of dispersion by window (s) and the inter-arrival CV.

    Least squares on logarithms, from a few fixed starts; a second component is kept only where it halves the
    misfit of the first (in root mean square). Where counts vary no more than Poisson, there are no bursts.
    """
    if max(dispersion.values()) <= 1.0:
        return ()
    one, two = (_fit(dispersion, cv, rate_rps, count) for count in (1, 2))
    return two[1] if two[0] < one[0] / 4 else one[1]


def _fit(dispersion: Mapping[float, float], cv: float, rate_rps: float, count: int) -> tuple[float, tuple[Burst, ...]]:
    """Return the least misfit with ``count`` components, and the components."""

    def misfit(unknowns: Floats) -> Floats:
        bursts = _bursts_of(unknowns, count)
        ratios = [index_of_dispersion(bursts, window) / max(value, 1.0) for window, value in dispersion.items()]
        return np.log([*ratios, (1 + interarrival_cv(bursts, rate_rps)) / (1 + cv)])

    bounds = np.array([(-6.0, 12.0)] * count + [(np.log(SIZE_MEAN_MIN), np.log(SIZE_MEAN_MAX))] * count)
    bounds = np.concatenate([bounds, [(np.log(DURATION_S_MIN), np.log(DURATION_S_MAX))] * count])
    best: tuple[float, tuple[Burst, ...]] = (np.inf, ())
    for duration_s in (1.0, 10.0, 100.0):
        start = np.concatenate([np.zeros(count), np.full(count, 3.0), np.log(duration_s / 8.0 ** np.arange(count))])
        start = np.clip(start, bounds[:, 0] + 1e-3, bounds[:, 1] - 1e-3)
        found = least_squares(misfit, start, bounds=(bounds[:, 0], bounds[:, 1]), max_nfev=100)
        if found.cost < best[0]:
            best = (float(found.cost), _bursts_of(found.x, count))
    return best


def _bursts_of(unknowns: Floats, count: int) -> tuple[Burst, ...]:
    """Return components from free numbers: shares (soft-max with a rest), log(size), log(duration)."""
    weight = np.exp(unknowns[:count])
    share = weight / (1 + weight.sum())
    size = np.exp(unknowns[count : 2 * count])
    duration_s = np.exp(unknowns[2 * count :])
    return tuple(Burst(float(a), float(m), float(d)) for a, m, d in zip(share, size, duration_s, strict=True))
