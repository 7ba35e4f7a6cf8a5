"""Judge whether a partner delivers what the contract says: a claimed latency or throughput against the fit.

Comes in: claims, as text (``tpot_ms=25`` or ``tpot_ms=25@concurrency=64,input_tokens=1024,output_tokens=1024``) or a
CSV, and a fitted deployment. Goes out: for each claim the probability that it is met and one of three verdicts:
*delivered*, *below*, *cannot tell*. A claim that names no load must hold at every load that was measured. This module
must never know a contract or a price.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from offtake.errors import Fault, InputError
from offtake.performance.fit import Fit, Known, Predicted, Prior, Simulate, derivatives, predict
from offtake.performance.fit_check import ALL, probability_below, quantile, whole
from offtake.performance.fit_prior import Misses
from offtake.performance.measurements import STATISTICS, Load, Point
from offtake.units import MS_PER_S, PERCENT

SURE = 0.9  #: probability from which a verdict is given; between it and its complement nothing can be told
LATENCIES = {f"{metric}_ms{tail}": metric for metric in ALL for tail in ("", *(f"_{name}" for name in STATISTICS))}
THROUGHPUT = "output_tokens_per_s"
METRICS = (*(name for name in LATENCIES if not name.startswith("e2e_ms_")), THROUGHPUT)
CONDITIONS = ("concurrency", "rate_rps", "input_tokens", "output_tokens", "length_ratio_min")


class Claim(NamedTuple):
    """Hold what was promised of one replica: a latency at most, or a throughput at least; at a load, or at any."""

    metric: str
    value: float
    load: Load | None
    text: str


class Verdict(msgspec.Struct, frozen=True):
    """Say of one claim at its worst load: what was found (with its 80% interval), and whether that was promised.

    ``short`` is by how much the median misses the claim, a share of it; negative where it is better than promised.
    """

    claim: str  #: As it was given.
    verdict: str  #: `delivered`, `below` or `cannot tell`.
    probability: float  #: That the claim is met, share.
    promised: float  #: In the unit of the claim.
    found: float  #: Median of what was found.
    low: float  #: Lower end of its 80 % interval.
    high: float  #: Upper end.
    short: float  #: By how much the median misses, share.
    load: dict[str, float]  #: Where it is worst.
    sentence: str  #: The verdict in plain English.


class Judged(NamedTuple):
    """Hold what a claim is judged by: the points, their fit, the prior, the misses of its system."""

    points: Sequence[Point]
    fit: Fit
    prior: Prior
    misses: Misses
    system: str


Resimulate = Callable[[Sequence[Point]], Simulate]


def parse_claims(texts: Sequence[str], file: Path | None = None) -> list[Claim]:
    """Read claims from the command line, and from a CSV with the columns ``metric``, ``value`` and those of a load.

    Raises
    ------
    InputError
        With a fault for each claim that is none.
    """
    rows: list[tuple[str, int | None, dict[str, str]]] = []
    for text in texts:
        promise, _, rest = text.partition("@")
        metric, _, value = promise.partition("=")
        parts = [part.partition("=") for part in rest.split(",") if part.strip()]
        rows.append(("--claim", None, {"metric": metric, "value": value} | {name: given for name, _, given in parts}))
    if file is not None:
        try:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                rows += [(file.name, row, cells) for row, cells in enumerate(csv.DictReader(lines), start=2)]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError([Fault(file.name, f"cannot be read: {error}", "Give a CSV of claims.")]) from None
    faults: list[Fault] = []
    claims = [_claim(*row, faults) for row in rows]
    if faults:
        raise InputError(faults)
    return [claim for claim in claims if claim is not None]


def _claim(file: str, row: int | None, cells: dict[str, str], faults: list[Fault]) -> Claim | None:
    """Return one claim, or add its faults."""
    given = {name.strip(): (text or "").strip() for name, text in cells.items() if name and (text or "").strip()}
    metric = given.pop("metric", "")
    before = len(faults)
    if metric not in METRICS:
        faults.append(Fault(file, "no such metric", f"Claim one of {', '.join(METRICS)}.", row, "metric", metric))
    numbers: dict[str, float] = {}
    for name, text in given.items():
        if name not in {"value", *CONDITIONS}:
            faults.append(Fault(file, "no such condition", f"Write {', '.join(CONDITIONS)}.", row, name, text))
            continue
        try:
            numbers[name] = float(text)
        except ValueError:
            numbers[name] = math.nan
        if not (numbers[name] > 0 and math.isfinite(numbers[name])):
            faults.append(Fault(file, "not a positive number", "Write a number above 0.", row, name, text))
    if "value" not in given:
        faults.append(Fault(file, "nothing is promised", "Write METRIC=VALUE, such as tpot_ms=25.", row, "value"))
    value = numbers.pop("value", math.nan)
    load = None
    if numbers:
        if not {"input_tokens", "output_tokens"} <= set(numbers) or not {"concurrency", "rate_rps"} & set(numbers):
            mend = "Write input_tokens, output_tokens and concurrency (or rate_rps), or no load at all."
            faults.append(Fault(file, "the load of a claim is not whole", mend, row))
        else:
            load = Load(**numbers)
    if len(faults) > before:
        return None
    at = "" if load is None else "@" + ",".join(f"{name}={number:g}" for name, number in numbers.items())
    return Claim(metric, value, load, f"{metric}={value:g}{at}")


def judge(claim: Claim, judged: Judged, simulate: Resimulate) -> Verdict:
    """Judge a claim at its own load, or at the worst of the loads that were measured."""
    metric = LATENCIES.get(claim.metric, "e2e")
    _, _, statistic = claim.metric.partition("_ms_")
    if claim.load is not None:
        points = [Point(claim.load, math.nan, math.nan)]
    else:
        points = list({point.load: point for point in judged.points}.values())
    if statistic:
        points = [point._replace(ttft_statistic=statistic, tpot_statistic=statistic) for point in points]
    newest = judged.points[-1].backend_version
    points = [point._replace(backend_version=newest) for point in points]
    simulated, jacobian = derivatives(simulate(points), judged.fit.theta)
    placed = [_placed(point, values) for point, values in zip(points, simulated, strict=True)]
    fit = judged.fit
    known = Known(judged.points, fit.left, fit.jacobian, fit.theta, judged.prior)
    found = predict(known, placed, simulated, jacobian)
    told = []
    for index, point in enumerate(placed):
        one = Predicted(found.mean[index : index + 1], found.variance[index : index + 1])
        mean, sd = whole(point, one)
        told.append(_verdict(claim, point, (float(mean[ALL.index(metric)]), float(sd[ALL.index(metric)])), judged))
    return min(told, key=lambda one: one.probability)


def _placed(point: Point, simulated: npt.NDArray[np.float64]) -> Point:
    """Give a point that was not measured its simulated times, from which its requests in flight follow."""
    if math.isfinite(point.ttft_ms):
        return point
    return point._replace(ttft_ms=float(np.exp(simulated[0])), tpot_ms=float(np.exp(simulated[1])))


def _verdict(claim: Claim, point: Point, logs: tuple[float, float], judged: Judged) -> Verdict:
    """Compare a claim with the distribution found at one load."""
    metric = LATENCIES.get(claim.metric, "e2e")
    mean, sd = logs
    ends = [math.exp(mean + sd * quantile(judged.misses, judged.system, metric, share)) for share in (0.1, 0.5, 0.9)]
    limit = claim.value
    if claim.metric == THROUGHPUT:  # tokens/s of one replica = in flight × output tokens / E2E
        tokens = point.in_flight * point.load.output_tokens * (1 + point.load.length_ratio_min) / 2 * MS_PER_S
        limit = tokens / claim.value
        ends = [tokens / end for end in reversed(ends)]
    met = probability_below(judged.misses, judged.system, metric, (math.log(limit) - mean) / sd)
    short = (claim.value - ends[1]) / claim.value if claim.metric == THROUGHPUT else ends[1] / claim.value - 1
    verdict = "delivered" if met >= SURE else "below" if met <= 1 - SURE else "cannot tell"
    load = {name: value for name, value in point.load._asdict().items() if value > 0}
    sentence = _sentence(claim, point, verdict, (met, short))
    return Verdict(claim.text, verdict, round(met, 3), claim.value, ends[1], ends[0], ends[2], short, load, sentence)


def _sentence(claim: Claim, point: Point, verdict: str, figures: tuple[float, float]) -> str:
    """Say a verdict in words; ``figures`` are the probability that the claim is met and the share it is missed by."""
    met, short = figures
    by = f"the median is {abs(short) * PERCENT:.0f}% {'worse' if short > 0 else 'better'} than promised"
    if claim.load is None:
        load = point.load
        at = f"{load.concurrency:.3g} in flight" if load.concurrency > 0 else f"{load.rate_rps:.3g} requests/s"
        by += f" at the worst load measured ({at}, {load.input_tokens:,.0f} in, {load.output_tokens:,.0f} out)"
    if verdict == "delivered":
        return f"{claim.text}: delivered; {by}; met with probability {met:.2f}."
    if verdict == "below":
        return f"{claim.text}: below the claim; {by}; missed with probability {1 - met:.2f}."
    return f"{claim.text}: cannot tell; {by}; met with probability {met:.2f}. Measure at that load."
