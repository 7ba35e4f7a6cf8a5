"""Turn training jobs into arrays: how much, between which periods, on which cells.

Comes in: the rows of `training`, a calendar and the cells. Goes out: :class:`~offtake.plan.problem.Jobs`. A
period counts for a job where at least half of it lies between its days; of a job that goes on beyond the horizon
only the share of its days inside is planned. A gang runs together at one site, so its job is given one host for good.
It must never know a price.
"""

from __future__ import annotations

import numpy as np

from offtake.plan.admission import refused_by_site
from offtake.plan.calendar import Calendar
from offtake.plan.contracts import Cell
from offtake.plan.problem import Jobs
from offtake.schema.tables import TrainingRow
from offtake.supply.portfolio import Portfolio


def jobs_of(portfolio: Portfolio, calendar: Calendar, cells: list[Cell]) -> Jobs:
    """Lay the training jobs out as arrays; the penalty for an hour missed is the job's value over its hours."""
    rows = portfolio.tables.training
    inside = np.array([share_inside(row, calendar) for row in rows])
    windows = np.array([window_of(row, calendar) for row in rows], dtype=np.int64).reshape(len(rows), 2)
    speed = np.array([[speed_on(portfolio, row, cell) for cell in cells] for row in rows], dtype=np.float64)
    return Jobs(
        chip_hours=np.array([row.chip_hours for row in rows]) * inside,
        first_period=windows[:, 0],
        last_period=windows[:, 1],
        single_site=np.array([row.single_site or row.gang_chips > 0 for row in rows], dtype=np.bool_),
        gang_chips=np.array([row.gang_chips for row in rows], dtype=np.float64),
        steady=np.array([not row.interruptible for row in rows], dtype=np.bool_),
        speed=speed.reshape(len(rows), len(cells)),
        missed_usd=np.array([row.value_usd / row.chip_hours for row in rows]),
        floor_chips=np.full(calendar.periods, portfolio.tables.limits.research_floor_chips),
    )


def share_inside(row: TrainingRow, calendar: Calendar) -> float:
    """Return the share of a job's days that the horizon holds; days before it count as inside."""
    first, last = row.earliest.toordinal(), row.deadline.toordinal() + 1
    end = int(calendar.edges[-1])
    return float(np.clip((end - first) / (last - first), 0.0, 1.0))


def window_of(row: TrainingRow, calendar: Calendar) -> tuple[int, int]:
    """Return a job's first and last period (both count)."""
    first, last = row.earliest.toordinal(), row.deadline.toordinal() + 1
    starts, ends = calendar.edges[:-1], calendar.edges[1:]
    overlap = np.minimum(ends, last) - np.maximum(starts, first)
    inside = np.flatnonzero(2 * overlap >= calendar.lengths)
    if len(inside) == 0:
        best = int(np.argmax(overlap))
        return best, best
    return int(inside[0]), int(inside[-1])


def speed_on(portfolio: Portfolio, row: TrainingRow, cell: Cell) -> float:
    """Return a job's speed in a cell; 0 where it may not run."""
    if cell.is_api or refused_by_site(row, portfolio.sites[cell.site]):
        return 0.0
    return row.chips.get(cell.chip, 0.0)
