"""Fit one deployment from what was measured of it, and say how good the fit is and what it proves.

Comes in: a measured deployment, the table to start from, claims. Goes out: the calibrated table, and a report:
the levers with their intervals, the error before and after, each point predicted from the others with its 80%
interval, and the verdict on each claim. This module must never know the command line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from offtake.performance.calibration import Levers, calibrated
from offtake.performance.fit import Fit, Prior, fit_levers, levers_of, observed
from offtake.performance.fit_check import ALL, held_out, interval, with_e2e
from offtake.performance.fit_claims import Claim, Judged, Verdict, judge
from offtake.performance.fit_prior import Lessons, misses_for, prior_of
from offtake.performance.fit_replay import simulator
from offtake.performance.library import StoredTable
from offtake.performance.measurements import Measured, Point

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, float], None]

NORMAL_90 = 1.2816  #: quantile 0.9 of the normal distribution
UNITS = {
    "prefill": "× time",
    "decode": "× time",
    "step_ms": "ms a step",
    "request_ms": "ms a request",
    "kv": "× blocks",
}


class LeverTold(msgspec.Struct, frozen=True):
    """Tell one lever: its value with an 80% interval, and what was expected before anything was measured."""

    name: str  #: What was fitted.
    unit: str  #: Unit of the figures.
    value: float  #: As fitted.
    low: float  #: Lower end of the 80 % interval.
    high: float  #: Upper end.
    expected: float  #: What other deployments led to expect.


class PointTold(msgspec.Struct, frozen=True):
    """Tell one metric at one measured point, ms: the table as it was, and the prediction from the other points."""

    row: int  #: Row in the file.
    load: dict[str, float]  #: Clients or rate, and mean lengths.
    metric: str  #: `ttft`, `tpot` or `e2e`.
    measured: float  #: Measured, ms.
    before: float  #: By the table as it was, ms.
    predicted: float  #: From the other points, ms.
    low: float  #: Lower end of the 80 % interval, ms.
    high: float  #: Upper end, ms.


class ErrorTold(msgspec.Struct, frozen=True):
    """Tell the absolute errors of one metric, shares; ``after`` and ``table`` are of held-out points only.

    ``before``: the table as it was. ``table``: the calibrated table, fitted without the point. ``after``: with what the
    nearby points add. ``inside`` is the share of points within their 80% interval.
    """

    metric: str  #: `ttft`, `tpot` or `e2e`.
    points: int  #: Measured points.
    before_median: float  #: Median error of the table as it was, share.
    before_p90: float  #: 90th percentile of it.
    table_median: float  #: Median error of the calibrated table, share.
    table_p90: float  #: 90th percentile of it.
    after_median: float  #: Median error with nearby points, share.
    after_p90: float  #: 90th percentile of it.
    inside: float  #: Of points, within their 80 % interval, share.


class FitReport(msgspec.Struct, frozen=True):
    """Tell all of one fit."""

    deployment: str  #: As the file names it.
    table: str  #: Name of the calibrated table.
    calibrated_from: str  #: Table that it started from.
    backend: str  #: Engine.
    system: str  #: Chip.
    prior_source: str  #: Where the expectation comes from.
    steps: int  #: Simulations of the whole load until it settled.
    levers: list[LeverTold]  #: What was fitted.
    errors: list[ErrorTold]  #: By metric, on points that were held out.
    points: list[PointTold]  #: Each measured point.
    verdicts: list[Verdict]  #: One for each claim.


class Job(NamedTuple):
    """Hold what to fit: what was measured, the table to start from, the new name, claims, lessons."""

    measured: Measured
    start: StoredTable
    name: str
    claims: Sequence[Claim]
    lessons: Lessons


def fit_deployment(job: Job, progress: Progress) -> tuple[StoredTable, FitReport]:
    """Fit a deployment, check it on held-out points, and judge the claims.

    The fit begins at the table as rehearsals use it, with the host's share.
    """
    backend, system = where_of(job.start)
    prior = prior_of(job.lessons, backend, system)
    points = job.measured.points
    before = np.log(simulator(job.start, job.measured)(Levers()))
    simulate = simulator(job.start, job.measured)
    fit = fit_levers(points, simulate, prior, lambda done: progress("fit", done))
    told = points_told(job, (fit, prior, system), before, progress)
    report = FitReport(
        deployment=job.measured.deployment,
        table=job.name,
        calibrated_from=job.start.name,
        backend=backend,
        system=system,
        prior_source=job.lessons.source,
        steps=fit.steps,
        levers=levers_told(fit, prior),
        errors=told[0],
        points=told[1],
        verdicts=verdicts_of(job, (fit, prior, system), progress),
    )
    notes = {"levers": [msgspec.to_builtins(one) for one in report.levers], "points": len(points)}
    notes["held_out"] = [msgspec.to_builtins(one) for one in report.errors]
    return calibrated(job.start, levers_of(fit.theta), job.name, notes), report


def where_of(stored: StoredTable) -> tuple[str, str]:
    """Return backend and system of a table, as its provenance states them."""
    return str(stored.provenance.get("backend", "")).split(" ")[0], str(stored.provenance.get("system", ""))


def levers_told(fit: Fit, prior: Prior) -> list[LeverTold]:
    """Tell the levers with 80% intervals."""
    sd = np.sqrt(np.diag(fit.covariance))
    ends = [levers_of(fit.theta + sign * NORMAL_90 * sd) for sign in (-1, 1)]
    value, expected = levers_of(fit.theta), levers_of(prior.mean)
    names = Levers._fields
    return [
        LeverTold(names[i], UNITS[names[i]], value[i], ends[0][i], ends[1][i], expected[i]) for i in range(len(names))
    ]


def points_told(
    job: Job, fitted: tuple[Fit, Prior, str], before: Floats, progress: Progress
) -> tuple[list[ErrorTold], list[PointTold]]:
    """Predict each point from the others; tell each, and their errors by metric."""
    fit, prior, system = fitted
    points = job.measured.points
    truth = observed(points)
    simulate = simulator(job.start, job.measured)
    misses = misses_for(job.lessons, len({point.load for point in points}))
    rows: list[tuple[Floats, ...]] = []
    told: list[PointTold] = []
    for one in held_out(points, fit, simulate, prior):
        progress("check on held-out points", (one.place + 1) / len(points))
        point = points[one.place]
        ends = interval(misses, system, one.mean, one.sd)
        values = (with_e2e(point, truth[one.place]), with_e2e(point, before[one.place]), one.table, one.mean)
        rows.append((*values, np.log(ends[0]), np.log(ends[1])))
        told += [
            PointTold(point.row, load_told(point), metric, *(float(v[i]) for v in (*np.exp(values)[[0, 1, 3]], *ends)))
            for i, metric in enumerate(ALL)
            if math.isfinite(values[0][i])
        ]
    columns = np.array(rows)
    return [error_told(metric, columns[:, :, i]) for i, metric in enumerate(ALL)], told


def load_told(point: Point) -> dict[str, float]:
    """Return the load of a point without what is not given."""
    return {name: value for name, value in point.load._asdict().items() if value > 0}


def error_told(metric: str, rows: Floats) -> ErrorTold:
    """Tell the errors of one metric from ln ms [point, (truth, before, table, after, low, high)]."""
    truth = rows[:, 0]
    known = np.isfinite(truth)
    shares = [np.abs(np.exp(rows[known, column] - truth[known]) - 1) for column in (1, 2, 3)]
    found = [[float(np.quantile(one, level)) if one.size else math.nan for level in (0.5, 0.9)] for one in shares]
    inside = (truth >= rows[:, 4]) & (truth <= rows[:, 5])
    return ErrorTold(
        metric=metric,
        points=int(known.sum()),
        before_median=found[0][0],
        before_p90=found[0][1],
        table_median=found[1][0],
        table_p90=found[1][1],
        after_median=found[2][0],
        after_p90=found[2][1],
        inside=float(inside[known].mean()) if known.any() else math.nan,
    )


def verdicts_of(job: Job, fitted: tuple[Fit, Prior, str], progress: Progress) -> list[Verdict]:
    """Judge every claim."""
    fit, prior, system = fitted
    misses = misses_for(job.lessons, len({point.load for point in job.measured.points}) + 1)
    judged = Judged(job.measured.points, fit, prior, misses, system)

    def resimulate(points: Sequence[Point]) -> Callable[[Levers], Floats]:
        return simulator(job.start, Measured("", "", tuple(points)))

    found = []
    for number, claim in enumerate(job.claims, start=1):
        found.append(judge(claim, judged, resimulate))
        progress("claims", number / len(job.claims))
    return found
