from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from offtake.errors import InputError
from offtake.plan.assemble import Assembled
from offtake.plan.decisions import decisions_of
from offtake.plan.hold import Churn, Earlier, churn_of, solve_near, units_now, units_wanted
from offtake.plan.result import PlanResult
from offtake.plan.solution import Solution
from offtake.plan.solve import solve
from offtake.schema.settings import Limits
from tests.plan.fakes import assembled
from tests.supply import small


def solved(one: Assembled) -> Solution:
    return solve(one.problem)


def two_offers(fee_usd: float = 1.0, **given: Any) -> Assembled:
    """A lease and a cheaper one, of four units of 25 chips each, for 100 requests/s that a chip serves one of."""
    offers = (
        small.offer("lease", units_max=4.0, whole_units=True, fee_usd_per_chip_hour=fee_usd),
        small.offer("other", units_max=4.0, whole_units=True, fee_usd_per_chip_hour=2.0),
    )
    tranches = (small.tranche("lease", chips_per_unit=25.0), small.tranche("other", chips_per_unit=25.0))
    return assembled(small.tables(offers=offers, tranches=tranches, **given))


def plan_of(one: Assembled) -> PlanResult:
    """Only what is kept of a plan: its decisions."""
    blank: dict[str, Any] = dict.fromkeys(PlanResult.__struct_fields__)
    return PlanResult(**blank | {"decisions": decisions_of(one, solved(one))})


def test_an_unchanged_portfolio_keeps_every_decision() -> None:
    one = two_offers()
    solution, said = solve_near(one, solved, Earlier(plan=plan_of(one), churn=Churn()))
    assert said == ["Every first-day decision of the earlier plan stands."]
    assert solution.objective_usd == solved(one).objective_usd


def test_decisions_change_where_that_gains_more_than_the_churn() -> None:
    # the first lease was the cheaper one; at 3 USD the other is
    earlier, now = plan_of(two_offers()), two_offers(fee_usd=3.0)
    solution, said = solve_near(now, solved, Earlier(plan=earlier, churn=Churn()))
    assert [units_now(now.problem, solution, offer) for offer in (0, 1)] == [0.0, 4.0]
    assert all(one.startswith("Changed from the earlier plan") for one in said)


def test_decisions_are_kept_where_changing_them_gains_less_than_the_churn() -> None:
    earlier, now = plan_of(two_offers()), two_offers(fee_usd=3.0)
    free = solved(now)
    solution, said = solve_near(now, solved, Earlier(plan=earlier, churn=Churn(usd=1e9)))
    assert [units_now(now.problem, solution, offer) for offer in (0, 1)] == [4.0, 0.0]
    # 245 days of 100 chips at one USD an hour more
    assert free.objective_usd - solution.objective_usd == pytest.approx(588_000.0)
    assert said[0] == (
        "Kept as in the earlier plan: 4 units of lease signed at once; 0 would be best, and keeping it costs $588,000."
    )
    assert solution.bound_usd == free.bound_usd


def test_a_decision_that_no_plan_can_keep_is_changed_and_said() -> None:
    earlier, now = plan_of(two_offers()), two_offers(limits=Limits(budget_usd_per_year=1.0))
    solution, said = solve_near(now, solved, Earlier(plan=earlier, churn=Churn(usd=1e9)))
    assert units_now(now.problem, solution, 0) == 0.0
    assert said == ["Changed from the earlier plan: 0 units of lease signed at once, not 4; no plan keeps it."]


def test_what_is_signed_by_now_or_no_longer_offered_is_not_held() -> None:
    earlier = plan_of(two_offers())
    decisions = [msgspec.structs.replace(one, offer=f"gone-{one.offer}") for one in earlier.decisions]
    gone = msgspec.structs.replace(earlier, decisions=decisions)
    one = two_offers()
    assert units_wanted(one.problem, gone) == {}
    _, said = solve_near(one, solved, Earlier(plan=gone, churn=Churn()))
    assert said == ["The earlier plan has no first-day decision that could still be kept."]
    vintages = replace(one.problem.vintages, signed=one.problem.vintages.offer == 0)
    assert list(units_wanted(replace(one.problem, vintages=vintages), earlier)) == [1]


@pytest.mark.parametrize(
    ("text", "churn"),
    [("2%", Churn(share=0.02)), (" 2 m ", Churn(usd=2e6)), ("0", Churn()), ("$1,500", Churn(usd=1500.0))],
)
def test_churn_is_read_as_a_person_writes_it(text: str, churn: Churn) -> None:
    assert churn_of(text) == churn


@pytest.mark.parametrize("text", ["", "much", "-1%", "nan%", "-5", "%"])
def test_a_churn_that_is_no_share_and_no_money_is_a_fault(text: str) -> None:
    with pytest.raises(InputError, match="--churn"):
        churn_of(text)


def test_a_share_of_churn_is_one_of_the_plans_value() -> None:
    assert Churn(share=0.01).of(-5e6) == pytest.approx(50_000.0)
