"""Say whether a system was stationary, so that no percentile of an overloaded one is ever printed.

The number of requests in the system is looked at in 40 windows of the load. It is *not stationary* when, over the
second half, that number and its ratio to the rate of arrivals both rise steadily (Mann-Kendall, one-sided 1%) and the
growth from the third to the last quarter is more than 1% of that half's arrivals. A load shorter than ten mean stays in
the system is *too short* to tell, and fewer than 20 requests are *too few*. Windows, levels and shares are assumptions
of the test. Comes in: counts of entering and leaving, in more and finer windows. Goes out: one word. Source: Mann,
Econometrica 13, 1945. This module must never know what a request is.
"""

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]

WINDOWS = 40
REQUESTS_MIN = 20
STAYS_MIN = 10
Z_ONE_PERCENT = 2.326
GROWTH_SHARE = 0.01


class Stationarity(StrEnum):
    """Name the answers, from good to bad."""

    STATIONARY = "stationary"
    TOO_FEW = "too few requests"
    TOO_SHORT = "too short"
    INTERRUPTED = "interrupted"
    NOT_STATIONARY = "not stationary"


def stationarity(entered: Counts, left: Counts, span: float, stay_mean: float) -> Stationarity:
    """Judge a system by how many requests entered and left it in windows of equal length.

    Parameters
    ----------
    entered, left
        [window] counts from the load's first arrival on.
    span, stay_mean
        How long the load lasted, and a request's mean stay, in windows.
    """
    if entered.sum() < REQUESTS_MIN:
        return Stationarity.TOO_FEW
    edges = np.linspace(0.0, span, WINDOWS + 1)
    inside = _upto(entered, edges) - _upto(left, edges)
    if _grows(inside[1:], np.diff(_upto(entered, edges))):
        return Stationarity.NOT_STATIONARY
    return Stationarity.TOO_SHORT if span < STAYS_MIN * stay_mean else Stationarity.STATIONARY


def _upto(counts: Counts, edges: Floats) -> Floats:
    """Return how many were counted before each edge, a window's being spread evenly over it."""
    total = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    return np.asarray(np.interp(edges, np.arange(len(total)), total))


def _grows(inside: Floats, arrived: Floats) -> bool:
    """Tell whether the second half's backlog rises steadily, by itself and against its arrivals, and by enough."""
    half, quarter = len(inside) // 2, len(inside) // 4
    later, coming = inside[half:], arrived[half:]
    growth = later[quarter:].mean() - later[:quarter].mean()
    relative = later / np.maximum(coming, 1.0)
    steady = min(trend_z(later), trend_z(relative)) > Z_ONE_PERCENT
    return bool(steady and growth > GROWTH_SHARE * coming.sum())


def trend_z(values: Floats) -> float:
    """Return the Mann-Kendall statistic of a series, standard normal without a trend (ties count as no change)."""
    n = len(values)
    rises = np.sign(values[None, :] - values[:, None])[np.triu_indices(n, 1)].sum()
    return float((rises - np.sign(rises)) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18))


def worst(found: list[Stationarity]) -> Stationarity:
    """Return the worst of several answers; nothing at all is too few."""
    order = list(Stationarity)
    return max(found, key=order.index, default=Stationarity.TOO_FEW)
