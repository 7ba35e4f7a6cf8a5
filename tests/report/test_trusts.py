"""The section on trust, and its lines on the terminal."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import vl_convert

from offtake.plan.result import Fresh, Leeway, PlanResult, Range, RuleLoss, Steadiness, Trust
from offtake.report import trusts
from offtake.report.parts import Figure, Grid
from offtake.report.sections import page
from offtake.report.tables import read_run
from offtake.report.terminal import plan_table
from tests.report.test_terminal import printed


def rule(name: str, loss: float | None, low: float = 0.0, high: float = 0.0) -> RuleLoss:
    fresh = None if loss is None else Range(estimate=(low + high) / 2, low=low, high=high)
    breaks = [] if loss is not None else ["Prepayment may be $75 in all."]
    return RuleLoss(rule=name, words="do it", units={"lease": 2.0}, loss_usd=loss, fresh_loss_usd=fresh, breaks=breaks)


TRUST = Trust(
    level="quick",
    foresight_usd=2.0e9,
    mean_plan_loss_usd=0.3e9,
    fresh=Fresh(
        paths=32,
        batches=4,
        seed=9,
        mean_net_usd=Range(estimate=18.1e9, low=16.0e9, high=20.2e9),
        cvar_loss_usd=Range(estimate=-3.9e9, low=-4.4e9, high=-3.1e9),
        value_usd=Range(estimate=16.9e9, low=15.0e9, high=19.0e9),
        broken_share=0.0,
    ),
    rules=[
        rule("look-back", 1.1e9, 0.6e9, 1.6e9),
        rule("sign everything", None),
        rule("sign nothing", 2.5e9, 2.0e9, 3.1e9),
    ],
    samples=3,
    steadiness=[
        Steadiness(offer="lease", units_now=2.0, signed_share=2 / 3, units_least=0.0, units_most=2.0),
        Steadiness(offer="block", units_now=4.0, signed_share=1.0, units_least=4.0, units_most=4.0),
    ],
    near_share=0.01,
    leeway=[
        Leeway(
            offer="lease",
            units_now=2.0,
            without_loss_usd=0.03e9,
            with_loss_usd=0.0,
            units_least=0.0,
            units_most=2.0,
        ),
        Leeway(offer="block", units_now=4.0, without_loss_usd=None, with_loss_usd=0.0, units_least=4.0, units_most=4.0),
    ],
    replanned=None,
    sentences=["Perfect foresight would add $2 bn (11%): no forecast is worth more."],
    left_out=["Planning anew was not tried: ask for --replan."],
)


@pytest.fixture(scope="module")
def plan(run_folder: Path) -> PlanResult:
    found = read_run(run_folder).plan
    assert found is not None
    return msgspec.structs.replace(found, trust=TRUST)


def grid(plan: PlanResult, start: str) -> list[list[str]]:
    parts = trusts.section(plan).parts
    return next(part.rows for part in parts if isinstance(part, Grid) and part.caption.startswith(start))


def test_a_plan_without_trust_has_no_section(run_folder: Path) -> None:
    run = read_run(run_folder)
    assert run.plan is not None
    assert run.plan.trust is None
    assert "trust" not in [section.key for section in page(run).sections]


def test_fresh_paths_stand_beside_the_plans_own_scenarios_losses_told_as_values(plan: PlanResult) -> None:
    assert grid(plan, "The plan on 32 fresh paths (seed 9)") == [
        ["Mean net value", "$18.9 bn", "$18.1 bn", "$16 bn to $20.2 bn"],
        ["Mean of the worst 10%", "$4.1 bn", "$3.9 bn", "$3.1 bn to $4.4 bn"],
        ["Value, risk weighed", "$17.3 bn", "$16.9 bn", "$15 bn to $19 bn"],
    ]


def test_a_rule_that_breaks_a_limit_says_so_and_is_left_out_of_the_chart(plan: PlanResult) -> None:
    assert grid(plan, "Simple rules") == [
        ["look-back", "do it", "2 lease", "$1.1 bn", "$600 m to $1.6 bn"],
        ["sign everything", "do it", "2 lease", "breaks a limit", "–"],
        ["sign nothing", "do it", "2 lease", "$2.5 bn", "$2 bn to $3.1 bn"],
    ]
    (figure,) = (part for part in trusts.section(plan).parts if isinstance(part, Figure))
    assert figure.says == "Look-back loses least, $1.1 bn; sign nothing loses most, $2.5 bn."
    assert figure.csv.splitlines()[1:] == [
        "look-back,1100000000.0,600000000.0,1600000000.0",
        "sign nothing,2500000000.0,2000000000.0,3100000000.0",
    ]
    assert "<svg" in vl_convert.vegalite_to_svg(figure.spec)


def test_each_open_offer_tells_how_steady_it_is_and_how_far_it_may_move(plan: PlanResult) -> None:
    assert grid(plan, "Each open offer today: 3 other draws") == [
        ["lease", "2", "0 to 2", "−$30 m", "the plan", "0 to 2"],
        ["block", "4", "4", "breaks a limit", "the plan", "4"],
    ]


def test_the_terminal_tells_how_far_to_trust_the_plan_and_what_was_left_out(plan: PlanResult) -> None:
    lines = printed(plan_table(plan))
    first = lines.index("How far to trust it:")
    assert lines[first - 1 : first + 4] == [
        "",
        "How far to trust it:",
        "· Perfect foresight would add $2 bn (11%): no forecast is worth more.",
        "· Planning anew was not tried: ask for --replan.",
        "",
    ]


def test_every_simple_rule_has_a_row_and_every_warning_a_line(run_folder: Path) -> None:
    known = read_run(run_folder).plan
    assert known is not None
    lines = printed(plan_table(msgspec.structs.replace(known, trust=TRUST, warnings=["Beware."])), width=80)
    first = next(place for place, line in enumerate(lines) if line.startswith("Simple rule"))
    last = lines.index("", first)
    losses = sorted(one.loss_usd for one in TRUST.rules if one.loss_usd is not None)
    assert lines[first + 1].split("  ")[0] == next(one.rule for one in TRUST.rules if one.loss_usd == losses[0])
    assert {one.rule for one in TRUST.rules} <= {line.split("  ")[0] for line in lines[first:last]}
    assert any("breaks a limit" in line for line in lines[first:last])
    assert lines[last + 1 :] == ["To know beside it:", "· Beware."]
