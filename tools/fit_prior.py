"""Learn the priors of ``offtake performance fit`` from measured deployments, and score the fit on held-out points.

Run with the extra ``silicon`` installed: ``python -m tools.fit_prior`` (about 5 CPU minutes, once the step
tables of ``offtake performance score`` are kept). Goes out: ``performance/data/fit_prior.json``. Run it again whenever
the host's constants (``overhead``), the schedulers or the step tables change: a fit begins at tables with the host's
share, and what it expects is relative to them.

Nothing is scored on what it was fitted to: a held-out point and its repeats take no part in the levers nor in what
nearby points add, and the prior, the covariances and the widths of the intervals of a deployment come from other
models (five folds, by model: DeepSeek-R1 and V3, partly the same measurements under two names, are one).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, solve_triangular
from scipy.optimize import minimize

from offtake.files import write_json
from offtake.performance import fit
from offtake.performance.fit_check import ALL, HeldOut, held_out, whole, with_e2e
from offtake.performance.fit_prior import SHIPPED, Estimate, Lessons, Misses, means_of, sd_of
from tools.fit_cases import BASE, Case, cases_of

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "src" / "offtake" / "performance" / "data" / SHIPPED
CACHE = Path.home() / ".cache" / "offtake"
FOLDS, SEED = 5, 20_260_501
ROUNDS = 3  #: of expectation and maximisation
START = np.log(BASE)  #: where levers start
SD_MIN, SD_MAX = 0.05, np.array([0.6, 0.5, 1.2, 1.2, 0.15])  #: levers are held where a step stays nearly linear
START_NEARBY = fit.Nearby(
    spread=np.array([0.4, 0.2]),
    length_concurrency=np.array([6.0, 6.0]),
    length_input=np.array([5.0, 8.0]),
    length_output=np.array([12.0, 12.0]),
    repeat=np.array([0.04, 0.02]),
    version_share=0.85,  # (assumption: versions of one engine are deployments of their own here)
)
START_PRIOR = fit.Prior(START, np.array([0.35, 0.25, 0.8, 0.8, 0.1]), np.array([0.30, 0.08]), START_NEARBY)
BOUNDS = [(-3.0, 1.0)] * 2 + [(-1.0, 4.0)] * 6 + [(-5.0, 0.0)] * 2  #: of the logarithms of a ``Nearby``
ONE_POINT_DRAWS = 3  #: points of each deployment that are taken as the only one measured
POINTS_MIN = 3  #: of a deployment that can tell how errors vary with load
PROBABILITIES = np.round(np.linspace(0.025, 0.975, 39), 3)
SYSTEM_WEIGHT = 40.0  #: pseudo-points that draw a system's factor to that of all (assumption)
INSIDE = 0.8  #: share of an interval
SOURCE = (
    "computed by tools/fit_prior.py from the aggregated rows of silicon_sample.csv (duplicates dropped) and the step"
    " times of aiconfigurator-core 0.12.0 (NVIDIA, Apache-2.0) with the host's share (offtake.performance.overhead)"
)


class State(NamedTuple):
    """Hold the linearisation of a case: levers, ln ms simulated there, slopes."""

    theta: Floats
    simulated: Floats
    jacobian: Floats


class Learnt(NamedTuple):
    """Hold what cases teach: a prior whose mean is that of all, and the means by group."""

    prior: fit.Prior
    means: dict[str, Floats]

    def of(self, case: Case) -> fit.Prior:
        """Return the prior of a case's backend and system."""
        names = (f"{case.backend}/{case.system}", case.backend, "*")
        return self.prior._replace(mean=next(self.means[name] for name in names if name in self.means))


class Held(NamedTuple):
    """Hold predictions of held-out points: all [point, (ttft, tpot, e2e)] in ln ms, and the case of each."""

    truth: Floats
    table: Floats
    predicted: Floats
    sd: Floats
    case: npt.NDArray[np.int64]


Predictions = Iterable[tuple[Floats, HeldOut]]
Predict = Callable[[Case, State, fit.Prior], Predictions]


def linearise(cases: Sequence[Case]) -> list[State]:
    """Fit every case under a prior that is learnt at the same time, and return where each ended."""
    learnt = Learnt(START_PRIOR, {"*": START})
    states = [State(START, *fit.derivatives(case.simulate, START)) for case in cases]
    for _ in range(ROUNDS):
        learnt = learn(cases, states, learnt)
        thetas = [
            fit.newton_step(left_of(case, state), state.jacobian, state.theta, learnt.of(case))
            for case, state in zip(cases, states, strict=True)
        ]
        states = [
            State(theta, *fit.derivatives(case.simulate, theta)) for case, theta in zip(cases, thetas, strict=True)
        ]
    return states


def left_of(case: Case, state: State) -> Floats:
    """Return ln(measured / simulated), [point, metric]."""
    return fit.observed(case.measured.points) - state.simulated


def learn(cases: Sequence[Case], states: Sequence[State], learnt: Learnt) -> Learnt:
    """Return the means and spreads of the levers, learnt from cases at their linearisation."""
    for _ in range(3):
        estimates = [_estimate(case, state, learnt.of(case)) for case, state in zip(cases, states, strict=True)]
        means = means_of(estimates)
        sd = np.clip(sd_of(estimates, means), SD_MIN, SD_MAX)
        learnt = Learnt(learnt.prior._replace(sd=sd, mean=means["*"]), means)
    return learnt


def _estimate(case: Case, state: State, prior: fit.Prior) -> Estimate:
    """Return a case's levers under a prior, with their covariance."""
    left = left_of(case, state)
    theta = fit.newton_step(left, state.jacobian, state.theta, prior)
    rest = left - state.jacobian @ (theta - state.theta)
    covariance = fit.lever_covariance(case.measured.points, rest, state.jacobian, prior)
    return Estimate(case.backend, case.system, theta, covariance)


def learn_nearby(cases: Sequence[Case], states: Sequence[State], learnt: Learnt) -> fit.Nearby:
    """Return the covariance between nearby points that makes all that was measured likeliest.

    A bounded search for the least of Σ ln|V|/2 + (4 + 1)/2 Σ ln(1 + z²/2) over deployments, z being what was measured
    less its mean, whitened by V: Student's t with four degrees of freedom.
    """
    pairs = zip(cases, states, strict=True)
    some = [(case, state) for case, state in pairs if len(case.measured.points) >= POINTS_MIN]

    def loss(logarithms: Floats) -> float:
        near = nearby_from(logarithms)
        return sum(_unlikely(case, state, learnt.of(case)._replace(nearby=near)) for case, state in some)

    start = np.log(np.concatenate([getattr(START_NEARBY, field) for field in fit.Nearby._fields[:-1]]))
    return nearby_from(minimize(loss, start, method="L-BFGS-B", bounds=BOUNDS, options={"maxiter": 15}).x)


def nearby_from(logarithms: Floats) -> fit.Nearby:
    """Return the covariance of two metrics from the logarithms of its numbers."""
    pairs = np.exp(logarithms).reshape(-1, len(fit.METRICS))
    return fit.Nearby(pairs[0], pairs[1], pairs[2], pairs[3], pairs[4], START_NEARBY.version_share)


def _unlikely(case: Case, state: State, prior: fit.Prior) -> float:
    """Return minus the log likelihood of one deployment's points, up to a constant."""
    rest = (left_of(case, state) - state.jacobian @ (prior.mean - state.theta)).T.ravel()
    factor = cho_factor(fit.spread_of(case.measured.points, state.jacobian, prior), lower=True)[0]
    white = solve_triangular(factor, rest, lower=True)
    tails = np.log1p(white**2 / (fit.DEGREES - 2)).sum() * (fit.DEGREES + 1) / 2
    return float(np.log(np.diag(factor)).sum() + tails)


def folds_of(cases: Sequence[Case]) -> npt.NDArray[np.int64]:
    """Return the fold of each case: that of its model."""
    models = sorted({case.model for case in cases})
    fold = dict(zip(models, np.random.default_rng([SEED, 1]).permutation(len(models)) % FOLDS, strict=True))
    return np.array([fold[case.model] for case in cases])


def learn_folds(cases: Sequence[Case], states: Sequence[State]) -> list[Learnt]:
    """Return for each fold what the cases of the others teach, and last what all do."""
    fold = folds_of(cases)
    found = []
    for number in (*range(FOLDS), -1):
        some = [case for case, one in zip(cases, fold, strict=True) if one != number]
        at = [state for state, one in zip(states, fold, strict=True) if one != number]
        learnt = learn(some, at, Learnt(START_PRIOR, {"*": START}))
        found.append(learnt._replace(prior=learnt.prior._replace(nearby=learn_nearby(some, at, learnt))))
    return found


def hold(cases: Sequence[Case], states: Sequence[State], learnt: Sequence[Learnt], predict: Predict) -> Held:
    """Predict points of each deployment with what the other folds teach."""
    rows = [
        (place, truth, one)
        for place, (case, state, number) in enumerate(zip(cases, states, folds_of(cases), strict=True))
        for truth, one in predict(case, state, learnt[number].of(case))
    ]
    columns = (np.array(column) for column in zip(*((t, o.table, o.mean, o.sd, p) for p, t, o in rows), strict=True))
    return Held(*columns)


def from_others(case: Case, state: State, prior: fit.Prior) -> Predictions:
    """Predict each point of a deployment from those at other loads."""
    points = case.measured.points
    truth = fit.observed(points)
    if len({point.load for point in points}) > 1:
        for one in held_out(points, _fit_of(case, state, prior), case.simulate, prior):
            yield with_e2e(points[one.place], truth[one.place]), one


def from_one(case: Case, state: State, prior: fit.Prior) -> Predictions:
    """Predict a deployment's points at other loads from one of them, for up to three drawn at random."""
    points = case.measured.points
    truth = fit.observed(points)
    drawn = np.random.default_rng([SEED, 2, points[0].row]).permutation(len(points))[:ONE_POINT_DRAWS]
    for one in drawn:
        keep = np.arange(len(points)) == one
        theta = fit.newton_step(left_of(case, state)[keep], state.jacobian[keep], state.theta, prior)
        at = np.log(case.simulate(fit.levers_of(theta)))
        known = fit.Known([points[int(one)]], (truth - at)[keep], state.jacobian[keep], theta, prior)
        found = fit.predict(known, points, at, state.jacobian)
        for other, point in enumerate(points):
            if point.load != points[int(one)].load:
                there = fit.Predicted(found.mean[[other]], found.variance[[other]])
                yield with_e2e(point, truth[other]), HeldOut(other, with_e2e(point, at[other]), *whole(point, there))


def _fit_of(case: Case, state: State, prior: fit.Prior) -> fit.Fit:
    """Return the linearisation of a case as a fit."""
    return fit.Fit(state.theta, np.diag(prior.sd**2), state.simulated, left_of(case, state), state.jacobian, ROUNDS)


def misses_of(held: Held, system: Sequence[str]) -> Misses:
    """Return the distribution of held-out errors in standard deviations, and what each system widens it by."""
    z = (held.truth - held.predicted) / held.sd
    systems = np.array([system[case] for case in held.case])
    factors: dict[str, dict[str, float]] = {}
    everywhere = np.quantile(np.abs(z), INSIDE, axis=0)
    for name in sorted(set(systems)):
        inside = systems == name
        count = int(inside.sum())
        own = np.quantile(np.abs(z[inside]), INSIDE, axis=0) / everywhere
        factor = (count * own + SYSTEM_WEIGHT) / (count + SYSTEM_WEIGHT)
        factors[name] = dict(zip(ALL, factor.tolist(), strict=True))
        z[inside] /= factor
    quantiles = np.quantile(z, PROBABILITIES, axis=0).round(4).T.tolist()
    return Misses(PROBABILITIES.tolist(), dict(zip(ALL, quantiles, strict=True)), factors)


def covered(held: Held, cases: Sequence[Case]) -> Floats:
    """Tell which held-out points fall into their 80% interval (1 or 0), [point, metric].

    The interval of a point comes from the misses of other folds.
    """
    fold, system = folds_of(cases)[held.case], [case.system for case in cases]
    inside = np.zeros(held.truth.shape)
    low, high = (int(np.searchsorted(PROBABILITIES, (1 + sign * INSIDE) / 2)) for sign in (-1, 1))
    for number in np.unique(fold):
        test = fold == number
        misses = misses_of(Held(*(values[~test] for values in held)), system)
        z = (held.truth - held.predicted)[test] / held.sd[test]
        for column, metric in enumerate(ALL):
            factor = np.array([misses.factors.get(system[case], {}).get(metric, 1.0) for case in held.case[test]])
            ends = misses.quantiles[metric][low], misses.quantiles[metric][high]
            inside[test, column] = (z[:, column] >= factor * ends[0]) & (z[:, column] <= factor * ends[1])
    return inside


def lessons_of(cases: Sequence[Case], states: Sequence[State]) -> Lessons:
    """Learn from all cases, with the misses and scores of held-out predictions."""
    learnt = learn_folds(cases, states)
    others, alone = (hold(cases, states, learnt, predict) for predict in (from_others, from_one))
    prior = learnt[-1].prior
    return Lessons(
        source=SOURCE,
        means={name: mean.round(4).tolist() for name, mean in sorted(learnt[-1].means.items())},
        sd=prior.sd.round(4).tolist(),
        noise=prior.noise.tolist(),
        nearby={name: getattr(prior.nearby, name).round(4).tolist() for name in fit.Nearby._fields[:-1]},
        version_share=prior.nearby.version_share,
        misses=misses_of(others, [case.system for case in cases]),
        misses_from_one=misses_of(alone, [case.system for case in cases]),
        deployments=dict(sorted(Counter(f"{case.backend}/{case.system}" for case in cases).items())),
        held_out=scores("other_points_known", others, cases) | scores("one_point_known", alone, cases),
    )


def scores(name: str, held: Held, cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """Return median and p90 of absolute errors, and the share inside 80% intervals, of all and by system."""
    inside = covered(held, cases)
    systems = np.array([cases[case].system for case in held.case])
    found = {}
    for system in ("", *sorted(set(systems))):
        use = systems == system if system else np.ones(len(systems), bool)
        figures = {"points": float(use.sum()), "deployments": float(len(set(held.case[use])))}
        for kind, values in {"table": held.table, "predicted": held.predicted}.items():
            error = np.abs(np.exp(values[use] - held.truth[use]) - 1)
            for share in (50, 90):
                ends = np.quantile(error, share / 100, axis=0).round(4).tolist()
                figures |= {f"{metric}_{kind}_p{share}": end for metric, end in zip(ALL, ends, strict=True)}
        shares = inside[use].mean(axis=0).round(4).tolist()
        figures |= {f"{metric}_inside": one for metric, one in zip(ALL, shares, strict=True)}
        found[f"{name}/{system}".rstrip("/")] = figures
    return found


def main(cache: Path = CACHE, target: Path = TARGET) -> None:
    """Learn from the package's measured runs and write the lessons."""
    cases = cases_of(cache)
    lessons = lessons_of(cases, linearise(cases))
    write_json(target, lessons)
    for name, figures in lessons.held_out.items():
        sys.stdout.write(f"{name}: {figures}\n")


if __name__ == "__main__":
    main()
