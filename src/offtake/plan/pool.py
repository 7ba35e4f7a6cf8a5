"""Answer one question after another about a problem, keeping what each answer taught about the others.

Comes in: a problem, then changed ones, or bounds on what may be signed and kept. Goes out: a checked
:class:`~offtake.plan.solution.Solution` to each, with its own certified bound. What is kept is every cut, by its
duals, and every operation's warm solver. A cut is stated anew for each question, so it is right whatever has changed;
how much it still says depends on how little has. It must never know an offer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from offtake.plan import highs
from offtake.plan.blocks import Floats, Program
from offtake.plan.decompose import Planner
from offtake.plan.highs import Answer, Effort
from offtake.plan.problem import Problem
from offtake.plan.solution import Solution
from offtake.plan.solve import LARGE, Options, Stated, solve_stated, state
from offtake.plan.variables import Model

Bounds = Mapping[str, Floats]


class Pool:
    """Keep cuts and warm operations of one problem, and answer questions near it.

    ``pool.solve()`` is the plan itself, as :func:`offtake.plan.solve.solve` gives it. Then, each in about the time
    that what changed takes:

    - ``pool.solve(upper={"signed": most})``, ``lower=…``: bounds by block of columns, in the user's units, in the
      block's own shape (or one that broadcasts to it); NaN leaves a bound as it is. An offer banned is an upper bound
      of 0 on its ``signed``; an offer forced is a lower one.
    - ``pool.solve(changed)``: another problem with the same axes. Fees and prepayments are free: no cut depends on
      them. Other deliveries, power, demand or notice dates leave each cut true, if weaker, and only the operations
      that changed are made anew.

    Both may be given at once. Every answer is checked and bounded on its own, to the same gap, or to the one given: at
    half a percent most questions need no branch and bound, which is where the time goes. The whole numbers of the
    answer before are tried first. The solver's units are those of the first problem. The same questions in the same
    order give the same answers.

    Raises, like ``solve``: InfeasibleError, SolverError.
    """

    def __init__(self, problem: Problem, options: Options | None = None) -> None:
        self.problem, self.options = problem, options or Options()
        self.units = state(problem)[0].units
        self.planner = Planner()

    def solve(
        self,
        problem: Problem | None = None,
        *,
        lower: Bounds | None = None,
        upper: Bounds | None = None,
        gap: float | None = None,
    ) -> Solution:
        """Solve the problem, a changed one, or either within other bounds; to ``gap`` where another one will do."""

        def stated() -> Stated:
            model, program = state(problem or self.problem, self.units)
            within = replace(
                program,
                lower=_bounded(model, program, program.lower, lower or {}),
                upper=_bounded(model, program, program.upper, upper or {}),
            )
            return model, within

        options = self.options if gap is None else replace(self.options, gap=gap)
        return solve_stated(stated, options, self._find)

    def _find(self, model: Model, program: Program, effort: Effort) -> Answer:
        """Find the answer from the cuts there are, and keep the new ones."""
        if program.cost.size <= LARGE:
            return highs.solve_whole(program, effort)
        return self.planner.find(model, program, effort) or highs.solve_whole(program, effort)


def _bounded(model: Model, program: Program, bound: Floats, asked: Bounds) -> Floats:
    """Give a bound with what is asked for put in its place, in the solver's units."""
    result = bound.copy()
    for name, values in asked.items():
        block = model[name]
        of_block = slice(block.start, block.start + block.size)
        given = block.pick(values) / program.column_unit[of_block]
        result[of_block] = np.where(np.isnan(given), bound[of_block], given)
    return result
