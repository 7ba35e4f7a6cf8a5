"""Say how demand grows: a fan of branches with weights, each with one stress, in which growth is faster for a while.

Comes in: branches and days. Goes out: demand over demand at the start of the horizon. It must never know a date
beyond day numbers, nor a random number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offtake.schema.settings import GrowthRow
from offtake.units import DAYS_PER_YEAR

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Branch:
    """Describe one branch: demand after a year over demand now, and faster growth between two days, if any.

    Days count from the start of the horizon.
    """

    name: str
    weight: float
    per_year: float
    stress_per_year: float = 1.0
    stress_from_day: float = 0.0
    stress_days: float = 0.0


NO_GROWTH = Branch(name="none", weight=1.0, per_year=1.0)


def branches_of(rows: Sequence[GrowthRow], start_ordinal: int) -> tuple[Branch, ...]:
    """Return the branches of the growth table; one without growth where the table is empty.

    A stress without a first day begins with the horizon.
    """
    return tuple(_branch_of(row, start_ordinal) for row in rows) or (NO_GROWTH,)


def _branch_of(row: GrowthRow, start_ordinal: int) -> Branch:
    """Return the branch of one row."""
    if row.stress_per_year is None:
        return Branch(name=row.branch, weight=row.weight, per_year=row.per_year)
    from_day = 0 if row.stress_from is None else row.stress_from.toordinal() - start_ordinal
    return Branch(
        name=row.branch,
        weight=row.weight,
        per_year=row.per_year,
        stress_per_year=row.stress_per_year,
        stress_from_day=from_day,
        stress_days=row.stress_days,
    )


def growth_paths(branches: Sequence[Branch], day: Floats) -> Floats:
    """Return ``multiplier[branch, day]``: demand over demand at day 0, at days from the start of the horizon.

    m(t) = g^((t − s)/365) · h^(s/365), where s is the part of [0, t] inside the stress, g the yearly growth and h
    that of the stress. Growth is compound; what the stress added stays.
    """
    return np.array([_path(branch, np.asarray(day, dtype=np.float64)) for branch in branches])


def _path(branch: Branch, day: Floats) -> Floats:
    """Return one branch's multiplier by day."""
    inside = np.clip(
        np.minimum(day, branch.stress_from_day + branch.stress_days) - max(branch.stress_from_day, 0), 0, None
    )
    exponent = (day - inside) * np.log(branch.per_year) + inside * np.log(branch.stress_per_year)
    return np.asarray(np.exp(exponent / DAYS_PER_YEAR))


def expected_growth(branches: Sequence[Branch], day: Floats) -> Floats:
    """Return the weighted mean multiplier at each day."""
    weight = np.array([branch.weight for branch in branches])
    return np.asarray(weight @ growth_paths(branches, day) / weight.sum())
