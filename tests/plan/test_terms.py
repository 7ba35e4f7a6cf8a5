"""Try terms that reach the plan through the supply room: renewals and what is left of a term at the horizon."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from offtake.plan.assemble import Assembled
from offtake.plan.decisions import decisions_of, question_answer, with_sentence
from offtake.plan.solve import solve
from offtake.schema.settings import Limits
from offtake.schema.tables import ExitRow
from tests.plan.fakes import assembled
from tests.supply import small

Floats = npt.NDArray[np.float64]

HOURS = 24.0


def lease(
    value_usd: float = 3.0, exits: tuple[ExitRow, ...] = (), rate_rps: Floats | None = None, **given: Any
) -> Assembled:
    """A chip for May to July that serves one request a second; May is the term unless said otherwise."""
    offer: dict[str, Any] = {"term_days": 31, "fee_usd_per_chip_hour": 2.0, "whole_units": True}
    return assembled(
        small.tables(
            settings=small.settings(end=date(2026, 7, 31)),
            offers=(small.offer(**(offer | given)),),
            tranches=(small.tranche(chips_per_unit=1.0),),
            exits=exits,
            workloads=(small.workload(rate_rps=1.0, value_usd_per_request=value_usd / 3600),),
        ),
        rate_rps=np.ones((1, 3, 1)) if rate_rps is None else rate_rps,
    )


@pytest.mark.parametrize(("ratio", "kept", "usd"), [(1.0, [1, 1, 1], 92 * HOURS), (2.0, [1, 0, 0], 31 * HOURS)])
def test_a_renewal_is_taken_where_it_is_worth_its_fee(ratio: float, kept: list[float], usd: float) -> None:
    one = lease(renewal_days=300, renewal_fee_ratio=ratio)
    found = solve(one.problem)
    assert found.kept[0, 0].tolist() == kept
    assert found.objective_usd == pytest.approx(usd)  # 3 USD of value less 2 of fee, an hour


def test_without_a_renewal_a_contract_ends_with_its_term() -> None:
    assert solve(lease().problem).objective_usd == pytest.approx(31 * HOURS)


@pytest.mark.parametrize(
    ("worth", "kept", "usd"),
    [(0.0, 1.0, 92 * HOURS), (0.5, 1.0, 92 * HOURS + 8 * HOURS * 0.5), (-20.0, 0.0, 0.0)],
)
def test_what_is_left_of_a_term_at_the_horizon_is_worth_what_is_said(worth: float, kept: float, usd: float) -> None:
    # a term of 100 days, of which 92 lie within the horizon
    found = solve(lease(term_days=100, terminal_usd_per_chip_hour=worth).problem)
    assert found.kept[0, 0, -1] == kept
    assert found.objective_usd == pytest.approx(usd)


def test_what_is_left_of_a_term_is_no_payment_and_so_no_budget() -> None:
    # 92 days cost 4416 USD and the budget holds 4000; the 1920 that the rest of the term is worth is not spent on it
    one = lease(term_days=100, terminal_usd_per_chip_hour=10.0)
    short = replace(one.problem, limits=replace(one.problem.limits, budget_usd=np.array([4000.0])))
    assert solve(short).objective_usd == pytest.approx(0.0)
    found = solve(one.problem)
    assert found.money.fees_usd.sum() == pytest.approx(92 * HOURS * 2.0)
    assert found.money.terminal_usd.tolist() == pytest.approx([8 * HOURS * 10.0])


def test_what_is_left_of_a_term_is_discounted_from_the_end_of_the_horizon() -> None:
    one = lease(term_days=100, terminal_usd_per_chip_hour=10.0)
    half = solve(replace(one.problem, end_discount=0.5))
    assert half.objective_usd == pytest.approx(92 * HOURS + 8 * HOURS * 10.0 * 0.5)


@pytest.mark.parametrize(
    ("length", "kept", "usd"),
    [(None, [1, 1, 0], 61 * HOURS), (30, [1, 1, 0], 61 * HOURS), (61, [1, 0, 0], 31 * HOURS)],
)
def test_a_renewal_that_has_begun_is_kept_to_its_end(length: int | None, kept: list[float], usd: float) -> None:
    # Nobody asks in July: 61 days from June earn 30 days of 1 USD an hour and cost 31 of 2.
    one = lease(renewal_days=300, renewal_term_days=length, rate_rps=np.array([[[1.0], [1.0], [0.0]]]))
    found = solve(one.problem)
    assert found.kept[0, 0].tolist() == kept
    assert found.objective_usd == pytest.approx(usd)


@pytest.mark.parametrize(
    ("fee", "kept", "usd"),
    [(0.0, [1, 0, 0], 372.0), (100.0, [1, 0, 0], 272.0), (400.0, [0, 0, 0], 0.0)],
)
def test_leaving_within_the_term_costs_its_fee(fee: float, kept: list[float], usd: float) -> None:
    # May at half the fee earns 31 x 24 x 0.5; June and July would lose 61 x 24 x 0.5.
    one = lease(
        value_usd=1.5,
        term_days=None,
        ramp_discount_share=0.5,
        ramp_discount_until=date(2026, 5, 31),
        exits=(small.way_out("only", "buyer", date(2026, 6, 1), notice_days=0, fee_usd_per_unit=fee),),
    )
    found = solve(one.problem)
    assert found.kept[0, 0].tolist() == kept
    assert found.objective_usd == pytest.approx(usd)
    assert found.money.fees_usd.sum() == pytest.approx(31 * HOURS * 1.0 + fee if kept[0] else 0.0)


@pytest.mark.parametrize(("odds", "kept", "usd"), [(0.0, 1, 1.0), (0.5, 1, 2.5), (1.0, 1, 4.0)])
def test_a_provider_may_deliver_another_chip_for_the_same_fee(odds: float, kept: int, usd: float) -> None:
    # A chip serves one request a second, worth 3 USD an hour; two of the other kind come for each one promised.
    one = assembled(
        small.tables(
            settings=small.settings(end=date(2026, 7, 31), scenarios=4, signing_every_months=120),
            chips=(small.chip(), small.chip("h200")),
            deployments=(small.deployment(), small.deployment(chip_name="h200")),
            offers=(small.offer(fee_usd_per_chip_hour=2.0),),
            tranches=(
                small.tranche(
                    chips_per_unit=1.0, substitute_chip="h200", substitute_probability=odds, substitute_ratio=2.0
                ),
            ),
            workloads=(small.workload(rate_rps=2.0, value_usd_per_request=3.0 / 3600),),
        ),
        rate_rps=np.full((4, 3, 1), 2.0),
    )
    assert one.problem.axes.cells == ["east/h100", "east/h200"]
    found = solve(one.problem)
    assert found.kept[0, 0, 0] == pytest.approx(kept)
    assert found.objective_usd == pytest.approx(92 * HOURS * usd)
    assert found.money.fees_usd.sum(axis=1) == pytest.approx([92 * HOURS * 2.0] * 4)
    swapped = one.inputs.tree.luck["lease"].swapped[:, 0]
    assert found.served_rps[:, 0, 0].tolist() == [[0.0, 2.0] if other else [1.0, 0.0] for other in swapped]
    assert swapped.sum() == 4 * odds


def test_critical_work_survives_a_grid_that_carries_two_sites_of_one_partner() -> None:
    # cheap chips on one grid; a quarter of the work must be served without it
    def plan_with(limits: Limits) -> list[float]:
        offers = (
            small.offer("near", fee_usd_per_chip_hour=1.0, units_max=100.0, provider="own"),
            small.offer("far", fee_usd_per_chip_hour=2.0, units_max=100.0, provider="own"),
        )
        one = assembled(
            small.tables(
                settings=small.settings(signing_every_months=120),
                limits=limits,
                providers=(small.provider("own", kind="own"),),
                sites=(small.site(grid="a"), small.site("west", grid="b")),
                links=(small.link(), small.link("west")),
                offers=offers,
                tranches=(
                    small.tranche("near", chips_per_unit=1.0),
                    small.tranche("far", chips_per_unit=1.0, site="west"),
                ),
                workloads=(small.workload(rate_rps=40.0, critical=True, value_usd_per_request=1.0),),
            )
        )
        return [float(units) for units in solve(one.problem).kept[:, 0, -1]]

    assert plan_with(Limits(survive_share=0.25)) == pytest.approx([40, 0])  # one's own sites are no partner
    assert plan_with(Limits(survive_share=0.25, survive_groups="grid:*")) == pytest.approx([30, 10])


def test_what_is_signed_today_is_told_apart_from_what_comes_later() -> None:
    one = lease(units_max=2.0)
    (known,) = decisions_of(one, solve(one.problem))
    both = {"action": "sign part", "sign_date": "2026-05-01, 2026-06-15", "units_now": 1.0, "later_share": 0.5}
    told = msgspec.structs.replace(known, **both)
    answer = question_answer(one, told)
    assert answer.startswith("Sign 1 of 2 units of lease on 2026-05-01, more of it later in 50% of futures, and keep")
    sentence = with_sentence(told, one.inputs.portfolio.offers["lease"]).sentence
    assert sentence.startswith("Sign part of lease on 2026-05-01: 1 of 2 units, more of it later in 50% of futures,")
