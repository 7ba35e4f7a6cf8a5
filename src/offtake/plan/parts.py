"""Ask every part of a two-level program what it costs at a point of the master, and why.

Comes in: a :class:`~offtake.plan.twolevel.TwoLevel` and points of its master. Goes out: a :class:`Reply`: what each
part costs with the duals that prove it, or, where a part has no answer, by how much its rows are broken at least, with
the duals that prove that. A claim that a part has no answer is believed only when its least violation, another
program, is above 0. One warm solver is kept per part, each solved alone, so that no answer depends on how many work
at once. It must never know what a column means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from joblib import Parallel, delayed
from scipy import sparse

from offtake.errors import SolverError
from offtake.plan import highs
from offtake.plan.blocks import Bools, Floats, Program
from offtake.plan.highs import Effort
from offtake.plan.twolevel import TwoLevel

BROKEN = 1e-6  #: the least sum of violations, in solver units, that is one
BUNDLES_PER_WORKER = 4
SHARED = 30_000  #: columns of all parts; measured at a third of it: handing work to threads takes longer than it saves


class StoppedError(Exception):
    """Say that time was up, or somebody asked to stop, before all parts had answered. Caught within this room."""


@dataclass(frozen=True)
class Told:
    """Hold what one part answers: cost (or least violation), duals of its rows, values of its columns."""

    cost: float
    violation: float
    duals: Floats
    values: Floats


@dataclass(frozen=True)
class Reply:
    """Hold what the parts answer to one point: costs [P] (inf where there is no answer), violations [P], duals.

    ``duals`` is CSR [P, rows of all parts]; ``values`` are the columns of each part.
    """

    costs: Floats
    violations: Floats
    duals: sparse.csr_matrix
    values: list[Floats]

    @property
    def broken(self) -> Bools:
        """Tell which parts have no answer [P]."""
        return self.violations > 0


class Solver:
    """Keep one part warm."""

    def __init__(self, program: Program, effort: Effort) -> None:
        self.program, self.effort = program, effort
        self.solver = highs.load(program, effort, whole=False)
        self.elastic: highs.Solver | None = None
        self.last: tuple[Floats, Told] | None = None

    def ask(self, moved: Floats) -> Told:
        """Solve the part where the master's point has moved its rows by ``moved``."""
        if self.last is not None and np.array_equal(self.last[0], moved):
            return self.last[1]
        lower, upper = self.program.row_lower - moved, self.program.row_upper - moved
        highs.move_rows(self.solver, lower, upper)
        self.solver.run()
        status = self.solver.getModelStatus()
        if status in highs.NEVER:
            told = self._violation(lower, upper)
            if told is not None:
                self.last = (moved, told)
                return told
        if status != highs.OK and not highs.run_otherwise(self.solver):
            raise SolverError("no algorithm could solve one part of the plan, though its limits can be met")
        told = Told(float(self.solver.getInfo().objective_function_value), 0.0, *highs.vectors(self.solver))
        self.last = (moved, told)
        return told

    def _violation(self, lower: Floats, upper: Floats) -> Told | None:
        """Give the least sum of violations of the part's rows; None where the claim was false."""
        if self.elastic is None:
            self.elastic = highs.load(_elastic(self.program), self.effort, whole=False)
        highs.move_rows(self.elastic, lower, upper)
        self.elastic.run()
        if self.elastic.getModelStatus() != highs.OK and not highs.run_otherwise(self.elastic):
            raise SolverError("no algorithm could find by how much the limits of one part of the plan are broken")
        least = float(self.elastic.getInfo().objective_function_value)
        if least <= BROKEN:
            return None
        duals, values = highs.vectors(self.elastic)
        return Told(np.inf, least, duals, values[: self.program.cost.size])


class Parts:
    """Keep all parts warm, and ask them about points of the master.

    ``workers`` is a ``joblib.Parallel`` that shares memory with this process (threads; the solver lets go of Python's
    lock while it works); by default one of ``effort.threads``, or none but this one where parts are small. Parts that
    are as they were among ``known`` stay warm.
    """

    def __init__(
        self, whole: TwoLevel, effort: Effort, known: Parts | None = None, workers: Parallel | None = None
    ) -> None:
        self.whole, self.late = whole, effort.late
        threads = max(1, effort.threads if sum(part.columns.size for part in whole.parts) > SHARED else 1)
        self.workers = workers or Parallel(n_jobs=threads, backend="threading")
        count = BUNDLES_PER_WORKER * threads
        self.bundles = [b for b in np.array_split(np.arange(len(whole.parts)), count) if b.size]
        warm: list[Solver | None] = list(known.solvers) if known is not None else []
        warm += [None] * (len(whole.parts) - len(warm))
        own = 1 if threads > 1 else effort.threads  # HiGHS holds each thread to the number that it was first given
        alone = replace(effort, threads=own, time_limit_s=np.inf, left_s=lambda: np.inf)
        made = self.workers(
            delayed(_make)([whole.parts[p].program for p in b], warm[b[0] : b[-1] + 1], alone) for b in self.bundles
        )
        self.solvers: list[Solver] = [solver for some in made for solver in some]

    def ask(self, x: Floats) -> Reply:
        """Solve every part at a point; the answer does not depend on the number of workers.

        Raises
        ------
        StoppedError
            Where time was up first.
        """
        shift, first = self.whole.link @ x, self.whole.first_row
        moves = [shift[first[p] : first[p + 1]] for p in range(len(self.solvers))]
        told = [
            one
            for some in self.workers(
                delayed(_ask)(self.solvers[b[0] : b[-1] + 1], moves[b[0] : b[-1] + 1], self.late) for b in self.bundles
            )
            for one in some
        ]
        if len(told) < len(self.solvers):
            raise StoppedError
        duals = np.concatenate([one.duals for one in told])
        return Reply(
            costs=np.array([one.cost for one in told]),
            violations=np.array([one.violation for one in told]),
            duals=sparse.csr_matrix((duals, np.arange(duals.size), first), shape=(len(told), duals.size)),
            values=[one.values for one in told],
        )


def least_costs(whole: TwoLevel, effort: Effort) -> Floats:
    """Give for each part a bound that its cost cannot be below: the best it could do with the master to itself [P].

    Raises
    ------
    SolverError
        Where there is no such bound.
    """
    master, n_theta = whole.master, whole.theta.size
    keep = master.cost.size - n_theta
    upper_part = sparse.hstack([master.matrix[:, :keep], sparse.csc_matrix((master.row_lower.size, 0))])
    bounds = np.zeros(n_theta)
    for p, part in enumerate(whole.parts):
        link = whole.link[whole.first_row[p] : whole.first_row[p + 1], :keep]
        own = part.program
        none = sparse.csc_matrix((master.row_lower.size, own.cost.size))
        together = Program(
            cost=np.concatenate([np.zeros(keep), own.cost]),
            lower=np.concatenate([master.lower[:keep], own.lower]),
            upper=np.concatenate([master.upper[:keep], own.upper]),
            integer=np.zeros(keep + own.cost.size, dtype=np.bool_),
            matrix=sparse.bmat([[upper_part, none], [link, own.matrix]], format="csc"),
            row_lower=np.concatenate([master.row_lower, own.row_lower]),
            row_upper=np.concatenate([master.row_upper, own.row_upper]),
            column_unit=np.ones(keep + own.cost.size),
            row_unit=np.ones(master.row_lower.size + own.row_lower.size),
            objective_unit=1.0,
        )
        bounds[p] = highs.solve_linear(together, effort).objective
    return bounds


def _make(programs: list[Program], warm: list[Solver | None], effort: Effort) -> list[Solver]:
    """Make the solvers of some parts; keep those that are warm for the same program."""
    return [
        solver if solver is not None and _same(solver.program, program) else Solver(program, effort)
        for program, solver in zip(programs, warm, strict=True)
    ]


def _same(one: Program, other: Program) -> bool:
    """Tell whether two parts are the same program."""
    if one.matrix.shape != other.matrix.shape or one.matrix.nnz != other.matrix.nnz:
        return False
    alike = ("cost", "lower", "upper", "row_lower", "row_upper")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in alike) and all(
        np.array_equal(getattr(one.matrix, name), getattr(other.matrix, name)) for name in ("data", "indices", "indptr")
    )


def _ask(solvers: list[Solver], moves: list[Floats], late: Callable[[], bool]) -> list[Told]:
    """Ask some parts; fewer answers where it is late."""
    told: list[Told] = []
    for solver, moved in zip(solvers, moves, strict=True):
        if late():
            break
        told.append(solver.ask(moved))
    return told


def _elastic(program: Program) -> Program:
    """Give a program whose columns cost nothing and whose rows may be broken at a cost of 1 each."""
    n_rows, n_columns = program.matrix.shape
    unit = sparse.identity(n_rows, format="csc")
    return Program(
        cost=np.concatenate([np.zeros(n_columns), np.ones(2 * n_rows)]),
        lower=np.concatenate([program.lower, np.zeros(2 * n_rows)]),
        upper=np.concatenate([program.upper, np.full(2 * n_rows, np.inf)]),
        integer=np.zeros(n_columns + 2 * n_rows, dtype=np.bool_),
        matrix=sparse.hstack([program.matrix, unit, -unit], format="csc"),
        row_lower=program.row_lower,
        row_upper=program.row_upper,
        column_unit=np.ones(n_columns + 2 * n_rows),
        row_unit=np.ones(n_rows),
        objective_unit=1.0,
    )
