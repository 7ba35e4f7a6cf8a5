"""What is said of a plan's trust."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from offtake.plan.judging import TrustOptions
from offtake.plan.result import Range, Replanned, Trust
from offtake.plan.solution import Solution
from offtake.plan.solve import Options, solve
from offtake.plan.trust_words import left_out, sentences_of
from tests.plan.problems import newsvendor
from tests.report.test_trusts import TRUST, rule


@pytest.fixture(scope="module")
def solution() -> Solution:
    return solve(newsvendor(), Options(gap=0.0))


def said(trust: Trust, solution: Solution, start: str) -> list[str]:
    return [line for line in sentences_of(trust, solution) if line.startswith(start)]


def test_the_first_day_of_the_mean_is_told_by_what_it_loses(solution: Solution) -> None:
    start = "Planning the first day for the mean scenario alone"
    assert said(TRUST, solution, start) == [f"{start} would lose $300 m."]
    none = msgspec.structs.replace(TRUST, mean_plan_loss_usd=None)
    assert said(none, solution, start) == [f"{start} would break a limit."]
    unsure = replace(solution, bound_usd=solution.objective_usd + 1e9)
    assert said(TRUST, unsure, start) == [f"{start} would lose nothing beyond the solver's gap."]


def test_the_gap_is_told_in_money_where_there_is_one(solution: Solution) -> None:
    assert sentences_of(TRUST, solution)[0] == "On these scenarios the plan is proven best."
    unsure = replace(solution, bound_usd=solution.objective_usd + 2e6)
    assert sentences_of(TRUST, unsure)[0] == "No plan is worth over $2 m more on these scenarios: the solver's gap."


def test_the_best_simple_rules_are_named_and_those_that_break_a_limit(solution: Solution) -> None:
    assert said(TRUST, solution, "Of the simple rules") == ["Of the simple rules “look-back” loses least: $1.1 bn."]
    assert said(TRUST, solution, "Limits are broken") == ["Limits are broken by “sign everything”."]
    equal = msgspec.structs.replace(TRUST, rules=[rule("look-back", 5.0), rule("sign nothing", 5.0)])
    assert said(equal, solution, "Of") == ["Of the simple rules “look-back” and “sign nothing” lose least: $5."]


def test_what_near_plans_share_is_told_from_where_they_differ(solution: Solution) -> None:
    assert said(TRUST, solution, "All plans") == ["All plans tried that lose under 1% sign as much today of block."]
    assert said(TRUST, solution, "Under") == [
        "Under 1% is lost with more or less of lease: the model does not decide there."
    ]


def test_other_draws_that_sign_as_much_are_told_so(solution: Solution) -> None:
    assert said(TRUST, solution, "Made from") == [
        "Made from 3 other draws, the plan would not always sign as much today of lease."
    ]
    same = msgspec.structs.replace(TRUST, steadiness=TRUST.steadiness[1:])
    assert said(same, solution, "Made from") == ["Made from 3 other draws, the plan signs the same on the first day."]


ANEW = Replanned(
    paths=4,
    dates=["2026-07-01"],
    followed_usd=5.0,
    replanned_usd=6.0,
    gain_usd=Range(estimate=1.0, low=0.0, high=2.0),
    stuck=0,
)


def test_what_was_not_worked_out_is_said() -> None:
    assert len(left_out(TrustOptions(level="quick"), None)) == 2
    assert left_out(TrustOptions(level="full", replan=4), ANEW) == []
    (nothing,) = left_out(TrustOptions(level="full", replan=4), None)
    assert nothing.startswith("Nothing can be decided after the first day")


def test_foresight_that_leaves_out_the_survival_of_a_loss_says_so() -> None:
    (said,) = left_out(TrustOptions(level="full", replan=4), ANEW, survives=True)
    assert "survives the loss of any one group (N-1)" in said
