r"""Fit a step table to what was measured of one deployment, and predict points that were not measured.

Comes in: measured points, a function that simulates them under given levers, and a prior. Goes out: levers with their
covariance, and predictions with their spread. Two stages, each in closed form:

1. *Levers* θ (logarithms of :class:`~.calibration.Levers`). With y the logarithms of measured TTFT and TPOT, f(θ) the
   simulated ones, J = ∂f/∂θ and N(μ, S) the prior of this backend and system, a Gauss-Newton step takes θ to

       θ + (JᵀWJ + S⁻¹)⁻¹ (JᵀW(y - f) + S⁻¹(μ - θ)),

   where W weighs a residual r of metric m by 5 / (4 + (r/σ_m)²) / σ_m²: Student's t with four degrees of freedom, so
   that one odd run does not bend the table. The load is simulated again after every step: queues are not linear.
2. *Nearby points*. What the levers leave varies slowly with load: its covariance K between two points is
   a² exp(-d), d² = (Δln C/ℓ_C)² + (Δln in/ℓ_in)² + (Δln out/ℓ_out)², less between two versions of the engine, plus
   the scatter b² of repeats. Linear in θ from here on, y ~ N(f + J(μ - θ), V) with V = K + b²I + J S Jᵀ, so that at a
   point *, with c* = k* + J* S Jᵀ, the best prediction and its variance are

       f* + J*(μ - θ) + c*ᵀ V⁻¹ (y - f - J(μ - θ))   and   (V** - c*ᵀ V⁻¹ c*) · (4 + q) / (4 + n),

   q = rᵀV⁻¹r over the n points of a metric: the scale is learnt from the deployment itself (a Student-t process), so
   that a steady one gets narrower intervals. The levers' covariance is S - S Jᵀ V⁻¹ J S.

With no point the answer is the prior; with many it is the measurements: the shrinkage follows from S, a and b, which
are estimated from other deployments (``fit_prior``). Sources: Gelman et al., Bayesian Data Analysis, 3rd ed., chapters
5 and 17; Rasmussen and Williams, Gaussian Processes for Machine Learning, equations 2.25 and 2.26; Shah, Wilson and
Ghahramani, Student-t Processes, AISTATS 2014. This module must never know a file or a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.performance.calibration import Levers
from offtake.performance.measurements import Point

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Simulate = Callable[[Levers], Floats]
Progress = Callable[[float], None]

METRICS = ("ttft", "tpot")
STEPS = 4  #: Gauss-Newton steps (assumption: levers start near, and a step ends the search once it is small)
STRIDE_MAX = 0.7  #: longest step of one lever, in logarithm: a factor of two
DIFFERENCE = 0.1  #: of a lever's logarithm, for the derivative
KV = Levers._fields.index("kv")
REQUEST = Levers._fields.index("request_ms")
DEGREES = 4.0  #: of freedom of Student's t


class Nearby(NamedTuple):
    """Say how alike the errors of two points are: ``a`` spread, ``ℓ`` lengths (in logarithm), ``b`` scatter of repeats.

    All [metric]; ``version_share`` is the part of the covariance that two engine versions share.
    """

    spread: Floats
    length_concurrency: Floats
    length_input: Floats
    length_output: Floats
    repeat: Floats
    version_share: float


class Prior(NamedTuple):
    """Hold what other deployments of this backend and system teach: levers' ``mean`` and ``sd`` [lever], logarithms.

    ``noise`` [metric]: spread of ln(measured / simulated) that levers leave.
    """

    mean: Floats
    sd: Floats
    noise: Floats
    nearby: Nearby


class Fit(NamedTuple):
    """Hold a fitted deployment: ``theta`` [lever] and its covariance; per point what they leave.

    ``simulated`` and ``left`` are ln ms and ln ratio [point, metric], ``jacobian`` [point, metric, lever]. ``steps``
    counts the Gauss-Newton steps taken.
    """

    theta: Floats
    covariance: Floats
    simulated: Floats
    left: Floats
    jacobian: Floats
    steps: int


class Predicted(NamedTuple):
    """Hold the mean and the variance of ln ms, [point, metric]."""

    mean: Floats
    variance: Floats


def levers_of(theta: Floats) -> Levers:
    """Return the levers whose logarithms are ``theta``."""
    return Levers(*(math.exp(value) for value in theta))


def observed(points: Sequence[Point]) -> Floats:
    """Return ln TTFT and ln TPOT, [point, metric]; nan where one was not measured."""
    return np.asarray(np.log(np.array([(point.ttft_ms, point.tpot_ms) for point in points])))


def fit_levers(points: Sequence[Point], simulate: Simulate, prior: Prior, progress: Progress | None = None) -> Fit:
    """Find the levers of a deployment.

    Returns
    -------
    Fit
        With the covariance of the levers of stage 2, since neighbouring points err alike.
    """
    target = observed(points)
    theta: Floats = np.array(prior.mean, np.float64)
    for step in range(STEPS):
        simulated, jacobian = derivatives(simulate, theta)
        if progress is not None:
            progress((step + 1) / (STEPS + 1))
        before, theta = theta, newton_step(target - simulated, jacobian, theta, prior)
        if np.max(np.abs(theta - before)) < DIFFERENCE / 10:
            break
    simulated, jacobian = derivatives(simulate, theta)
    left = target - simulated
    if progress is not None:
        progress(1.0)
    return Fit(theta, lever_covariance(points, left, jacobian, prior), simulated, left, jacobian, step + 1)


def derivatives(simulate: Simulate, theta: Floats) -> tuple[Floats, Floats]:
    """Return ln TTFT and ln TPOT at ``theta`` [point, metric], and their slopes [point, metric, lever]."""
    base = np.log(simulate(levers_of(theta)))
    slopes = np.zeros((*base.shape, theta.size))
    for lever in range(theta.size):
        if lever == REQUEST:
            slopes[:, 0, lever] = np.exp(theta[lever] - base[:, 0])
            continue
        change = -2 * DIFFERENCE if lever == KV else DIFFERENCE
        moved = theta.copy()
        moved[lever] += change
        slopes[:, :, lever] = (np.log(simulate(levers_of(moved))) - base) / change
    return base, slopes


def newton_step(left: Floats, jacobian: Floats, theta: Floats, prior: Prior) -> Floats:
    """Return where one robust Gauss-Newton step from ``theta`` leads; ``left`` is y - f(θ) [point, metric]."""
    rows, slopes, noise = _stacked(left, jacobian, prior)
    pull = 1 / prior.sd**2
    change: Floats = np.zeros(theta.size)
    for _ in range(5):  # the weights depend on the residuals
        weighted = slopes * _weights(rows - slopes @ change, noise)[:, None]
        target = weighted.T @ rows + pull * (prior.mean - theta)
        change = np.asarray(np.linalg.solve(weighted.T @ slopes + np.diag(pull), target), np.float64)
    moved: Floats = theta + np.clip(change, -STRIDE_MAX, STRIDE_MAX)
    return moved


def without(fit: Fit, keep: Bools, prior: Prior) -> Floats:
    """Return the levers fitted to the points in ``keep`` [point] alone: a step from the whole fit, on their rows."""
    return newton_step(fit.left[keep], fit.jacobian[keep], fit.theta, prior)


def likeness(points: Sequence[Point], others: Sequence[Point], prior: Prior) -> Floats:
    """Return the covariance of what levers leave, [metric, point, other], without the scatter of repeats."""
    here, there = _features(points), _features(others)
    gaps = here[:, None, :] - there[None, :, :]
    same = np.array([[a.backend_version == b.backend_version for b in others] for a in points], bool)
    share = np.where(same.reshape(len(points), len(others)), 1.0, prior.nearby.version_share)
    near = prior.nearby
    lengths = np.stack([near.length_concurrency, near.length_input, near.length_output], axis=1)
    distance = np.sqrt(((gaps[None] / lengths[:, None, None, :]) ** 2).sum(axis=3))
    return np.asarray(near.spread[:, None, None] ** 2 * np.exp(-distance) * share)


class Known(NamedTuple):
    """Hold what a prediction rests on: points, and there ln ratios left [point, metric] and slopes under ``theta``."""

    points: Sequence[Point]
    left: Floats
    jacobian: Floats
    theta: Floats
    prior: Prior


def predict(known: Known, points: Sequence[Point], simulated: Floats, jacobian: Floats) -> Predicted:
    """Predict ln TTFT and ln TPOT at ``points`` from their simulation and slopes under the same levers as ``known``."""
    prior, count = known.prior, len(points)
    offset = prior.mean - known.theta
    given = np.isfinite(known.left.T.ravel())
    whole = spread_of(known.points, known.jacobian, prior)[np.ix_(given, given)]
    slopes, base = _flat(jacobian), _flat(known.jacobian)
    cross = (_blocks(likeness(points, known.points, prior)) + (slopes * prior.sd**2) @ base.T)[:, given]
    rest = (known.left.T.ravel() - base @ offset)[given]
    solved = np.linalg.solve(whole, np.column_stack([rest, cross.T]))
    mean = simulated.T.ravel() + slopes @ offset + cross @ solved[:, 0]
    own = np.repeat(prior.nearby.spread**2 + prior.nearby.repeat**2, count) + (slopes**2) @ prior.sd**2
    variance = np.maximum(own - np.einsum("pk,kp->p", cross, solved[:, 1:]), 0)
    metric = np.repeat(np.arange(len(METRICS)), len(known.points))[given]
    for each in range(len(METRICS)):
        variance[each * count : (each + 1) * count] *= _scale(rest, whole, metric == each)
    return Predicted(mean.reshape(len(METRICS), count).T, variance.reshape(len(METRICS), count).T)


def spread_of(points: Sequence[Point], jacobian: Floats, prior: Prior) -> Floats:
    """Return V, the covariance of all that is measured at ``points``, metric after metric (see the module)."""
    slopes = _flat(jacobian)
    scatter = np.repeat(prior.nearby.repeat**2, len(points))
    found: Floats = _blocks(likeness(points, points, prior)) + np.diag(scatter) + (slopes * prior.sd**2) @ slopes.T
    return found


def lever_covariance(points: Sequence[Point], left: Floats, jacobian: Floats, prior: Prior) -> Floats:
    """Return the covariance of the levers, S - S Jᵀ V⁻¹ J S [lever, lever]; ``left`` says what was measured."""
    given = np.isfinite(left.T.ravel())
    spread = spread_of(points, jacobian, prior)[np.ix_(given, given)]
    shared = _flat(jacobian)[given] * prior.sd**2
    found: Floats = np.diag(prior.sd**2) - shared.T @ np.linalg.solve(spread, shared)
    return found


def _scale(rest: Floats, whole: Floats, use: Bools) -> float:
    """Return by how much this deployment's errors of one metric are wider than expected, as a variance."""
    if not use.any():
        return 1.0
    quadratic = rest[use] @ np.linalg.solve(whole[np.ix_(use, use)], rest[use])
    return float((DEGREES + quadratic) / (DEGREES + int(use.sum())))


def _flat(jacobian: Floats) -> Floats:
    """Lay slopes [point, metric, lever] out metric after metric, [metric × point, lever]."""
    found: Floats = jacobian.transpose(1, 0, 2).reshape(-1, jacobian.shape[2])
    return found


def _blocks(likenesses: Floats) -> Floats:
    """Lay [metric, point, other] out along the diagonal, metric after metric."""
    metrics, rows, columns = likenesses.shape
    found = np.zeros((metrics * rows, metrics * columns))
    for metric in range(metrics):
        found[metric * rows : (metric + 1) * rows, metric * columns : (metric + 1) * columns] = likenesses[metric]
    return found


def _features(points: Sequence[Point]) -> Floats:
    """Return ln of requests in flight, input and output tokens, [point, feature]."""
    rows = [(one.in_flight, one.load.input_tokens, one.load.output_tokens) for one in points]
    found: Floats = np.log(np.array(rows, np.float64).reshape(-1, 3))
    return found


def _stacked(left: Floats, jacobian: Floats, prior: Prior) -> tuple[Floats, Floats, Floats]:
    """Return residuals, slopes and noise of all that was measured, metric after metric."""
    rows, slopes = left.T.ravel(), _flat(jacobian)
    noise = np.repeat(prior.noise, left.shape[0])
    given = np.isfinite(rows)
    return rows[given], slopes[given], noise[given]


def _weights(residual: Floats, noise: Floats) -> Floats:
    """Return the weights of Student's t with four degrees of freedom."""
    return np.asarray((DEGREES + 1) / (DEGREES + (residual / noise) ** 2) / noise**2)


def end_to_end(points: Sequence[Point], found: Predicted) -> tuple[Floats, Floats]:
    """Return mean and variance of ln E2E [point] from those of TTFT and TPOT, taken as independent.

    E2E = TTFT + TPOT × (output tokens - 1), so the variance is Σ (share of E2E)² × variance of each.
    """
    more = np.array([point.load.output_tokens * (1 + point.load.length_ratio_min) / 2 - 1 for point in points])
    parts = np.exp(found.mean) * np.stack([np.ones_like(more), np.maximum(more, 0)], axis=1)
    parts[~np.isfinite(parts)] = 0.0
    whole = parts.sum(axis=1)
    shares = parts / whole[:, None]
    return np.log(whole), (shares**2 * found.variance).sum(axis=1)
