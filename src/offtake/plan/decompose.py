"""Solve a program on two levels by cutting planes: a master that decides, and parts that each answer for themselves.

Comes in: a :class:`~offtake.plan.twolevel.TwoLevel`. Goes out: a :class:`Found` (the best point, a bound on every
point), or for a plan an :class:`~offtake.plan.highs.Answer` to the whole program; None where only the extensive form
can tell. Method: the multi-cut L-shaped method (Van Slyke and Wets 1969; Birge and Louveaux 1988) with cuts for costs
and for limits that a part cannot meet, and with in-out points (Ben-Ameur and Neto 2007); first without integers, then
rounds of branch and bound on the master. The bound is the master's, the value is recomputed. It must never know what
a column means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import highspy
import numpy as np
from scipy import sparse

from offtake.errors import SolverError
from offtake.plan import highs
from offtake.plan.blocks import Bools, Floats, Program
from offtake.plan.highs import Answer, Effort, ProgramInfeasibleError
from offtake.plan.parts import Parts, StoppedError, least_costs
from offtake.plan.planes import Cuts, Found, Point, gap_of, nearest
from offtake.plan.problem import Ints
from offtake.plan.split import Split, near_budgets, split
from offtake.plan.twolevel import TwoLevel
from offtake.plan.variables import Model

IN_OUT = 0.5  #: weight of the best point in the point that is asked; any in (0, 1] is exact
ROUNDS_LINEAR, ROUNDS_WHOLE, ROUNDS_FIXED, ROUNDS_POLISH = 400, 30, 15, 60
SETTLED = 1e-6
STALLED = 0.2  #: of the gap asked: a linear bound that rises by less in a round has taught enough to branch
VIOLATED, TOUCHED = 1e-7, 1e-6
LIMITS_KEPT, CLOSE_ENOUGH = 1e-6, 0.05
TRIES_HURRIED, HURRY_S = 3, 10.0  #: for some plan, when time is up and there is none: tries, seconds each


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
        self.settled: list[Floats] = []  #: answers of the master at which it was closed
        self.hint: Floats | None = None  #: a point whose whole numbers are tried before any others
        self.tempting: list[Floats] = []  #: points at which branch and bound would look, were it not for their cuts
        self.tried: list[Floats] = []  #: points that branch and bound led to
        self.fresh = before is None  # a search that begins with another's cuts begins with those that matter
        if before is not None and len(before.whole.parts) == len(whole.parts):
            for cuts in before.cuts:
                self.add(cuts.moved(before.whole, whole))

    @property
    def guided(self) -> bool:
        """Tell whether the search begins anew from a hint, which is good: a plan for a few of the scenarios."""
        return self.fresh and self.hint is not None

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

    def close(self, center: Point | None, gap: float, rounds: int, enough: float = 0.0) -> Found:
        """Add cuts until the best point found is within ``gap`` of the linear master.

        The parts are asked half way between the master's answer and the best point, which keeps early answers from
        swinging; when such a point cuts nothing off, the master's answer itself is asked. Ends early where the bound
        rises by less than ``enough``, relative to it, in two rounds running.

        Raises
        ------
        ProgramInfeasibleError
            The master has no answer any more.
        """
        bounds, inside, x = [-np.inf] * 3, True, None
        try:
            for _ in range(rounds):
                x = self.solve_master()
                if x is None:
                    raise ProgramInfeasibleError
                bounds.append(max(bounds[-1], float(self.linear.getInfo().objective_function_value)))
                if center is not None and gap_of(center.objective, bounds[-1]) <= gap:
                    break
                if bounds[-1] - bounds[-3] <= enough * abs(bounds[-1]) and enough:
                    break
                if self.effort.late():
                    return Found(center, bounds[-1], stopped=True)
                inside &= center is not None
                point = self.look(IN_OUT * x + (1 - IN_OUT) * center.x if inside and center is not None else x)
                if np.isfinite(point.objective) and (center is None or point.objective < center.objective):
                    center = point
                added = self.cut(point, x)
                if added == 0 and not inside:
                    break  # the master's own answer is true, to the tolerance of cuts
                inside = added > 0 or not inside
        except StoppedError:
            return Found(center, bounds[-1], stopped=True)
        self.settled += [x] if x is not None else []
        return Found(center, bounds[-1])

    def branch(self, start: Point | None, effort: Effort, *, all_cuts: bool = False) -> tuple[Floats | None, float]:
        """Solve the master with its deciding integers, from a known plan; give answer and bound.

        Unless with ``all_cuts``, only with those that answers touch at which the master was closed: much quicker, and
        as true there, since the duals of an answer are on cuts that it touches. Fewer cuts only lower the bound.
        """
        solver = highs.load(replace(self.master, integer=self.whole.deciding), effort)
        highs.attend(solver, effort)
        # Measured on masters of 5,000 columns: three times quicker without these three, to the same bound.
        highs.choose(solver, mip_heuristic_run_rins=False, mip_heuristic_run_rens=False, mip_allow_restart=False)
        if start is not None and self.guided:  # from a good plan the bound is what takes time
            highs.choose(solver, mip_heuristic_run_root_reduced_cost=False, mip_heuristic_effort=0.0)
            highs.choose(solver, mip_pscost_minreliable=0)  # measured: without strong branching 14 CPU s for 21
        for rows, floor in self.rows:
            near = np.full(floor.size, all_cuts)
            for x in self.settled:
                near |= rows @ x - floor <= TOUCHED * (1 + np.abs(floor))
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

    def complete(self, x: Floats, gap: float, start: Point | None = None) -> Found:
        """Find the best plan with the deciding integers of a point: close, let all that follows run, close again."""
        try:
            self.fix(x, np.flatnonzero(self.whole.deciding))
            found = self.close(start, gap, ROUNDS_FIXED)
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
        whole, gap = bool(self.master.integer.any()), self.effort.gap
        best = self._hinted(self.hint) if whole and self.guided and self.hint is not None else None
        found = self.close(best, gap / 4, ROUNDS_LINEAR, enough=STALLED * gap * (whole and self.guided))
        self.effort.tell(0.5)
        if whole:
            found = self._whole(Found(best, found.bound, found.stopped))
        self.effort.tell(0.9)
        if found.point is None or self.whole.has_whole_parts:
            return found
        self.fix(found.point.x)
        better = found if found.stopped else self.close(found.point, SETTLED, ROUNDS_POLISH)
        return Found(better.point or found.point, found.bound, found.stopped)

    def _hinted(self, hint: Floats) -> Point | None:
        """Find the best plan with the whole numbers of the hint; None for none."""
        start = self._settle_at(hint)
        best = self.complete(hint, self.effort.gap / 8, start).point
        for x in self.tempting:
            self._settle_at(x)
        return best

    def _settle_at(self, x: Floats) -> Point | None:
        """Add the cuts of the allowed point nearest to one; give that point, None where some part has no answer."""
        try:
            point = self.look(nearest(self.whole, x, self.effort))
        except (ProgramInfeasibleError, SolverError, StoppedError):
            return None
        self.cut(point, np.where(np.isin(np.arange(x.size), self.whole.theta), self.master.lower, point.x))
        if not np.isfinite(point.objective):
            return None
        self.settled.append(point.x)
        return point

    def _whole(self, linear: Found) -> Found:
        """Alternate branch and bound on the master with cuts at its answer, until the best plan is within the gap."""
        effort, best, bound = self.effort, linear.point, linear.bound
        if best is None and self.hint is not None and not linear.stopped:
            best = self.complete(self.hint, effort.gap / 8).point
        done, all_cuts = linear.stopped or Found(best, bound).gap <= effort.gap, not self.fresh
        before = -np.inf
        for turn in range(0 if done else ROUNDS_WHOLE):
            x, floor = self.branch(best, replace(effort, gap=effort.gap / 2), all_cuts=all_cuts)
            if x is None:
                bound = max(bound, floor)
                break
            point = self.complete(x, effort.gap / 8).point
            self.tried += [] if point is None else [point.x]
            all_cuts |= not self.guided or point is None or floor <= before  # nothing settled there, or nothing new
            bound, before = max(bound, floor), floor
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


def decompose(model: Model, program: Program, effort: Effort, starts: Sequence[Floats] = ()) -> Answer | None:
    """Solve a plan by cutting planes, from values of its columns to begin at; see :func:`solve_two_level`."""
    return Planner().find(model, program, effort, starts)


class Planner:
    """Solve one plan after another by cutting planes; each begins with what the one before has taught.

    ``tried`` are values of the columns at other plans that tempted the last search.
    """

    def __init__(self) -> None:
        self.search: Search | None = None
        self.best: Floats | None = None
        self.linked: Bools | None = None
        self.tried: list[Floats] = []

    def find(self, model: Model, program: Program, effort: Effort, starts: Sequence[Floats] = ()) -> Answer | None:
        """Find the plan; where it breaks budgets by operation, link these to it, and go on from the cuts there are.

        ``starts`` are values of its columns at which the first search of all begins: the whole numbers of the first are
        tried first, and cuts are asked for at the others.
        """
        while True:
            parted = split(model, program, self.linked)
            fresh, self.search = self.search is None, Search(parted.levels, effort, self.search)
            search = self.search
            if self.best is not None and self.best.size == parted.levels.master.cost.size:
                search.hint = self.best
            elif fresh and starts:
                search.hint, *search.tempting = (parted.to_master(start) for start in starts)
            found = search.run()
            self.best = self.best if found.point is None else found.point.x
            self.tried = [parted.from_master(x) for x in search.tried]
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
