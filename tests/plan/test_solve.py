from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offtake.errors import SolverError
from offtake.plan import highs
from offtake.plan.decompose import decompose
from offtake.plan.highs import Effort
from offtake.plan.objective import cvar_usd
from offtake.plan.problem import Problem, Vintages
from offtake.plan.solve import Options, build, check, interpret, solve
from tests.plan.problems import frontier, newsvendor, tiny

EXACT = Options(gap=1e-9)


def small_frontier(seed: int) -> Problem:
    return frontier(scenarios=3, periods=8, blocks=2, offers=4, sites=3, workloads=2, seed=seed)


def pick_vintages(vintages: Vintages, order: list[int]) -> Vintages:
    return Vintages(**{name: value[order] for name, value in vars(vintages).items()})


def with_vintage_order(problem: Problem, order: list[int]) -> Problem:
    """Reorder vintages, everything that points at them included."""
    place = np.argsort(order)
    deliveries = replace(problem.deliveries, vintage=place[problem.deliveries.vintage])
    return replace(problem, vintages=pick_vintages(problem.vintages, order), deliveries=deliveries)


def test_a_newsvendor_signs_the_critical_quantile() -> None:
    # Demand 10, 20 … 100, each as likely; a chip costs 3.25 and earns 10: sign the 0.675 quantile, 70.
    # It expects 10·(10 + … + 70 + 3·70)/10 − 70·3.25 = 262.5.
    plan = solve(newsvendor(), EXACT)
    assert plan.signed == pytest.approx([70])
    assert plan.objective_usd == pytest.approx(262.5)
    assert plan.bound_usd == pytest.approx(262.5)


def test_a_chip_that_costs_what_it_can_earn_is_not_signed() -> None:
    assert solve(newsvendor(fee_usd=10.5), EXACT).signed == pytest.approx([0])


def test_an_averse_newsvendor_weighs_the_worst_tenth() -> None:
    # Objective E[net] + λ·(net in the worst tenth): up to 10 chips always earn; from there the marginal chip earns
    # 10·P(D ≥ x) − 3.25 + λ·(−3.25): with λ = 1 positive while P > 0.65, so 40 chips, not 70.
    plan = solve(replace(newsvendor(), risk_weight=1.0, risk_alpha=0.9), EXACT)
    assert plan.signed == pytest.approx([40])
    assert plan.cvar_usd == pytest.approx(30)  # demand 10: earns 100, pays 130
    assert plan.expected_net_usd == pytest.approx(210)
    assert plan.objective_usd == pytest.approx(180)


def test_whole_units_and_lots_bind() -> None:
    whole = replace(newsvendor().vintages, whole_units=np.array([True]), units_max=np.array([64.5]))
    assert solve(replace(newsvendor(), vintages=whole), EXACT).signed == pytest.approx([64])
    lot = replace(newsvendor().vintages, all_or_nothing=np.array([True]), units_max=np.array([200.0]))
    assert solve(replace(newsvendor(), vintages=lot), EXACT).signed == pytest.approx([0])
    least = replace(newsvendor().vintages, units_min=np.array([75.0]))
    assert solve(replace(newsvendor(), vintages=least), EXACT).signed == pytest.approx([75])


def test_elastic_chips_are_paid_for_only_when_used() -> None:
    base = newsvendor(fee_usd=0.0)
    deliveries = replace(base.deliveries, elastic=np.ones(10, dtype=bool), used_usd_per_chip_hour=np.full(10, 4.0))
    plan = solve(replace(base, deliveries=deliveries), EXACT)
    assert plan.objective_usd == pytest.approx(55 * 6)
    assert plan.used_chips[:, 0] == pytest.approx([10, 20, 30, 40, 50, 60, 70, 80, 90, 100])
    assert plan.money.used_usd.sum() == pytest.approx(550 * 4)


def test_what_is_refused_costs_its_penalty() -> None:
    plan = solve(replace(newsvendor((10,), fee_usd=3.0, units_max=4.0), refusal_usd=np.array([2.0 / 3600])), EXACT)
    assert plan.refused_rps.ravel() == pytest.approx([6])
    assert plan.money.refusal_usd.ravel() == pytest.approx([12])
    assert plan.objective_usd == pytest.approx(4 * 10 - 4 * 3 - 12)


def test_power_limits_busy_chips_and_idle_ones_draw_their_share() -> None:
    base = newsvendor((10,))
    cells = replace(base.cells, idle_share=np.array([0.5]), usd_per_kwh=np.array([0.2]))
    signed = replace(base.vintages, signed=np.array([True]), units_max=np.array([12.0]))
    plan = solve(replace(base, cells=cells, vintages=signed, power_kw=np.full((1, 1, 1, 1), 9.0)), EXACT)
    assert plan.served_rps.ravel() == pytest.approx([6])  # 6 busy + 6 idle at half draw 9 kW
    assert plan.money.energy_usd.ravel() == pytest.approx([9 * 0.2])


def test_a_budget_limits_what_is_spent() -> None:
    base = newsvendor()
    plan = solve(replace(base, limits=replace(base.limits, budget_usd=np.array([65.0]))), EXACT)
    assert plan.signed == pytest.approx([20])


def test_deferrable_work_moves_to_the_block_with_room() -> None:
    base = newsvendor((10,), fee_usd=0.0, units_max=10.0)
    two = replace(
        base,
        axes=replace(base.axes, blocks=["night", "day"]),
        block_share=np.array([0.5, 0.5]),
        demand_rps=np.array([[[[4.0], [16.0]]]]),
        power_kw=np.full((1, 1, 2, 1), np.inf),
        deferrable=np.array([True]),
    )
    plan = solve(two, EXACT)
    assert plan.deferred_rps.ravel() == pytest.approx([-6, 6])
    assert plan.refused_rps.ravel() == pytest.approx([0, 0])


def test_cvar_is_the_mean_of_the_worst_tail() -> None:
    loss, probability = np.array([1.0, 5.0, -3.0, 10.0]), np.array([0.4, 0.3, 0.2, 0.1])
    assert cvar_usd(loss, probability, 0.9) == pytest.approx(10.0)
    assert cvar_usd(loss, probability, 0.8) == pytest.approx(7.5)
    assert cvar_usd(loss, probability, 0.0) == pytest.approx(0.4 + 1.5 - 0.6 + 1.0)


def test_the_programs_tail_is_the_tail_of_the_plans_own_losses() -> None:
    model = build(tiny())
    program = model.blocks.build(model.units.usd)
    answer = highs.solve_whole(program, Effort(gap=1e-9))
    values = answer.values * program.column_unit
    at_risk, shortfall = values[model["value_at_risk"].ids], values[model["shortfall"].ids]
    plan = interpret(model, program, answer)
    assert at_risk + shortfall @ [0.75, 0.25] / 0.2 == pytest.approx(plan.cvar_usd)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_other_money_gives_the_same_decisions(factor: float) -> None:
    base = tiny()
    scaled = replace(
        base,
        value_usd=base.value_usd * factor,
        refusal_usd=base.refusal_usd * factor,
        cells=replace(base.cells, usd_per_kwh=base.cells.usd_per_kwh * factor),
        lanes=replace(base.lanes, usd_per_request=base.lanes.usd_per_request * factor),
        vintages=replace(
            base.vintages,
            paid_usd=base.vintages.paid_usd * factor,
            prepay_usd=base.vintages.prepay_usd * factor,
            cancel_usd=base.vintages.cancel_usd * factor,
            terminal_usd=base.vintages.terminal_usd * factor,
        ),
        deliveries=replace(base.deliveries, used_usd_per_chip_hour=base.deliveries.used_usd_per_chip_hour * factor),
        jobs=replace(base.jobs, missed_usd=base.jobs.missed_usd * factor),
        limits=replace(base.limits, budget_usd=base.limits.budget_usd * factor, prepay_usd_max=25_000 * factor),
    )
    one, other = solve(base, EXACT), solve(scaled, EXACT)
    assert other.signed == pytest.approx(one.signed)
    assert other.objective_usd == pytest.approx(one.objective_usd * factor)


def test_a_fleet_a_thousand_times_larger_signs_a_thousand_times_more() -> None:
    plan = solve(newsvendor(tuple(10_000 * d for d in range(1, 11)), units_max=1e6), EXACT)
    assert plan.signed == pytest.approx([70_000])


def test_the_order_of_offers_changes_nothing() -> None:
    base, order = tiny(), [3, 1, 4, 0, 2]
    one, other = solve(base, EXACT), solve(with_vintage_order(base, order), EXACT)
    assert other.objective_usd == pytest.approx(one.objective_usd, rel=1e-9)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_one_more_offer_never_lowers_the_optimum(seed: int) -> None:
    problem = small_frontier(seed)
    limits = replace(problem.limits, survive_group=np.zeros(4, dtype=bool))
    problem = replace(problem, limits=limits, exclusive=[])
    without = problem.vintages.offer == seed % 4
    fewer = replace(problem.vintages, units_max=np.where(without, 0.0, problem.vintages.units_max))
    options = Options(gap=1e-6)
    smaller = solve(replace(problem, vintages=fewer), options)
    assert solve(problem, options).bound_usd >= smaller.objective_usd - 1e-6 * abs(smaller.objective_usd)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cutting_planes_agree_with_the_extensive_form(seed: int) -> None:
    model = build(small_frontier(seed))
    program = model.blocks.build(model.units.usd)
    cut = decompose(model, program, Effort(gap=1e-5))
    whole = highs.solve_whole(program, Effort(gap=1e-6))
    assert cut is not None
    check(program, cut)
    assert cut.bound <= whole.objective + 1e-6 * abs(whole.objective)
    assert cut.objective == pytest.approx(whole.objective, rel=2e-5)


def test_cutting_planes_agree_with_the_extensive_form_on_the_problem_with_every_family() -> None:
    model = build(tiny())
    program = model.blocks.build(model.units.usd)
    cut = decompose(model, program, Effort(gap=1e-6))
    assert cut is not None
    assert cut.objective == pytest.approx(highs.solve_whole(program, Effort(gap=1e-9)).objective, rel=2e-6)


def test_a_budget_that_operating_money_breaks_is_kept_by_cutting_planes() -> None:
    base = newsvendor(fee_usd=0.0)
    deliveries = replace(base.deliveries, elastic=np.ones(10, dtype=bool), used_usd_per_chip_hour=np.full(10, 4.0))
    limits = replace(base.limits, budget_usd=np.array([100.0]))
    model = build(replace(base, deliveries=deliveries, limits=limits))
    program = model.blocks.build(model.units.usd)
    cut, whole = decompose(model, program, Effort(gap=1e-9)), highs.solve_whole(program, Effort(gap=1e-9))
    assert cut is not None
    assert cut.objective == pytest.approx(whole.objective, rel=1e-9)
    assert interpret(model, program, cut).money.spend_usd.max() == pytest.approx(100)
    rows = model.blocks.row_blocks["a_years_spend_is_within_its_budget"].ids.ravel()
    assert cut.row_duals[rows] == pytest.approx(whole.row_duals[rows], abs=1e-9)


@pytest.mark.slow
def test_the_same_problem_gives_the_same_plan_for_any_number_of_threads() -> None:
    problem = frontier(scenarios=3, periods=10, blocks=3, offers=6, sites=5, workloads=3, seed=2)
    one, other = solve(problem, Options(threads=1)), solve(problem, Options(threads=2))
    assert one.algorithm.startswith("cutting planes")
    assert np.array_equal(one.signed, other.signed)
    assert np.array_equal(one.served_rps, other.served_rps)
    assert one.objective_usd == other.objective_usd


def test_a_plan_never_claims_more_than_its_bound() -> None:
    plan = solve(small_frontier(5))
    assert plan.objective_usd <= plan.bound_usd
    assert plan.gap <= 1e-3


def test_an_answer_that_breaks_a_limit_is_not_used() -> None:
    model = build(newsvendor())
    program = model.blocks.build(model.units.usd)
    answer = highs.solve_linear(program, Effort())
    with pytest.raises(SolverError, match="breaks a limit"):
        check(program, replace(answer, values=answer.values * 1.01 + 1))


def test_an_answer_whose_money_does_not_add_up_is_not_used() -> None:
    model = build(newsvendor())
    program = model.blocks.build(model.units.usd)
    answer = highs.solve_linear(program, Effort())
    with pytest.raises(SolverError, match="recounts to"):
        interpret(model, program, replace(answer, objective=answer.objective * 1.001))


def test_a_portfolio_without_offers_has_a_plan_that_refuses_everything() -> None:
    base = newsvendor((5,))
    nothing = replace(
        base,
        axes=replace(base.axes, offers=[], vintages=[]),
        vintages=pick_vintages(base.vintages, []),
        deliveries=replace(base.deliveries, **{name: value[:0] for name, value in vars(base.deliveries).items()}),
    )
    plan = solve(nothing, EXACT)
    assert plan.refused_rps.ravel() == pytest.approx([5])
    assert plan.objective_usd == pytest.approx(0)
