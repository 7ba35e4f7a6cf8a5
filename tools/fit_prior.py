"""Learn the priors of ``offtake performance fit`` from measured deployments, and score the fit on held-out points.

Comes in: cases, each a deployment's measured points with a function that simulates them. Goes out: the figures that
ship as ``performance/data/fit_prior.json``. Nothing is scored on what it was fitted to: a held-out point and its
repeats take no part in the levers nor in what nearby points add, and the prior, the covariances and the widths of the
intervals of a deployment come from other deployments (five folds).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, solve_triangular
from scipy.optimize import minimize

from offtake.performance.fit import (
    DEGREES,
    METRICS,
    Fit,
    Known,
    Nearby,
    Predicted,
    Prior,
    Simulate,
    derivatives,
    lever_covariance,
    levers_of,
    newton_step,
    observed,
    predict,
    spread_of,
)
from offtake.performance.fit_check import HeldOut, held_out, whole, with_e2e
from offtake.performance.fit_prior import Estimate, Lessons, Misses, means_of, sd_of
from offtake.performance.measurements import Measured, Point

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Report = Callable[[str], None]

FOLDS, SEED = 5, 20_260_501
ROUNDS = 5  #: of expectation and maximisation
START = np.log([1.0, 1.0, 1.0, 20.0, 1.0])  #: where levers start: kernels as measured, 1 ms a step, 20 ms a request
START_SD = np.array([0.35, 0.25, 0.8, 0.8, 0.1])
SD_MIN, SD_MAX = 0.05, np.array([0.6, 0.5, 1.2, 1.2, 0.15])  #: levers are held where a step stays nearly linear
START_NOISE = np.array([0.30, 0.08])
START_NEARBY = Nearby(
    spread=np.array([0.4, 0.2]),
    length_concurrency=np.array([6.0, 6.0]),
    length_input=np.array([5.0, 8.0]),
    length_output=np.array([12.0, 12.0]),
    repeat=np.array([0.04, 0.02]),
    version_share=0.85,
)
ONE_POINT_DRAWS = 3  #: points of each deployment that are taken as the only one measured
POINTS_MIN = 3  #: of a deployment that can tell how errors vary with load
PROBABILITIES = np.round(np.linspace(0.025, 0.975, 39), 3)
SYSTEM_WEIGHT = 40.0  #: pseudo-points that draw a system's factor to that of all (assumption)
INSIDE = 0.8  #: share of an interval
ALL = ("ttft", "tpot", "e2e")
SOURCE = (
    "computed by tools/fit_prior.py from the aggregated rows of silicon_sample.csv (duplicates dropped) and the step"
    " times of aiconfigurator-core 0.12.0 (NVIDIA, Apache-2.0)"
)


class Case(NamedTuple):
    """Hold one deployment: where it ran, what was measured, and how to simulate it."""

    backend: str
    system: str
    measured: Measured
    simulate: Simulate


class State(NamedTuple):
    """Hold the linearisation of a case: levers, ln ms simulated there, slopes."""

    theta: Floats
    simulated: Floats
    jacobian: Floats


class Learnt(NamedTuple):
    """Hold what cases teach: a prior whose mean is that of all, and the means by group."""

    prior: Prior
    means: dict[str, Floats]

    def of(self, case: Case) -> Prior:
        """Return the prior of a case's backend and system."""
        names = (f"{case.backend}/{case.system}", case.backend, "*")
        return self.prior._replace(mean=next(self.means[name] for name in names if name in self.means))


class Held(NamedTuple):
    """Hold predictions of held-out points: all [point, (ttft, tpot, e2e)] in ln ms, and the case of each."""

    truth: Floats
    table: Floats
    predicted: Floats
    sd: Floats
    case: Ints


def linearise(cases: Sequence[Case], report: Report) -> list[State]:
    """Fit every case under a prior that is learnt at the same time, and return where each ended."""
    learnt = Learnt(Prior(START, START_SD, START_NOISE, START_NEARBY), {"*": START})
    states = [State(START, *derivatives(case.simulate, START)) for case in cases]
    for round_number in range(ROUNDS):
        left = np.concatenate([left_of(case, state) for case, state in zip(cases, states, strict=True)])
        report(f"round {round_number}: median error in sample, table alone {np.nanmedian(np.abs(left), axis=0)}")
        thetas = [
            newton_step(left_of(case, state), state.jacobian, state.theta, learnt.of(case))
            for case, state in zip(cases, states, strict=True)
        ]
        states = [State(theta, *derivatives(case.simulate, theta)) for case, theta in zip(cases, thetas, strict=True)]
        learnt = learn(cases, states, learnt)
        report(f"  sd {learnt.prior.sd.round(2)}  mean {np.exp(learnt.means['*']).round(2)}")
    return states


def left_of(case: Case, state: State) -> Floats:
    """Return ln(measured / simulated), [point, metric]."""
    return observed(case.measured.points) - state.simulated


def learn(cases: Sequence[Case], states: Sequence[State], learnt: Learnt) -> Learnt:
    """Return the means and spreads of the levers, learnt from cases at their linearisation."""
    for _ in range(3):
        estimates = [estimate(case, state, learnt.of(case)) for case, state in zip(cases, states, strict=True)]
        means = means_of(estimates)
        sd = np.clip(sd_of(estimates, means), SD_MIN, SD_MAX)
        learnt = Learnt(learnt.prior._replace(sd=sd, mean=means["*"]), means)
    return learnt


def estimate(case: Case, state: State, prior: Prior) -> Estimate:
    """Return a case's levers under a prior, with their covariance."""
    left = left_of(case, state)
    theta = newton_step(left, state.jacobian, state.theta, prior)
    rest = left - state.jacobian @ (theta - state.theta)
    covariance = lever_covariance(case.measured.points, rest, state.jacobian, prior)
    return Estimate(case.backend, case.system, theta, covariance)


def learn_nearby(cases: Sequence[Case], states: Sequence[State], learnt: Learnt) -> Nearby:
    """Return the covariance between nearby points that makes all that was measured likeliest.

    A bounded search for the least of Σ ln|V|/2 + (4 + 1)/2 Σ ln(1 + z²/2) over deployments, z being what was measured
    less its mean, whitened by V: Student's t with four degrees of freedom.
    """
    some = [
        (case.measured.points, left_of(case, state), state, learnt.of(case))
        for case, state in zip(cases, states, strict=True)
        if len(case.measured.points) >= POINTS_MIN
    ]

    def loss(logarithms: Floats) -> float:
        near = nearby_from(logarithms)
        return sum(unlikely(points, left, state, prior._replace(nearby=near)) for points, left, state, prior in some)

    start = np.log(np.concatenate([getattr(START_NEARBY, field) for field in Nearby._fields[:-1]]))
    bounds = [(-3.0, 1.0)] * 2 + [(-1.0, 4.0)] * 6 + [(-5.0, 0.0)] * 2
    return nearby_from(minimize(loss, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 20}).x)


def nearby_from(logarithms: Floats) -> Nearby:
    """Return the covariance of two metrics from the logarithms of its numbers."""
    pairs = np.exp(logarithms).reshape(-1, len(METRICS))
    return Nearby(pairs[0], pairs[1], pairs[2], pairs[3], pairs[4], START_NEARBY.version_share)


def unlikely(points: Sequence[Point], left: Floats, state: State, prior: Prior) -> float:
    """Return minus the log likelihood of one deployment's points, up to a constant."""
    rest = (left - state.jacobian @ (prior.mean - state.theta)).T.ravel()
    given = np.isfinite(rest)
    matrix = spread_of(points, state.jacobian, prior)[np.ix_(given, given)]
    factor = cho_factor(matrix, lower=True)[0]
    white = solve_triangular(factor, rest[given], lower=True)
    tails = np.log1p(white**2 / (DEGREES - 2)).sum() * (DEGREES + 1) / 2
    return float(np.log(np.diag(factor)).sum() + tails)


def folds_of(count: int) -> Ints:
    """Return the fold of each case."""
    return np.random.default_rng([SEED, 1]).permutation(count) % FOLDS


def hold_out(cases: Sequence[Case], states: Sequence[State], report: Report) -> Held:
    """Predict each point from the others of its deployment, with a prior learnt from other folds."""
    fold = folds_of(len(cases))
    rows: list[tuple[int, Floats, HeldOut]] = []
    for number in range(FOLDS):
        learnt = learn_without(cases, states, fold != number)
        report(f"fold {number}: {learnt.prior.nearby}")
        for place, (case, state) in enumerate(zip(cases, states, strict=True)):
            points = case.measured.points
            if fold[place] == number and len({point.load for point in points}) > 1:
                truth = observed(points)
                found = held_out(points, fit_of(case, state, learnt.of(case)), case.simulate, learnt.of(case))
                rows += [(place, with_e2e(points[one.place], truth[one.place]), one) for one in found]
    return held_of(rows)


def hold_in(cases: Sequence[Case], states: Sequence[State], report: Report) -> Held:
    """Predict the other points of each deployment from one alone, three times, with a prior learnt from other folds."""
    fold = folds_of(len(cases))
    rows: list[tuple[int, Floats, HeldOut]] = []
    for number in range(FOLDS):
        learnt = learn_without(cases, states, fold != number)
        report(f"one point, fold {number}")
        for place, (case, state) in enumerate(zip(cases, states, strict=True)):
            if fold[place] == number:
                rows += [(place, *one) for one in from_one(case, state, learnt.of(case), place)]
    return held_of(rows)


def from_one(case: Case, state: State, prior: Prior, place: int) -> list[tuple[Floats, HeldOut]]:
    """Predict a deployment's points at other loads from one of them, for up to three drawn at random."""
    points = case.measured.points
    truth = observed(points)
    drawn = np.random.default_rng([SEED, 2, place]).permutation(len(points))[:ONE_POINT_DRAWS]
    found = []
    for one in drawn:
        keep = np.arange(len(points)) == one
        fit = fit_of(case, state, prior)
        theta = newton_step(fit.left[keep], fit.jacobian[keep], fit.theta, prior)
        simulated = np.log(case.simulate(levers_of(theta)))
        left = (truth - simulated)[keep]
        known = [points[int(one)]]
        all_of = predict(Known(known, left, fit.jacobian[keep], theta, prior), points, simulated, fit.jacobian)
        for other, point in enumerate(points):
            if point.load != points[int(one)].load:
                at = Predicted(all_of.mean[other : other + 1], all_of.variance[other : other + 1])
                table = with_e2e(point, simulated[other])
                found.append((with_e2e(point, truth[other]), HeldOut(other, table, *whole(point, at))))
    return found


def fit_of(case: Case, state: State, prior: Prior) -> Fit:
    """Return the linearisation of a case as a fit."""
    left = left_of(case, state)
    return Fit(state.theta, np.diag(prior.sd**2), state.simulated, left, state.jacobian, ROUNDS)


def held_of(rows: Sequence[tuple[int, Floats, HeldOut]]) -> Held:
    """Gather held-out predictions."""
    return Held(
        truth=np.array([truth for _, truth, _ in rows]),
        table=np.array([one.table for _, _, one in rows]),
        predicted=np.array([one.mean for _, _, one in rows]),
        sd=np.array([one.sd for _, _, one in rows]),
        case=np.array([place for place, _, _ in rows]),
    )


def learn_without(cases: Sequence[Case], states: Sequence[State], train: npt.NDArray[np.bool_]) -> Learnt:
    """Return what the cases in ``train`` teach."""
    some = [case for case, use in zip(cases, train, strict=True) if use]
    at = [state for state, use in zip(states, train, strict=True) if use]
    learnt = learn(some, at, Learnt(Prior(START, START_SD, START_NOISE, START_NEARBY), {"*": START}))
    return learnt._replace(prior=learnt.prior._replace(nearby=learn_nearby(some, at, learnt)))


def misses_of(held: Held, system: Sequence[str]) -> Misses:
    """Return the distribution of held-out errors in standard deviations, and what each system widens it by."""
    z = (held.truth - held.predicted) / held.sd
    systems = np.array([system[case] for case in held.case])
    factors: dict[str, dict[str, float]] = {}
    scaled = z.copy()
    for name in sorted(set(system)):
        inside = systems == name
        factors[name] = {}
        for column, metric in enumerate(ALL):
            known = np.isfinite(z[:, column])
            whole = np.quantile(np.abs(z[known, column]), INSIDE)
            count = int((inside & known).sum())
            own = np.quantile(np.abs(z[inside & known, column]), INSIDE) / whole if count else 1.0
            factors[name][metric] = float((count * own + SYSTEM_WEIGHT) / (count + SYSTEM_WEIGHT))
            scaled[inside, column] = z[inside, column] / factors[name][metric]
    quantiles = {metric: np.nanquantile(scaled[:, i], PROBABILITIES).round(4).tolist() for i, metric in enumerate(ALL)}
    return Misses(PROBABILITIES.tolist(), quantiles, factors)


def part(held: Held, use: npt.NDArray[np.bool_]) -> Held:
    """Return some of the predictions."""
    return Held(held.truth[use], held.table[use], held.predicted[use], held.sd[use], held.case[use])


def covered(held: Held, system: Sequence[str]) -> Floats:
    """Tell which held-out points fall into their 80% interval (1 or 0; nan where not measured), [point, metric].

    The interval of a point comes from the misses of other folds.
    """
    fold = folds_of(len(system))[held.case]
    inside = np.full(held.truth.shape, np.nan)
    for number in range(FOLDS):
        test = fold == number
        misses = misses_of(part(held, ~test), system)
        low, high = (np.searchsorted(PROBABILITIES, share) for share in (0.1, 0.9))
        for column, metric in enumerate(ALL):
            factor = np.array([misses.factors.get(system[case], {}).get(metric, 1.0) for case in held.case[test]])
            z = (held.truth - held.predicted)[test, column] / held.sd[test, column] / factor
            quantiles = misses.quantiles[metric]
            hit = (z >= quantiles[low]) & (z <= quantiles[high])
            inside[test, column] = np.where(np.isfinite(z), hit, np.nan)
    return inside


def lessons_of(cases: Sequence[Case], states: Sequence[State], source: str, report: Report) -> Lessons:
    """Learn from all cases, with the misses and scores of held-out predictions."""
    system = [case.system for case in cases]
    others = hold_out(cases, states, report)
    alone = hold_in(cases, states, report)
    learnt = learn_without(cases, states, np.ones(len(cases), bool))
    prior = learnt.prior
    near = {name: getattr(prior.nearby, name).round(4).tolist() for name in Nearby._fields[:-1]}
    return Lessons(
        source=source,
        means={name: mean.round(4).tolist() for name, mean in sorted(learnt.means.items())},
        sd=prior.sd.round(4).tolist(),
        noise=prior.noise.tolist(),
        nearby=near,
        version_share=prior.nearby.version_share,
        misses=misses_of(others, system),
        deployments=dict(sorted(Counter(f"{case.backend}/{case.system}" for case in cases).items())),
        held_out={
            **scores("other_points_known", others, system),
            **scores("one_point_known", alone, system),
        },
    )


def scores(name: str, held: Held, system: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return median and p90 of absolute errors, and the share inside 80% intervals, of all and by system."""
    inside = covered(held, system)
    errors = {"table": held.table, "predicted": held.predicted}
    systems = np.array([system[case] for case in held.case])
    found = {}
    for label, use in (
        ("", np.ones(len(systems), bool)),
        *((f"/{one}", systems == one) for one in sorted(set(system))),
    ):
        figures: dict[str, float] = {"points": float(use.sum())}
        for column, metric in enumerate(ALL):
            for kind, values in errors.items():
                error = np.abs(np.exp(values[use, column] - held.truth[use, column]) - 1)
                figures |= {f"{metric}_{kind}_p{q}": round(float(np.nanquantile(error, q / 100)), 4) for q in (50, 90)}
            figures[f"{metric}_inside"] = round(float(np.nanmean(inside[use, column])), 4)
        found[name + label] = figures
    return found
