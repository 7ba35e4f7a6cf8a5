"""Solve a program on two levels by cutting planes: a master that decides, and parts that each answer for themselves.

Comes in: a :class:`~offtake.plan.twolevel.TwoLevel`. Goes out: a :class:`Found` (the best point, a bound on every
point), or for a plan an :class:`~offtake.plan.highs.Answer` to the whole program; None where only the extensive form
can tell. Method: the multi-cut L-shaped method (Van Slyke and Wets 1969; Birge and Louveaux 1988) with cuts for costs
and for limits that a part cannot meet, and with in-out points (Ben-Ameur and Neto 2007); first without integers, then
rounds of branch and bound on the master. The bound is the master's, the value is recomputed. It must never know what
a column means.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import highspy
import numpy as np
from scipy import sparse

from offtake.errors import SolverError
from offtake.plan import highs
from offtake.plan.blocks import Bools, Floats, Program
from offtake.plan.highs import Answer, Effort, ProgramInfeasibleError
from offtake.plan.parts import Parts, Reply, StoppedError, least_costs
from offtake.plan.problem import Ints
from offtake.plan.split import Split, near_budgets, split
from offtake.plan.twolevel import TwoLevel, floors, moved, phase_one, slopes
from offtake.plan.variables import Model

IN_OUT = 0.5  #: weight of the best point in the point that is asked; any in (0, 1] is exact
ROUNDS_LINEAR, ROUNDS_WHOLE, ROUNDS_FIXED, ROUNDS_POLISH = 400, 30, 15, 60
SETTLED = 1e-6
VIOLATED, TOUCHED = 1e-7, 1e-6
LIMITS_KEPT, CLOSE_ENOUGH = 1e-6, 0.05
TRIES_HURRIED, HURRY_S = 3, 10.0  #: for some plan, when time is up and there is none: tries, seconds each


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


class Search:
    """Hold the state of a search: the master without its integers, the cuts so far, the parts."""

    def __init__(self, whole: TwoLevel, effort: Effort, before: Search | None = None) -> None:
        given = effort.late
        self.whole, self.patient = whole, False
        self.effort = effort = replace(effort, late=lambda: not self.patient and given())
        self.parts: Parts = Parts(whole, effort, None if before is None else before.parts)
        self.master = whole.master
        unknown = ~np.isfinite(self.master.lower[whole.theta])
        if unknown.any():
            lower = self.master.lower.copy()
            lower[whole.theta[unknown]] = least_costs(whole, effort)[unknown]
            self.master = replace(self.master, lower=lower)
        self.linear = highs.load(self.master, replace(effort, time_limit_s=np.inf, left_s=lambda: np.inf), whole=False)
        highs.attend(self.linear, effort)
        self.cuts: list[Cuts] = []
        self.rows: list[tuple[sparse.csr_matrix, Floats]] = []
        self.last: Floats | None = None
        self.hint: Floats | None = None  #: a point whose whole numbers are tried before any others
        self.fresh = before is None  # a search that begins with another's cuts begins with those that matter
        if before is not None and len(before.whole.parts) == len(whole.parts):
            for cuts in before.cuts:
                self.add(cuts.moved(before.whole, whole))

    @property
    def n_cuts(self) -> int:
        """Count the cuts added so far."""
        return sum(cuts.part.size for cuts in self.cuts)

    def look(self, x: Floats) -> Point:
        """Ask the parts about a point of the master and complete it: true costs, tail and objective."""
        reply = self.parts.ask(x)
        if reply.broken.any():
            return Point(x, reply, np.inf)
        x = x.copy()
        x[self.whole.theta] = reply.costs
        if self.whole.tail is not None:
            self.whole.tail.settle(x, self.master.cost)
        return Point(x, reply, float(self.master.cost @ x))

    def cut(self, point: Point, beyond: Floats) -> int:
        """Add the cuts of a point that the master's answer ``beyond`` breaks; tell how many."""
        broken = point.reply.broken
        added = 0
        for limits, which in ((False, np.flatnonzero(~broken)), (True, np.flatnonzero(broken))):
            if which.size:
                added += self.add(Cuts(which, point.reply.duals[which], limits), beyond)
        return added

    def add(self, cuts: Cuts, beyond: Floats | None = None) -> int:
        """Add cuts to the linear master, only those that ``beyond`` breaks where it is given; tell how many."""
        rows, floor = cuts.stated(self.whole)
        right = np.isfinite(floor)
        if beyond is not None:
            right &= floor - rows @ beyond > VIOLATED * (1 + np.abs(floor))
        which = np.flatnonzero(right)
        if which.size:
            highs.add_rows(self.linear, rows[which], floor[which])
            self.cuts.append(cuts.among(which))
            self.rows.append((rows[which], floor[which]))
        return int(which.size)

    def solve_master(self) -> Floats | None:
        """Solve the master without integers; None where two algorithms say that it has no answer.

        Raises
        ------
        StoppedError
            Where time was up first.
        """
        self.linear.run()
        if self.linear.getModelStatus() not in (highs.OK, *highs.STOPPED):
            highs.run_otherwise(self.linear)
        status = self.linear.getModelStatus()
        if status in highs.STOPPED:
            raise StoppedError
        if status in highs.NEVER:
            return None
        if status != highs.OK:
            raise SolverError("no algorithm could solve the master of the plan")
        return np.array(self.linear.getSolution().col_value)

    def close(self, center: Point | None, gap: float, rounds: int) -> Found:
        """Add cuts until the best point found is within ``gap`` of the linear master.

        The parts are asked half way between the master's answer and the best point, which keeps early answers from
        swinging; when such a point cuts nothing off, the master's answer itself is asked.

        Raises
        ------
        ProgramInfeasibleError
            The master has no answer any more.
        """
        bound, inside = -np.inf, True
        try:
            for _ in range(rounds):
                x = self.solve_master()
                if x is None:
                    raise ProgramInfeasibleError
                bound = max(bound, float(self.linear.getInfo().objective_function_value))
                self.last = x
                if center is not None and gap_of(center.objective, bound) <= gap:
                    break
                if self.effort.late():
                    return Found(center, bound, stopped=True)
                inside &= center is not None
                point = self.look(IN_OUT * x + (1 - IN_OUT) * center.x if inside and center is not None else x)
                if np.isfinite(point.objective) and (center is None or point.objective < center.objective):
                    center = point
                added = self.cut(point, x)
                if added == 0 and not inside:
                    break  # the master's own answer is true, to the tolerance of cuts
                inside = added > 0 or not inside
        except StoppedError:
            return Found(center, bound, stopped=True)
        return Found(center, bound)

    def branch(self, start: Point | None, effort: Effort, touched: Floats | None = None) -> tuple[Floats | None, float]:
        """Solve the master with its deciding integers, from a known plan; give answer and bound.

        With ``touched``, only with the cuts that this point of the master touches: much quicker, and close where whole
        numbers cost little.
        """
        solver = highs.load(replace(self.master, integer=self.whole.deciding), effort)
        highs.attend(solver, effort)
        # Measured on masters of 5,000 columns: three times quicker without these three, to the same bound.
        highs.choose(solver, mip_heuristic_run_rins=False, mip_heuristic_run_rens=False, mip_allow_restart=False)
        for rows, floor in self.rows:
            near = slice(None) if touched is None else rows @ touched - floor <= TOUCHED * (1 + np.abs(floor))
            highs.add_rows(solver, rows[near], floor[near])
        if start is not None:
            n = start.x.size
            solver.setSolution(n, np.arange(n, dtype=np.int32), start.x)
        if highs.run_whole(solver) not in (highs.OK, *highs.STOPPED):
            return None, -np.inf
        info = solver.getInfo()
        if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            return None, float(info.mip_dual_bound)
        return np.array(solver.getSolution().col_value), float(info.mip_dual_bound)

    def complete(self, x: Floats, gap: float) -> Found:
        """Find the best plan with the deciding integers of a point: close, let all that follows run, close again."""
        try:
            self.fix(x, np.flatnonzero(self.whole.deciding))
            found = self.close(None, gap, ROUNDS_FIXED)
            following = np.flatnonzero(self.master.integer & self.whole.following)
            if found.point is not None and following.size:
                self.fix(self._let_run(found.point.x, following))
                found = self.close(None, gap, ROUNDS_FIXED)
        except ProgramInfeasibleError:
            return Found(None, np.inf)
        finally:
            self.fix(None)
        return found

    def fix(self, whole: Floats | None, which: Ints | None = None) -> None:
        """Fix the integers of the linear master (or only ``which``) at a point, or free them with None."""
        ids = (np.flatnonzero(self.master.integer) if which is None else which).astype(np.int32)
        lower, upper = self.master.lower[ids], self.master.upper[ids]
        if whole is not None:
            lower = upper = np.clip(np.round(whole[ids]), lower, upper)
        self.linear.changeColsBounds(ids.size, ids, lower, upper)

    def _let_run(self, x: Floats, following: Ints) -> Floats:
        """Raise what follows to its most, where no row of the master breaks."""
        whole = x.copy()
        whole[following] = self.master.upper[following]
        rows = self.master.matrix.tocsr()
        activity = rows @ whole
        broken = (activity > self.master.row_upper + VIOLATED) | (activity < self.master.row_lower - VIOLATED)
        stopped = following[np.asarray(abs(rows[broken]).sum(axis=0)).ravel()[following] > 0]
        whole[stopped] = self.master.lower[stopped]
        return whole

    def run(self) -> Found:
        """Search until the gap is reached, or it is late: then the best there is, with its bound.

        Raises
        ------
        ProgramInfeasibleError
            No point meets all limits, says the linear master: two algorithms agree.
        """
        found = self.close(None, self.effort.gap / 4, ROUNDS_LINEAR)
        self.effort.tell(0.5)
        if self.master.integer.any():
            found = self._whole(found)
        self.effort.tell(0.9)
        if found.point is None or self.whole.has_whole_parts:
            return found
        self.fix(found.point.x)
        better = found if found.stopped else self.close(found.point, SETTLED, ROUNDS_POLISH)
        return Found(better.point or found.point, found.bound, found.stopped)

    def _whole(self, linear: Found) -> Found:
        """Alternate branch and bound on the master with cuts at its answer, until the best plan is within the gap."""
        effort, best, bound = self.effort, None, linear.bound
        if self.hint is not None and not linear.stopped:
            best = self.complete(self.hint, effort.gap / 8).point
        done = linear.stopped or Found(best, bound).gap <= effort.gap
        for turn in range(0 if done else ROUNDS_WHOLE):
            x, floor = self.branch(
                best, replace(effort, gap=effort.gap / 2), touched=self.last if turn == 0 and self.fresh else None
            )
            bound = max(bound, floor)
            if x is None:
                break
            point = self.complete(x, effort.gap / 8).point
            if point is not None and (best is None or point.objective < best.objective):
                best = point
            if effort.late() or Found(best, bound).gap <= effort.gap:
                break
            effort.tell(0.5 + 0.4 * (turn + 1) / ROUNDS_WHOLE)
        if best is None and effort.late():
            best, floor = self._hurry()
            bound = max(bound, floor)
        return Found(best, bound, stopped=Found(best, bound).gap > effort.gap)

    def _hurry(self) -> tuple[Point | None, float]:
        """Find some plan from the cuts there are, when it is late and there is none yet; give it with a bound."""
        self.patient, best = True, None
        bound = self.close(None, CLOSE_ENOUGH, ROUNDS_FIXED).bound
        for _ in range(TRIES_HURRIED):
            x, floor = self.branch(None, replace(self.effort, gap=CLOSE_ENOUGH, left_s=lambda: HURRY_S))
            best, bound = (None if x is None else self.complete(x, CLOSE_ENOUGH).point), max(bound, floor)
            if x is None or best is not None:
                break
        self.patient = False
        return best, bound


def gap_of(objective: float, bound: float) -> float:
    """Give the gap between a minimum found and a bound on it, relative to the minimum."""
    return (objective - bound) / max(abs(objective), 1e-9)


def decompose(model: Model, program: Program, effort: Effort) -> Answer | None:
    """Solve a plan by cutting planes; see :func:`solve_two_level`."""
    return Planner().find(model, program, effort)


class Planner:
    """Solve one plan after another by cutting planes; each begins with what the one before has taught."""

    def __init__(self) -> None:
        self.search: Search | None = None
        self.best: Floats | None = None
        self.linked: Bools | None = None

    def find(self, model: Model, program: Program, effort: Effort) -> Answer | None:
        """Find the plan; where it breaks budgets by operation, link these to it, and go on from the cuts there are."""
        while True:
            parted = split(model, program, self.linked)
            self.search = search = Search(parted.levels, effort, self.search)
            if self.best is not None and self.best.size == parted.levels.master.cost.size:
                search.hint = self.best
            found = search.run()
            self.best = self.best if found.point is None else found.point.x
            answer = answer_of(search, found)
            if answer is not None:
                return whole_again(parted, answer)
            if found.point is None:
                return None
            near = near_budgets(model, program, parted.back.values(values_of(search, found.point)))
            linked = near if self.linked is None else self.linked | near
            if self.linked is not None and np.array_equal(linked, self.linked):
                return None
            self.linked = linked


def whole_again(parted: Split, answer: Answer) -> Answer:
    """Give the answer of the whole program from that of its two levels."""
    program, row_duals = parted.back.whole, parted.back.duals(answer.row_duals)
    return replace(
        answer,
        values=parted.back.values(answer.values),
        row_duals=row_duals,
        column_duals=program.cost - program.matrix.T @ row_duals,
    )


def solve_two_level(whole: TwoLevel, effort: Effort) -> Answer | None:
    """Solve a program on two levels; None where only the extensive form can tell.

    Raises
    ------
    ProgramInfeasibleError
        The program has no answer even without integers, say two algorithms.
    SolverError
        Time was up before any plan was found.
    """
    search = Search(whole, effort)
    return answer_of(search, search.run())


def answer_of(search: Search, found: Found) -> Answer | None:
    """Put the whole program's answer together; None where it breaks what the two levels leave out.

    Raises
    ------
    SolverError
        The search was stopped before it found any plan.
    """
    whole, program = search.whole, search.whole.program
    if found.point is None and found.stopped and search.effort.late():
        raise SolverError("time was up before any plan was found: allow more time, or fewer scenarios")
    if found.point is None or whole.has_whole_parts:
        return None
    values = values_of(search, found.point)
    of_master = np.ones(program.row_lower.size, dtype=np.bool_)
    for part in whole.parts:
        of_master[part.rows] = False
    if np.any((program.matrix @ values > program.row_upper + LIMITS_KEPT) & of_master):
        return None
    search.patient = True
    row_duals = duals_of(search)
    return Answer(
        values=values,
        row_duals=row_duals,
        column_duals=program.cost - program.matrix.T @ row_duals,
        objective=found.point.objective,
        bound=min(found.bound, found.point.objective),
        algorithm=f"cutting planes: {search.n_cuts} cuts from {len(whole.parts)} operations"
        + highs.EARLY * found.stopped,
        stopped=found.stopped,
    )


def values_of(search: Search, point: Point) -> Floats:
    """Give the values of all columns of the whole program at a point."""
    whole, values = search.whole, np.zeros(search.whole.program.cost.size)
    values[whole.columns] = point.x[: whole.columns.size]
    for part, own in zip(whole.parts, point.reply.values, strict=True):
        values[part.columns] = own
    return values


def duals_of(search: Search) -> Floats:
    """Give the duals of the whole program's rows where the search settled.

    The duals of a part are the mean of those behind its cuts, weighed as the master weighs the cuts: at a kink of
    a part's cost its own last duals would be one side of the kink.
    """
    whole, n_rows = search.whole, search.master.row_lower.size
    row_duals = np.zeros(whole.program.row_lower.size)
    search.solve_master()
    duals = np.maximum(np.array(search.linear.getSolution().row_dual), 0.0)
    row_duals[whole.rows] = np.array(search.linear.getSolution().row_dual)[:n_rows]
    by_row = np.concatenate([part.rows for part in whole.parts] or [np.zeros(0, dtype=np.int64)])
    first = n_rows
    for cuts in search.cuts:
        weight = duals[first : first + cuts.part.size]
        row_duals[by_row] += weight @ cuts.duals
        first += cuts.part.size
    return row_duals


def least_violation(whole: TwoLevel, relaxed: Floats, effort: Effort) -> tuple[Floats, Floats] | None:
    """Prove that parts cannot meet their limits: by how much each must give [rows], in solver units, and the duals.

    ``relaxed [rows]`` is above 0 for the rows that may give. None where nothing is proven; integers are left out.
    """
    search = Search(phase_one(whole, relaxed), effort)
    try:
        found = search.close(None, CLOSE_ENOUGH, ROUNDS_LINEAR)
    except ProgramInfeasibleError:
        return None
    if found.point is None or found.bound <= LIMITS_KEPT:
        return None
    program = search.whole.program
    given = values_of(search, found.point)[whole.program.cost.size :]
    amounts = np.abs(program.matrix[:, whole.program.cost.size :]) @ given
    return amounts, duals_of(search)
