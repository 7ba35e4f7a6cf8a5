"""Hold the planner against a second statement of the same problem, which shares nothing with it but the arrays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offtake.plan.calendar import calendar_of
from offtake.plan.problem import Problem
from offtake.plan.solve import Options, solve
from offtake.plan.tree import tree_of
from offtake.schema.portfolio import Tables
from offtake.schema.read import read_folder
from offtake.schema.settings import Limits
from offtake.supply.portfolio import portfolio_of
from tests.plan import problems
from tests.plan.fakes import assembled
from tests.plan.golden_cases import CASES
from tests.plan.referee import objective_usd

ROOT = Path(__file__).resolve().parents[2]
CLOSE = 1e-6
EXACT = Options(gap=1e-9)


def example(folder: Path, limits: Limits | None = None) -> Problem:
    """Put a shipped portfolio together in a few blocks; demand parts month by month, so that all learn."""
    tables = read_folder(folder)
    settings = tables.settings.model_copy(update={"scenarios": 12, "blocks": 1, "weeks_first": 0})
    small: Tables = replace(tables, settings=settings, limits=limits or tables.limits)
    rates = np.array([row.rate_rps for row in tables.workloads])
    tree, periods = tree_of(portfolio_of(small)), calendar_of(settings).periods
    growth = 1.0 + np.outer(np.arange(tree.scenarios), np.arange(periods)) / 20
    return assembled(small, rate_rps=growth[..., None] * rates).problem


def agree(problem: Problem) -> None:
    found, referee = solve(problem, EXACT).objective_usd, objective_usd(problem)
    assert found == pytest.approx(referee, rel=CLOSE)


def test_both_statements_agree_on_a_problem_with_every_family_of_constraint() -> None:
    agree(problems.tiny())


@pytest.mark.parametrize("name", sorted(CASES))
def test_both_statements_agree_on_each_problem_solved_by_hand(name: str) -> None:
    case, optimum_usd, _ = CASES[name]
    assert objective_usd(case.problem()) == pytest.approx(optimum_usd, abs=1e-6)


def test_both_statements_agree_on_the_starter() -> None:
    agree(example(ROOT / "src" / "offtake" / "schema" / "starter"))


def test_both_statements_agree_on_three_contracts_with_a_budget() -> None:
    agree(example(ROOT / "examples" / "three-contracts", limits=Limits(budget_usd_per_year=2e6)))


def test_the_starter_decides_on_what_is_known_by_then() -> None:
    nodes = example(ROOT / "src" / "offtake" / "schema" / "starter").decided
    assert nodes.node_as[:, 0].max() == 0
    assert nodes.node_as[:, -1].max() > 0
    assert nodes.keep_as.max() > 0


@pytest.mark.slow
def test_both_statements_agree_where_what_is_spent_on_work_breaks_the_budget() -> None:
    base = problems.frontier(scenarios=3, periods=10, blocks=3, offers=6, sites=5, workloads=3, seed=2)
    dear = replace(
        base,
        deliveries=replace(base.deliveries, used_usd_per_chip_hour=3 * base.deliveries.used_usd_per_chip_hour),
        lanes=replace(base.lanes, usd_per_request=np.full(base.lanes.workload.size, 1e-4)),
        limits=replace(base.limits, budget_usd=np.array([8.2e9])),  # it would spend 9.1, and commit 5.6
    )
    found = solve(dear, EXACT)
    assert found.algorithm.startswith("cutting planes")
    assert found.money.spend_usd.sum(axis=1).max() == pytest.approx(8.2e9)
    assert found.objective_usd == pytest.approx(objective_usd(dear), rel=CLOSE)
