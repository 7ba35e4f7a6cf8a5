"""The shipped portfolios, as the planner sees them before it solves anything."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from offtake.plan.assemble import Assembled
from offtake.schema.read import read_folder
from offtake.supply.delivery import as_promised, deliver
from offtake.supply.fee import fee_usd_by_day
from offtake.supply.portfolio import portfolio_of
from tests.plan.fakes import assembled

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def may_2026() -> Assembled:
    return assembled(read_folder(EXAMPLES / "may-2026"))


def test_every_branch_of_growth_meets_every_reading_of_the_exit_with_its_exact_weight(may_2026: Assembled) -> None:
    tables, tree = may_2026.inputs.portfolio.tables, may_2026.inputs.tree
    reading = tree.luck["spacex-colossus"].reading
    for branch, row in enumerate(tables.growth):
        for place, weight in enumerate([0.2, 0.5, 0.3]):
            found = tree.probability[(tree.growth == branch) & (reading == place)].sum()
            assert found == pytest.approx(row.weight * weight)


def test_the_lease_costs_half_in_june_and_a_whole_fee_from_july() -> None:
    terms = portfolio_of(read_folder(EXAMPLES / "may-2026")).offers["spacex-colossus"]
    first, end = date(2026, 5, 1).toordinal(), date(2026, 9, 1).toordinal()
    days = np.arange(first, end, dtype=np.int64)
    fee = fee_usd_by_day(terms, deliver(terms, first, as_promised(terms), days))[0]
    june = slice(date(2026, 6, 1).toordinal() - first, date(2026, 7, 1).toordinal() - first)
    july = slice(june.stop, date(2026, 8, 1).toordinal() - first)
    assert fee[june].sum() == pytest.approx(625e6)
    assert fee[july].sum() == pytest.approx(1.25e9)
    assert fee[: date(2026, 5, 29).toordinal() - first].sum() == 0


def test_the_lease_can_be_taken_back_from_three_different_days(may_2026: Assembled) -> None:
    terms = may_2026.inputs.portfolio.offers["spacex-colossus"]
    rights = [one.provider for one in terms.readings]
    assert [str(right.exit_from) for right in rights if right] == ["2026-08-01", "2026-11-01", "2027-01-28"]
    assert all(one.buyer == one.provider for one in terms.readings)


def test_work_that_must_stay_in_the_united_states_runs_nowhere_else(may_2026: Assembled) -> None:
    portfolio, cells = may_2026.inputs.portfolio, may_2026.cells
    bound = [lane for lane in may_2026.placement.lanes if portfolio.tables.workloads[lane.workload].residency == "US"]
    assert bound
    assert {portfolio.sites[cells[lane.cell].site].residency for lane in bound} == {"US"}


def test_the_small_company_has_a_reserve_an_hourly_pool_and_an_api() -> None:
    some = assembled(read_folder(EXAMPLES / "three-contracts"))
    problem = some.problem
    assert problem.cells.is_api.tolist().count(True) == 1
    assert problem.deliveries.elastic.any()
    assert (~problem.deliveries.elastic).any()
    assert problem.deliveries.used_usd_per_chip_hour[problem.deliveries.elastic].min() > 0
