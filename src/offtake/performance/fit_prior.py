"""Learn from many deployments what one more will look like, and keep it as a few figures.

Comes in: fitted deployments by backend and system. Goes out: :class:`Lessons`, the priors of ``fit`` and how far its
predictions miss. A step of expectation and maximisation, in closed form (empirical Bayes): the mean of the levers of a
backend on a system is the mean m of its n deployments drawn towards the backend's by n / (n + s²/t²), with s² their
spread and t² that of the groups' means; the backend's is drawn towards all in the same way; the spread of the
levers is the mean of (θ - μ)² + Var(θ) over deployments. Sources: Efron, Large-Scale Inference, chapter 1; Dempster,
Laird and Rubin 1977. This module must never know a simulation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from offtake.performance.fit import Nearby, Prior

Floats = npt.NDArray[np.float64]
SHIPPED = "fit_prior.json"
FEW_LOADS = 2  #: with which a point is predicted from one other, or from none
GROUP_WEIGHT_MIN = (
    2.0  #: pseudo-deployments at least, however alike the groups seem (assumption: guards 2-member groups)
)


class Estimate(NamedTuple):
    """Hold one deployment's levers: backend, system, ``theta`` and ``covariance`` of their logarithms."""

    backend: str
    system: str
    theta: Floats
    covariance: Floats


class Misses(msgspec.Struct, frozen=True):
    """Say how far predictions missed, in standard deviations: quantiles at ``probabilities``, by ttft, tpot, e2e.

    ``factors`` widen or narrow the spread by system and metric, so that the quantiles hold on each.
    """

    probabilities: list[float]
    quantiles: dict[str, list[float]]
    factors: dict[str, dict[str, float]]


class Lessons(msgspec.Struct, frozen=True):
    """Hold all that ships: levers' means by ``backend/system``, ``backend`` and ``*``; spreads; misses; the source.

    ``misses``: of points predicted from all others of a deployment; ``misses_from_one``: from one other alone.
    """

    source: str
    means: dict[str, list[float]]
    sd: list[float]
    noise: list[float]
    nearby: dict[str, list[float]]
    version_share: float
    misses: Misses
    misses_from_one: Misses
    deployments: dict[str, int]
    held_out: dict[str, dict[str, float]]


def shipped_lessons() -> Lessons:
    """Load the lessons that ship with the package."""
    text = (files("offtake.performance") / "data" / SHIPPED).read_bytes()
    return msgspec.json.decode(text, type=Lessons)


def misses_for(lessons: Lessons, loads: int) -> Misses:
    """Return how far predictions miss that rest on so many loads, the predicted one among them."""
    return lessons.misses_from_one if loads <= FEW_LOADS else lessons.misses


def prior_of(lessons: Lessons, backend: str, system: str) -> Prior:
    """Return the prior of a backend on a system; where neither is known, that of all."""
    names = (f"{backend}/{system}", backend, "*")
    mean = next(lessons.means[name] for name in names if name in lessons.means)
    near = nearby_of(lessons.nearby, lessons.version_share)
    return Prior(np.array(mean), np.array(lessons.sd), np.array(lessons.noise), near)


def nearby_of(figures: Mapping[str, Sequence[float]], version_share: float) -> Nearby:
    """Return the covariance of nearby points from its figures by name, each [metric]."""
    arrays = {name: np.array(values, np.float64) for name, values in figures.items()}
    return Nearby(**arrays, version_share=version_share)


def means_of(estimates: Sequence[Estimate]) -> dict[str, Floats]:
    """Return the mean levers by ``backend/system``, ``backend`` and ``*``, each drawn towards the wider group's."""
    everything = np.median([one.theta for one in estimates], axis=0)
    found = {"*": np.asarray(everything)}
    for backend in sorted({one.backend for one in estimates}):
        found[backend] = np.zeros_like(everything)
    _draw(found, {name: [one.theta for one in estimates if one.backend == name] for name in found if name != "*"})
    groups: dict[str, list[Floats]] = {}
    for one in estimates:
        groups.setdefault(f"{one.backend}/{one.system}", []).append(one.theta)
    _draw(found, groups)
    return found


def _draw(found: dict[str, Floats], groups: Mapping[str, list[Floats]]) -> None:
    """Put the mean of each group, drawn towards the wider group's, into ``found``."""
    centres = {name: np.mean(members, axis=0) for name, members in groups.items()}
    wider = {name: found[name.split("/")[0] if "/" in name else "*"] for name in groups}
    inside = np.mean([np.var(members, axis=0) for members in groups.values()], axis=0)
    between = np.mean([(centres[name] - wider[name]) ** 2 for name in groups], axis=0)
    extra = np.maximum(GROUP_WEIGHT_MIN, inside / np.maximum(between, 1e-9))
    for name, members in groups.items():
        share = len(members) / (len(members) + extra)
        found[name] = share * centres[name] + (1 - share) * wider[name]


def sd_of(estimates: Sequence[Estimate], means: Mapping[str, Floats]) -> Floats:
    """Return the standard deviation of the levers between deployments of one group, [lever]."""
    squares = [(one.theta - means[f"{one.backend}/{one.system}"]) ** 2 + np.diag(one.covariance) for one in estimates]
    return np.asarray(np.sqrt(np.mean(np.minimum(squares, np.quantile(squares, 0.95, axis=0)), axis=0)))
