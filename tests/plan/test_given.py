"""A tree of the user's own: its ways, its weights, and who knows what when."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from offtake.errors import InputError
from offtake.plan.calendar import calendar_of
from offtake.plan.given import demand_factors, node_as, ways_of
from offtake.plan.plan import make_plan
from offtake.plan.tree import tree_of
from offtake.schema.begin import write_starter
from offtake.schema.read import read_folder
from offtake.schema.settings import NodeRow
from offtake.supply.portfolio import portfolio_of
from tests.plan.test_plan import portfolio
from tests.supply.small import settings


def node(name: str, parent: str, start: date, weight: float, factor: float = 1.0) -> NodeRow:
    return NodeRow(node=name, parent=parent, start=start, weight=weight, demand_factor=factor)


OWN = (
    node("win", "", date(2026, 6, 1), 0.6, 2.0),
    node("lose", "", date(2026, 6, 1), 0.4, 0.5),
    node("win-more", "win", date(2026, 7, 1), 0.5, 3.0),
    node("win-no-more", "win", date(2026, 7, 1), 0.5),
)


def test_ways_multiply_chances_and_factors() -> None:
    ways = ways_of(OWN)
    assert [way.name for way in ways] == ["win, win-more", "win, win-no-more", "lose"]
    assert [way.probability for way in ways] == pytest.approx([0.3, 0.3, 0.4])
    months = calendar_of(settings(start=date(2026, 5, 1), end=date(2026, 7, 31), weeks_first=0))
    assert demand_factors(ways, months).tolist() == [[1.0, 2.0, 6.0], [1.0, 2.0, 2.0], [1.0, 0.5, 0.5]]
    assert ways_of(()) == []


def test_a_node_is_known_from_its_first_day_and_not_before() -> None:
    months = calendar_of(settings(start=date(2026, 5, 1), end=date(2026, 7, 31), weeks_first=0))
    way_of = np.array([0, 0, 1, 2])
    assert node_as(ways_of(OWN), way_of, months).T.tolist() == [[0, 0, 0, 0], [0, 0, 0, 3], [0, 0, 2, 3]]


def test_a_plan_follows_the_tree_that_is_given() -> None:
    run = make_plan(portfolio(nodes=OWN, settings=settings(end=date(2026, 9, 30), scenarios=12, weeks_first=0, seed=5)))
    tree, problem = run.assembled.inputs.tree, run.assembled.problem
    weight = np.bincount(tree.way, weights=tree.probability)
    assert weight == pytest.approx([0.3, 0.3, 0.4])
    last = problem.decided.node_as[:, -1]
    assert all(np.unique(tree.way[last == first]).size == 1 for first in np.unique(last))
    assert "as your own tree parts" in " ".join(run.result.warnings)
    growth = [int(branch) for branch in tree_of(portfolio_of(portfolio(nodes=OWN))).growth]
    assert set(growth) == {0, 1}


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ('node = "a"\nstart = 2026-08-01\nweight = 0.5', "weights after the first day sum to 0.5"),
        ('node = "a"\nparent = "b"\nstart = 2026-08-01\nweight = 1', "b"),
        ('node = "a"\nstart = 2020-08-01\nweight = 1', "2020-08-01"),
    ],
)
def test_a_tree_that_is_none_is_refused_with_its_place(tmp_path: Path, rows: str, problem: str) -> None:
    write_starter(tmp_path / "p")
    file = tmp_path / "p" / "portfolio.toml"
    file.write_text(file.read_text("utf-8") + f"\n[[node]]\n{rows}\n", "utf-8")
    with pytest.raises(InputError) as refused:
        read_folder(tmp_path / "p")
    told = [fault for fault in refused.value.faults if fault.row == "[[node]] 1"]
    assert any(problem in f"{fault.problem} {fault.value}" for fault in told)
