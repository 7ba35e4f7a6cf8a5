"""State the plan's program as Offtake does, to be measured like the others; and put a problem away for all of them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from offtake.plan.blocks import Program
from offtake.plan.highs import Effort, Solver, load
from offtake.plan.problem import Problem
from offtake.plan.solve import state as state_problem

PACKAGES = ("numpy", "scipy", "highspy")


def write(path: Path, problem: Problem) -> None:
    """Put a problem away: whole for ``read``, and as an archive of arrays, exclusive sets as a table [set, offer]."""
    joblib.dump(problem, path.with_suffix(".joblib"))
    offers = np.arange(len(problem.axes.offers))
    exclusive = np.reshape([np.isin(offers, some) for some in problem.exclusive], (-1, offers.size))
    np.savez(path, exclusive=exclusive.astype(bool), **arrays_of(problem))


def arrays_of(problem: Problem) -> dict[str, Any]:
    """Give the arrays and numbers of a problem by name, those of its records as ``record.name``; words are left out."""
    named = {field.name: getattr(problem, field.name) for field in fields(problem)}
    for record in ("cells", "lanes", "vintages", "deliveries", "jobs", "limits"):
        inner = named.pop(record)
        named |= {f"{record}.{field.name}": getattr(inner, field.name) for field in fields(inner)}
    return {name: value for name, value in named.items() if isinstance(value, (np.ndarray, float))}


def read(path: Path) -> Problem:
    """Return a problem that was put away."""
    problem: Problem = joblib.load(path.with_suffix(".joblib"))
    return problem


def state(problem: Problem) -> Program:
    """Return the problem's program."""
    return state_problem(problem)[1]


def hand_over(program: Program) -> Solver:
    """Return HiGHS with the program in it."""
    return load(program, Effort())
