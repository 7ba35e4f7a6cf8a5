"""Say whether a system was stationary, so that no percentile of an overloaded one is ever printed.

The number of requests in the system is looked at in 40 windows of the load. It is *not stationary* when, over the
second half, that number and its ratio to the rate of arrivals both rise steadily (Mann-Kendall, one-sided 1%) and the
growth from the third to the last quarter is more than 1% of that half's arrivals. A load shorter than ten mean stays in
the system is *too short* to tell, and fewer than 20 requests are *too few*. Windows, levels and shares are assumptions
of the test. Comes in: times of entering and leaving. Goes out: one word. Source: Mann, Econometrica 13, 1945. This
module must never know what a request is.
"""

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
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


def stationarity(entered_ns: Ints, left_ns: Ints, span_ns: tuple[int, int]) -> Stationarity:
    """Judge a system by when requests entered and left it, over the load's first and last arrival (ns)."""
    if len(entered_ns) < REQUESTS_MIN:
        return Stationarity.TOO_FEW
    begin_ns, end_ns = span_ns
    edges = np.linspace(begin_ns, end_ns, WINDOWS + 1)
    entered = np.searchsorted(np.sort(entered_ns), edges, side="right")
    inside = (entered - np.searchsorted(np.sort(left_ns), edges, side="right"))[1:].astype(np.float64)
    arrived = np.diff(entered).astype(np.float64)
    if _grows(inside, arrived):
        return Stationarity.NOT_STATIONARY
    stay_ns = float(np.mean(left_ns - entered_ns))
    return Stationarity.TOO_SHORT if end_ns - begin_ns < STAYS_MIN * stay_ns else Stationarity.STATIONARY


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
