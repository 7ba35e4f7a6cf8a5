"""Draw sudden surges of demand, and average them over periods.

Comes in: kinds of shock, the days that bound the periods, and a seed. Goes out: events, and multipliers of demand
by scenario and period. Each scenario and kind has its own random numbers, so neither another kind nor more
scenarios change a scenario (common random numbers), and a higher rate brings the same events sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offtake.schema.settings import ShockRow
from offtake.units import DAYS_PER_YEAR

SHOCK_STREAM = 5
GAPS_AT_ONCE = 16

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Shock:
    """Describe a kind of shock: events per year, demand during it over demand without, and its days."""

    name: str
    per_year: float
    multiplier: float
    days: float


class ShockEvents(NamedTuple):
    """Hold events as arrays ``[event]``: which scenario, which kind, and the day each begins (may be before day 0)."""

    scenario: NDArray[np.int64]
    kind: NDArray[np.int64]
    start_day: Floats


def shocks_of(rows: Sequence[ShockRow]) -> tuple[Shock, ...]:
    """Return the shocks of the shock table."""
    return tuple(Shock(name=row.shock, per_year=row.per_year, multiplier=row.multiplier, days=row.days) for row in rows)


def sample_shocks(shocks: Sequence[Shock], horizon_days: float, scenarios: int, seed: int) -> ShockEvents:
    """Draw the events of each scenario: Poisson in time, also those that began before day 0 and still last."""
    parts = [
        (scenario, kind, start)
        for scenario in range(scenarios)
        for kind, shock in enumerate(shocks)
        for start in _starts(shock, horizon_days, np.random.default_rng([seed, SHOCK_STREAM, kind, scenario]))
    ]
    scenario, kind, start_day = zip(*parts, strict=True) if parts else ((), (), ())
    return ShockEvents(
        np.array(scenario, dtype=np.int64), np.array(kind, dtype=np.int64), np.array(start_day, dtype=float)
    )


def _starts(shock: Shock, horizon_days: float, random: np.random.Generator) -> list[float]:
    """Return the days on which one scenario's events of one kind begin."""
    if shock.per_year == 0:
        return []
    length_days = horizon_days + shock.days
    starts = np.zeros(0)
    total = 0.0
    while total < length_days:
        gaps = random.standard_exponential(GAPS_AT_ONCE) * (DAYS_PER_YEAR / shock.per_year)
        starts = np.concatenate([starts, total + np.cumsum(gaps)])
        total = float(starts[-1])
    inside: list[float] = (starts[starts < length_days] - shock.days).tolist()
    return inside


def shock_paths(shocks: Sequence[Shock], events: ShockEvents, edge_day: Floats, scenarios: int) -> Floats:
    """Return ``multiplier[scenario, period]``: mean demand over demand without shocks, in periods between ``edge_day``.

    Two shocks at once add what each adds: 1 + Σ (multiplier − 1) · share of the period that it covers, never below 0.
    """
    edge_day = np.asarray(edge_day, dtype=np.float64)
    added = np.zeros((scenarios, edge_day.size - 1))
    if events.kind.size:
        days = np.array([shock.days for shock in shocks])[events.kind]
        size = np.array([shock.multiplier - 1 for shock in shocks])[events.kind]
        first = np.maximum(events.start_day[:, None], edge_day[:-1])
        last = np.minimum((events.start_day + days)[:, None], edge_day[1:])
        covered = np.maximum(last - first, 0) / np.diff(edge_day)
        np.add.at(added, events.scenario, size[:, None] * covered)
    return np.maximum(1 + added, 0.0)


def expected_shock(shocks: Sequence[Shock]) -> float:
    """Return the mean multiplier, the same in every period: 1 + Σ events per year · days/365 · (multiplier − 1).

    Exact while overlapping falls do not reach zero demand.
    """
    return 1 + sum(shock.per_year * shock.days / DAYS_PER_YEAR * (shock.multiplier - 1) for shock in shocks)
