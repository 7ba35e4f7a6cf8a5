"""Prove by cutting planes that operations cannot meet their limits, and find by how much these must give.

Comes in: a program on two levels, and which of its rows may give. Goes out: what each gives, and the duals that prove
it. It must never know what a row means.
"""

from __future__ import annotations

import numpy as np

from offtake.plan.blocks import Floats
from offtake.plan.decompose import CLOSE_ENOUGH, LIMITS_KEPT, ROUNDS_LINEAR, Search, duals_of, values_of
from offtake.plan.highs import Effort, ProgramInfeasibleError
from offtake.plan.twolevel import TwoLevel, phase_one


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
