"""Gather the deployments that were measured, with how each is simulated: what ``tools.fit_prior`` learns from.

Comes in: the measured runs of the extra ``silicon``. Goes out: one :class:`Case` for each deployment (model, engine
with its version, chip, format, split over chips, drafts), simulated as ``offtake performance score`` does, on step
tables with the host's share, and straight lines in the levers from there: levers stay near, and the fit itself
simulates again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.errors import InputError
from offtake.performance.calibration import Levers, calibrated
from offtake.performance.fit import Simulate
from offtake.performance.library import StoredTable
from offtake.performance.measurements import Load, Measured, Point
from offtake.performance.score import SHORTEST, hosted, limits_of_run, simulated, table_of
from offtake.performance.silicon_engine import SiliconChoice
from offtake.performance.silicon_rows import MeasuredRun, read_runs
from offtake.performance.silicon_serving import choices_of

Floats = npt.NDArray[np.float64]

BASE = Levers(1.0, 1.0, 0.05, 1.0, 1.0)  #: about where levers are found once tables have the host's share
#: Levers at which every run is simulated: the base, and each moved; what is added to a request needs no simulation.
MOVES = (
    BASE,
    BASE._replace(prefill=1.1),
    BASE._replace(decode=1.1),
    BASE._replace(step_ms=0.25),
    BASE,
    BASE._replace(kv=0.8),
)
ADDED = ("step_ms", "request_ms")
GAIN_MAX, LEAST_MS = 0.3, 0.1


class Case(NamedTuple):
    """Hold one deployment: model, where it ran, what was measured, and how to simulate it."""

    model: str
    backend: str
    system: str
    measured: Measured
    simulate: Simulate


def family_of(model: str) -> str:
    """Return the name under which a model's measurements are kept together."""
    name = model.rsplit("/", 1)[-1]
    return "DeepSeek" if name.startswith("DeepSeek") else name.replace("-FP8", "").replace("-NVFP4", "")


def cases_of(cache: Path) -> list[Case]:
    """Return every deployment that was measured and can be simulated."""
    tables: dict[SiliconChoice, StoredTable | str] = {}
    found = ((run, times_of(run, cache, tables)) for run in read_runs()[0] if not run.reason)
    return gathered((run, times) for run, times in found if times is not None)


def gathered(rows: Iterable[tuple[MeasuredRun, Floats]]) -> list[Case]:
    """Gather runs and their times into deployments; one measurement under two names of a model counts once."""
    groups: dict[tuple[object, ...], dict[tuple[object, ...], tuple[MeasuredRun, Floats]]] = {}
    for run, times in rows:
        where = (family_of(run.model), run.backend, run.system, run.version, run.precision, run.chips)
        key = (*where, run.attention_ranks, run.expert_parallel, run.drafts, run.internal)
        once = (run.input_tokens, run.output_tokens, run.clients, run.ttft_ms, run.tpot_ms)
        groups.setdefault(key, {}).setdefault(once, (run, times))
    return [case_of(key, list(pairs.values())) for key, pairs in groups.items()]


def times_of(run: MeasuredRun, cache: Path, tables: dict[SiliconChoice, StoredTable | str]) -> Floats | None:
    """Return the simulated TTFT and TPOT of a run at each of ``MOVES`` [move, metric], ms; None where it cannot be."""
    for choice in choices_of(run):
        stored = table_of(choice, cache, tables)
        if not isinstance(stored, str):
            own = hosted(run, stored)._replace(limits=limits_of_run(choice))
            try:
                return np.array([simulated(run, calibrated(own, levers, own.name, {})) for levers in MOVES])
            except InputError:
                return None
    return None


def case_of(key: tuple[object, ...], pairs: Sequence[tuple[MeasuredRun, Floats]]) -> Case:
    """Return the case of one deployment's runs, each with its times at ``MOVES``."""
    points = tuple(
        Point(
            Load(run.input_tokens, run.output_tokens, run.clients, 0.0, 1.0 if run.internal else SHORTEST),
            run.ttft_ms,
            run.tpot_ms,
            row=run.row,
        )
        for run, _ in pairs
    )
    model, backend, system = (str(name) for name in key[:3])
    simulate = partial(linear, np.array([times for _, times in pairs]))
    return Case(model, backend, system, Measured("|".join(map(str, key)), "", points), simulate)


def linear(times: Floats, levers: Levers) -> Floats:
    """Return ms [point, metric] under levers, from ``times`` [point, move, metric].

    Straight in the logarithms of the factors and in what is added to a step and a request. A step never gains back
    more than ``GAIN_MAX`` of a time.
    """
    base = np.log(times[:, 0])
    factors = {name: index for index, name in enumerate(Levers._fields) if name not in ADDED}
    slopes = {name: (np.log(times[:, 1 + i]) - base) / math.log(MOVES[1 + i][i]) for name, i in factors.items()}
    found = np.exp(base + sum(slope * math.log(getattr(levers, name)) for name, slope in slopes.items()))
    step = Levers._fields.index("step_ms")
    per_ms = (times[:, 1 + step] - times[:, 0]) / (MOVES[1 + step].step_ms - BASE.step_ms)
    found += np.maximum(per_ms * (levers.step_ms - BASE.step_ms), -GAIN_MAX * found)
    found[:, 0] += levers.request_ms - BASE.request_ms
    return np.maximum(found, LEAST_MS)
