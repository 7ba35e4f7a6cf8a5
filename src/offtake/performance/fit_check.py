"""Predict each measured point from the others, and say how sure a prediction is.

Comes in: a fitted deployment and how far such predictions missed on other deployments. Goes out: held-out predictions,
and the distribution of a prediction: ln y = mean + sd × factor × Q(p), Q being the quantiles of held-out errors in
standard deviations, factor the system's own (cross-conformal, Vovk 2015). A point and its repeats take no part in
what predicts them. This module must never know a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.performance.fit import (
    Fit,
    Known,
    Predicted,
    Prior,
    Simulate,
    end_to_end,
    levers_of,
    newton_step,
    predict,
)
from offtake.performance.fit_prior import Misses
from offtake.performance.measurements import Load, Point

Floats = npt.NDArray[np.float64]
ALL = ("ttft", "tpot", "e2e")
LOW, HIGH = 0.1, 0.9  #: of an 80% interval


class HeldOut(NamedTuple):
    """Hold one held-out prediction, ln ms of (ttft, tpot, e2e): the table alone, the prediction, its sd; its point."""

    place: int
    table: Floats
    mean: Floats
    sd: Floats


def held_out(points: Sequence[Point], fit: Fit, simulate: Simulate, prior: Prior) -> Iterator[HeldOut]:
    """Yield the prediction of each point from those at other loads; with none, from the prior alone.

    The levers without a point are one Gauss-Newton step from the whole fit on the other points' rows, and
    every load is simulated again under them.
    """
    target = fit.left + fit.simulated
    again: dict[Load, tuple[Floats, Floats]] = {}
    for index, point in enumerate(points):
        keep = np.array([other.load != point.load for other in points])
        if point.load not in again:
            theta = newton_step(fit.left[keep], fit.jacobian[keep], fit.theta, prior) if keep.any() else prior.mean
            again[point.load] = (theta, np.log(simulate(levers_of(theta))))
        theta, simulated = again[point.load]
        others = [other for other, use in zip(points, keep, strict=True) if use]
        left = (target - simulated)[keep]
        known = Known(others, left, fit.jacobian[keep], theta, prior)
        one = slice(index, index + 1)
        found = predict(known, points[one], simulated[one], fit.jacobian[one])
        yield HeldOut(index, with_e2e(point, simulated[index]), *whole(point, found))


def whole(point: Point, found: Predicted) -> tuple[Floats, Floats]:
    """Return mean and sd of ln ms of (ttft, tpot, e2e) at one point."""
    mean, variance = end_to_end([point], found)
    return np.append(found.mean[0], mean[0]), np.sqrt(np.append(found.variance[0], variance[0]))


def with_e2e(point: Point, values: Floats) -> Floats:
    """Return ln ms of (ttft, tpot, e2e) from those of (ttft, tpot)."""
    return np.append(values, end_to_end([point], Predicted(values[None], np.zeros((1, 2))))[0])


def quantile(misses: Misses, system: str, metric: str, share: float) -> float:
    """Return the quantile of an error in standard deviations of the prediction."""
    factor = misses.factors.get(system, {}).get(metric, 1.0)
    return factor * float(np.interp(share, misses.probabilities, misses.quantiles[metric]))


def probability_below(misses: Misses, system: str, metric: str, deviations: float) -> float:
    """Return the probability that an error is below ``deviations`` standard deviations; never 0 or 1."""
    factor = misses.factors.get(system, {}).get(metric, 1.0)
    return float(np.interp(deviations / factor, misses.quantiles[metric], misses.probabilities))


def interval(misses: Misses, system: str, mean: Floats, sd: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the 80% interval of (ttft, tpot, e2e), ms."""
    ends = [[quantile(misses, system, metric, share) for metric in ALL] for share in (LOW, HIGH)]
    return np.exp(mean + sd * np.array(ends[0])), np.exp(mean + sd * np.array(ends[1]))
