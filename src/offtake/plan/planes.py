"""Hold what a search by cutting planes finds: points, cuts by their duals, a bound; and mend points of a master.

Comes in: a :class:`~offtake.plan.twolevel.TwoLevel` with duals of its parts; a point of its master. Goes out: rows of
the master, stated anew for whatever program is asked about; the nearest point that meets the master's own rows. It
must never know what a column means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from offtake.plan import highs
from offtake.plan.blocks import Floats, Program
from offtake.plan.highs import Effort
from offtake.plan.parts import Reply
from offtake.plan.problem import Ints
from offtake.plan.twolevel import TwoLevel, floors, moved, slopes


@dataclass(frozen=True)
class Point:
    """Hold a point of the master with the parts' reply, and its true objective (inf where a part has no answer)."""

    x: Floats
    reply: Reply
    objective: float


@dataclass(frozen=True)
class Found:
    """Hold what a search found: the best point (None for none), a bound no point is below, and if it was stopped."""

    point: Point | None
    bound: float
    stopped: bool = False

    @property
    def gap(self) -> float:
        """Give the gap between the best point and the bound, relative to the point; inf without a point."""
        return np.inf if self.point is None else gap_of(self.point.objective, self.bound)


@dataclass(frozen=True)
class Cuts:
    """Hold some cuts by their duals: part, duals [cuts, rows of all parts], and whether they are about limits."""

    part: Ints
    duals: sparse.csr_matrix
    limits: bool

    def stated(self, whole: TwoLevel) -> tuple[sparse.csr_matrix, Floats]:
        """State the cuts in the master's columns: rows·x ≥ floor."""
        rows = slopes(whole, self.duals)
        if not self.limits:
            count, place = self.part.size, (np.arange(self.part.size), whole.theta[self.part])
            rows = rows + sparse.csr_matrix((np.ones(count), place), shape=rows.shape)
        return rows, floors(whole, self.duals, self.part, phase_one=self.limits)

    def moved(self, before: TwoLevel, after: TwoLevel) -> Cuts:
        """Give the cuts for a program whose parts have other rows."""
        return Cuts(self.part, moved(self.duals, before.first_row, after.first_row), self.limits)

    def among(self, which: Ints) -> Cuts:
        """Give some of the cuts."""
        return Cuts(self.part[which], self.duals[which], self.limits)


def gap_of(objective: float, bound: float) -> float:
    """Give the gap between a minimum found and a bound on it, relative to the minimum."""
    return (objective - bound) / max(abs(objective), 1e-9)


def nearest(whole: TwoLevel, x: Floats, effort: Effort) -> Floats:
    """Give the point that meets the master's rows with the deciding integers of ``x``, and is nearest to ``x``.

    Distance is the sum of the changes of all other columns. The columns that stand for the parts' costs may take any
    value: they are known only when the parts are asked.

    Raises
    ------
    ProgramInfeasibleError
        No point has these integers.
    """
    master = whole.master
    at = np.clip(np.where(master.integer, np.round(x), x), master.lower, master.upper)
    still = whole.deciding
    at[whole.theta] = 0.0
    up, down = np.where(still, 0.0, master.upper - at), np.where(still, 0.0, at - master.lower)
    up[whole.theta] = down[whole.theta] = np.inf
    cost = np.where(np.isin(np.arange(at.size), whole.theta), 0.0, 1.0)
    shift = master.matrix @ at
    steps = Program(
        cost=np.concatenate([cost, cost]),
        lower=np.zeros(2 * at.size),
        upper=np.concatenate([up, down]),
        integer=np.zeros(2 * at.size, dtype=np.bool_),
        matrix=sparse.hstack([master.matrix, -master.matrix], format="csc"),
        row_lower=master.row_lower - shift,
        row_upper=master.row_upper - shift,
        column_unit=np.ones(2 * at.size),
        row_unit=master.row_unit,
        objective_unit=1.0,
    )
    values = highs.solve_linear(steps, effort).values
    found: Floats = at + values[: at.size] - values[at.size :]
    return found
