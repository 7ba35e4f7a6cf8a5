"""Take columns that an equation defines out of a program, and put them back into its answer.

Comes in: a program and pairs of a column and the row that defines it from other columns. Goes out:
:class:`Condensed`: the program in the other columns, and the way back for values and duals. A cutting plane in what is
signed and kept is short; in the chips they bring and the money they cost it would be long. It must never know what a
column means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from offtake.plan.blocks import Floats, Program
from offtake.plan.problem import Ints


@dataclass(frozen=True)
class Condensed:
    """Hold a program without its defined columns; ``columns`` and ``rows`` are what is left, in the whole.

    A defined column is ``defined·x``: ``taken`` are their numbers in the whole and ``by`` the rows that define them.
    Columns and rows of ``program`` behind those are not in the whole.
    """

    whole: Program
    program: Program
    columns: Ints
    rows: Ints
    taken: Ints
    by: Ints
    defined: sparse.csr_matrix

    def values(self, x: Floats) -> Floats:
        """Give all columns of the whole."""
        values = np.zeros(self.whole.cost.size)
        own = x[: self.columns.size]
        values[self.columns], values[self.taken] = own, self.defined @ own
        return values

    def duals(self, duals: Floats) -> Floats:
        """Give the duals of all rows of the whole: a defined column's reduced cost is 0, which prices its row."""
        whole = np.zeros(self.whole.row_lower.size)
        whole[self.rows] = duals[: self.rows.size]
        of_taken = self.whole.matrix[:, self.taken]
        cost = self.whole.cost[self.taken] - of_taken.T @ whole
        own = of_taken.tocsr()[self.by]
        diagonal, rest = _parted(own)
        price = cost / diagonal
        for _ in range(_depth(rest)):
            price = (cost - rest.T @ price) / diagonal
        whole[self.by] = price
        return whole


def condense(program: Program, taken: Ints, by: Ints) -> Condensed:
    """Take out columns, each defined by an equation to 0 in the row beside it.

    Raises
    ------
    ValueError
        Where a row is no equation to 0, or a column's own bounds could bind.
    """
    if np.any(program.row_lower[by]) or np.any(program.row_upper[by]) or np.any(program.integer[taken]):
        raise ValueError("a column to take out must be defined by an equation to 0, and need not be whole")
    n_rows, n_columns = program.matrix.shape
    columns = np.setdiff1d(np.arange(n_columns), taken, assume_unique=True)
    rows = np.setdiff1d(np.arange(n_rows), by, assume_unique=True)
    defining = program.matrix.tocsr()[by].tocsc()
    diagonal, rest = _parted(defining[:, taken].tocsr())
    inverse = sparse.diags_array(-1.0 / diagonal).tocsr()
    start = inverse @ defining[:, columns]
    defined = start
    for _ in range(_depth(rest)):
        defined = start + inverse @ rest @ defined
    defined = sparse.csr_matrix(defined)
    _see_that_bounds_hold(program, columns, taken, defined)
    kept = program.matrix[:, columns] + program.matrix[:, taken] @ defined
    condensed = Program(
        cost=program.cost[columns] + defined.T @ program.cost[taken],
        lower=program.lower[columns],
        upper=program.upper[columns],
        integer=program.integer[columns],
        matrix=sparse.csc_matrix(kept.tocsr()[rows]),
        row_lower=program.row_lower[rows],
        row_upper=program.row_upper[rows],
        column_unit=program.column_unit[columns],
        row_unit=program.row_unit[rows],
        objective_unit=program.objective_unit,
    )
    return Condensed(program, condensed, columns, rows, taken, by, defined)


def _parted(own: sparse.csr_matrix) -> tuple[Floats, sparse.csr_matrix]:
    """Part the defined columns' coefficients in their rows into each one's own and the others'."""
    diagonal = own.diagonal()
    rest = sparse.csr_matrix(own - sparse.diags_array(diagonal))
    rest.eliminate_zeros()
    return diagonal, rest


def _depth(rest: sparse.csr_matrix) -> int:
    """Count how often a defined column is defined by another one that is."""
    depth, power = 0, rest
    while power.nnz:
        depth, power = depth + 1, power @ rest
        if depth > rest.shape[0]:
            raise ValueError("columns to take out define each other in a circle")
    return depth


def _see_that_bounds_hold(program: Program, columns: Ints, taken: Ints, defined: sparse.csr_matrix) -> None:
    """See that no defined column can leave its bounds: it has none, or 0 below a sum of what is not negative."""
    floored = np.flatnonzero(program.lower[taken] > -np.inf)
    below = sparse.csr_matrix(defined[floored])
    sinks = (below.data < 0) | (program.lower[columns][below.indices] < 0)
    if np.any(program.upper[taken] < np.inf) or np.any(program.lower[taken][floored] > 0) or np.any(sinks):
        raise ValueError("a column to take out has bounds that could bind")
