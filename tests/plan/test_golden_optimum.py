"""Pin each constraint and account by a tiny problem with an optimum known by hand, which it would not be without."""

from __future__ import annotations

import pytest

from offtake.errors import SolverError
from offtake.plan import constraints, highs, objective
from offtake.plan.highs import Effort, ProgramInfeasibleError
from offtake.plan.problem import Problem
from offtake.plan.solve import solve
from offtake.plan.variables import declare
from tests.plan.golden_cases import CASES
from tests.plan.lp_text import functions


def optimum_without(problem: Problem, name: str) -> float | None:
    """Give the optimum that the program has without one function's rows; None where it has none."""
    model = declare(problem)
    for state in (*constraints.ALL, *objective.ALL):
        if state.__name__ != name:
            state(model)
    objective.price(model)
    program = model.blocks.build(model.units.usd)
    try:
        return -highs.solve_whole(program, Effort()).objective * program.objective_unit
    except (SolverError, ProgramInfeasibleError):
        return None


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_optimum_is_the_one_worked_out_by_hand(name: str) -> None:
    case, optimum_usd, by_hand = CASES[name]
    assert solve(case.problem()).objective_usd == pytest.approx(optimum_usd, abs=1e-6), by_hand


@pytest.mark.parametrize("name", sorted(CASES))
def test_without_the_constraint_the_optimum_would_be_another(name: str) -> None:
    case, optimum_usd, _ = CASES[name]
    without = optimum_without(case.problem(), name)
    assert without is None or abs(without - optimum_usd) > 1


def test_every_constraint_and_account_has_a_problem_solved_by_hand() -> None:
    assert set(CASES) == set(functions())
