"""Ask every part of a two-level program what it costs at a point of the master, and why.

Comes in: a :class:`~offtake.plan.twolevel.TwoLevel` and points of its master. Goes out: a :class:`Reply`: what each
part costs with the duals that prove it, or, where a part has no answer, by how much its rows are broken at least, with
the duals that prove that. A claim that a part has no answer is believed only when its least violation, another
program, is above 0. Each part is solved alone and starts from the basis of its own last answer, which travels with the
question: no answer depends on who works it out, or on how many work at once. Threads work unless another backend is
chosen (``joblib.parallel_config(backend="loky")``, or any that joblib knows). It must never know what a column means.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from joblib import Parallel, delayed
from scipy import sparse

from offtake.errors import SolverError
from offtake.plan import highs
from offtake.plan.blocks import Bools, Floats, Program
from offtake.plan.highs import Effort, Start
from offtake.plan.twolevel import TwoLevel

BROKEN = 1e-6  #: the least sum of violations, in solver units, that is one
BUNDLES_PER_WORKER = 4
SHARED = 30_000  #: columns of all parts; measured at a third of it: handing work on takes longer than it saves
BUNDLES_KEPT = 64  #: by a process that works for another one; the oldest goes first


class StoppedError(Exception):
    """Say that time was up, or somebody asked to stop, before all parts had answered. Caught within this room."""


@dataclass(frozen=True)
class Told:
    """Hold what one part answers: cost (or least violation), duals of its rows, values of its columns.

    ``starts`` are where the next answer may start: of the part, and of its least violation.
    """

    cost: float
    violation: float
    duals: Floats
    values: Floats
    starts: tuple[Start | None, Start | None] = (None, None)


@dataclass(frozen=True)
class Question:
    """Ask a part what it costs where the master's point has moved its rows by ``moved``."""

    moved: Floats
    starts: tuple[Start | None, Start | None] = (None, None)


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
    """Hold the solvers of one part; what they answer depends on nothing but the question."""

    def __init__(self, program: Program, effort: Effort) -> None:
        self.program, self.effort = program, effort
        self.solver = highs.load(program, effort, whole=False)
        self.elastic: highs.Solver | None = None

    def ask(self, question: Question) -> Told:
        """Solve the part.

        Raises
        ------
        SolverError
            No algorithm has an answer, though there is one.
        """
        start, of_violation = question.starts
        lower, upper = self.program.row_lower - question.moved, self.program.row_upper - question.moved
        highs.start_from(self.solver, start)
        highs.move_rows(self.solver, lower, upper)
        self.solver.run()
        status = self.solver.getModelStatus()
        if status != highs.OK and (status in highs.NEVER or not highs.run_otherwise(self.solver)):
            basis = Start.of(self.solver)
            told = self._violation(lower, upper, of_violation)
            if told.violation > BROKEN:
                return replace(told, starts=(basis, told.starts[1]))
            of_violation = told.starts[1]
            if not (highs.run_otherwise(self.solver) or highs.run_loosely(self.solver, BROKEN)):
                raise SolverError("no algorithm could solve one part of the plan, though its limits can be met")
        cost = float(self.solver.getInfo().objective_function_value)
        return Told(cost, 0.0, *highs.vectors(self.solver), (Start.of(self.solver), of_violation))

    def _violation(self, lower: Floats, upper: Floats, start: Start | None) -> Told:
        """Give the least sum of violations of the part's rows."""
        if self.elastic is None:
            self.elastic = highs.load(_elastic(self.program), self.effort, whole=False)
        highs.start_from(self.elastic, start)
        highs.move_rows(self.elastic, lower, upper)
        self.elastic.run()
        if self.elastic.getModelStatus() != highs.OK and not highs.run_otherwise(self.elastic):
            raise SolverError("no algorithm could find by how much the limits of one part of the plan are broken")
        least = float(self.elastic.getInfo().objective_function_value)
        duals, values = highs.vectors(self.elastic)
        return Told(np.inf, least, duals, values[: self.program.cost.size], (None, Start.of(self.elastic)))


@dataclass
class Bundle:
    """Hold some parts and their solvers, which are made when they are first asked, by who asks them.

    To another process a bundle goes as its key alone, and is found there among those that the process keeps;
    ``programs`` is empty there until they have been :class:`sent <Sent>`.
    """

    programs: list[Program]
    effort: Effort
    late: Callable[[], bool] = bool
    solvers: list[Solver | None] = field(default_factory=list)
    key: str = ""

    def __post_init__(self) -> None:
        self.solvers = self.solvers or [None] * len(self.programs)

    def __reduce__(self) -> tuple[Callable[..., Bundle], tuple[str]]:
        """Go to another process as a key: a hash of all that its answers depend on."""
        self.key = self.key or hashlib.sha256(pickle.dumps((self.programs, self.effort.seed))).hexdigest()
        return _kept, (self.key,)

    def ask(self, questions: dict[int, Question]) -> dict[int, Told] | None:
        """Answer the questions to some parts, by their places; fewer where it is late, None where no part is known."""
        told: dict[int, Told] = {}
        if not self.programs:
            return None
        for place, question in questions.items():
            if self.late():
                break
            solver = self.solvers[place] = self.solvers[place] or Solver(self.programs[place], self.effort)
            told[place] = solver.ask(question)
        return told


class Sent:
    """Carry a bundle to another process whole, but for its solvers."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def __reduce__(self) -> tuple[Callable[..., Bundle], tuple[str, list[Program], int]]:
        """Go as what a bundle is made of."""
        return _keep, (self.bundle.key, self.bundle.programs, self.bundle.effort.seed)


KEPT: dict[str, Bundle] = {}  #: what this process keeps for another one, by key


def _kept(key: str) -> Bundle:
    """Give the bundle of a key that this process keeps, or one of which nothing is known yet."""
    return KEPT.get(key) or Bundle([], Effort(), key=key)


def _keep(key: str, programs: list[Program], seed: int) -> Bundle:
    """Keep a bundle for another process; forget the oldest."""
    alone = Effort(threads=1, time_limit_s=np.inf, seed=seed)
    KEPT[key] = bundle = Bundle(programs, alone, key=key)
    while len(KEPT) > BUNDLES_KEPT:
        del KEPT[next(iter(KEPT))]
    return bundle


def _ask(bundle: Bundle, questions: dict[int, Question]) -> dict[int, Told] | None:
    """Ask a bundle, wherever this runs."""
    return bundle.ask(questions)


class Parts:
    """Ask all parts about points of the master, in bundles, by as many workers as there are threads.

    Where parts are small nobody but this thread works. Parts that are as they were among ``known`` stay warm.
    """

    def __init__(self, whole: TwoLevel, effort: Effort, known: Parts | None = None) -> None:
        n_parts, large = len(whole.parts), sum(part.columns.size for part in whole.parts) > SHARED
        n_workers = max(1, effort.threads if large else 1)
        self.whole, self.workers = whole, Parallel(n_jobs=n_workers, prefer="threads")
        self.of_bundle = [b for b in np.array_split(np.arange(n_parts), BUNDLES_PER_WORKER * n_workers) if b.size]
        self.last: list[tuple[Question, Told] | None] = [None] * n_parts
        own = 1 if n_workers > 1 else effort.threads  # HiGHS holds each thread to the number that it was first given
        self.alone = Effort(threads=own, time_limit_s=np.inf, seed=effort.seed)
        solvers: list[Solver | None] = [None] * n_parts
        warm = () if known is None else zip(known.whole.parts, known.last, known.solvers, strict=True)
        for p, (part, (before, last, solver)) in enumerate(zip(whole.parts, warm, strict=False)):
            if _same(part.program, before.program):
                self.last[p] = last
                solvers[p] = solver if solver is not None and solver.effort.threads == own else None
        self.bundles = [
            Bundle([whole.parts[p].program for p in b], self.alone, effort.late, solvers[b[0] : b[-1] + 1])
            for b in self.of_bundle
        ]

    @property
    def solvers(self) -> list[Solver | None]:
        """Give the solver of each part, None for those that this process has not made."""
        return [solver for bundle in self.bundles for solver in bundle.solvers]

    def ask(self, x: Floats) -> Reply:
        """Solve every part at a point; the answer does not depend on the number of workers or on what they are.

        Raises
        ------
        StoppedError
            Where time was up first.
        """
        shift, first = self.whole.link @ x, self.whole.first_row
        self._answer([shift[first[p] : first[p + 1]] for p in range(len(self.last))])
        told = [one for _, one in filter(None, self.last)]
        duals = np.concatenate([one.duals for one in told])
        return Reply(
            costs=np.array([one.cost for one in told]),
            violations=np.array([one.violation for one in told]),
            duals=sparse.csr_matrix((duals, np.arange(duals.size), first), shape=(len(told), duals.size)),
            values=[one.values for one in told],
        )

    def _answer(self, moves: list[Floats]) -> None:
        """Answer each part's question where it is another one than the last.

        A part that was never asked starts where the first one of its shape ended: few differ in more than numbers.
        """
        like = _alike([part.program for part in self.whole.parts]) if None in self.last else range(len(self.last))
        self._work({p: Question(moves[p]) for p in sorted(set(like)) if self.last[p] is None})
        asked: dict[int, Question] = {}
        for p, (before, other) in enumerate(zip(self.last, like, strict=True)):
            start = before or self.last[other]
            if start is not None and (before is None or not np.array_equal(before[0].moved, moves[p])):
                asked[p] = Question(moves[p], start[1].starts)
        self._work(asked)

    def _work(self, questions: dict[int, Question]) -> None:
        """Let the workers answer some questions."""
        asked = [{place: questions[p] for place, p in enumerate(b) if p in questions} for b in self.of_bundle]
        busy = [b for b, some in enumerate(asked) if some]
        replies = self.workers(delayed(_ask)(self.bundles[b], asked[b]) for b in busy)
        unknown = [b for b, reply in zip(busy, replies, strict=True) if reply is None]
        known = self.workers(delayed(_ask)(Sent(self.bundles[b]), asked[b]) for b in unknown)
        complete = dict(zip(busy, replies, strict=True)) | dict(zip(unknown, known, strict=True))
        for b, reply in complete.items():
            for place, told in reply.items():
                self.last[self.of_bundle[b][place]] = (asked[b][place], told)
        if any(len(reply) < len(asked[b]) for b, reply in complete.items()):
            raise StoppedError


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


def _alike(programs: list[Program]) -> list[int]:
    """Give for each program the place of the first one with its rows, columns and coefficients other than 0."""
    first: dict[tuple[object, ...], int] = {}
    shapes = ((one.matrix.shape, one.matrix.indptr.tobytes(), one.matrix.indices.tobytes()) for one in programs)
    return [first.setdefault(shape, place) for place, shape in enumerate(shapes)]


def _same(one: Program, other: Program) -> bool:
    """Tell whether two parts are the same program."""
    if one.matrix.shape != other.matrix.shape or one.matrix.nnz != other.matrix.nnz:
        return False
    alike = ("cost", "lower", "upper", "row_lower", "row_upper")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in alike) and all(
        np.array_equal(getattr(one.matrix, name), getattr(other.matrix, name)) for name in ("data", "indices", "indptr")
    )


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
