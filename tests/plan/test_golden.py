from __future__ import annotations

import pytest

from offtake.plan import constraints, objective
from tests.plan.lp_text import GOLDEN, functions, text_of, variables_text


@pytest.mark.parametrize("name", sorted(functions()))
def test_a_constraint_adds_exactly_the_rows_of_its_golden_program(name: str) -> None:
    assert text_of(name) == (GOLDEN / f"{name}.lp").read_text("utf-8")


def test_the_variables_and_the_objective_are_those_of_the_golden_program() -> None:
    assert variables_text() == (GOLDEN / "variables.lp").read_text("utf-8")


def test_every_constraint_has_a_golden_program_and_every_golden_program_a_constraint() -> None:
    assert {path.stem for path in GOLDEN.glob("*.lp")} == {*functions(), "variables"}


def test_every_constraint_is_stated_in_a_plan() -> None:
    assert {function.__name__ for function in (*constraints.ALL, *objective.ALL)} == set(functions())
