"""Solve a large plan by cutting planes: a master that signs, and a small program per scenario and period that serves.

Comes in: a model and its program. Goes out: an :class:`~offtake.plan.highs.Answer` to the whole program, or None where
the split cannot answer (a budget that operating money breaks, a limit no operation can meet): then the extensive
form must. Method: the multi-cut L-shaped method (Van Slyke and Wets 1969; Birge and Louveaux 1988), one cut a
scenario and period, with in-out points (Ben-Ameur and Neto 2007); first without integers, then rounds of branch and
bound on the master; the bound is the master's, the value is recomputed. It must never know what a column means.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import highspy
import numpy as np
from scipy import sparse

from offtake.errors import SolverError
from offtake.plan import highs
from offtake.plan.blocks import Floats, Program
from offtake.plan.highs import Answer, Effort, ProgramInfeasibleError
from offtake.plan.problem import Ints
from offtake.plan.split import Split, split
from offtake.plan.variables import Model

IN_OUT = 0.5  #: weight of the best point in the point that is asked; any in (0, 1] is exact
ROUNDS_LINEAR, ROUNDS_WHOLE, ROUNDS_FIXED, ROUNDS_POLISH = 200, 30, 15, 60
SETTLED = 1e-6
VIOLATED = 1e-7
SLACK, CLOSE_ENOUGH = 1e-6, 0.05


@dataclass(frozen=True)
class Reply:
    """Hold what the parts answer to one point: costs [P], duals [rows of all parts], values of columns and slacks."""

    costs: Floats
    duals: Floats
    values: list[Floats]
    slacks: list[Floats]

    @property
    def slack(self) -> float:
        """Give the greatest slack of any part."""
        return max((float(values.max(initial=0.0)) for values in self.slacks), default=0.0)


@dataclass(frozen=True)
class Point:
    """Hold a point of the master with the parts' reply, and its true objective."""

    x: Floats
    reply: Reply
    objective: float


class Parts:
    """Keep one warm solver per part, and ask them all about a point of the master."""

    def __init__(self, whole: Split, effort: Effort) -> None:
        self.whole = whole
        self.pool = ThreadPoolExecutor(max_workers=max(1, effort.threads))
        alone = replace(effort, threads=1)
        self.solvers = list(self.pool.map(lambda part: highs.load(part.program, alone, whole=False), whole.parts))

    def ask(self, x: Floats) -> Reply:
        """Solve every part at a point; the answer does not depend on the number of threads."""
        shift = self.whole.link @ x
        replies = list(self.pool.map(lambda p: self._ask_one(p, shift), range(len(self.solvers))))
        return Reply(
            costs=np.array([reply[0] for reply in replies]),
            duals=np.concatenate([reply[1] for reply in replies]),
            values=[reply[2] for reply in replies],
            slacks=[reply[3] for reply in replies],
        )

    def _ask_one(self, p: int, shift: Floats) -> tuple[float, Floats, Floats, Floats]:
        """Solve one part where the master's point has moved its rows: cost, duals, values and slacks."""
        part, solver = self.whole.parts[p], self.solvers[p]
        moved = shift[self.whole.first_row[p] : self.whole.first_row[p + 1]]
        lower, upper = part.program.row_lower - moved, part.program.row_upper - moved
        rows = np.arange(lower.size, dtype=np.int32)
        solver.changeRowsBounds(lower.size, rows, lower, upper)  # type: ignore[attr-defined]  # missing in its stub
        solver.run()
        if solver.getModelStatus() != highs.OK:
            solver.clearSolver()
            solver.setOptionValue("solver", "ipx")
            solver.run()
            solver.setOptionValue("solver", "choose")
            if solver.getModelStatus() != highs.OK:
                raise SolverError("no algorithm could solve the operation of one scenario and period")
        solution = solver.getSolution()
        values = np.asarray(solution.col_value)
        own = part.columns.size
        cost = float(solver.getInfo().objective_function_value)
        return cost, np.asarray(solution.row_dual), values[:own], values[own:]


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


def _add(solver: highspy.Highs, rows: sparse.csr_matrix, floor: Floats) -> None:
    """Add rows·x ≥ floor to a solver."""
    starts, indices = rows.indptr[:-1].astype(np.int32), rows.indices.astype(np.int32)
    solver.addRows(floor.size, floor, np.full(floor.size, np.inf), rows.nnz, starts, indices, rows.data)


class Search:
    """Hold the state of a search: the master twice (without and with integers), the best point, the bound."""

    def __init__(self, model: Model, program: Program, effort: Effort, *, only_slack: bool = False) -> None:
        self.program, self.effort = program, effort
        self.whole = split(model, program, only_slack=only_slack)
        self.master = self.whole.master
        self.parts = Parts(self.whole, effort)
        self.linear = highs.load(self.master, effort, whole=False)
        self.cuts: list[tuple[sparse.csr_matrix, Floats]] = []
        self.cut_duals: list[tuple[int, Floats]] = []
        self.tail = None if only_slack else _tail(model, self.whole)
        runs = np.isin(self.whole.columns, model["runs"].ids)
        self.deciding = self.master.integer & ~runs

    @property
    def n_cuts(self) -> int:
        """Count the cuts added so far."""
        return sum(floor.size for _, floor in self.cuts)

    def look(self, x: Floats) -> Point:
        """Ask the parts about a point of the master and complete it: true costs, tail and objective."""
        reply = self.parts.ask(x)
        x = x.copy()
        x[self.whole.theta] = reply.costs
        if self.tail is not None:
            self.tail.settle(x, self.master.cost)
        return Point(x, reply, float(self.master.cost @ x))

    def cut(self, point: Point, beyond: Floats) -> int:
        """Add the cuts of a point that the master's answer ``beyond`` breaks; tell how many."""
        first, theta = self.whole.first_row, self.whole.theta
        duals = point.reply.duals
        shape = (theta.size, duals.size)
        slope = sparse.csr_matrix((duals, np.arange(duals.size), first), shape=shape) @ self.whole.link
        floor = point.reply.costs + slope @ point.x
        broken = np.flatnonzero(floor - slope @ beyond - beyond[theta] > VIOLATED * (1 + np.abs(floor)))
        own = sparse.csr_matrix((np.ones(theta.size), (np.arange(theta.size), theta)), shape=slope.shape)
        rows = sparse.csr_matrix((slope + own)[broken])
        _add(self.linear, rows, floor[broken])
        self.cuts.append((rows, floor[broken]))
        self.cut_duals.extend((int(p), duals[first[p] : first[p + 1]].copy()) for p in broken)
        return int(broken.size)

    def solve_master(self) -> Floats | None:
        """Solve the master without integers; None where it has no answer, so that the whole has none."""
        self.linear.run()
        if self.linear.getModelStatus() != highs.OK:
            self.linear.clearSolver()
            self.linear.setOptionValue("solver", "ipx")
            self.linear.run()
            self.linear.setOptionValue("solver", "choose")
        status = self.linear.getModelStatus()
        if status in highs.NEVER:
            return None
        if status != highs.OK:
            raise SolverError("no algorithm could solve the master of the plan")
        return np.asarray(self.linear.getSolution().col_value)

    def close(self, center: Point | None, gap: float, rounds: int) -> tuple[Point | None, float]:
        """Add cuts until the best point found is within ``gap`` of the linear master; give it and the last bound.

        The parts are asked half way between the master's answer and the best point, which keeps early answers from
        swinging; when such a point cuts nothing off, the master's answer itself is asked.
        """
        bound, inside = -np.inf, True
        for _ in range(rounds):
            x = self.solve_master()
            if x is None:
                return None, np.inf
            bound = max(bound, float(self.linear.getInfo().objective_function_value))
            if center is not None and (gap_of(center.objective, bound) <= gap or self.effort.late()):
                break
            point = self.look(x if center is None or not inside else IN_OUT * x + (1 - IN_OUT) * center.x)
            if center is None or point.objective < center.objective:
                center = point
            inside = self.cut(point, x) > 0 or not inside
        return center, bound

    def branch(self, start: Point | None) -> tuple[Floats | None, float]:
        """Solve the master with its deciding integers, from a known plan; give answer and bound."""
        solver = highs.load(replace(self.master, integer=self.deciding), replace(self.effort, gap=self.effort.gap / 2))
        # Measured on masters of 5,000 columns: three times quicker without these three, to the same bound.
        highs.choose(solver, mip_heuristic_run_rins=False, mip_heuristic_run_rens=False, mip_allow_restart=False)
        for rows, floor in self.cuts:
            _add(solver, rows, floor)
        if start is not None:
            n = start.x.size
            solver.setSolution(n, np.arange(n, dtype=np.int32), start.x)
        solver.run()
        info = solver.getInfo()
        if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            return None, float(info.mip_dual_bound)
        return np.asarray(solver.getSolution().col_value), float(info.mip_dual_bound)

    def complete(self, x: Floats) -> Point | None:
        """Find the best plan with the deciding integers of a point: close, let every gang run that can, close again."""
        self.fix(x, np.flatnonzero(self.deciding))
        point, _ = self.close(None, self.effort.gap / 8, ROUNDS_FIXED)
        following = np.flatnonzero(self.master.integer & ~self.deciding)
        if point is not None and following.size:
            whole = point.x.copy()
            whole[following] = self.master.upper[following]
            rows = self.master.matrix.tocsr()
            activity = rows @ whole
            broken = (activity > self.master.row_upper + VIOLATED) | (activity < self.master.row_lower - VIOLATED)
            stopped = following[np.asarray(abs(rows[broken]).sum(axis=0)).ravel()[following] > 0]
            whole[stopped] = self.master.lower[stopped]
            self.fix(whole)
            point, _ = self.close(None, self.effort.gap / 8, ROUNDS_FIXED)
        self.fix(None)
        return point

    def fix(self, whole: Floats | None, which: Ints | None = None) -> None:
        """Fix the integers of the linear master (or only ``which``) at a point, or free them with None."""
        ids = (np.flatnonzero(self.master.integer) if which is None else which).astype(np.int32)
        lower, upper = self.master.lower[ids], self.master.upper[ids]
        if whole is not None:
            lower = upper = np.clip(np.round(whole[ids]), lower, upper)
        self.linear.changeColsBounds(ids.size, ids, lower, upper)


def _tail(model: Model, whole: Split) -> Tail | None:
    """Find the tail's columns and rows in the master; None where the plan does not weigh risk."""
    at_risk = model["value_at_risk"].ids
    if at_risk < 0:
        return None
    column, row = (np.zeros(int(ids.max()) + 1, dtype=np.int64) for ids in (whole.columns, whole.rows))
    column[whole.columns], row[whole.rows] = np.arange(whole.columns.size), np.arange(whole.rows.size)
    rows = row[model.blocks.row_blocks["a_scenarios_loss_beyond_the_value_at_risk"].ids]
    return Tail(int(column[at_risk]), column[model["shortfall"].ids], whole.master.matrix.tocsr()[rows])


def gap_of(objective: float, bound: float) -> float:
    """Give the gap between a minimum found and a bound on it, relative to the minimum."""
    return (objective - bound) / max(abs(objective), 1e-9)


def decompose(model: Model, program: Program, effort: Effort) -> Answer | None:
    """Solve by cutting planes; None where only the extensive form can tell.

    Raises
    ------
    ProgramInfeasibleError
        The master alone has no answer, say two algorithms.
    """
    search = Search(model, program, effort)
    try:
        center, bound = search.close(None, effort.gap / 4, ROUNDS_LINEAR)
        if center is None or (center.reply.slack > SLACK and least_slack(model, program, effort) is not None):
            raise ProgramInfeasibleError
        effort.tell(0.5)
        best = center
        if program.integer.any():
            found, bound = _search_whole(search)
            if found is None:
                return None
            best = found
        effort.tell(0.9)
        search.fix(best.x)
        best = search.close(best, SETTLED, ROUNDS_POLISH)[0] or best
        return _answer(search, best, bound)
    finally:
        search.parts.pool.shutdown()


def _search_whole(search: Search) -> tuple[Point | None, float]:
    """Alternate branch and bound on the master with cuts at its answer, until the best plan is within the gap."""
    effort, best, bound = search.effort, None, -np.inf
    for turn in range(ROUNDS_WHOLE):
        x, floor = search.branch(best)
        bound = max(bound, floor)
        if x is None:
            break
        point = search.complete(x)
        if point is not None and (best is None or point.objective < best.objective):
            best = point
        if best is not None and gap_of(best.objective, bound) <= effort.gap:
            break
        if effort.late():
            break
        effort.tell(0.5 + 0.4 * (turn + 1) / ROUNDS_WHOLE)
    return best, bound


def _answer(search: Search, best: Point, bound: float) -> Answer | None:
    """Put the whole program's answer together; None where it breaks what the split left out."""
    whole, program, values = search.whole, search.program, np.zeros(search.program.cost.size)
    values[whole.columns] = best.x
    for part, own in zip(whole.parts, best.reply.values, strict=True):
        values[part.columns] = own
    activity = program.matrix @ values
    if best.reply.slack > SLACK or np.any(activity[whole.rows] > program.row_upper[whole.rows] + SLACK):
        return None
    row_duals = duals_of(search)
    return Answer(
        values=values,
        row_duals=row_duals,
        column_duals=program.cost - program.matrix.T @ row_duals,
        objective=best.objective,
        bound=min(bound, best.objective),
        algorithm=f"cutting planes: {search.n_cuts} cuts from {len(whole.parts)} operations",
    )


def duals_of(search: Search) -> Floats:
    """Give the duals of the whole program's rows where the search settled.

    The duals of an operation are the mean of those behind its cuts, weighed as the master weighs the cuts: at a kink
    of an operation's cost its own last duals would be one side of the kink.
    """
    whole, n_rows = search.whole, search.master.row_lower.size
    row_duals = np.zeros(search.program.row_lower.size)
    search.solve_master()
    duals = np.asarray(search.linear.getSolution().row_dual)
    row_duals[whole.rows] = duals[:n_rows]
    for weight, (p, own) in zip(duals[n_rows:], search.cut_duals, strict=True):
        if weight > 0:
            row_duals[whole.parts[p].rows] += weight * own
    return row_duals


def least_slack(model: Model, program: Program, effort: Effort) -> tuple[Floats, Floats] | None:
    """Prove that operations cannot meet their limits: the least slack [rows], in solver units, and the proof's duals.

    None where the bound on the slack is 0, so that nothing is proven; integers are left out.
    """
    search = Search(model, program, effort, only_slack=True)
    try:
        center, bound = search.close(None, CLOSE_ENOUGH, ROUNDS_LINEAR)
        if center is None or bound <= SLACK:
            return None
        amounts = np.zeros(program.row_lower.size)
        for part, values in zip(search.whole.parts, center.reply.slacks, strict=True):
            amounts[part.rows[part.relaxed]] = values
        return amounts, duals_of(search)
    finally:
        search.parts.pool.shutdown()
