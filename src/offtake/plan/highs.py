"""Hand programs to HiGHS and believe an answer only when it is one.

Comes in: a :class:`~offtake.plan.blocks.Program`. Goes out: an :class:`Answer` in solver units. A failure of one
algorithm (numerical trouble, a claim of infeasibility) is tried again with another before it is believed.
It must never know what a column means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import highspy
import numpy as np
from scipy import sparse

from offtake.errors import SolverError
from offtake.plan.blocks import Bools, Floats, Program

OK = highspy.HighsModelStatus.kOptimal
NEVER = (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible)
STOPPED = (highspy.HighsModelStatus.kTimeLimit, highspy.HighsModelStatus.kInterrupt)
COLUMN_WISE, MINIMISE = 1, 1
WAIT = True
WHOLE_TOLERANCE = 1e-6  #: of branch and bound, by default
WARM = "simplex on the extensive form"
EARLY = ", stopped before it was proven this close"
Solver = highspy.Highs


class ProgramInfeasibleError(Exception):
    """Say that two algorithms agree: no values of the columns meet all rows. Caught within this room."""


@dataclass(frozen=True)
class Answer:
    """Hold a solved program: values of columns, duals of rows and columns, the objective, and a bound on it.

    All in solver units, of a minimisation: ``bound ≤ least objective``. ``algorithm`` says how it was found;
    ``stopped`` that the search ended before its gap was reached.
    """

    values: Floats
    row_duals: Floats
    column_duals: Floats
    objective: float
    bound: float
    algorithm: str
    stopped: bool = False


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Say how hard to try.

    ``late`` tells when time is up or somebody asked to stop, ``left_s`` how many seconds there still are, ``tell``
    hears how much is done (0 to 1).
    """

    gap: float = 1e-3
    time_limit_s: float = 600.0
    threads: int = 2
    seed: int = 1
    late: Callable[[], bool] = bool
    left_s: Callable[[], float] = lambda: float("inf")
    tell: Callable[[float], None] = lambda _share: None


class Start:
    """Hold a basis to start from; it can be sent to another process."""

    def __init__(self, basis: highspy.HighsBasis) -> None:
        self.basis = basis

    @classmethod
    def of(cls, solver: Solver) -> Start | None:
        """Give the basis where a solver stands, None where it has none."""
        basis = solver.getBasis()
        return cls(basis) if basis.valid else None

    def __getstate__(self) -> tuple[bytes, bytes]:
        """Give the status of each column and row, a byte each."""
        return bytes(map(int, self.basis.col_status)), bytes(map(int, self.basis.row_status))

    def __setstate__(self, state: tuple[bytes, bytes]) -> None:
        """Make the basis again."""
        self.basis = highspy.HighsBasis()
        self.basis.valid, self.basis.alien = True, False
        self.basis.col_status, self.basis.row_status = (list(map(highspy.HighsBasisStatus, one)) for one in state)


def load(program: Program, effort: Effort, *, whole: bool = True) -> Solver:
    """Pass a program to a new, silent HiGHS; without its integers unless ``whole``."""
    solver = Solver()  # type: ignore[no-untyped-call]  # highspy's own class is not annotated
    choose(
        solver,
        output_flag=False,
        threads=effort.threads,
        random_seed=effort.seed,
        time_limit=max(min(effort.time_limit_s, effort.left_s()), 0.0),
        mip_rel_gap=effort.gap,
    )
    matrix = program.matrix
    integrality = (program.integer & whole).astype(np.int32)
    status = solver.passModel(
        matrix.shape[1],
        matrix.shape[0],
        matrix.nnz,
        COLUMN_WISE,
        MINIMISE,
        0.0,
        program.cost,
        program.lower,
        program.upper,
        program.row_lower,
        program.row_upper,
        matrix.indptr.astype(np.int32),
        matrix.indices.astype(np.int32),
        matrix.data,
        integrality,
    )
    if status == highspy.HighsStatus.kError:
        raise SolverError("the solver refused the program: a bound or a coefficient is not a number it can hold")
    return solver


def choose(solver: Solver, /, **options: bool | float | str) -> None:
    """Set options of HiGHS by name."""
    for name, value in options.items():
        solver.setOptionValue(name, value)


def attend(solver: Solver, effort: Effort) -> None:
    """Let a long solve end when it is late."""

    def stop(event: highspy.highs.HighsCallbackEvent) -> None:
        event.interrupt(effort.late())  # told each time: what it was told once, HiGHS believes for ever

    for asked in (solver.cbSimplexInterrupt, solver.cbIpmInterrupt, solver.cbMipInterrupt):
        asked.subscribe(stop)


def move_rows(solver: Solver, lower: Floats, upper: Floats) -> None:
    """Give all rows of a solver new bounds."""
    rows = np.arange(lower.size, dtype=np.int32)
    solver.changeRowsBounds(lower.size, rows, lower, upper)  # type: ignore[attr-defined]  # missing in its stub


def start_from(solver: Solver, start: Start | None) -> None:
    """Let the next answer start from a basis (from nothing for None), whatever the solver did before."""
    solver.clearSolver()
    if start is not None:
        solver.setBasis(start.basis)


def add_rows(solver: Solver, rows: sparse.csr_matrix, floor: Floats) -> None:
    """Add rows·x ≥ floor to a solver."""
    starts, indices = rows.indptr[:-1].astype(np.int32), rows.indices.astype(np.int32)
    solver.addRows(floor.size, floor, np.full(floor.size, np.inf), rows.nnz, starts, indices, rows.data)


def run_otherwise(solver: Solver) -> bool:
    """Run an interior point after simplex failed; tell whether it answers."""
    solver.clearSolver()
    solver.setOptionValue("solver", "ipx")
    solver.run()
    solver.setOptionValue("solver", "choose")
    return bool(solver.getModelStatus() == OK)


def run_loosely(solver: Solver, tolerance: float) -> bool:
    """Run once more with limits kept to ``tolerance`` only, as another program says they can be; tell if it answers.

    A point of the master is right to its own tolerance, and may leave a part so much too little.
    """
    usual = solver.getOptions().primal_feasibility_tolerance
    solver.setOptionValue("primal_feasibility_tolerance", tolerance)
    solver.clearSolver()
    solver.run()
    answered = solver.getModelStatus() == OK or run_otherwise(solver)
    solver.setOptionValue("primal_feasibility_tolerance", usual)
    return answered


def vectors(solver: Solver) -> tuple[Floats, Floats]:
    """Give the duals of rows and the values of columns of a solved program."""
    solution = solver.getSolution()
    return np.array(solution.row_dual), np.array(solution.col_value)


def start() -> None:
    """Forget the threads of earlier solves: HiGHS keeps a process to the number it was first given."""
    highspy.Highs.resetGlobalScheduler(WAIT)


class Warm:
    """Solve one program after another; where only bounds have moved since the one before, begin at its answer."""

    def __init__(self) -> None:
        self.known: tuple[Program, Solver] | None = None

    def solve(self, program: Program, effort: Effort) -> Answer:
        """Solve a program; cold where it has integers, or where the warm solver finds no answer."""
        if program.integer.any():
            return solve_whole(program, effort)
        if self.known is not None and same_but_bounds(self.known[0], program):
            solver = self.known[1]
            columns = np.arange(program.lower.size, dtype=np.int32)
            solver.changeColsBounds(columns.size, columns, program.lower, program.upper)
            move_rows(solver, program.row_lower, program.row_upper)
        else:
            solver = load(program, effort, whole=False)
        self.known = (program, solver)
        solver.run()
        return read(solver, WARM) if solver.getModelStatus() == OK else solve_linear(program, effort)


def same_but_bounds(one: Program, other: Program) -> bool:
    """Tell whether two programs differ in their bounds at most."""
    if one.matrix.shape != other.matrix.shape or one.matrix.nnz != other.matrix.nnz:
        return False
    return np.array_equal(one.cost, other.cost) and all(
        np.array_equal(getattr(one.matrix, name), getattr(other.matrix, name)) for name in ("data", "indices", "indptr")
    )


def solve_linear(program: Program, effort: Effort) -> Answer:
    """Solve without integers: simplex, interior point, simplex without presolve, until one answers or two say never."""
    said: list[highspy.HighsModelStatus] = []
    for algorithm, presolve in (("simplex", "choose"), ("ipx", "choose"), ("simplex", "off")):
        solver = load(program, effort, whole=False)
        choose(solver, solver=algorithm, presolve=presolve)
        solver.run()
        status = solver.getModelStatus()
        if status == OK:
            return read(solver, f"{algorithm} on the extensive form")
        said.append(status)
        if sum(one in NEVER for one in said) > 1:
            raise ProgramInfeasibleError
        if status in STOPPED:
            break
    raise SolverError(f"no algorithm could solve the linear program: {', '.join(_name(status) for status in said)}")


def solve_whole(program: Program, effort: Effort) -> Answer:
    """Solve with integers by branch and bound, then once more with the integers fixed, for exact values and duals."""
    if not program.integer.any():
        return solve_linear(program, effort)
    solver = load(program, effort)
    attend(solver, effort)
    patient = replace(effort, late=bool, left_s=lambda: np.inf)  # what ends a search may not end its last step
    status = run_whole(solver)
    if status in NEVER:
        solve_linear(program, patient)  # raises when two more algorithms agree
        raise ProgramInfeasibleError
    info = solver.getInfo()
    found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    if not found or (status != OK and status not in STOPPED):
        raise SolverError(f"the solver found no whole-number plan in its time: {_name(status)}")
    values = np.asarray(solver.getSolution().col_value)
    answer = _solve_fixed(fix(program, values, program.integer), patient)
    return replace(
        answer,
        bound=min(info.mip_dual_bound, answer.objective),
        algorithm="branch and bound on the extensive form" + EARLY * (status in STOPPED),
        stopped=status in STOPPED,
    )


def run_whole(solver: Solver) -> highspy.HighsModelStatus:
    """Run branch and bound, without presolve before a claim of infeasibility or a failure is believed."""
    solver.run()
    if solver.getModelStatus() not in (OK, *STOPPED):
        solver.setOptionValue("presolve", "off")
        solver.run()
    return solver.getModelStatus()


def _solve_fixed(program: Program, effort: Effort) -> Answer:
    """Solve what whole numbers leave; they were found to HiGHS's own tolerance, so no other claim counts."""
    try:
        return solve_linear(program, effort)
    except ProgramInfeasibleError:
        solver = load(program, effort, whole=False)
        if run_loosely(solver, WHOLE_TOLERANCE):
            return read(solver, "simplex on the extensive form")
    raise SolverError("the whole numbers that the solver found leave no plan when they are fixed")


def fix(program: Program, values: Floats, which: Bools) -> Program:
    """Fix the integer columns among ``which`` to the nearest whole values."""
    whole = np.round(values)
    return replace(
        program,
        lower=np.where(which, whole, program.lower),
        upper=np.where(which, whole, program.upper),
        integer=program.integer & ~which,
    )


def read(solver: Solver, algorithm: str) -> Answer:
    """Read a solved linear program."""
    solution, objective = solver.getSolution(), float(solver.getInfo().objective_function_value)
    return Answer(
        values=np.asarray(solution.col_value),
        row_duals=np.asarray(solution.row_dual),
        column_duals=np.asarray(solution.col_dual),
        objective=objective,
        bound=objective,
        algorithm=algorithm,
    )


def _name(status: highspy.HighsModelStatus) -> str:
    """Give HiGHS's word for a status."""
    return str(status).rsplit(".k", maxsplit=1)[-1]
