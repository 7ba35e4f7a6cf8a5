"""Describe how arrivals bunch: a Cox process of bursts, and its formulas.

Bursts of component i start as a Poisson process; each raises the rate by the same amount over ``duration_s``, and
brings an exponentially distributed number of requests on average (mean ``size_mean`` over bursts). What
no component claims comes singly (plain Poisson). Superposing such streams, or raising the rate, keeps the
index of dispersion and lowers the inter-arrival CV toward 1, as adding independent users does. Keeping one
request in n at random divides the sizes by n and keeps the form.

Comes in: components. Goes out: their dispersion at a window, and their CV. It draws nothing, and fits nothing.
Source: shot-noise Cox processes, Møller (2003), Adv. Appl. Prob. 35; Daley and Vere-Jones (2003), chapter 6.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

SIZE_MEAN_MIN, SIZE_MEAN_MAX = 2.0, 5_000.0  # only share × size shows in the dispersion; small sizes cost time
GRID_POINTS = 240
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
_UNIT_NODES = (_NODES + 1) / 2
_UNIT_WEIGHTS = _WEIGHTS / 2

Floats = NDArray[np.float64]


class Burst(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe one component: its share of all requests, mean requests per burst, and the seconds a burst lasts."""

    share: float
    size_mean: float
    duration_s: float


def thin(bursts: Sequence[Burst], keep_one_in: int) -> tuple[Burst, ...]:
    """Return the components that remain when one request in ``keep_one_in`` is kept at random.

    A size that falls below 2 is written as bursts of 2 with a smaller share: the dispersion, in which only
    share × size shows, stays exact, and there are fewer bursts than requests.
    """
    return tuple(_thinned(burst, burst.size_mean / keep_one_in) for burst in bursts)


def _thinned(burst: Burst, size_mean: float) -> Burst:
    """Return a burst with another mean size, kept at 2 or more."""
    kept = max(size_mean, min(SIZE_MEAN_MIN, burst.size_mean))
    return Burst(burst.share * size_mean / kept, kept, burst.duration_s)


def index_of_dispersion(bursts: Sequence[Burst], window_s: float) -> float:
    """Return variance over mean of the counts in windows of ``window_s``; 1 is Poisson.

    I(w) = 1 + Σ share · E[A²]/E[A] · K(duration/w), where E[A²]/E[A] = 2 · size_mean for exponential sizes, and K is
    the mean overlap of a window with a burst: 1 − r/3 for r ≤ 1, else 1/r − 1/(3r²).
    """
    total = 1.0
    for burst in bursts:
        ratio = burst.duration_s / window_s
        together = 1 - ratio / 3 if ratio <= 1 else 1 / ratio - 1 / (3 * ratio**2)
        total += burst.share * 2 * burst.size_mean * together
    return total


def interarrival_cv(bursts: Sequence[Burst], rate_rps: float) -> float:
    """Return the coefficient of variation of the gaps between requests; 1 is Poisson.

    CV² = 2 · rate · ∫ P(no request in w) dw − 1, by Palm's formula; the integral is taken on a grid.
    """
    slowest_rps = rate_rps * (1 - sum(b.share for b in bursts)) + sum(rate_rps * b.share / b.size_mean for b in bursts)
    window_s = np.concatenate([[0.0], np.geomspace(1e-4 / rate_rps, 40 / slowest_rps, GRID_POINTS)])
    empty = np.exp(_log_empty(bursts, rate_rps, window_s))
    squared = 2 * rate_rps * float(np.trapezoid(empty, window_s)) - 1
    return float(np.sqrt(max(squared, 0.0)))


def _log_empty(bursts: Sequence[Burst], rate_rps: float, window_s: Floats) -> Floats:
    """Return log P(no request in a window) for each window."""
    single_rps = rate_rps * (1 - sum(burst.share for burst in bursts))
    log_empty = -single_rps * window_s
    for burst in bursts:
        burst_rps = rate_rps * burst.share / burst.size_mean
        overlap_s = np.minimum(window_s, burst.duration_s)
        full = overlap_s / burst.duration_s
        entering = _hit(full[:, None] * _UNIT_NODES, burst.size_mean) @ _UNIT_WEIGHTS
        inside = np.abs(window_s - burst.duration_s) * _hit(full, burst.size_mean)
        log_empty = log_empty - burst_rps * (2 * overlap_s * entering + inside)
    return log_empty


def _hit(fraction: Floats, size_mean: float) -> Floats:
    """Return the chance that a burst puts a request into a window that covers ``fraction`` of it."""
    return np.asarray(size_mean * fraction / (1 + size_mean * fraction))
