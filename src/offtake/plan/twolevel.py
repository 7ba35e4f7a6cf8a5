"""State a program on two levels: a master, and parts that each depend on the master's columns but not on each other.

Comes in: a program, and which part each of its columns and rows belongs to. Goes out: :class:`TwoLevel`: the master,
in which one more column per part stands for the part's cost, and the parts, each a program whose row bounds move with
the master's columns: row bounds − link·x. ``split`` makes one of a plan; anything that has this shape makes another.
A cut is known by its duals alone: :func:`floors` and :func:`slopes` give its row, so that a cut found once can be
stated again after the link, the master, bounds or costs have changed, and is then still right. It must never know a
solver, or what a column means.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from offtake.plan.blocks import Bools, Floats, Program
from offtake.plan.problem import Ints

DUAL_TOLERANCE = 1e-6  #: a reduced cost this far on the wrong side of 0 is 0; HiGHS itself works to 1e-7


@dataclass(frozen=True)
class Part:
    """Hold one part: its rows and columns in the whole program, and its own program."""

    rows: Ints
    columns: Ints
    program: Program


@dataclass(frozen=True)
class Tail:
    """Know the columns and rows of the tail in the master, to complete a point whose losses are known."""

    at_risk: int
    shortfall: Ints
    rows: sparse.csr_matrix

    def settle(self, x: Floats, cost: Floats) -> None:
        """Set value at risk and shortfalls to the best for the losses of a point: the value at risk is one of them."""
        x[self.at_risk] = 0.0
        x[self.shortfall] = 0.0
        loss = -(self.rows @ x)
        beyond = np.maximum(loss[None, :] - loss[:, None], 0.0)  # [value at risk, scenario]
        best = int(np.argmin(cost[self.at_risk] * loss + beyond @ cost[self.shortfall]))
        x[self.at_risk] = loss[best]
        x[self.shortfall] = beyond[best]


@dataclass(frozen=True, kw_only=True)
class Stands:
    """Say how the master counts the cost of each part p: ``cost [P]`` in its objective, ``matrix [rows, P]`` in rows.

    ``lower [P]`` is a bound that no cost of the part can be below; −inf where none is known. ``of_column [columns]`` is
    what a column costs in its part.
    """

    cost: Floats
    lower: Floats
    matrix: sparse.csc_matrix
    of_column: Floats


@dataclass(frozen=True, kw_only=True)
class TwoLevel:
    """Hold the master, the parts, and how they hang together.

    ``columns`` and ``rows`` are the master's in the whole program; its last P columns ``theta`` stand for the parts'
    costs and are not in the whole. ``link`` is CSR [rows of all parts, master columns]; part p owns rows
    ``first_row[p]:first_row[p + 1]`` and columns ``first_column[p]:first_column[p + 1]`` of ``own``, the parts' own
    programs side by side. ``following`` are whole columns of the master that follow from the others where they can.
    """

    program: Program
    columns: Ints
    rows: Ints
    master: Program
    theta: Ints
    parts: list[Part]
    own: Program
    link: sparse.csr_matrix
    first_row: Ints
    first_column: Ints
    following: Bools
    tail: Tail | None = None

    @property
    def deciding(self) -> Bools:
        """Tell which columns of the master are whole numbers that must be decided."""
        chosen: Bools = self.master.integer & ~self.following
        return chosen

    @property
    def has_whole_parts(self) -> bool:
        """Tell whether a part has whole numbers, so that cuts only bound it."""
        return bool(self.own.integer.any())


def two_level(program: Program, part_of_column: Ints, part_of_row: Ints, stands: Stands | None = None) -> TwoLevel:
    """Put a program on two levels; −1 is the master's. Parts may not share a row or a column; empty rows are left."""
    n_parts = int(part_of_row.max(initial=-1)) + 1
    columns, rows = np.flatnonzero(part_of_column < 0), np.flatnonzero(part_of_row < 0)
    stands = stands or Stands(
        cost=np.ones(n_parts),
        lower=np.full(n_parts, -np.inf),
        matrix=sparse.csc_matrix((rows.size, n_parts)),
        of_column=program.cost,
    )
    by_row, first_row = _in_order(part_of_row, n_parts)
    by_column, first_column = _in_order(part_of_column, n_parts)
    matrix = program.matrix.tocsr()
    if matrix[rows][:, by_column].nnz:
        raise AssertionError("a constraint joins two parts: its columns belong in the master")
    counts = np.diff(matrix[rows].indptr) + np.diff(stands.matrix.tocsr().indptr) > 0
    counts |= (program.row_lower[rows] > 0) | (program.row_upper[rows] < 0)  # an empty row that nothing meets
    rows, stands = rows[counts], replace(stands, matrix=stands.matrix.tocsr()[counts].tocsc())
    below = matrix[by_row]
    own = _own(program, below[:, by_column], (by_row, by_column), stands.of_column)
    _keep_apart(own.matrix, first_row, first_column)
    master = _master(program, (rows, columns), stands, matrix)
    extra = sparse.csr_matrix((by_row.size, n_parts))
    return TwoLevel(
        program=program,
        columns=columns,
        rows=rows,
        master=master,
        theta=np.arange(columns.size, columns.size + n_parts),
        parts=[_part(own, (by_row, by_column), (first_row, first_column), p) for p in range(n_parts)],
        own=own,
        link=sparse.hstack([below[:, columns], extra], format="csr"),
        first_row=first_row,
        first_column=first_column,
        following=np.zeros(columns.size + n_parts, dtype=np.bool_),
    )


def floors(whole: TwoLevel, duals: sparse.csr_matrix, parts: Ints, *, phase_one: bool = False) -> Floats:
    """Give the constant of each cut: the value of its duals [cuts, rows of all parts] at a master of nothing.

    Cost(x) ≥ floor − duals·link·x for every x. −inf where duals prove nothing (any more). ``phase_one``: duals of
    the least sum of violations, in which columns cost nothing; then 0 ≥ floor − duals·link·x.
    """
    own = whole.own
    value = duals.maximum(0) @ _finite(own.row_lower) + duals.minimum(0) @ _finite(own.row_upper)
    start = whole.first_column[parts]
    length = whole.first_column[parts + 1] - start
    behind = np.cumsum(length) - length  # where each cut's columns begin
    cut = np.repeat(np.arange(parts.size), length)
    column = (start - behind)[cut] + np.arange(cut.size)
    cost = np.zeros(column.size) if phase_one else own.cost[column]
    reduced = sparse.coo_matrix(duals @ own.matrix)  # a cut's duals meet only the columns of its own part
    cost[behind[reduced.row] + reduced.col - start[reduced.row]] -= reduced.data
    bound = np.where(cost > 0, own.lower[column], own.upper[column])
    value += np.bincount(cut, cost * _finite(bound), parts.size)
    unproven = np.bincount(cut, np.isinf(bound) & (np.abs(cost) > DUAL_TOLERANCE), parts.size) > 0
    unproven |= _unbounded(duals.maximum(0), own.row_lower) | _unbounded(-duals.minimum(0), own.row_upper)
    result: Floats = np.where(unproven, -np.inf, value)
    return result


def slopes(whole: TwoLevel, duals: sparse.csr_matrix) -> sparse.csr_matrix:
    """Give the slope of each cut in the master's columns [cuts, master columns]: duals·link."""
    return sparse.csr_matrix(duals @ whole.link)


def moved(duals: sparse.csr_matrix, before: Ints, after: Ints) -> sparse.csr_matrix:
    """Lay duals over other numbers of rows: part p began at ``before[p]`` and now begins at ``after[p]``.

    The duals of a part that has fewer rows now are 0: they prove little, but nothing false. New rows are its last.
    """
    if np.array_equal(before, after):
        return duals
    entries = duals.tocoo()
    part = np.searchsorted(before, entries.col, side="right") - 1
    same = (np.diff(before) <= np.diff(after))[part]
    place = (entries.row[same], entries.col[same] - before[part[same]] + after[part[same]])
    return sparse.csr_matrix((entries.data[same], place), shape=(duals.shape[0], int(after[-1])))


def phase_one(whole: TwoLevel, relaxed: Floats) -> TwoLevel:
    """Make a program of the least violation: each row of a part with ``relaxed [rows] > 0`` has a slack of cost 1.

    Nothing else costs anything. Rows are those of the whole program; the slacks have no column in it.
    """
    by_row = np.concatenate([part.rows for part in whole.parts] or [np.zeros(0, dtype=np.int64)])
    loose = np.flatnonzero(relaxed[by_row] > 0)
    n_rows, n_columns = whole.program.matrix.shape
    sign = np.where(np.isfinite(whole.own.row_lower[loose]), 1.0, -1.0)
    slacks = sparse.csc_matrix((sign, (by_row[loose], np.arange(loose.size))), shape=(n_rows, loose.size))
    of_row, of_column = np.full(n_rows, -1), np.full(n_columns + loose.size, -1)
    for p, part in enumerate(whole.parts):
        of_row[part.rows], of_column[part.columns] = p, p
    of_column[n_columns:] = of_row[by_row[loose]]
    base, more = apart(whole.program, of_row, of_column[:n_columns]), loose.size
    program = Program(
        cost=np.concatenate([np.zeros(n_columns), np.ones(more)]),
        lower=np.concatenate([base.lower, np.zeros(more)]),
        upper=np.concatenate([base.upper, np.full(more, np.inf)]),
        integer=np.concatenate([base.integer, np.zeros(more, dtype=np.bool_)]),
        matrix=sparse.hstack([base.matrix, slacks], format="csc"),
        row_lower=base.row_lower,
        row_upper=base.row_upper,
        column_unit=np.concatenate([base.column_unit, np.ones(more)]),
        row_unit=base.row_unit,
        objective_unit=1.0,
    )
    n_parts = len(whole.parts)
    stands = Stands(
        cost=np.ones(n_parts),
        lower=np.zeros(n_parts),
        matrix=sparse.csc_matrix((np.count_nonzero(of_row < 0), n_parts)),
        of_column=program.cost,
    )
    return two_level(program, of_column, of_row, stands)


def apart(program: Program, of_row: Ints, of_column: Ints) -> Program:
    """Take the parts' columns out of the master's rows."""
    entries = program.matrix.tocoo()
    keep = (of_row[entries.row] >= 0) | (of_column[entries.col] < 0)
    kept = (entries.data[keep], (entries.row[keep], entries.col[keep]))
    return replace(program, matrix=sparse.csc_matrix(kept, shape=program.matrix.shape))


def _in_order(part_of: Ints, n_parts: int) -> tuple[Ints, Ints]:
    """Give what belongs to parts in the order of the parts, and where each part begins."""
    order = np.argsort(part_of, kind="stable")[np.count_nonzero(part_of < 0) :]
    return order, np.searchsorted(part_of[order], np.arange(n_parts + 1))


def _own(program: Program, matrix: sparse.csr_matrix, ids: tuple[Ints, Ints], cost: Floats) -> Program:
    """Put all parts' own programs side by side."""
    rows, columns = ids
    return Program(
        cost=cost[columns],
        lower=program.lower[columns],
        upper=program.upper[columns],
        integer=program.integer[columns],
        matrix=matrix.tocsc(),
        row_lower=program.row_lower[rows],
        row_upper=program.row_upper[rows],
        column_unit=program.column_unit[columns],
        row_unit=program.row_unit[rows],
        objective_unit=program.objective_unit,
    )


def _keep_apart(matrix: sparse.csc_matrix, first_row: Ints, first_column: Ints) -> None:
    """See that no part's column meets another part's row."""
    entries = matrix.tocoo()
    of_row = np.searchsorted(first_row, entries.row, side="right")
    of_column = np.searchsorted(first_column, entries.col, side="right")
    if np.any(of_row != of_column):
        raise AssertionError("a constraint joins two parts: its columns belong in the master")


def _part(own: Program, ids: tuple[Ints, Ints], first: tuple[Ints, Ints], p: int) -> Part:
    """Cut one part out of the parts' programs."""
    rows, columns = slice(*first[0][p : p + 2]), slice(*first[1][p : p + 2])
    start, stop = own.matrix.indptr[columns.start], own.matrix.indptr[columns.stop]
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    inner = own.matrix.indptr[columns.start : columns.stop + 1] - start
    matrix = sparse.csc_matrix((own.matrix.data[start:stop], own.matrix.indices[start:stop] - rows.start, inner), shape)
    return Part(
        ids[0][rows],
        ids[1][columns],
        Program(
            cost=own.cost[columns],
            lower=own.lower[columns],
            upper=own.upper[columns],
            integer=own.integer[columns],
            matrix=matrix,
            row_lower=own.row_lower[rows],
            row_upper=own.row_upper[rows],
            column_unit=own.column_unit[columns],
            row_unit=own.row_unit[rows],
            objective_unit=own.objective_unit,
        ),
    )


def _master(program: Program, ids: tuple[Ints, Ints], stands: Stands, matrix: sparse.csr_matrix) -> Program:
    """Make the master's program, with one column behind the others for each part's cost."""
    rows, columns = ids
    more = stands.cost.size
    return Program(
        cost=np.concatenate([program.cost[columns], stands.cost]),
        lower=np.concatenate([program.lower[columns], stands.lower]),
        upper=np.concatenate([program.upper[columns], np.full(more, np.inf)]),
        integer=np.concatenate([program.integer[columns], np.zeros(more, dtype=np.bool_)]),
        matrix=sparse.hstack([matrix[rows][:, columns], stands.matrix], format="csc"),
        row_lower=program.row_lower[rows],
        row_upper=program.row_upper[rows],
        column_unit=np.concatenate([program.column_unit[columns], np.ones(more)]),
        row_unit=program.row_unit[rows],
        objective_unit=program.objective_unit,
    )


def _finite(bound: Floats) -> Floats:
    """Give bounds, 0 for those that do not bind."""
    return np.where(np.isfinite(bound), bound, 0.0)


def _unbounded(weights: sparse.csr_matrix, bound: Floats) -> Bools:
    """Tell which cuts lean on a bound that is not there."""
    found: Bools = np.asarray(weights @ np.isinf(bound).astype(np.float64)) > DUAL_TOLERANCE
    return found
